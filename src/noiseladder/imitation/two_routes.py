"""Two routes around an island: both are good, and the average of the two runs aground.

A boat starts on the left, the island lies ahead, the harbour behind it. Who shows the way tosses a coin and passes it
on one side or the other, so that what is done at one place has two modes. No extra is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from noiseladder.data.episodes import Episode


@dataclass(frozen=True)
class TwoRoutes:
    """The course: lengths in units of its half length, so that it runs from x = -1 to x = 1.

    radius: of the island at the origin. shore: |y| from which on there is land. longest_move: in one step.
    time_limit: steps, about twice what a demonstration takes.
    """

    radius: float = 0.4
    shore: float = 0.9
    longest_move: float = 0.08
    time_limit: int = 80

    def __post_init__(self) -> None:
        if not 0 < self.radius < self.shore:
            raise ValueError(f"an island of radius {self.radius} leaves no route: expected less than {self.shore}")
        if not 0 < self.longest_move < self.radius:
            raise ValueError(f"steps of {self.longest_move}: expected more than 0 and less than {self.radius}")

    def start(self, generators: Sequence[Generator]) -> Tensor:
        """Where boats begin, (B, 2): one for each generator, right before the island up to .05 to the side."""
        across = torch.stack([torch.rand((), generator=generator) for generator in generators])
        return torch.stack([torch.full_like(across, -1.0), 0.1 * across - 0.05], dim=1)

    def step(self, position: Tensor, action: Tensor) -> Tensor:
        """position (B, 2), action (B, 2), a move, shortened to `longest_move` -> the next position (B, 2)."""
        length: Tensor = action.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return position + action * (self.longest_move / length).clamp(max=1.0)

    def crashed(self, before: Tensor, after: Tensor) -> Tensor:
        """Whether the straight way between two positions (B, 2) touches land, (B,) bool."""
        move = after - before
        share = -(before * move).sum(-1) / move.square().sum(-1).clamp(min=1e-12)
        nearest = before + share.clamp(0, 1).unsqueeze(-1) * move
        found: Tensor = (nearest.norm(dim=-1) < self.radius) | (after[..., 1].abs() > self.shore)
        return found

    def arrived(self, position: Tensor) -> Tensor:
        """Whether a boat is in the harbour, within .1 of (1, 0), (B,) bool."""
        harbour = torch.tensor([1.0, 0.0], dtype=position.dtype, device=position.device)
        found: Tensor = (position - harbour).norm(dim=-1) < 0.1
        return found


@dataclass(frozen=True)
class Helm:
    """Who shows the way: a side by the toss of a coin, a distance to the island, and an unsteady hand."""

    course: TwoRoutes
    wander: float = 0.012

    def demonstration(self, seed: int) -> Episode:
        """One passage that arrives: state (T, 2) is the position, actions (T, 2) the moves; the same for a seed."""
        course, generator = self.course, torch.Generator().manual_seed(seed)
        position = course.start([generator])
        side = 1.0 if float(torch.rand((), generator=generator)) < 0.5 else -1.0
        room = course.shore - course.radius
        distance = course.radius + room * (0.35 + 0.2 * float(torch.rand((), generator=generator)))
        speed = course.longest_move * (0.6 + 0.3 * float(torch.rand((), generator=generator)))
        # Before the island, past it and to the harbour; the straight lines between these keep clear of it.
        marks = [torch.tensor(mark) for mark in ((-0.15, side * distance), (0.15, side * distance), (1.0, 0.0))]
        positions, actions = [], []
        for _ in range(course.time_limit):
            while len(marks) > 1 and float(position[0, 0]) > float(marks[0][0]) - 0.05:
                marks.pop(0)
            toward = marks[0] - position[0]
            move = speed * toward / toward.norm().clamp(min=speed)
            move = (move + self.wander * torch.randn(2, generator=generator)).unsqueeze(0)
            after = course.step(position, move)
            positions.append(position[0])
            actions.append((after - position)[0])
            if bool(course.crashed(position, after)):
                raise ValueError(
                    f"with a wander of {self.wander} the demonstration of seed {seed} ran aground: expected about .012"
                )
            position = after
            if bool(course.arrived(position)):
                break
        return Episode(
            f"passage with seed {seed}",
            {},
            np.asarray(torch.stack(positions)),
            np.asarray(torch.stack(actions)),
            notes={"seed": seed, "side": side},
        )


def sail(course: TwoRoutes, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Paths (B, T + 1, 2) -> (B,) whether each crashed, (B,) whether it arrived without crashing."""
    hit = course.crashed(positions[:, :-1], positions[:, 1:])
    there = course.arrived(positions)
    # What happens after the arrival does not count.
    before_arrival = there[:, :-1].long().cumsum(1) == 0
    crashed = (hit & before_arrival).any(1)
    return crashed, there.any(1) & ~crashed
