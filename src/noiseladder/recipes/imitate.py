"""`noiseladder imitate RUN`: watch a trained policy live episodes, with a memory, a level of trust and a blackout."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cyclopts import Parameter
from numpy.typing import NDArray

from noiseladder.data.video_files import write_video
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.imitation.disturbances import Blackout
from noiseladder.imitation.fruit_swap import STEPS_PER_SECOND, TIME_LIMIT, FruitSwap
from noiseladder.imitation.policy import Policy
from noiseladder.imitation.policy_evaluation import DoubtTheBlind, LivedEpisode, believe_all, live_with, share
from noiseladder.imitation.policy_knowledge import PolicyKnowledge
from noiseladder.imitation.tabletop import CAMERAS
from noiseladder.training.durable import replace_file
from noiseladder.training.options import from_json
from noiseladder.training.weights import load_weights, read_recipe

from .swap import Swap, network


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
    trust: float = 1.0
    """Level at which the black camera is read: 1 does not look at it, 0 believes it."""
    steps: int = 6
    """Denoising steps for a chunk of actions."""
    video: Path | None = None
    """Where to write what both cameras saw: .mp4 or .gif."""


def imitate(run: Path, options: Annotated[Imitate, Parameter(name="*")] = Imitate()) -> None:
    """Live episodes of the fruit swap with the policy in a run folder."""
    memory = _memory(options.memory)
    if options.occlude is not None and options.occlude not in CAMERAS:
        raise ValueError(f"--occlude is {options.occlude!r}, expected {' or '.join(CAMERAS)}")
    if options.episodes < 1:
        raise ValueError(f"--episodes is {options.episodes}, expected at least 1")
    policy = load_policy(run, options.steps)
    torch.set_num_threads(1)
    blackout = None if options.occlude is None else Blackout(options.occlude)
    believe = believe_all if blackout is None else DoubtTheBlind(blackout, options.trust)
    frames: list[NDArray[np.uint8]] = []
    found: list[LivedEpisode] = []
    world = FruitSwap(next(iter(policy.knowledge.eyes.values())).size[0])

    def live(seed: int) -> LivedEpisode:
        wrong = () if blackout is None else (blackout,)
        return live_with(world, policy, seed, wrong, believe, memory, options.video is not None)

    try:
        for number in range(options.episodes):
            episode = live(options.seed + number)
            found.append(episode)
            frames.extend(episode.frames)
            print(described(episode))
    finally:
        world.close()
    successes = sum(episode.success for episode in found)
    _, low, high = share(successes, len(found))
    spent = sum(episode.seconds for episode in found) / sum(episode.steps for episode in found)
    print(
        f"{successes} of {len(found)} succeeded (95 % interval {low:.0%} to {high:.0%}),"
        f" {1 / spent:.0f} steps a second of deciding"
    )
    if options.video is not None:
        replace_file(options.video, lambda path: write_video(path, frames, 2 * STEPS_PER_SECOND))


def described(episode: LivedEpisode) -> str:
    """One line about an episode."""
    moves = ", ".join(f"{fruit} to {slot}" for fruit, slot in episode.moves) or "nothing was moved"
    how = "swapped" if episode.success else "time is up" if episode.steps >= TIME_LIMIT else "given up"
    return f"seed {episode.seed}: {how} after {episode.steps} steps; {moves}{'; said it was done' * episode.ended}"


def load_policy(run: Path, steps: int = 6, seed: int = 0) -> Policy:
    """The policy in a run folder of `noiseladder train swap`.

    Raises ValueError for a run of another recipe or damaged files, OSError where there is none.
    """
    recipe = read_recipe(run / "weights.safetensors")
    if recipe.get("recipe") != "swap":
        raise ValueError(f"{run} holds a run of {recipe.get('recipe')!r}, expected one of `noiseladder train swap`")
    knowledge = PolicyKnowledge.load(run)
    denoiser = Denoiser(network(from_json(Swap, recipe), knowledge.tokens), Cosine()).eval()
    load_weights(run / "weights.safetensors", denoiser)
    return Policy(denoiser, knowledge, steps, seed=seed)


def _memory(text: str) -> int | None:
    if text == "all":
        return None
    if text == "none":
        return 0
    if not text.isdigit():
        raise ValueError(f"--memory is {text!r}, expected all, none or a number of tokens")
    return int(text)
