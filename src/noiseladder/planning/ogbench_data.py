"""OGBench's data sets for PointMaze, made anew by its recipe: its guide with noise, all episodes at once.

Recipe of OGBench's `generate_locomaze.py` (Park et al., 2025, arXiv:2410.20092): a unit step to the centre of the next
cell on a shortest way, plus Gaussian noise of .5 on both axes, clipped. Training episodes only; OGBench's files for
validation are a tenth more of the same: give another seed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .ogbench import GOAL_RADIUS, JITTER, Cell, Layout, Oracle, PointMaze, centre
from .recording_cache import cache_folder, kept
from .recordings import Recording
from .world import seeded

NOISE = 0.5
STITCH_CELLS = 4
"""How far a goal of the stitch data lies from the start, in cells of the shortest way."""
_EVERY = 10  # steps between two reports of progress


@dataclass(frozen=True)
class Recipe:
    """How a data set is made.

    navigate: from any cell to random goals at crossings, corners and dead ends, one after another.
    Otherwise, stitch: to one goal four cells away, or to the start where no cell is, and stay; so no episode crosses
    the maze. Goals and starts are moved by up to 1 on both axes.
    """

    episodes: int
    steps: int
    navigate: bool


def navigate(layout: Layout) -> Recipe:
    """1000 episodes of 1001 steps; of the giant maze 500 of 2001."""
    return Recipe(500, 2001, True) if layout.name == "giant" else Recipe(1000, 1001, True)


def stitch(layout: Layout) -> Recipe:
    """5000 episodes of 201 steps, whatever the maze."""
    return Recipe(5000, 201, False)


def ogbench_data(
    layout: Layout,
    recipe: Recipe,
    seed: int = 0,
    folder: Path | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Recording:
    """The recording of a maze by a recipe: from the cache folder, or made now and put there.

    folder: by default NOISELADDER_CACHE or ~/.cache/noiseladder. watch: is told how many steps are done, of how many.
    A file that does not fit the SHA-256 beside it is made again, with a warning. Raises OSError, one sentence, where
    the folder cannot be written.
    """
    kind = "navigate" if recipe.navigate else "stitch"
    description = {
        "maze": f"ogbench-{layout.name}",
        "rows": layout.rows,
        "entrances": layout.entrances,
        "exits": layout.exits,
        "episodes": recipe.episodes,
        "steps": recipe.steps,
        "kind": kind,
        "seed": seed,
    }
    name = f"ogbench-{layout.name}-{kind}-{recipe.episodes}x{recipe.steps}-{seed}"
    return kept(cache_folder(folder), name, description, lambda: record(layout, recipe, seed), watch)


def record(layout: Layout, recipe: Recipe, seed: int = 0) -> Generator[tuple[int, int], None, Recording]:
    """Walk all episodes: yields how many steps are done and how many there will be, returns the recording.

    rewards: 1 where the action led within 1.0 of the goal of that moment. goals: the guide's own. Observations are
    OGBench's: one that has entered shows the entrance, though the guide already acts from the exit.
    """
    if recipe.episodes < 1 or recipe.steps < 2:
        raise ValueError(f"{recipe}: a recording has at least one episode of two steps")
    world, guide = PointMaze(layout, dtype=torch.float64), Oracle(layout)
    chance = torch.Generator().manual_seed(seed)
    # One stream for each episode at the entrances, so that who is thrown does not change the others.
    exits = seeded([seed * recipe.episodes + episode for episode in range(recipe.episodes)])
    begins = [layout.free[i] for i in torch.randint(len(layout.free), (recipe.episodes,), generator=chance).tolist()]
    crossings = crossing_cells(layout)
    if recipe.navigate:
        ends = _pick(crossings, recipe.episodes, chance)
    else:
        ends = _near_goals(layout, begins, chance)
    place, goal = _around(begins, chance), _around(ends, chance)
    rows = torch.empty(recipe.steps, recipe.episodes, 7)
    for now in range(recipe.steps):
        true_place = world.leave(place, exits)
        noise = NOISE * torch.randn(recipe.episodes, 2, generator=chance, dtype=torch.float64)
        action = (guide.direction(true_place, goal) + noise).clamp(-1, 1)
        following = world.move(true_place, action)
        reached = (following - goal).norm(dim=1) <= GOAL_RADIUS
        rows[now] = torch.cat([place, action, goal, reached[:, None]], 1)
        place = following
        if recipe.navigate and bool(reached.any()):
            rows_reached = reached.nonzero()[:, 0]
            fresh = _around(_pick(crossings, len(rows_reached), chance), chance)
            goal = goal.index_copy(0, rows_reached, fresh)
        if (now + 1) % _EVERY == 0:
            yield (now + 1) * recipe.episodes, recipe.steps * recipe.episodes
    walked = rows.transpose(0, 1).flatten(0, 1).numpy()
    last = np.arange(1, len(walked) + 1) % recipe.steps == 0
    return Recording(walked[:, :2], walked[:, 2:4], last, walked[:, 6], walked[:, 4:6])


def crossing_cells(layout: Layout) -> tuple[Cell, ...]:
    """The free cells but for those in the middle of a straight passage: where navigation's goals lie."""
    free = set(layout.free)
    found = []
    for i, j in layout.free:
        up_down = ((i - 1, j) in free, (i + 1, j) in free)
        sideways = ((i, j - 1) in free, (i, j + 1) in free)
        if not ((all(up_down) and not any(sideways)) or (all(sideways) and not any(up_down))):
            found.append((i, j))
    return tuple(found)


def _near_goals(layout: Layout, begins: Sequence[Cell], chance: torch.Generator) -> list[Cell]:
    near = {
        cell: [other for other, away in layout.distances(cell).items() if away == STITCH_CELLS] or [cell]
        for cell in set(begins)
    }
    return [near[cell][int(torch.randint(len(near[cell]), (), generator=chance))] for cell in begins]


def _pick(cells: Sequence[Cell], count: int, chance: torch.Generator) -> list[Cell]:
    return [cells[i] for i in torch.randint(len(cells), (count,), generator=chance).tolist()]


def _around(cells: Sequence[Cell], chance: torch.Generator) -> Tensor:
    spread = JITTER * (2 * torch.rand(len(cells), 2, generator=chance, dtype=torch.float64) - 1)
    return centre(torch.tensor(cells)) + spread
