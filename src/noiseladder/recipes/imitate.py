"""`noiseladder imitate RUN`: watch a trained policy live episodes, with a memory, a level of trust and a blackout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cyclopts import Parameter
from numpy.typing import NDArray

from noiseladder.data.video_files import check_format, write_video
from noiseladder.imitation.disturbances import Blackout
from noiseladder.imitation.drawing import Drawing
from noiseladder.imitation.dreaming import Arrangement, Dream, ReadPlaces, Replayed, dream, replay
from noiseladder.imitation.fruit_swap import STEPS_PER_SECOND, TIME_LIMIT, FruitSwap
from noiseladder.imitation.policy import Policy
from noiseladder.imitation.policy_evaluation import (
    Believe,
    DoubtTheBlind,
    LivedEpisode,
    believe_all,
    believe_unsurprised,
    live_with,
    share,
)
from noiseladder.imitation.suspicion import LIMITS, Suspicion
from noiseladder.imitation.tabletop import CAMERAS, FRUITS
from noiseladder.training.durable import check_writable, replace_file

from .trained_swap import STEPS, load_drawing, load_policy

ENLARGED = 3  # times, so that a film of small pictures can be watched
CAPTION = 18  # pixels above it, which say what is shown
FILMED = ("simulator, ", "imagined, ")


@dataclass(frozen=True)
class Imitate:
    """How the episodes are lived."""

    _: KW_ONLY
    episodes: int = 5
    """How many; each from a seed of its own."""
    seed: int = 10_000
    """Of the first episode."""
    memory: str = "all"
    """all, none, or how many tokens of the past are remembered."""
    occlude: str | None = None
    """A camera that goes black for three seconds: front or side."""
    trust: str | None = None
    """Level at which the black camera is read: 1, if nothing is said, does not look at it, 0 believes it; or surprise:
    nobody tells the policy, it doubts by itself what it did not expect."""
    steps: int = STEPS
    """Denoising steps for a chunk of actions, and for what is imagined: 1 does what is done on average, 6 or more one
    of what may be done."""
    dream: bool = False
    """Imagine each episode from its first frame, and let the simulator obey; the video shows it beside the dream."""
    video: Path | None = None
    """Where to write what both cameras saw: .mp4 or .gif."""


def imitate(run: Path, options: Annotated[Imitate, Parameter(name="*")] = Imitate()) -> None:
    """Live episodes of the fruit swap with the policy in a run folder, or with the one that ships, `swap`."""
    memory, level = _memory(options.memory), _trust(options.trust)
    if options.occlude is not None and options.occlude not in CAMERAS:
        raise ValueError(f"--occlude is {options.occlude!r}, expected {' or '.join(CAMERAS)}")
    if options.episodes < 1:
        raise ValueError(f"--episodes is {options.episodes}, expected at least 1")
    if options.steps < 1:
        raise ValueError(f"--steps is {options.steps}, expected at least 1")
    if options.dream and (memory is not None or options.occlude is not None or options.trust is not None):
        raise ValueError("--dream looks once and remembers all: leave --memory, --occlude and --trust out")
    if options.trust not in (None, "surprise") and options.occlude is None:
        raise ValueError("--trust is how far a black camera is believed: say which with --occlude, or --trust surprise")
    if options.video is not None:
        check_format(options.video)
        check_writable(options.video)
    policy = load_policy(run, options.steps)
    torch.set_num_threads(1)
    world = FruitSwap(next(iter(policy.knowledge.eyes.values())).size[0])
    try:
        if options.dream:
            frames = dreams(world, policy, run, options)
        else:
            blackout = None if options.occlude is None else Blackout(options.occlude)
            frames = episodes(world, policy, options, memory, blackout, level)
    finally:
        world.close()
    if options.video is not None:
        shown = [f"{where}{camera}" for where in (FILMED if options.dream else ("",)) for camera in CAMERAS]
        above = captions(shown, ENLARGED * frames[0].shape[1])
        large = [np.concatenate([above, frame.repeat(ENLARGED, 0).repeat(ENLARGED, 1)]) for frame in frames]
        replace_file(options.video, lambda path: write_video(path, large, 2 * STEPS_PER_SECOND))
        print(f"wrote {options.video}")


def episodes(
    world: FruitSwap,
    policy: Policy,
    options: Imitate,
    memory: int | None,
    blackout: Blackout | None,
    level: float | None,
) -> list[NDArray[np.uint8]]:
    """Live episodes and say what became of them; returns their film. level: of a black camera, None for surprise."""
    believe: Believe = believe_all
    if level is None:
        believe = partial(believe_unsurprised, Suspicion(LIMITS))
    elif blackout is not None:
        believe = DoubtTheBlind(blackout, level)
    found: list[LivedEpisode] = []
    for number in range(options.episodes):
        wrong = () if blackout is None else (blackout,)
        episode = live_with(world, policy, options.seed + number, wrong, believe, memory, options.video is not None)
        found.append(episode)
        print(described(episode), flush=True)
    successes = sum(episode.success for episode in found)
    _, low, high = share(successes, len(found))
    spent = sum(episode.seconds for episode in found) / sum(episode.steps for episode in found)
    print(
        f"{successes} of {len(found)} succeeded (95 % interval {low:.0%} to {high:.0%}),"
        f" {1 / spent:.0f} steps a second of deciding"
    )
    return [frame for episode in found for frame in episode.frames]


def dreams(world: FruitSwap, policy: Policy, run: Path, options: Imitate) -> list[NDArray[np.uint8]]:
    """Imagine episodes, let the simulator obey and say whether both end alike; returns a film of both."""
    read, drawing = ReadPlaces.learn(world, policy), load_drawing(run)
    if options.video is not None and drawing is None:
        raise ValueError(f"{run} holds no drawing, so its dreams cannot be filmed: train it with --drawing-steps 500")
    agreed, frames = 0, []
    for number in range(options.episodes):
        dreamt = dream(world, policy, options.seed + number, options.steps)
        lived = replay(world, dreamt, film=options.video is not None)
        imagined = read(dreamt.seen)
        agreed += imagined == lived.places
        print(
            f"seed {dreamt.seed}: imagined {len(dreamt.actions)} steps to {_lying(imagined)}, the simulator came to"
            f" {_lying(lived.places)}{', swapped' * lived.swapped}",
            flush=True,
        )
        if drawing is not None and options.video is not None:
            frames += side_by_side(policy, drawing, dreamt, lived)
    print(f"{agreed} of {options.episodes} dreams end as the simulator does")
    return frames


def side_by_side(
    policy: Policy, drawing: Drawing, dreamt: Dream, lived: Replayed, still: int = STEPS_PER_SECOND
) -> list[NDArray[np.uint8]]:
    """Frames (size, 4 size + 4, 3): what the simulator showed, left, and what was imagined, right; then a pause."""
    tokens = policy.knowledge.tokens
    drawn = drawing.pictures(tokens, dreamt.seen)
    both = np.concatenate([drawn[camera] for camera in CAMERAS], axis=2)
    frames = []
    for step, frame in enumerate(lived.frames):
        # A token is imagined for the moment at which it begins; frame number `step` was seen after that step.
        other = both[min((step + 1) // tokens.chunk, len(both) - 1)]
        frames.append(np.concatenate([frame, np.full((len(frame), 4, 3), 255, np.uint8), other], axis=1))
    return frames + frames[-1:] * still


def captions(texts: Sequence[str], width: int) -> NDArray[np.uint8]:
    """A white strip (CAPTION, width, 3) with each text above its share of the width."""
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("RGB", (width, CAPTION), "white")
    brush, font = ImageDraw.Draw(strip), ImageFont.load_default(12)
    for number, text in enumerate(texts):
        brush.text(((number + 0.5) * width / len(texts), CAPTION / 2), text, "black", font, anchor="mm")
    return np.asarray(strip)


def _lying(places: Arrangement) -> str:
    return ", ".join(f"{fruit} on {'no plate' if slot is None else slot}" for fruit, slot in zip(FRUITS, places))


def described(episode: LivedEpisode) -> str:
    """One line about an episode."""
    moves = ", ".join(f"{fruit} to {slot}" for fruit, slot in episode.moves) or "nothing was moved"
    how = "swapped" if episode.success else "time is up" if episode.steps >= TIME_LIMIT else "given up"
    return f"seed {episode.seed}: {how} after {episode.steps} steps; {moves}{'; said it was done' * episode.ended}"


def _memory(text: str) -> int | None:
    if text == "all":
        return None
    if text == "none":
        return 0
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"--memory is {text!r}, expected all, none or a number of tokens")
    return int(text)


def _trust(text: str | None) -> float | None:
    if text == "surprise":
        return None
    if text is None:
        return 1.0
    try:
        level = float(text)
    except ValueError:
        level = -1.0
    if not 0 <= level <= 1:
        raise ValueError(f"--trust is {text!r}, expected surprise or a level from 0, believe it, to 1, do not look")
    return level
