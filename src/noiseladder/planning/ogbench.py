"""OGBench's PointMaze: a ball that jumps a little each step through large mazes, one of which throws it about.

Walls, tasks, radii and limits are those of OGBench 1.2 (Park et al., 2025, arXiv:2410.20092), the body is that of its
MuJoCo model. An action moves the ball at once; then, for .1 seconds from rest, walls that it presses into push it out.
They are soft and rough as MuJoCo's are ("Computation", the constraint model and the pyramidal friction cone in its
documentation): the acceleration minimises m/2 |a|^2 + sum_i D_i/2 min(0, j_i a - r_i)^2 over the pyramid's edges j_i.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from .soft_walls import STIFFEST, impedance_at
from .world import Start

UNIT = 4.0
"""Width of a cell. The centre of cell (row i, column j) is at x = 4 j - 4, y = 4 i - 4."""
RADIUS = 0.7
JUMP = 0.2
"""How far an action of 1 moves the ball on its axis."""
JITTER = 1.0
"""Half width of the square around a cell's centre in which starts and goals lie."""
GOAL_RADIUS = 1.0
ENTRANCE_RADIUS = 1.5
TIME_LIMIT = 1000

Cell = tuple[int, int]

_MASS = 100 * 4 / 3 * math.pi * RADIUS**3
_TIME_STEP, _SUBSTEPS = 0.02, 5
_TIME_CONSTANT = 2 * _TIME_STEP  # solref asks for .02, but MuJoCo never takes less than two time steps
_SPRING, _DAMPING = 1 / (STIFFEST * _TIME_CONSTANT) ** 2, 2 / (STIFFEST * _TIME_CONSTANT)
_INVERSE_WEIGHT = 2 / (3 * _MASS)  # the mean over three axes, one of which cannot move
_PYRAMID = 2 * 2 * _INVERSE_WEIGHT  # an edge's regularisation at friction 1: 2 mu^2 (1 + mu^2) w
_ROUNDS = 30  # of the active-set iteration; two to four are the rule
_AROUND = torch.tensor([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0)])


@dataclass(frozen=True)
class Layout:
    """A maze as rows of text, `1` a wall and `0` free, with its tasks; cells are (row, column)."""

    name: str
    rows: tuple[str, ...]
    tasks: tuple[tuple[Cell, Cell], ...]  # (start, goal)
    entrances: tuple[Cell, ...] = ()
    exits: tuple[Cell, ...] = ()

    @cached_property
    def walls(self) -> Tensor:
        """(rows, columns) booleans."""
        return torch.tensor([[sign == "1" for sign in row] for row in self.rows])

    @cached_property
    def free(self) -> tuple[Cell, ...]:
        """The free cells, row by row."""
        return tuple((i, j) for i, row in enumerate(self.rows) for j, sign in enumerate(row) if sign == "0")

    def neighbours(self, cell: Cell) -> list[Cell]:
        """The free cells beside a cell: above, left, below, right."""
        i, j = cell
        return [beside for beside in ((i - 1, j), (i, j - 1), (i + 1, j), (i, j + 1)) if beside in self._free]

    def distances(self, goal: Cell) -> dict[Cell, int]:
        """The number of cells from each cell that leads to `goal`; cells that do not lead there are missing."""
        found, edge = {goal: 0}, [goal]
        for cell in edge:
            for beside in self.neighbours(cell):
                if beside not in found:
                    found[beside] = found[cell] + 1
                    edge.append(beside)
        return found

    @cached_property
    def _free(self) -> frozenset[Cell]:
        return frozenset(self.free)


MEDIUM = Layout(
    "medium",
    ("11111111", "10011001", "10010001", "11000111", "10010001", "10100101", "10001001", "11111111"),
    (((1, 1), (6, 6)), ((6, 1), (1, 6)), ((5, 3), (4, 2)), ((6, 5), (6, 1)), ((2, 6), (1, 1))),
)
LARGE = Layout(
    "large",
    (
        "111111111111",
        "100001000001",
        "101101010101",
        "100000010001",
        "101111011101",
        "100101000001",
        "110101010111",
        "100100010001",
        "111111111111",
    ),
    (((1, 1), (7, 10)), ((5, 4), (7, 1)), ((7, 4), (1, 10)), ((3, 8), (5, 4)), ((1, 1), (5, 4))),
)
GIANT = Layout(
    "giant",
    (
        "1111111111111111",
        "1010000001100001",
        "1010110101001101",
        "1000100100010001",
        "1011101111110101",
        "1000100010000101",
        "1110101001010111",
        "1000100100010001",
        "1010101111110101",
        "1011100010001101",
        "1000001000100001",
        "1111111111111111",
    ),
    (((1, 1), (10, 14)), ((1, 14), (10, 1)), ((8, 14), (1, 1)), ((8, 3), (5, 12)), ((5, 9), (3, 8))),
)
TELEPORT = Layout(
    "teleport",
    (
        "111111111111",
        "100000101001",
        "110100010011",
        "110111000001",
        "100001010101",
        "101101010101",
        "101101010101",
        "100001000101",
        "111111111111",
    ),
    (((1, 10), (7, 1)), ((1, 1), (7, 10)), ((5, 6), (7, 10)), ((7, 1), (7, 10)), ((5, 6), (7, 1))),
    entrances=((4, 6), (5, 1)),
    exits=((1, 7), (6, 1), (6, 10)),
)
LAYOUTS = {layout.name: layout for layout in (MEDIUM, LARGE, GIANT, TELEPORT)}
"""OGBench's four, by name."""


@dataclass(frozen=True)
class PointMaze:
    """OGBench's PointMaze, a `World`: observation x, y; action the jump in [-1, 1]; an episode ends at success.

    task: 1 to 5, OGBench's fixed pairs of start and goal; None: task 1 + seed modulo 5, so that consecutive seeds take
    turns. dtype: of starts; steps keep what comes in.

    As in OGBench the observation that reaches an entrance is seen before the ball is thrown, and success is judged
    there: the next step begins at the exit. So an observation is all there is to know of the ball, but the exit is not
    known before it is left.
    """

    layout: Layout
    task: int | None = None
    dtype: torch.dtype = torch.float32

    observation_size = 2
    action_size = 2
    goal_size = 2
    time_limit = TIME_LIMIT
    ends_at_success = True

    def __post_init__(self) -> None:
        """Say at once that there is no such task."""
        count = len(self.layout.tasks)
        if self.task is not None and not 1 <= self.task <= count:
            raise ValueError(f"task {self.task} of maze {self.layout.name!r}: its tasks are 1 to {count}")

    def start(self, generators: Sequence[Generator]) -> Start:
        """Start and goal of the task, each moved by up to 1 on both axes: observation (B, 2), goal (B, 2)."""
        if not generators:
            raise ValueError("no generators: give one for each episode")
        places = []
        for generator in generators:
            task = generator.initial_seed() % len(self.layout.tasks) if self.task is None else self.task - 1
            cells = torch.tensor(self.layout.tasks[task])
            places.append(centre(cells) + JITTER * (2 * torch.rand(2, 2, generator=generator).double() - 1))
        observation, goal = torch.stack(places, 1).to(self.dtype)
        return Start(observation, goal)

    def step(self, observation: Tensor, action: Tensor, generators: Sequence[Generator] | None = None) -> Tensor:
        """observation (B, 2), action (B, 2) -> the next observation (B, 2); chance decides at an entrance only."""
        if observation.ndim != 2 or observation.shape[1] != 2 or action.shape != observation.shape:
            raise ValueError(
                f"observation and action are x and y, so (B, 2); got {tuple(observation.shape)}, {tuple(action.shape)}"
            )
        return self.move(self.leave(observation, generators), action)

    def reward(self, observation: Tensor, goal: Tensor) -> Tensor:
        """1 within 1.0 of the goal, else 0: observation (B, 2), goal (B, 2) -> (B,)."""
        near: Tensor = (observation - goal).norm(dim=1) <= GOAL_RADIUS
        return near.to(observation.dtype)

    def contact(self, observation: Tensor) -> Tensor:
        """Whether the ball presses into a wall: (B, 2) -> (B,) booleans."""
        boxes, walls = self._boxes(observation)
        pressed: Tensor = (walls & (_apart(observation, boxes).norm(dim=-1) < RADIUS)).any(1)
        return pressed | self._wall_at(cell_of(observation))

    def entered(self, observation: Tensor) -> Tensor:
        """Whether the ball is about to be thrown: (B, 2) -> (B,) booleans."""
        if not self.layout.entrances:
            return torch.zeros(len(observation), dtype=torch.bool, device=observation.device)
        away = (observation[:, None] - centre(torch.tensor(self.layout.entrances)).to(observation)).norm(dim=-1)
        inside: Tensor = (away <= ENTRANCE_RADIUS).any(1)
        return inside

    def leave(self, observation: Tensor, generators: Sequence[Generator] | None) -> Tensor:
        """The observation (B, 2), or one of the exits, all as likely, for balls that have entered."""
        rows = self.entered(observation).nonzero()[:, 0].tolist()
        if not rows:
            return observation
        if generators is None:
            raise ValueError("a ball has entered, and chance decides where it leaves: give step() one generator a row")
        exits = centre(torch.tensor(self.layout.exits)).to(observation)
        chosen = [int(torch.randint(len(exits), (), generator=generators[row])) for row in rows]
        return observation.index_copy(0, torch.tensor(rows, device=observation.device), exits[chosen])

    def move(self, position: Tensor, action: Tensor) -> Tensor:
        """The jump and the walls' push, without entrances: position (B, 2), action (B, 2) -> (B, 2)."""
        position = position + JUMP * action.clamp(-1, 1)
        rows = self.contact(position).nonzero()[:, 0]
        if not len(rows):
            return position
        pushed = self._pushed_out(position[rows].double())
        return position.index_copy(0, rows, pushed.to(position))

    def _pushed_out(self, position: Tensor) -> Tensor:
        """A tenth of a second from rest (B, 2), by the classical Runge-Kutta method, as MuJoCo does here."""
        boxes, walls = self._boxes(position)
        if bool(self._wall_at(cell_of(position)).any()):
            raise ValueError("a ball's centre is in a wall or outside the maze: start from a free place")
        velocity, half, step = torch.zeros_like(position), _TIME_STEP / 2, _TIME_STEP
        for _ in range(_SUBSTEPS):
            pull_1, speed_1 = _acceleration(position, velocity, boxes, walls), velocity
            speed_2 = velocity + half * pull_1
            pull_2 = _acceleration(position + half * speed_1, speed_2, boxes, walls)
            speed_3 = velocity + half * pull_2
            pull_3 = _acceleration(position + half * speed_2, speed_3, boxes, walls)
            speed_4 = velocity + step * pull_3
            pull_4 = _acceleration(position + step * speed_3, speed_4, boxes, walls)
            position = position + step / 6 * (speed_1 + 2 * speed_2 + 2 * speed_3 + speed_4)
            velocity = velocity + step / 6 * (pull_1 + 2 * pull_2 + 2 * pull_3 + pull_4)
        return position

    def _boxes(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Centres (B, 8, 2) of the eight cells around, and whether they are walls (B, 8)."""
        around = cell_of(position)[:, None] + _AROUND.to(position.device)
        return centre(around).to(position), self._wall_at(around)

    def _wall_at(self, cell: Tensor) -> Tensor:
        size = torch.tensor(self.layout.walls.shape, device=cell.device)
        outside = ((cell < 0) | (cell >= size)).any(-1)
        row, column = cell.clamp(min=torch.zeros_like(size), max=size - 1).unbind(-1)
        return outside | self.layout.walls.to(cell.device)[row, column]


class Oracle:
    """OGBench's guide: a unit step to the centre of the next cell on a shortest way, and a `Planner` of one action.

    As it stands it is no perfect planner. It walks into entrances that lie on a shortest way, unless it is `careful`;
    and it stops at the centre of the goal's cell, up to 1.41 from the goal, unless it goes `to_goal` from there.
    """

    def __init__(self, layout: Layout, careful: bool = False, to_goal: bool = False) -> None:
        self._to_goal = to_goal
        closed = set(layout.entrances) if careful else set()
        rows = tuple(
            "".join("1" if (i, j) in closed else sign for j, sign in enumerate(row))
            for i, row in enumerate(layout.rows)
        )
        guide = Layout(layout.name, rows, layout.tasks)
        width = len(rows[0])
        # From a cell to the next one; a cell that does not lead to the goal leads to itself.
        self._size = torch.tensor([len(rows), width])
        cells = torch.cartesian_prod(torch.arange(len(rows)), torch.arange(width))
        self._next = cells.repeat(len(cells), 1, 1)  # (goal, cell, 2)
        for goal in guide.free:
            away = guide.distances(goal)
            for cell in away:
                ways = [beside for beside in guide.neighbours(cell) if away[beside] < away[cell]]
                if ways:
                    self._next[goal[0] * width + goal[1], cell[0] * width + cell[1]] = torch.tensor(ways[0])

    def plan(self, observation: Tensor, goal: Tensor) -> Tensor:
        """observation (B, 2), goal (B, 2) -> (B, 1, 2)."""
        return self.direction(observation, goal)[:, None]

    def direction(self, position: Tensor, goal: Tensor) -> Tensor:
        """position (B, 2), goal (B, 2) -> the unit vector to the next cell's centre (B, 2)."""
        here, there = self._number(cell_of(position)), self._number(cell_of(goal))
        target = centre(self._next[there, here]).to(position)
        if self._to_goal:
            target = torch.where((here == there)[:, None], goal, target)
        way = target - position
        unit: Tensor = way / (way.norm(dim=1, keepdim=True) + 1e-6)
        return unit

    def _number(self, cell: Tensor) -> Tensor:
        row, column = cell.clamp(min=torch.zeros_like(self._size), max=self._size - 1).unbind(-1)
        return row * int(self._size[1]) + column


def centre(cell: Tensor) -> Tensor:
    """(..., 2) row and column -> (..., 2) x and y of the centre, in double precision."""
    return UNIT * (cell.flip(-1).double() - 1)


def cell_of(position: Tensor) -> Tensor:
    """(..., 2) x and y -> (..., 2) row and column."""
    return torch.floor(position.flip(-1) / UNIT + 1.5).long()


def _apart(position: Tensor, boxes: Tensor) -> Tensor:
    """From the nearest point of each box: (B, 2), (B, 8, 2) -> (B, 8, 2); 0 inside."""
    away = position[:, None] - boxes
    return away - away.clamp(-UNIT / 2, UNIT / 2)


def _acceleration(position: Tensor, velocity: Tensor, boxes: Tensor, walls: Tensor) -> Tensor:
    """What the walls do, (B, 2): Newton's method, exact once the edges that push stay the same from round to round."""
    apart = _apart(position, boxes)
    distance = apart.norm(dim=-1)
    depth = (RADIUS - distance) * walls
    touching = depth > 0
    normal = apart / distance.clamp(min=1e-12)[..., None]
    tangent = torch.stack([-normal[..., 1], normal[..., 0]], -1)
    # Two edges lean along the wall; the two that lean up and down are the normal itself, for nothing moves that way.
    edges = torch.cat([normal + tangent, normal - tangent, normal], 1)
    impedance = impedance_at(depth)
    wanted = (_SPRING * impedance * depth).repeat(1, 3) - _DAMPING * (edges * velocity[:, None]).sum(-1)
    stiffness = touching * impedance / ((1 - impedance) * _PYRAMID)
    stiffness = torch.cat([stiffness, stiffness, 2 * stiffness], 1)
    acceleration, pushing = torch.zeros_like(position), torch.zeros_like(stiffness)
    for _ in range(_ROUNDS):
        now = stiffness * ((edges * acceleration[:, None]).sum(-1) < wanted)
        if torch.equal(now, pushing):
            break
        pushing = now
        x, y = (pushing[..., None] * wanted[..., None] * edges).sum(1).unbind(1)
        weighted = pushing[..., None] * edges
        xx, yy = (_MASS + (weighted * edges).sum(1)).unbind(1)
        xy = (weighted[..., 0] * edges[..., 1]).sum(1)
        acceleration = torch.stack([yy * x - xy * y, xx * y - xy * x], 1) / (xx * yy - xy**2)[:, None]
    return acceleration
