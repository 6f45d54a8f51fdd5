"""A policy is judged by living: episodes from their seeds, with what goes wrong and how far it is believed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .disturbances import Blackout, Disturbance
from .fruit_swap import REST_STEPS, FruitSwap
from .policy import Level, Policy, Trust
from .tabletop import CAMERAS, FRUITS

Believe = Callable[[int], Level]
"""From the number of a step to how far the senses are believed in it."""


@dataclass(frozen=True)
class LivedEpisode:
    """What became of one episode.

    moves: (fruit, plate) each time that a fruit came to lie on another plate. ended: whether the policy itself said
    that it was done. seconds: that its decisions took. frames: (T, size, 2 size, 3), what both cameras saw, when it
    was filmed.
    """

    seed: int
    success: bool
    steps: int
    ended: bool
    moves: tuple[tuple[str, int], ...]
    seconds: float
    frames: tuple[NDArray[np.uint8], ...] = field(default=(), repr=False)


def believe_all(step: int) -> Level:
    """Every sense is believed at every step."""
    return 0.0


def believe_unsurprised(trust: Trust, step: int) -> Level:
    """The policy decides itself at every step, by its surprise."""
    return trust


@dataclass(frozen=True)
class DoubtTheBlind:
    """A camera is believed at `level` while it is black: 1 is not to look at it."""

    blackout: Blackout
    level: float = 1.0

    def __call__(self, step: int) -> Level:
        """The level in a step."""
        return {self.blackout.camera: self.level} if self.blackout.during(step) else 0.0


def live_with(
    world: FruitSwap,
    policy: Policy,
    seed: int,
    disturbances: Sequence[Disturbance] = (),
    believe: Believe = believe_all,
    memory: int | None = None,
    film: bool = False,
) -> LivedEpisode:
    """One episode of the fruit swap, to its success, its time limit or the policy's own end.

    After its own end the arm stays where it is for as long as fruits have to rest: they decide, not who is first.
    """
    observation = world.reset(seed, disturbances)
    policy.reset()
    frames, moves, spent, over = [], [], 0.0, False
    lay = {name: world.slot_of(name) for name in FRUITS}
    while not over and not policy.finished:
        began = time.process_time()
        actions = policy.act(observation, believe(world.steps), memory)
        spent += time.process_time() - began
        for number, action in enumerate(actions):
            observation = world.step(action, look=film or number == len(actions) - 1)
            if film:
                frames.append(np.concatenate([observation.pictures[camera] for camera in CAMERAS], axis=1))
            for name in FRUITS:
                slot = world.slot_of(name)
                if slot is not None and slot != lay[name] and world.held() is None:
                    moves.append((name, slot))
                    lay[name] = slot
            over = world.over
            if over:
                break
    for _ in range(REST_STEPS):
        if world.over:
            break
        world.step(np.zeros(4), look=False)
    return LivedEpisode(seed, world.succeeded, world.steps, policy.finished, tuple(moves), spent, tuple(frames))


def share(successes: int, of: int) -> tuple[float, float, float]:
    """A share of successes with its 95 % interval (Wilson, 1927)."""
    if of < 1:
        raise ValueError("no episodes: expected at least 1")
    z, found = 1.96, successes / of
    middle = (found + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * math.sqrt(found * (1 - found) / of + z**2 / (4 * of**2))
    return found, max(0.0, middle - half), min(1.0, middle + half)
