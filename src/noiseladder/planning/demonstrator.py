"""D4RL's demonstrator: a spring pulls the body from cell to cell along a shortest path, with noise on its forces.

Waypoint controller and noise of D4RL's Maze2D (Fu et al. 2020, arXiv:2004.07219): each cell of a 4-connected shortest
path, moved by -U(0, .2) on both axes, is a waypoint until the body is within .1 of it; the goal's cell is the last.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .maze import Maze

STIFFNESS, FRICTION = 10.0, 1.0
REACHED = 0.1
"""Cells from a waypoint, or from the goal's cell."""
JITTER = 0.2
NOISE = 0.5
"""Standard deviation of the data's action noise; the sum is clipped to [-1, 1]."""

_MOVES = torch.tensor([[0, -1], [0, 1], [-1, 0], [1, 0]])  # in the order in which D4RL breaks ties


@dataclass(frozen=True)
class Way:
    """Where each body is going: the goal's cell (B, 2), the waypoint's cell (B, 2) and the waypoint (B, 2)."""

    goal: Tensor
    cell: Tensor
    waypoint: Tensor


@dataclass(frozen=True)
class Signposts:
    """For each goal and each cell, where to go next: number of the goal's cell, of the cell -> of the next (N, N).

    number: of a cell x, y in the list of free cells, (X, Y).
    """

    maze: Maze
    number: Tensor
    following: Tensor

    def next(self, goal: Tensor, cell: Tensor) -> Tensor:
        """The cell after `cell` (B, 2) on a shortest way to `goal` (B, 2); the goal itself comes after itself."""
        return self.maze.cells[self.following[self._of(goal), self._of(cell)]]

    def _of(self, cell: Tensor) -> Tensor:
        return self.number[cell[:, 0], cell[:, 1]]


def signposts(maze: Maze) -> Signposts:
    """Shortest ways between all free cells; ties are broken as D4RL does, towards smaller y, larger y, smaller x."""
    count = len(maze.cells)
    number = torch.full(maze.size, count)
    number[maze.cells[:, 0], maze.cells[:, 1]] = torch.arange(count)
    neighbours = maze.cells[:, None] + _MOVES
    neighbours = number[neighbours[..., 0], neighbours[..., 1]]
    # One more column stands for walls: no way leads through.
    length = torch.full((count, count + 1), torch.inf)
    length.fill_diagonal_(0)
    for _ in range(count):
        shorter = torch.minimum(length[:, :count], 1 + length[:, neighbours].amin(2))
        if shorter.equal(length[:, :count]):
            break
        length[:, :count] = shorter
    best = length[:, neighbours].argmin(2)  # the first of equals
    following = neighbours[torch.arange(count), best]
    return Signposts(maze, number, following.where(~torch.eye(count, dtype=torch.bool), torch.arange(count)))


def set_out(signs: Signposts, position: Tensor, goal: Tensor, generator: Generator) -> Way:
    """A new way from where the bodies are (B, 2) to goals (B, 2)."""
    goal = goal.round().long()
    cell = signs.next(goal, signs.maze.cell_of(position))
    return Way(goal, cell, _waypoint(cell, goal, position, generator))


def follow(signs: Signposts, way: Way, observation: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Way]:
    """observation (B, 4) -> forces (B, 2) in [-1, 1], who has arrived (B,), and the way from here."""
    position, velocity = observation[:, :2], observation[:, 2:]
    arrived = (position - way.goal).norm(dim=1) < REACHED
    towards = torch.where(arrived[:, None], way.goal.to(position.dtype), way.waypoint)
    action = (STIFFNESS * (towards - position) - FRICTION * velocity).clamp(-1, 1)
    passed = ~arrived & ((position - way.waypoint).norm(dim=1) < REACHED)
    if passed.any():
        cell = signs.next(way.goal, way.cell)
        waypoint = _waypoint(cell, way.goal, position, generator)
        way = Way(
            way.goal,
            torch.where(passed[:, None], cell, way.cell),
            torch.where(passed[:, None], waypoint, way.waypoint),
        )
    return action, arrived, way


class Demonstrator:
    """The demonstrator as a planner: `plan` gives one action for each row and remembers each row's waypoint.

    noise: standard deviation added to the forces before they are clipped; D4RL's data has .5, the default none.
    seed: of noise and waypoints, from the beginning at each `reset`.
    """

    def __init__(self, maze: Maze, noise: float = 0.0, seed: int = 0) -> None:
        if not 0 <= noise < float("inf"):
            raise ValueError(f"noise is {noise}: a standard deviation is 0 or more")
        self.maze, self.noise, self.seed = maze, noise, seed
        self.signs = signposts(maze)
        self.reset()

    def reset(self, episodes: int | None = None) -> None:
        """Forget all ways: new episodes begin; how many, `plan` sees for itself."""
        self.generator = torch.Generator().manual_seed(self.seed)
        self.way: Way | None = None
        self.arrived: Tensor | None = None

    def plan(self, observation: Tensor, goal: Tensor) -> Tensor:
        """observation (B, 4), goal (B, 2) -> the next action, (B, 1, 2); rows with a new goal set out anew.

        Raises ValueError for a position or goal in a wall, and for another number of rows than before without `reset`.
        """
        position = self.maze.check_inside(observation[:, :2], "position")
        self.maze.check_inside(goal, "goal")
        if self.way is None:
            self.way = set_out(self.signs, position, goal, self.generator)
        if len(self.way.goal) != len(observation):
            raise ValueError(
                f"{len(observation)} rows after {len(self.way.goal)}: call reset() when new episodes begin"
            )
        new = (self.way.goal != goal.round()).any(1)
        if new.any():
            self.way = switched(self.way, set_out(self.signs, position, goal, self.generator), new)
        action, self.arrived, self.way = follow(self.signs, self.way, observation, self.generator)
        if self.noise:
            noise = torch.randn(action.shape, generator=self.generator, dtype=action.dtype)
            action = (action + self.noise * noise).clamp(-1, 1)
        return action[:, None]


def switched(way: Way, other: Way, new: Tensor) -> Way:
    """The other way in the rows that are `new` (B,)."""
    rows = new[:, None]
    return Way(
        torch.where(rows, other.goal, way.goal),
        torch.where(rows, other.cell, way.cell),
        torch.where(rows, other.waypoint, way.waypoint),
    )


def _waypoint(cell: Tensor, goal: Tensor, like: Tensor, generator: Generator) -> Tensor:
    jitter = JITTER * torch.rand(cell.shape, generator=generator, dtype=like.dtype)
    return cell - jitter * (cell != goal).any(1, keepdim=True)
