"""An explorer walks to one random place after another by the shortest way, and now and then does something else.

It needs the walls and nothing else of a map, so it walks in any. Numpy only: it runs in processes that must start fast.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

ACTIONS = ("turn left", "turn right", "forward")
TURN_LEFT, TURN_RIGHT, FORWARD = range(3)

Cell = tuple[int, int]


@dataclass(frozen=True)
class FloorPlan:
    """Where one can stand, on a grid of squares: free (X, Y) bool; `origin` is the corner of square (0, 0)."""

    free: NDArray[np.bool_]
    origin: tuple[float, float]
    cell: float

    def cell_of(self, x: float, y: float) -> Cell:
        """The free square nearest to a place."""
        free = np.argwhere(self.free)
        distance = np.abs((free + 0.5) * self.cell + self.origin - (x, y)).sum(1)
        row, column = free[distance.argmin()]
        return int(row), int(column)

    def centre(self, cell: Cell) -> tuple[float, float]:
        """The middle of a square, in map units."""
        return self.origin[0] + (cell[0] + 0.5) * self.cell, self.origin[1] + (cell[1] + 0.5) * self.cell

    def path(self, start: Cell, goal: Cell) -> list[Cell]:
        """The squares of a shortest way, both ends included; empty if there is none."""
        came_from: dict[Cell, Cell] = {goal: goal}
        queue = deque([goal])
        while queue and start not in came_from:
            x, y = queue.popleft()
            for step in ((x + 1, y), (x, y + 1), (x - 1, y), (x, y - 1)):
                if step not in came_from and self.free[step]:
                    came_from[step] = (x, y)
                    queue.append(step)
        if start not in came_from:
            return []
        path = [start]
        while path[-1] != goal:
            path.append(came_from[path[-1]])
        return path


def floor_plan(
    walls: NDArray[np.floating], start: tuple[float, float], cell: float, clearance: float,
    avoid: NDArray[np.floating] | None = None,
) -> FloorPlan:  # fmt: skip
    """The squares that can be reached from `start`.

    walls: (n, 4), x and y of both ends of every line that cannot be crossed. cell: side of a square; clearance: how
    far a middle must be from every wall. avoid: (k, 3), x, y and radius of circles to stay out of.
    """
    corners = walls.reshape(-1, 2)
    low, high = corners.min(0) - cell, corners.max(0) + cell
    size = np.ceil((high - low) / cell).astype(int)
    middles = np.stack(np.meshgrid(*(np.arange(n) + 0.5 for n in size), indexing="ij"), -1) * cell + low
    free = np.ones(tuple(size), dtype=bool)
    free[[0, -1], :] = free[:, [0, -1]] = False
    for x1, y1, x2, y2 in walls:
        one, along = np.array([x1, y1]), np.array([x2 - x1, y2 - y1])
        share = ((middles - one) @ along / max(1e-9, along @ along)).clip(0, 1)
        free &= np.hypot(*np.moveaxis(middles - one - share[..., None] * along, -1, 0)) >= clearance
    for x, y, radius in () if avoid is None else avoid:
        free &= np.hypot(middles[..., 0] - x, middles[..., 1] - y) >= radius
    if not free.any():
        raise ValueError(f"nowhere on this map is {clearance} units from every wall: use a smaller clearance")
    everywhere = FloorPlan(free, (float(low[0]), float(low[1])), cell)
    reached = np.zeros_like(free)
    queue = deque([everywhere.cell_of(*start)])
    reached[queue[0]] = True
    while queue:
        x, y = queue.popleft()
        for step in ((x + 1, y), (x, y + 1), (x - 1, y), (x, y - 1)):
            if free[step] and not reached[step]:
                reached[step] = True
                queue.append(step)
    return FloorPlan(reached, everywhere.origin, cell)


class Explorer:
    """Chooses the next action from the pose; the same generator chooses the same walk."""

    def __init__(self, plan: FloorPlan, turn: float, generator: Generator) -> None:
        self.plan, self.turn, self.generator = plan, turn, generator
        self.places = np.argwhere(plan.free)
        self.path: list[Cell] = []
        self.turns_left, self.turn_direction = 0, TURN_LEFT
        self.last: tuple[float, float] | None = None
        self.stuck = 0

    def act(self, x: float, y: float, heading: float) -> int:
        """The number of the next action; heading in degrees, counter-clockwise from +x."""
        moved = self.last is None or np.hypot(x - self.last[0], y - self.last[1]) > 1.0
        self.last = (x, y)
        if self.turns_left > 0:
            self.turns_left -= 1
            return self.turn_direction
        if self.generator.random() < 0.05:
            return int(self.generator.integers(len(ACTIONS)))
        self.stuck = 0 if moved else self.stuck + 1
        if self.stuck > 6:
            self.stuck, self.path = 0, []
            self._look_around()
        if not self.path:
            self._choose_goal(x, y)
        target = self._target(x, y)
        if target is None:
            self.path = []
            if self.generator.random() < 0.5:
                self._look_around()
            return self.turn_direction
        error = (np.degrees(np.arctan2(target[1] - y, target[0] - x)) - heading + 180) % 360 - 180
        if abs(error) > 0.7 * self.turn:
            return TURN_LEFT if error > 0 else TURN_RIGHT
        return FORWARD

    def _choose_goal(self, x: float, y: float) -> None:
        goal = self.places[self.generator.integers(len(self.places))]
        self.path = self.plan.path(self.plan.cell_of(x, y), (int(goal[0]), int(goal[1])))

    def _target(self, x: float, y: float) -> tuple[float, float] | None:
        """A place some squares ahead on the path; None at its end."""
        ahead = max(1, round(56 / self.plan.cell))
        centres = [self.plan.centre(cell) for cell in self.path[: 4 * ahead]]
        nearest = min(range(len(centres)), key=lambda i: np.hypot(centres[i][0] - x, centres[i][1] - y))
        self.path = self.path[nearest:]
        if len(self.path) <= 1:
            return None
        return self.plan.centre(self.path[min(ahead, len(self.path) - 1)])

    def _look_around(self) -> None:
        self.turns_left = int(self.generator.integers(4, 25))
        self.turn_direction = TURN_LEFT if self.generator.random() < 0.5 else TURN_RIGHT
