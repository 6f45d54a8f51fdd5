"""A world is a law of motion, a start and a goal; many episodes are lived at once, one row each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Start:
    """Where episodes begin and what they are asked for: observation (B, O), goal (B, G)."""

    observation: Tensor
    goal: Tensor


class World(Protocol):
    """A law of motion that keeps nothing: whoever holds an observation may step from it.

    time_limit: steps in an episode. observation_size, action_size, goal_size: O, A, G. Actions are clipped to [-1, 1].
    """

    @property
    def time_limit(self) -> int: ...

    @property
    def observation_size(self) -> int: ...

    @property
    def action_size(self) -> int: ...

    @property
    def goal_size(self) -> int: ...

    def start(self, generators: Sequence[Generator]) -> Start:
        """One episode for each generator, so that an episode does not depend on its batch."""
        ...

    def step(self, observation: Tensor, action: Tensor, generators: Sequence[Generator] | None = None) -> Tensor:
        """observation (B, O), action (B, A) -> the next observation (B, O). Generators: only where chance decides."""
        ...

    def reward(self, observation: Tensor, goal: Tensor) -> Tensor:
        """observation (B, O), goal (B, G) -> (B,): 1 where the goal is reached."""
        ...


def seeded(seeds: Sequence[int]) -> list[Generator]:
    """One generator for each seed."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]
