"""Small recordings that are made in moments: forces held at random, and lines drawn by hand."""

from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from noiseladder.planning.knowledge import Knowledge
from noiseladder.planning.maze import UMAZE
from noiseladder.planning.ogbench import MEDIUM, PointMaze
from noiseladder.planning.point_mass import PointMass
from noiseladder.planning.recordings import Recording
from noiseladder.planning.world import World, seeded


def walked(world: World, rows: int, steps: int, hold: int, seed: int) -> Recording:
    """Random actions, each held for some steps, walls and all."""
    generator = torch.Generator().manual_seed(seed)
    observation = world.start(seeded(range(rows))).observation
    observations, actions = [], []
    for step in range(steps):
        if step % hold == 0:
            action = (2.4 * torch.rand(rows, 2, generator=generator) - 1.2).clamp(-1, 1)
        observations.append(observation)
        actions.append(action)
        observation = world.step(observation, action)
    ends = np.tile(np.arange(1, steps + 1) == steps, rows)
    return Recording(
        torch.stack(observations, 1).flatten(0, 1).numpy(), torch.stack(actions, 1).flatten(0, 1).numpy(), ends
    )


@cache
def pushed() -> Recording:
    """D4RL's ball in its smallest maze, often in touch with walls, now and then as fast as it may be."""
    return walked(PointMass(UMAZE), rows=128, steps=300, hold=25, seed=0)


@cache
def jumped() -> Recording:
    """OGBench's point, which has no velocity."""
    return walked(PointMaze(MEDIUM), rows=64, steps=300, hold=8, seed=0)


@cache
def known() -> Knowledge:
    """What the ball's recording teaches, four steps in a token."""
    return Knowledge.learn(pushed(), 4, 0.5, "a ball pushed at random")


def drawn(*lines: list[tuple[float, float]], step: float = 0.05, turns: int = 3) -> Recording:
    """Each line walked along and back again, a few times, one trajectory each."""
    positions, ends = [], []
    for line in lines:
        there = along(torch.tensor(line), step)
        walk = torch.cat([torch.cat([there, there.flip(0)])] * turns)
        positions.append(walk)
        ends.append(torch.arange(1, len(walk) + 1) == len(walk))
    position = torch.cat(positions)
    return Recording(position.numpy(), torch.zeros(len(position), 2).numpy(), torch.cat(ends).numpy())


def along(corners: Tensor, step: float) -> Tensor:
    """Points `step` apart along a line through corners (n, 2)."""
    pieces = []
    for first, last in pairwise(corners):
        count = max(1, round(float((last - first).norm()) / step))
        pieces.append(first + (last - first) * torch.arange(count)[:, None] / count)
    return torch.cat([*pieces, corners[-1:]])
