"""A problem is a recording to learn from and a world to be judged in, known by one name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from . import maze, ogbench
from .maze_data import maze_data
from .ogbench import GOAL_RADIUS, PointMaze
from .ogbench_data import navigate, ogbench_data, stitch
from .point_mass import PointMass
from .recordings import Recording, read
from .world import World

Watch = Callable[[int, int], None]
REWARD_RADIUS = 0.5
"""Maze2D's reward is given within this distance of the goal."""


@dataclass(frozen=True)
class Problem:
    """recording: makes or reads it, telling `watch` how far it is. world: None for a file, whose world is the user's.

    near: how close to a goal is there. norms: returns that score 0 and 100, if the benchmark has any.
    """

    name: str
    recording: Callable[[Watch | None], Recording]
    world: World | None
    near: float
    norms: maze.Norms | None = None


def problem(name: str, near: float = REWARD_RADIUS) -> Problem:
    """umaze, medium, large, multi-umaze, ..., ogbench-medium-navigate, ogbench-giant-stitch, ..., or a file.

    near: for a file, how close to a goal is there. Raises ValueError for an unknown name.
    """
    known = names()
    if name in known:
        if name.startswith("ogbench-"):
            _, where, task = name.split("-")
            layout = ogbench.LAYOUTS[where]
            recipe = navigate(layout) if task == "navigate" else stitch(layout)
            return Problem(
                name, lambda watch: ogbench_data(layout, recipe, watch=watch), PointMaze(layout), GOAL_RADIUS
            )
        grid = maze.MAZES[name.removeprefix("multi-")]
        world = PointMass(grid, multi=name.startswith("multi-"))
        return Problem(name, lambda watch: maze_data(grid, watch=watch), world, REWARD_RADIUS, grid.norms)
    path = Path(name)
    if path.suffix.lower() in (".npz", ".hdf5", ".h5"):
        return Problem(path.stem, lambda watch: read(path), None, near)
    nearest = get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}, or a .npz or .hdf5 file"
    raise ValueError(f"there is no maze {name!r}; {hint}")


def names() -> list[str]:
    """All that `problem` knows by name."""
    tasks = [f"ogbench-{where}-{task}" for where in ogbench.LAYOUTS for task in ("navigate", "stitch")]
    return [*maze.MAZES, *(f"multi-{name}" for name in maze.MAZES), *tasks]
