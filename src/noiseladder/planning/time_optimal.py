"""The ceiling: the quickest way that the true body can go on the true map, by dynamic programming on a lattice.

It knows what a planner must learn, walls and motion, and is only there to say how much room is left. Two parts:
- the least time outside the goal's disc for every lattice state (x, y, vx, vy), as shortest paths. Positions are 1/15
  of a cell apart, so that walls lie on the lattice; time and velocity steps are such that a constant force leads from
  lattice point to lattice point (dv dt = 2 dx). A wall stops the part of the motion that runs into it.
- a controller that looks ahead with the true body: 9 x 9 pairs of forces held for a few steps, each followed to its end
  and continued by the lattice's time, interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .maze import Maze
from .point_mass import GOAL_RADIUS, TIME_STEP, PointMass

PER_CELL = 15
_BODY = 12  # lattice steps in which the body's centre is free in a cell; the wall between two cells takes the other 3
_ZERO = 0.6  # from a cell to the first free point in it
TOP = 3
"""Velocity steps on each axis, both ways."""
LATTICE_SPEED = 5.23
"""What `TOP` stands for: the body's greatest speed under full force, cells a second."""
SPEED_STEP = LATTICE_SPEED / TOP
ROUND_STEPS = 2 / PER_CELL / SPEED_STEP / TIME_STEP
"""Simulator steps that one lattice step takes."""
_FINE = 2 * TOP  # the greatest displacement, in lattice steps
_EDGE = _FINE / PER_CELL  # of the disc, blurred to what full speed covers in a step: times grow evenly with the way
_AT_ONCE = 16  # goals
_NEVER = 1e6

_FORCES = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))  # (9, 2)
_SPEEDS = torch.cartesian_prod(torch.arange(-TOP, TOP + 1), torch.arange(-TOP, TOP + 1))  # (V, 2)
_CORNERS = torch.cartesian_prod(*[torch.arange(2)] * 4)  # (16, 4)


@dataclass(frozen=True)
class Lattice:
    """The states of a maze and where the nine forces lead from each.

    number: of a lattice point, (X, Y), -1 in walls. points: (P, 2). following: where each force leads, state -> state,
    (9, S); state = point * V + velocity.
    """

    number: Tensor
    points: Tensor
    following: Tensor

    @property
    def places(self) -> Tensor:
        """The points in cells, (P, 2)."""
        return self.points / PER_CELL - _ZERO


def lattice(maze: Maze) -> Lattice:
    """The lattice of a maze; positions outside are walls."""
    blocked = _blocked(maze)
    free = ~blocked[::_FINE, ::_FINE]
    points = free.nonzero()
    number = torch.full(free.shape, -1)
    number[free] = torch.arange(len(points))
    return Lattice(number, points, _following(blocked, number, points))


def times_outside(lattice: Lattice, goals: Tensor) -> Tensor:
    """The least number of simulator steps outside each goal's disc, ever: goals (G, 2) -> (G, S).

    Bellman's equation, cost of a step = how far its ends are outside, swept until nothing changes.
    """
    away = torch.cdist(lattice.places, goals.float())
    outside = ((away - GOAL_RADIUS) / _EDGE + 0.5).clamp(0, 1).repeat_interleave(len(_SPEEDS), 0)
    resting = (_SPEEDS == 0).all(1).repeat(len(lattice.points))
    time = torch.full(outside.shape, _NEVER)
    time[resting] = torch.where(outside[resting] > 0, _NEVER, 0.0)
    while True:
        # The ends' costs belong to states, so that one sum per state serves all nine forces.
        onward = time + outside / 2
        best = onward.index_select(0, lattice.following[0])
        for following in lattice.following[1:]:
            torch.minimum(best, onward.index_select(0, following), out=best)
        best = torch.minimum(time, best + outside / 2)
        if best.equal(time):
            return (time * ROUND_STEPS).T.contiguous()
        time = best


class TimeOptimal:
    """The reference planner; knows the maze and its law of motion, and keeps nothing from call to call but its tables.

    hold: steps for which the two forces of the look-ahead are held, of which the first is carried out.
    """

    def __init__(self, maze: Maze, hold: tuple[int, int] = (6, 6)) -> None:
        if min(hold) < 1:
            raise ValueError(f"hold is {hold}: each force is held for at least 1 step")
        self.maze, self.hold = maze, hold
        self.world = PointMass(maze)
        self.goals = torch.empty(0, 2)
        self.times: Tensor | None = None

    @cached_property
    def lattice(self) -> Lattice:
        """Made at the first plan."""
        return lattice(self.maze)

    def plan(self, observation: Tensor, goal: Tensor) -> Tensor:
        """observation (B, 4), goal (B, 2) -> the next actions (B, h, 2).

        Tables are made for goals to a quarter of a cell, when one is first seen. Raises ValueError for a position or
        goal in a wall.
        """
        self.maze.check_inside(observation[:, :2], "position")
        times, which = self._tables(self.maze.check_inside(goal, "goal"))
        pairs = torch.cartesian_prod(torch.arange(len(_FORCES)), torch.arange(len(_FORCES)))
        rows = len(pairs)
        state = observation.float().repeat_interleave(rows, 0)
        goals = goal.float().repeat_interleave(rows, 0)
        lost = torch.zeros(len(state))
        for steps, forces in zip(self.hold, pairs.T):
            action = _FORCES[forces].float().repeat(len(observation), 1)
            for _ in range(steps):
                state = self.world.step(state, action)
                lost += 1 - self.world.reward(state, goals)
        lost += self._time(times, state, which.repeat_interleave(rows))
        best = pairs[lost.view(-1, rows).argmin(1), 0]
        return _FORCES[best].to(observation.dtype)[:, None].expand(-1, self.hold[0], -1)

    def _tables(self, goal: Tensor) -> tuple[Tensor, Tensor]:
        """All tables (G, S), what is missing made, and the number of each row's, (B,)."""
        rounded = (goal.float() * 4).round() / 4
        wanted = rounded.unique(dim=0)
        new = wanted[~(wanted[:, None] == self.goals).all(2).any(1)]
        for some in new.split(_AT_ONCE):
            times = times_outside(self.lattice, some)
            self.times = times if self.times is None else torch.cat([self.times, times])
            self.goals = torch.cat([self.goals, some])
        assert self.times is not None
        return self.times, (rounded[:, None] == self.goals).all(2).int().argmax(1)

    def _time(self, times: Tensor, state: Tensor, which: Tensor) -> Tensor:
        """Tables between lattice points: state (R, 4), number of a table (R,) -> (R,); points in walls do not count."""
        limits = torch.tensor(self.lattice.number.shape) - 1
        place = ((state[:, :2] + _ZERO) * PER_CELL).clamp(min=torch.zeros(2), max=limits - 1e-3)
        speed = (state[:, 2:] / SPEED_STEP + TOP).clamp(0, 2 * TOP - 1e-4)
        total, weight = torch.zeros(len(state)), torch.zeros(len(state))
        low, part = torch.cat([place, speed], 1).floor().long(), torch.cat([place, speed], 1).frac()
        for corner in _CORNERS:
            x, y, vx, vy = (low + corner).unbind(1)
            point = self.lattice.number[x, y]
            share = torch.where(corner.bool(), part, 1 - part).prod(1) * (point >= 0)
            index = (point.clamp(min=0) * (2 * TOP + 1) + vx) * (2 * TOP + 1) + vy
            total += share * times[which, index]
            weight += share
        return total / weight.clamp(min=1e-9)


def _blocked(maze: Maze) -> Tensor:
    """Where a body would be in a wall, on a grid finer than the lattice by `_FINE`; corners count as square here."""
    cell, body = PER_CELL * _FINE, _BODY * _FINE
    columns, lines = (torch.arange(cell * count) for count in maze.size)
    walls = maze.wall_at(torch.cartesian_prod(*(torch.arange(count + 1) for count in maze.size)))
    walls = walls.view(maze.size[0] + 1, -1)
    # A body reaches into its cell and, past the wall's face, into the next one too.
    reached = [(places // cell, (places + cell - body - 1) // cell) for places in (columns, lines)]
    blocked = torch.zeros(len(columns), len(lines), dtype=torch.bool)
    for column in reached[0]:
        for line in reached[1]:
            blocked |= walls[column[:, None], line]
    return blocked


def _following(blocked: Tensor, number: Tensor, points: Tensor) -> Tensor:
    # Where a step ends depends only on where it begins and on its displacement, of which there are few.
    ways = torch.cartesian_prod(torch.arange(-_FINE, _FINE + 1), torch.arange(-_FINE, _FINE + 1))
    x, y = (_FINE * points).unbind(1)
    x, y = x[:, None].repeat(1, len(ways)), y[:, None].repeat(1, len(ways))
    stopped_x, stopped_y = torch.zeros_like(x, dtype=torch.bool), torch.zeros_like(x, dtype=torch.bool)
    # In as many parts as the longest displacement has lattice steps: no part is longer than one.
    for _ in range(_FINE):
        onward = torch.where(stopped_x, x, x + ways[:, 0])
        hits = blocked[onward, y]
        x, stopped_x = torch.where(hits, _face(onward, ways[:, 0]), onward), stopped_x | hits
        onward = torch.where(stopped_y, y, y + ways[:, 1])
        hits = blocked[x, onward]
        y, stopped_y = torch.where(hits, _face(onward, ways[:, 1]), onward), stopped_y | hits
    ends = number[x // _FINE, y // _FINE]

    after = (_SPEEDS + _FORCES[:, None]).clamp(-TOP, TOP)  # (9, V, 2)
    way = _SPEEDS + after + _FINE
    taken = way[..., 0] * (2 * _FINE + 1) + way[..., 1]
    speed_x = torch.where(stopped_x[:, taken], 0, after[..., 0]) + TOP
    speed_y = torch.where(stopped_y[:, taken], 0, after[..., 1]) + TOP
    following = ends[:, taken] * len(_SPEEDS) + speed_x * (2 * TOP + 1) + speed_y
    return following.transpose(0, 1).flatten(1).contiguous()


def _face(inside: Tensor, way: Tensor) -> Tensor:
    """The last lattice point before the wall, for who would be inside it."""
    return _FINE * torch.where(way > 0, -(-inside // _FINE) - 1, inside // _FINE + 1)
