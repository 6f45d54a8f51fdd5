"""The fruit swap from demonstrations: a policy with as much memory as it is asked for."""

import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice
from math import inf
from pathlib import Path

import numpy as np
import torch
from torch import Generator

from noiseladder.data.episode_folders import read_episodes
from noiseladder.data.episodes import Episode
from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.imitation.clutter import clutter
from noiseladder.imitation.demonstrations import LIST, Recording, demonstrations, record
from noiseladder.imitation.drawing import Drawing, can_draw, learn_to_draw
from noiseladder.imitation.eye import FEW, SHARPNESS, STRANGE, Eye, some_frames
from noiseladder.imitation.policy import Policy
from noiseladder.imitation.policy_knowledge import FILE as KNOWLEDGE, PolicyKnowledge, astray
from noiseladder.imitation.policy_levels import Asked, Means, Remembered, SensesCount
from noiseladder.imitation.policy_tokens import STATE, PolicyTokens, Trace
from noiseladder.imitation.spoiling import spoiled
from noiseladder.networks import SplitNetwork
from noiseladder.training import Experiment, TrainingOptions, generator_for
from noiseladder.training.cache_folder import cache_folder
from noiseladder.training.progress import LOG_SECONDS
from noiseladder.training.tensors_file import read_tensors, write_tensors
from noiseladder.training.weights import load_weights

from .run_folders import WEIGHTS, open_run

EYE_FRAMES = 300
BEGIN = 0.75  # of the sequences begin with their episode


class Lesson(Enum):
    """What is learned from the demonstrations: ours, or that of a baseline on the same network."""

    FORCING = "forcing"
    """Diffusion Forcing: a past that may be noisy, partly forgotten or unseen; senses are asked for too."""
    MEMORYLESS = "memoryless"
    """A diffusion policy: what to do after one look, nothing before it."""
    CLONING = "cloning"
    """Deterministic cloning with memory: what is done on average after all that was seen."""
    TEACHER_FORCED = "teacher-forced"
    """Next-token diffusion: the past is always clean."""


@dataclass(frozen=True, kw_only=True)
class Swap(TrainingOptions):
    """Learn to swap two fruits by way of a third plate, from pictures of somebody who does."""

    steps: int = 2400
    demonstrations: Path | None = None
    """Folder of demonstrations, your own ones too: LeRobot v3, zarr or npz. Without it, or where it is not there yet,
    those of the fruit swap are recorded, in the cache ($NOISELADDER_CACHE)."""
    episodes: int = 150
    """Demonstrations to learn from."""
    held_out: int = 10
    """Of these, for validation."""
    chunk: int = 6
    """Actions in a token."""
    moves: int = 3
    """How many of an action's first values are moves that add up; 0 for actions that are places."""
    waypoint: bool = True
    """Whether to ask, with the actions, for the place where a value that is no move changes next: where the gripper is
    opened or closed. Not where actions are places (--moves 0)."""
    tokens: int = 44
    """Tokens in a sequence; an episode has about 38."""
    start: Path | None = None
    """Folder of a run of the same sizes whose weights to begin with, and whose eyes and tokens to keep; without it
    weights are random and eyes learned."""
    batch: int = 20
    """Sequences in a batch."""
    lesson: Lesson = Lesson.FORCING
    """forcing, or a baseline: memoryless, cloning, teacher-forced."""
    dark: float = 0.35
    """Share of the sequences in which no camera sees anything from some token on, and of single questions in which none
    does: what a policy that has to go on without looking, in a dream too, does then."""
    senses: float = 0.2
    """How much an error of what is seen counts; one of what is done counts 1."""
    cluttered: float = 0.1
    """Share of the sequences in which each camera sees one more thing of a colour that it knows."""
    spoiled: bool = False
    """Learn from every episode a second time, as a worse camera would have seen it."""
    tremble: float = 0.01
    """Deviation of noise on what is seen, in usual deviations, in training."""
    drawing_steps: int = 500
    """Training steps of the network that draws what was imagined; 0 for none."""
    width: int = 192
    """Width of the network."""
    layers: int = 2
    """Layers of its memory."""
    blocks: int = 3
    """Blocks of what reads a token, given the memory."""
    average: float = 0.997
    validate_every: int = 400
    checkpoint_every: int = 400


def network(options: Swap, tokens: PolicyTokens) -> SplitNetwork:
    """A recurrent memory of what was seen and done, and a head that reads a token given it."""
    return SplitNetwork(tokens.size, options.width, options.layers, options.blocks, 1, tokens.parts)


def experiment(options: Swap) -> Experiment:
    """A memory and a head on demonstrations of the swap."""
    if not 0 < options.held_out < options.episodes:
        raise ValueError(f"held_out is {options.held_out}, expected 1 to {options.episodes - 1}, fewer than episodes")
    for name in ("dark", "cluttered"):
        if not 0 <= getattr(options, name) <= 1:
            raise ValueError(f"{name} is {getattr(options, name):g}, expected a share from 0 to 1")
    for name in ("senses", "tremble"):
        if not 0 <= getattr(options, name) < inf:
            raise ValueError(f"{name} is {getattr(options, name):g}, expected a number from 0 on")
    begun = options.start and begin_with(options.start, options)
    shown = recorded(options)
    eyes = dict(begun.eyes) if begun else learn_eyes(shown[options.held_out :], options.seed)
    if set(eyes) != set(shown[0].pictures):
        raise ValueError(
            f"{options.start} looks through {', '.join(eyes)}, the demonstrations have {', '.join(shown[0].pictures)}"
        )
    traces = [trace_of(episode, eyes) for episode in shown]
    held_out, traces = traces[: options.held_out], traces[options.held_out :]
    tokens = begun.tokens if begun else PolicyTokens.fit(traces, options.chunk, options.moves, options.waypoint)
    if options.spoiled:
        worse = (spoiled(episode, number) for number, episode in enumerate(shown) if number >= options.held_out)
        traces = [*traces, *(trace_of(episode, eyes) for episode in worse)]
    table = tokens.table(traces)

    def batches(step: int, generator: Generator) -> Batch:
        if options.lesson is Lesson.MEMORYLESS:  # as many tokens, none of which has a past
            batch = table.draw(options.batch * options.tokens, 1, 0.0, generator)
        else:
            batch = table.draw(options.batch, options.tokens, BEGIN, generator)
        seen = batch.tokens[..., : tokens.seen_size]
        if options.cluttered:
            known = tokens.seen(batch.tokens)
            for camera in eyes:
                known[camera] = clutter(known[camera], options.cluttered, generator)
            together = torch.cat([known[name] for name in tokens.senses], dim=-1)
            seen.copy_((together - tokens.middle[: tokens.seen_size]) / tokens.scale[: tokens.seen_size])
        seen += options.tremble * torch.randn(seen.shape, generator=generator)
        return batch

    def picture(denoiser: Denoiser, path: Path) -> None:
        # At the end, because only those who want to watch a dream need it.
        drawing = learn_drawing(shown[options.held_out :], eyes, tokens, options)
        drawing.save(path.parent)
        draw(denoiser, PolicyKnowledge(tokens, eyes), drawing, held_out[0], shown[0], path)

    denoiser = Denoiser(network(options, tokens), Cosine())
    if options.start is not None:
        load_weights(options.start / WEIGHTS, denoiser)

    return Experiment(
        denoiser=denoiser,
        objective=objective(options, tokens),
        batches=batches,
        validation=tokens.table(held_out).draw(
            64, options.tokens, BEGIN, generator_for(options.seed, "validation swaps")
        ),
        picture=picture if options.drawing_steps and can_draw([eye.size for eye in eyes.values()]) else None,
        files=PolicyKnowledge(tokens, eyes).save,
    )


def begin_with(run: Path, options: Swap) -> PolicyKnowledge:
    """What the policy of another run knows. Raises ValueError where there is none, or one of other sizes."""
    folder, recipe = open_run(run, {}, "swap", (WEIGHTS, KNOWLEDGE))
    known = PolicyKnowledge.load(folder)
    for name in ("width", "layers", "blocks", "chunk", "moves"):
        if recipe[name] != getattr(options, name):
            raise ValueError(
                f"--start {run} was trained with --{name} {recipe[name]}, expected {getattr(options, name)}: give the"
                " same to both"
            )
    if known.tokens.waypoint != (options.waypoint and options.moves > 0):
        told = "--waypoint" if known.tokens.waypoint else "--no-waypoint"
        raise ValueError(f"--start {run} was trained with {told}: give the same to both")
    return known


def objective(options: Swap, tokens: PolicyTokens) -> DiffusionForcing:
    """What a lesson remembers and what it asks for."""
    counts = SensesCount(tokens, options.senses)
    all_of_it = Remembered(tokens, noisy=0.0, forgotten=0.0, blind=0.0, unaware=0.0)
    match options.lesson:
        case Lesson.FORCING:
            return DiffusionForcing(
                Remembered(tokens, dark=options.dark),
                counts,
                query_levels=Asked(tokens, 0.2, 0.25, options.dark, 0.5),
                query_share=0.9,
            )
        case Lesson.MEMORYLESS:
            return DiffusionForcing(Asked(tokens, 0.0, 0.0, 0.0, 0.5), counts)
        case Lesson.CLONING:
            return DiffusionForcing(all_of_it, counts, query_levels=Means(tokens), query_share=1.0)
        case Lesson.TEACHER_FORCED:
            return DiffusionForcing(all_of_it, counts, query_levels=Asked(tokens, 0.2, 0.0, 0.0, 0.5), query_share=1.0)


def learn_drawing(shown: Sequence[Episode], eyes: dict[str, Eye], tokens: PolicyTokens, options: Swap) -> Drawing:
    """A network that draws what the eyes read, from every third frame of some demonstrations."""
    fewer = [every_third(episode) for episode in shown]
    traces = [PolicyKnowledge.trace(episode, eyes) for episode in fewer]
    drawing = Drawing(tokens.seen_size, tuple(eyes), next(iter(eyes.values())).size[0])
    generator = generator_for(options.seed, "drawing")
    for step, loss in enumerate(learn_to_draw(drawing, tokens, traces, fewer, options.drawing_steps, generator), 1):
        if step % 100 == 0:
            print(f"drawing step {step}/{options.drawing_steps}  loss {loss:.5f}", file=sys.stderr)
    return drawing.eval()


def draw(
    denoiser: Denoiser, knowledge: PolicyKnowledge, drawing: Drawing, trace: Trace, episode: Episode, path: Path
) -> None:
    """Write a strip of pictures: a demonstration that was not learned from, and below it the dream of its first."""
    from PIL import Image

    policy, tokens = Policy(denoiser, knowledge), knowledge.tokens
    policy.act_on({name: values[:1] for name, values in trace.seen.items()})
    count = len(episode) // tokens.chunk
    imagined = policy.imagine(count)
    dreamt = drawing.pictures(tokens, {name: values[0] for name, values in imagined.seen.items()})
    chosen = np.linspace(0, count - 1, 10).astype(int)
    rows = []
    for camera in drawing.cameras:
        shown = episode.pictures[camera][np.minimum((chosen + 1) * tokens.chunk, len(episode) - 1)]
        rows += [np.concatenate(list(shown), axis=1), np.concatenate(list(dreamt[camera][chosen]), axis=1)]
    strip = Image.fromarray(np.concatenate(rows))
    strip.resize((2 * strip.width, 2 * strip.height), Image.Resampling.NEAREST).save(path, format="PNG")


def trace_of(episode: Episode, eyes: dict[str, Eye]) -> Trace:
    """An episode as these eyes see it, kept in the cache: looking takes minutes, and a run may be resumed."""
    told = hashlib.sha256()
    for camera, eye in sorted(eyes.items()):
        told.update(eye.palette.numpy().tobytes())
        told.update(repr((SHARPNESS, STRANGE, FEW)).encode())
        if eye.where is not None:
            told.update(eye.where.numpy().tobytes())
        told.update(np.ascontiguousarray(episode.pictures[camera]).data)
    path = cache_folder() / "swap-senses" / f"{told.hexdigest()[:20]}.safetensors"
    if path.is_file():
        kept, _ = read_tensors(path)
        seen = {camera: kept[camera] for camera in eyes}
        if episode.state.shape[1]:
            seen[STATE] = torch.from_numpy(episode.state)
        return Trace(seen, torch.from_numpy(episode.actions), astray(episode))
    trace = PolicyKnowledge.trace(episode, eyes)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, {camera: trace.seen[camera] for camera in eyes}, {})
    return trace


def every_third(episode: Episode) -> Episode:
    """An episode with a third of its frames: neighbours show the same."""
    pictures = {camera: frames[::3] for camera, frames in episode.pictures.items()}
    return replace(episode, pictures=pictures, state=episode.state[::3], actions=episode.actions[::3])


def recorded(options: Swap) -> list[Episode]:
    """The demonstrations, recorded now where they are missing; or those of the user's own folder, in any layout."""
    recording = Recording(options.episodes)
    folder = options.demonstrations or default_demonstrations(recording)
    nothing = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not nothing and not (folder / LIST).is_file():
        found = list(islice(read_episodes(folder), options.episodes))
        if len(found) <= options.held_out:
            raise ValueError(
                f"{folder} holds {len(found)} episodes and --held-out is {options.held_out}: expected more episodes"
            )
        return found
    shown = time.monotonic()
    for done in record(folder, recording):
        if time.monotonic() - shown > LOG_SECONDS:
            shown = time.monotonic()
            print(f"demonstration {done.done} of {done.of}, in {folder}", file=sys.stderr)
    return list(islice(demonstrations(folder), options.episodes))


def default_demonstrations(recording: Recording) -> Path:
    """Where demonstrations are kept unless the user says otherwise."""
    return cache_folder() / f"swap-{recording.key}"


def learn_eyes(shown: Sequence[Episode], seed: int) -> dict[str, Eye]:
    """An eye for each camera, from frames of the demonstrations."""
    return {
        camera: Eye.learn(
            some_frames([episode.pictures[camera] for episode in shown], EYE_FRAMES),
            generator_for(seed, f"eye {camera}"),
        )
        for camera in shown[0].pictures
    }
