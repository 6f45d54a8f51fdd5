"""A maze is a grid of walls and free cells, with a goal, a time limit and the returns that count as 0 and 100.

Layouts, limits and norms are those of Maze2D in D4RL (Fu et al. 2020, arXiv:2004.07219). First index of the grid = x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

RADIUS = 0.1
"""Of the body, in cells."""
OFFSET = -0.2
"""Where a wall's centre lies from its cell, on both axes: D4RL's body rests at (1.2, 1.2) when its joints say 0, its
walls are centred on cell + 1. So the centre of the body is free in [i - .6, i + .2] of a free cell i."""
DEEPEST = 0.08
"""Contacts are soft: how far a body at full speed may get into a wall."""

_WALL, _FREE, _GOAL = "#1", "O0. ", "G"


@dataclass(frozen=True)
class Norms:
    """The returns that score 0 and 100."""

    low: float
    high: float

    def score(self, returns: Tensor) -> Tensor:
        """100 (return - low) / (high - low) (Fu et al., 2020); above 100 is faster than D4RL's reference."""
        if not self.high > self.low:
            raise ValueError(f"{self}: these are the returns that score 0 and 100, so high must be larger than low")
        return 100 * (returns - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Maze:
    """Rows of text: `#` is a wall, `O` is free, `G` is free and the goal; row = x, column = y, both in cells.

    time_limit: steps in an episode. norms: None where nobody has fixed any. Raises ValueError for rows that differ in
    length, unknown signs, a border that is open, free cells that cannot reach each other, or several goals.
    """

    name: str
    rows: tuple[str, ...]
    time_limit: int = 600
    norms: Norms | None = None

    def __post_init__(self) -> None:
        """Say at once what is wrong with a layout."""
        _check_rows(self.name, self.rows)
        if self.time_limit < 1:
            raise ValueError(f"maze {self.name!r}: the time limit is {self.time_limit} steps: it must be at least 1")

    @property
    def size(self) -> tuple[int, int]:
        """Cells along x and along y."""
        return len(self.rows), len(self.rows[0])

    @cached_property
    def walls(self) -> Tensor:
        """(X, Y) booleans."""
        return torch.tensor([[sign in _WALL for sign in row] for row in self.rows])

    @cached_property
    def cells(self) -> Tensor:
        """The free cells, (N, 2) whole numbers; the goal's comes last, as in D4RL."""
        free = (~self.walls).nonzero()
        is_goal = (free == torch.tensor(self.goal)).all(1)
        return torch.cat([free[~is_goal], free[is_goal]])

    @cached_property
    def goal(self) -> tuple[int, int]:
        """The fixed goal's cell: G, or the first free cell where there is none."""
        for signs in (_GOAL, _FREE):
            for x, row in enumerate(self.rows):
                for y, sign in enumerate(row):
                    if sign in signs:
                        return x, y
        raise AssertionError("a checked layout has a free cell")

    def clearance(self, position: Tensor) -> Tensor:
        """Free way of the body's edge to the nearest wall, at most 1: (..., 2) -> (...); negative when pressed in."""
        cell = self.cell_of(position)
        apart = (position[..., None, :] - (cell[..., None, :] + _AROUND + OFFSET)).abs() - 0.5
        # Outside a box: the distance to it. Inside: minus the way to its nearest side.
        distance: Tensor = apart.clamp(min=0).norm(dim=-1) + apart.amax(-1).clamp(max=0)
        return distance.where(self.wall_at(cell[..., None, :] + _AROUND), 1 + RADIUS).amin(-1) - RADIUS

    def cell_of(self, position: Tensor) -> Tensor:
        """The cell that a body stands in, (..., 2) -> (..., 2) whole numbers: walls have an offset, so has this."""
        return torch.floor(position - (OFFSET - 0.5)).long()

    def wall_at(self, cell: Tensor) -> Tensor:
        """Whether these cells (..., 2) are walls; everything outside the layout is."""
        size = torch.tensor(self.size)
        outside = ((cell < 0) | (cell >= size)).any(-1)
        cell = cell.clamp(min=torch.zeros_like(size), max=size - 1)
        return outside | self.walls[cell[..., 0], cell[..., 1]]

    def inside(self, position: Tensor, depth: float = 0.0) -> Tensor:
        """Whether the body's centre may be there, (..., 2) -> (...) booleans; `depth`: how far it may press in."""
        return self.clearance(position) >= -depth

    def check_inside(self, position: Tensor, what: str = "start") -> Tensor:
        """The positions (..., 2), or a ValueError that names the first one in a wall, outside or not finite."""
        if position.shape[-1:] != (2,):
            raise ValueError(f"a {what} is x and y, so (..., 2); these are {tuple(position.shape)}")
        width, height = self.size
        low, high = OFFSET - 0.5, position.new_tensor([width, height]) + OFFSET - 0.5
        within = ((position >= low) & (position <= high)).all(-1)  # NaN is not; nor what no cell number can hold
        good = within & self.inside(torch.where(within[..., None], position, 0.0), DEEPEST)
        if not good.all():
            x, y = position[~good][0].tolist()
            raise ValueError(f"the {what} ({x:g}, {y:g}) {self._why(x, y)} of maze {self.name!r}{self._advice(x, y)}")
        return position

    def score(self, returns: Tensor) -> Tensor:
        """The normalised score, see `Norms.score`."""
        if self.norms is None:
            raise ValueError(f"maze {self.name!r} has no norms: give norms=Norms(low, high), or compare raw returns")
        return self.norms.score(returns)

    def _why(self, x: float, y: float) -> str:
        if not (abs(x) < float("inf") and abs(y) < float("inf")):
            return "is not a place"
        width, height = self.size
        if not (OFFSET - 0.5 <= x <= width + OFFSET - 0.5 and OFFSET - 0.5 <= y <= height + OFFSET - 0.5):
            return f"is outside the {width} x {height} cells"
        return "is in a wall"

    def _advice(self, x: float, y: float) -> str:
        place = torch.tensor([x, y]).nan_to_num()
        nearest = self.cells[(self.cells - place).abs().sum(1).argmin()].tolist()
        return (
            f": the body's centre is free from {-0.5 + RADIUS + OFFSET:.1f} to +{0.5 - RADIUS + OFFSET:.1f} around"
            f" a free cell; the nearest one is ({nearest[0]}, {nearest[1]})"
        )


_AROUND = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))


def layout(text: str, name: str = "own", time_limit: int = 600, norms: Norms | None = None) -> Maze:
    """A maze from text: one line for each x, or all in one line with `|` between; `#` wall, `O` free, `G` goal.

    `1` and `0` or a dot will do too. Raises ValueError as `Maze` does.
    """
    rows = [row.strip() for row in text.strip().replace("|", "\n").splitlines()]
    return Maze(name, tuple(row for row in rows if row), time_limit, norms)


def _check_rows(name: str, rows: Sequence[str]) -> None:
    if not rows or not rows[0]:
        raise ValueError(f"maze {name!r} is empty: give rows of # (wall), O (free) and G (goal)")
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise ValueError(f"maze {name!r} has rows of {lengths[0]} and of {lengths[-1]} cells: make all equally long")
    unknown = sorted(set("".join(rows)) - set(_WALL + _FREE + _GOAL))
    if unknown:
        raise ValueError(f"maze {name!r} holds the sign {unknown[0]!r}: write # (wall), O (free) and G (goal)")
    if "".join(rows).count(_GOAL) > 1:
        raise ValueError(f"maze {name!r} has {''.join(rows).count(_GOAL)} goals G: one at most")
    free = {(x, y) for x, row in enumerate(rows) for y, sign in enumerate(row) if sign not in _WALL}
    if not free:
        raise ValueError(f"maze {name!r} has no free cell: write O where the body may go")
    for x, y in sorted(free):
        if x in (0, len(rows) - 1) or y in (0, lengths[0] - 1):
            raise ValueError(f"maze {name!r} is open at cell ({x}, {y}): close the border with #")
    reached, edge = set(), [min(free)]
    while edge:
        x, y = edge.pop()
        if (x, y) not in reached:
            reached.add((x, y))
            edge += [cell for cell in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)) if cell in free]
    if free - reached:
        raise ValueError(f"maze {name!r}: no way leads from cell {min(free)} to cell {min(free - reached)}: open one")


UMAZE = layout("#####|#GOO#|###O#|#OOO#|#####", "umaze", 300, Norms(23.85, 161.86))
MEDIUM = layout(
    "########|#OO##OO#|#OO#OOO#|##OOO###|#OO#OOO#|#O#OO#O#|#OOO#OG#|########", "medium", 600, Norms(13.13, 277.39)
)
LARGE = layout(
    "############|#OOOO#OOOOO#|#O##O#O#O#O#|#OOOOOO#OOO#|#O####O###O#|#OO#O#OOOOO#|##O#O#O#O###|#OO#OOO#OGO#|############",
    "large",
    800,
    Norms(6.7, 273.99),
)
MAZES = {maze.name: maze for maze in (UMAZE, MEDIUM, LARGE)}
"""D4RL's three, by name."""
