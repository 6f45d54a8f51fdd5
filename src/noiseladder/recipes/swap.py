"""The fruit swap from demonstrations: a policy with as much memory as it is asked for."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Generator

from noiseladder.data.episodes import Episode
from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.imitation.demonstrations import Recording, demonstrations, record
from noiseladder.imitation.eye import Eye, some_frames
from noiseladder.imitation.policy_knowledge import PolicyKnowledge
from noiseladder.imitation.policy_levels import Asked, Remembered, SensesCount
from noiseladder.imitation.policy_tokens import PolicyTokens
from noiseladder.imitation.spoiling import spoiled
from noiseladder.networks import TransformerNetwork
from noiseladder.training import Experiment, TrainingOptions, generator_for
from noiseladder.training.cache_folder import cache_folder
from noiseladder.training.progress import LOG_SECONDS

EYE_FRAMES = 300


@dataclass(frozen=True, kw_only=True)
class Swap(TrainingOptions):
    """Learn to swap two fruits by way of a third plate, from pictures of somebody who does."""

    steps: int = 3000
    demonstrations: Path | None = None
    """Folder of demonstrations; those that are missing are recorded. In the cache ($NOISELADDER_CACHE) without it."""
    episodes: int = 150
    """Demonstrations to learn from."""
    held_out: int = 10
    """Of these, for validation."""
    chunk: int = 6
    """Actions in a token."""
    moves: int = 3
    """How many of an action's first values are moves that add up; 0 for actions that are places."""
    tokens: int = 48
    """Tokens in a sequence; an episode has about 40."""
    batch: int = 24
    """Sequences in a batch."""
    spoiled: bool = True
    """Learn from every episode a second time, as a worse camera would have seen it."""
    tremble: float = 0.02
    """Deviation of noise on what is seen, in usual deviations, in training."""
    width: int = 128
    """Width of the network."""
    layers: int = 4
    """Layers of the network."""
    average: float = 0.995
    validate_every: int = 200


def network(options: Swap, tokens: PolicyTokens) -> TransformerNetwork:
    """The causal network of a recipe."""
    return TransformerNetwork(tokens.size, options.width, options.layers, 4, 1, tokens.parts, cache=64)


def experiment(options: Swap) -> Experiment:
    """A causal transformer on demonstrations of the swap."""
    if not 0 < options.held_out < options.episodes:
        raise ValueError(f"held_out is {options.held_out}, expected 1 to {options.episodes - 1}, fewer than episodes")
    shown = recorded(options)
    eyes = learn_eyes(shown[options.held_out :], options.seed)
    traces = [PolicyKnowledge.trace(episode, eyes) for episode in shown]
    held_out, traces = traces[: options.held_out], traces[options.held_out :]
    tokens = PolicyTokens.fit(traces, options.chunk, options.moves)
    if options.spoiled:
        worse = (spoiled(episode, number) for number, episode in enumerate(shown) if number >= options.held_out)
        traces = [*traces, *(PolicyKnowledge.trace(episode, eyes) for episode in worse)]
    table = tokens.table(traces)

    def batches(step: int, generator: Generator) -> Batch:
        batch = table.draw(options.batch, options.tokens, 0.6, generator)
        seen = batch.tokens[..., : tokens.seen_size]
        seen += options.tremble * torch.randn(seen.shape, generator=generator)
        return batch

    return Experiment(
        denoiser=Denoiser(network(options, tokens), Cosine()),
        objective=DiffusionForcing(
            Remembered(tokens), SensesCount(tokens), query_levels=Asked(tokens), query_share=0.85
        ),
        batches=batches,
        validation=tokens.table(held_out).draw(64, options.tokens, 0.6, generator_for(options.seed, "validation swaps")),
        files=PolicyKnowledge(tokens, eyes).save,
    )


def recorded(options: Swap) -> list[Episode]:
    """The demonstrations, recorded now where they are missing."""
    recording = Recording(options.episodes)
    folder = options.demonstrations or default_demonstrations(recording)
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
