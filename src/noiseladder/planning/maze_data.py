"""Maze2D's data set, made anew by D4RL's recipe, kept in a cache folder and known by its hash.

D4RL's demonstrator with noise walks from random goal to random goal without ever stopping (`demonstrator.py`). D4RL
recorded one walk of 1, 2 and 4 million steps; here up to 250 independent walks go on at once, of 4,000 steps and more
(a way to a goal takes 50 to 150), because that is one thing for torch and 30 times less for Python. What is recorded
follows the same law but for the first way of each walk, which begins at rest; the published means and standard
deviations are met within 1 % (docs/planning.md). Unlike in the published files no observation is written twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .demonstrator import NOISE, follow, set_out, signposts, switched
from .maze import Maze
from .point_mass import START_SPREAD, PointMass
from .recording_cache import cache_folder, kept
from .recordings import Recording

STEPS = {"umaze": 1_000_000, "medium": 2_000_000, "large": 4_000_000}
"""As published; another maze gets 2,000,000."""
WALKS, SHORTEST_WALK = 250, 4000
_EVERY = 100  # rounds between two reports of progress


def maze_data(
    maze: Maze,
    steps: int | None = None,
    seed: int = 0,
    folder: Path | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Recording:
    """The recording of a maze: from the cache folder, or made now and put there.

    folder: by default NOISELADDER_CACHE or ~/.cache/noiseladder. watch: is told how many steps are done, of how many.
    Beside the arrays lies a JSON file with seed, layout and SHA-256; a file that does not fit it is made again, with a
    warning. Raises OSError, one sentence, where the folder cannot be written.
    """
    steps = STEPS.get(maze.name, 2_000_000) if steps is None else steps
    path = cache_path(maze, steps, seed, folder)
    description = {"maze": maze.name, "rows": maze.rows, "steps": steps, "seed": seed}
    return kept(path.parent, path.stem, description, lambda: _counted(record(maze, steps, seed), steps), watch)


def record(maze: Maze, steps: int, seed: int = 0) -> Generator[int, None, Recording]:
    """Let the demonstrator walk: yields how many steps are done, returns the recording.

    rewards: 1 where the action led within .5 of the maze's fixed goal. goals: the demonstrator's own, of each moment.
    Raises ValueError for fewer than 2 steps.
    """
    if steps < 2:
        raise ValueError(f"steps is {steps}: a recording has at least 2")
    walks = min(WALKS, max(1, steps // SHORTEST_WALK))
    rounds = -(-steps // walks)
    signs, world = signposts(maze), PointMass(maze, multi=True, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    start = world.start([generator] * walks)
    observation, goal, age = start.observation, start.goal, torch.zeros(walks)
    way = set_out(signs, observation[:, :2], goal, generator)
    fixed = torch.tensor(maze.goal, dtype=torch.float64).expand(walks, 2)
    rows = torch.empty(rounds, walks, 9)
    for now in range(rounds):
        action, arrived, way = follow(signs, way, observation, generator)
        action = (action + NOISE * torch.randn(walks, 2, generator=generator, dtype=torch.float64)).clamp(-1, 1)
        following = world.step(observation, action)
        rows[now] = torch.cat([observation, action, goal, world.reward(following, fixed)[:, None]], 1)
        observation, done = following, arrived | (age >= maze.time_limit)
        age = (age + 1) * ~done
        if done.any():
            goal = torch.where(done[:, None], _random_goals(maze, walks, generator), goal)
            way = switched(way, set_out(signs, observation[:, :2], goal, generator), done)
        if (now + 1) % _EVERY == 0:
            yield min(steps, (now + 1) * walks)
    walked = rows.transpose(0, 1).flatten(0, 1)[:steps].numpy()
    ends = np.arange(1, steps + 1) % rounds == 0
    ends[-1] = True
    return Recording(walked[:, :4], walked[:, 4:6], ends, walked[:, 8], walked[:, 6:8])


def cache_path(maze: Maze, steps: int, seed: int, folder: Path | None = None) -> Path:
    """Where the recording lies: the name holds maze, steps, seed and the beginning of the layout's hash."""
    layout = hashlib.sha256("|".join((*maze.rows, str(maze.time_limit))).encode()).hexdigest()[:8]
    return cache_folder(folder) / f"maze-{maze.name}-{layout}-{steps}-{seed}.npz"


def _counted(walk: Generator[int, None, Recording], steps: int) -> Generator[tuple[int, int], None, Recording]:
    """The same walk, which says of how many steps it is."""
    while True:
        try:
            done = next(walk)
        except StopIteration as finished:
            made: Recording = finished.value
            return made
        yield done, steps


def _random_goals(maze: Maze, count: int, generator: torch.Generator) -> Tensor:
    cells = maze.cells[torch.randint(len(maze.cells), (count,), generator=generator)]
    spread: Tensor = START_SPREAD * (2 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 1)
    return cells + spread
