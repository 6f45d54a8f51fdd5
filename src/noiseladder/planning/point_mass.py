"""A ball on two sliding joints, pushed through a maze: MuJoCo's motion of D4RL's Maze2D as a few lines of torch.

The body is that of D4RL (Fu et al. 2020): mass, damping, gear and time step below, walls without friction. Walls are
soft as MuJoCo's are (its documentation, "Computation", constraint model): the acceleration minimises
1/2 m |a - a0|^2 + 1/2 sum_i D_i min(0, n_i a - r_i)^2, one term for each wall that the body touches, with stiffness D
and reference acceleration r from the default `solref` and `solimp`. In two dimensions that is solved exactly.
Recorded rows of D4RL are met to 1e-5, at walls too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from .maze import OFFSET, RADIUS, Maze
from .soft_walls import STIFFEST, impedance_at
from .world import Start

TIME_STEP = 0.01
GEAR = 100.0
"""Newton of a full action."""
DAMPING = 1.0
MASS = 1000 * 4 / 3 * math.pi * RADIUS**3
TOP_SPEED = 5.0
"""On each axis, forced before a step: after it the body may be faster."""
GOAL_RADIUS = 0.5
START_SPREAD = 0.1
"""Half width of the start around a cell, and standard deviation of its velocity."""

MARGIN = 0.002
"""Walls push from this distance on."""
_TIME_CONSTANT = 0.02  # solref, critically damped
_SPRING, _FRICTION = 1 / (STIFFEST * _TIME_CONSTANT) ** 2, 2 / (STIFFEST * _TIME_CONSTANT)
_INVERSE_WEIGHT = 2 / (3 * MASS)  # the mean over three axes, one of which cannot move
_ROUNDS = 8  # of the active-set iteration; two or three are the rule


@dataclass(frozen=True)
class PointMass:
    """The ball in a maze, a `World`: observation x, y in cells, vx, vy in cells a second; action two forces in [-1, 1].

    multi: a random goal in each episode (Multi2D) in place of the fixed one. dtype: of starts; steps keep their own.
    """

    maze: Maze
    multi: bool = False
    dtype: torch.dtype = torch.float32

    observation_size = 4
    action_size = 2
    goal_size = 2

    @property
    def time_limit(self) -> int:
        """Steps in an episode."""
        return self.maze.time_limit

    def start(self, generators: Sequence[Generator]) -> Start:
        """A random free cell +-.1 with velocity N(0, .1^2) for each generator; observation (B, 4), goal (B, 2)."""
        observations, goals = [], []
        for generator in generators:
            velocity = START_SPREAD * torch.randn(2, generator=generator, dtype=torch.float64)
            observations.append(torch.cat([self._random_place(generator), velocity]))
            fixed = torch.tensor(self.maze.goal, dtype=torch.float64)
            goals.append(self._random_place(generator) if self.multi else fixed)
        if not observations:
            raise ValueError("no generators: give one for each episode")
        return Start(torch.stack(observations).to(self.dtype), torch.stack(goals).to(self.dtype))

    def step(self, observation: Tensor, action: Tensor, generators: Sequence[Generator] | None = None) -> Tensor:
        """observation (B, 4), action (B, 2) -> the observation .01 seconds later (B, 4); nothing here is random."""
        check_step(observation, action)
        position, velocity = observation[:, :2], observation[:, 2:].clamp(-TOP_SPEED, TOP_SPEED)
        acceleration = (GEAR * action.clamp(-1, 1) - DAMPING * velocity) / MASS
        acceleration = self._pushed_back(position, velocity, acceleration)
        # MuJoCo's Euler step takes damping implicitly: it is solved for at the end of the step.
        velocity = velocity + TIME_STEP * MASS / (MASS + TIME_STEP * DAMPING) * acceleration
        return torch.cat([position + TIME_STEP * velocity, velocity], 1)

    def reward(self, observation: Tensor, goal: Tensor) -> Tensor:
        """1 within .5 of the goal, else 0: observation (B, 4), goal (B, 2) -> (B,)."""
        distance: Tensor = (observation[:, :2] - goal).norm(dim=1)
        return (distance <= GOAL_RADIUS).to(observation.dtype)

    def contact(self, observation: Tensor) -> Tensor:
        """Whether a wall pushes: (B, 4) -> (B,) booleans."""
        return ~self.maze.inside(observation[:, :2], -MARGIN)

    def _random_place(self, generator: Generator) -> Tensor:
        cells = self.maze.cells
        cell = cells[int(torch.randint(len(cells), (), generator=generator))]
        place: Tensor = cell + START_SPREAD * (2 * torch.rand(2, generator=generator, dtype=torch.float64) - 1)
        return place

    def _pushed_back(self, position: Tensor, velocity: Tensor, free: Tensor) -> Tensor:
        """The acceleration (B, 2) with the walls' push."""
        cell = torch.floor(position - (OFFSET - 0.5))
        local = position - OFFSET - cell
        rows = (local.abs().amax(1) > 0.5 - RADIUS - MARGIN).nonzero()[:, 0]
        if not len(rows):
            return free
        local = local[rows]
        # Mirrored so that the near walls lie at larger x and y: one on the side of x, one of y, one over the corner.
        mirror, gap = local.sign(), 0.5 - local.abs()
        corner = gap.norm(dim=1, keepdim=True)
        distance = torch.cat([gap, corner], 1)
        touching = self._boxes(cell[rows], mirror) & (distance < RADIUS + MARGIN)
        towards = gap / corner.clamp(min=1e-9)  # the corner
        depth = RADIUS + MARGIN - distance
        impedance = impedance_at(depth)
        limit = -_FRICTION * _onto(mirror * velocity[rows], towards) - _SPRING * impedance * depth
        stiffness = touching * impedance / ((1 - impedance) * _INVERSE_WEIGHT)
        return free.index_copy(0, rows, mirror * _least_action(mirror * free[rows], towards, limit, stiffness))

    def _boxes(self, cell: Tensor, mirror: Tensor) -> Tensor:
        """Where the walls are beside and over the corner of these cells, (B, 3) booleans."""
        x, y = cell.long().unbind(1)
        width, height = self.maze.size
        quarter = (2 * (mirror[:, 0] > 0) + (mirror[:, 1] > 0)).long()
        return self._boxes_around[(x.clamp(0, width - 1) * height + y.clamp(0, height - 1)) * 4 + quarter]

    @cached_property
    def _boxes_around(self) -> Tensor:
        signs = torch.cartesian_prod(torch.tensor([-1, 1]), torch.tensor([-1, 1]))
        cells = torch.cartesian_prod(*(torch.arange(count) for count in self.maze.size))
        sides = torch.stack([signs * torch.tensor([1, 0]), signs * torch.tensor([0, 1]), signs], 1)
        return self.maze.wall_at(cells[:, None, None] + sides).flatten(0, 1)


def check_step(observation: Tensor, action: Tensor) -> None:
    """ValueError unless observation is (B, 4) and action (B, 2)."""
    if observation.ndim != 2 or observation.shape[1] != 4:
        raise ValueError(f"an observation is (B, 4): x, y, vx, vy; this one is {tuple(observation.shape)}")
    if action.shape != (len(observation), 2):
        raise ValueError(
            f"for {len(observation)} observations an action is ({len(observation)}, 2); got {tuple(action.shape)}"
        )


def _onto(vector: Tensor, towards: Tensor) -> Tensor:
    """How much of `vector` goes along x, along y and towards the corner: (B, 2), (B, 2) -> (B, 3)."""
    return torch.cat([vector, (vector * towards).sum(1, keepdim=True)], 1)


def _least_action(free: Tensor, towards: Tensor, limit: Tensor, stiffness: Tensor) -> Tensor:
    """Minimise m/2 |a - free|^2 + 1/2 sum D max(0, a_n - limit)^2: (B, 2), (B, 2), (B, 3), (B, 3) -> (B, 2).

    Newton's method, exact once the walls that push stay the same from round to round.
    """
    acceleration, pushing = free, torch.zeros_like(stiffness)
    for _ in range(_ROUNDS):
        now = stiffness * (_onto(acceleration, towards) > limit)
        if torch.equal(now, pushing):
            break
        pushing = now
        pull, corner = pushing * limit, pushing[:, 2:] * towards
        x, y = (MASS * free + pull[:, :2] + pull[:, 2:] * towards).unbind(1)
        xx, yy = (MASS + pushing[:, :2] + corner * towards).unbind(1)
        xy = corner[:, 0] * towards[:, 1]
        acceleration = torch.stack([yy * x - xy * y, xx * y - xy * x], 1) / (xx * yy - xy**2)[:, None]
    return acceleration
