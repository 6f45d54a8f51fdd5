"""Plans as pictures: over the maze, falling out of the noise token by token, and planners side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noiseladder.training.durable import replace_file

from . import maze as d4rl, ogbench
from .evaluation import Evaluation, Interval
from .knowledge import Knowledge
from .maze import Norms
from .ogbench import PointMaze
from .point_mass import PointMass
from .search import Tree, principal_path
from .search_picture import draw_tree
from .world import World

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image, ImageDraw

WALL, PLACE, PLAN, LIVED, GOAL, NOISE = "#40505a", "#dde3e6", "#2a6f97", "#c1121f", "#e09f3e", "#cfc4c4"
FINE = 2
"""Frames are drawn this many times larger than they are shown, for smooth edges."""


@dataclass(frozen=True)
class Scene:
    """What a plan is drawn over.

    walls: (N, 4) as x and y of two corners, N = 0 where no maze is known. places: (M, 2) recorded. size: of a place.
    low, high: (2,), corners of what is shown. body: radius of the body, 0 where it is not known.
    """

    walls: Tensor
    places: Tensor
    size: float
    low: Tensor
    high: Tensor
    body: float

    @classmethod
    def of(cls, knowledge: Knowledge, world: World | None = None) -> Scene:
        """The walls of a maze that we know, otherwise the recorded places. Raises ValueError for less than 2 axes."""
        places = knowledge.roads.centres
        if places.shape[1] < 2:
            raise ValueError("positions have one axis: a picture of a plan needs two, leave out --picture and --gif")
        places, size = places[:, :2], knowledge.roads.size
        walls, body = walls_of(world)
        if len(walls):
            # Of the border as much is shown as is pleasant to look at.
            thick = 0.75 * (walls[0, 2] - walls[0, 0])
            return cls(walls, places, size, walls[:, :2].amin(0) + thick, walls[:, 2:].amax(0) - thick, body)
        return cls(walls, places, size, places.amin(0) - 2 * size, places.amax(0) + 2 * size, body)


def walls_of(world: World | None) -> tuple[Tensor, float]:
    """The walls (N, 4) of a world that we know, and the radius of its body."""
    if isinstance(world, PointMass):
        centres, half = world.maze.walls.nonzero() + d4rl.OFFSET, 0.5
        return torch.cat([centres - half, centres + half], dim=1), d4rl.RADIUS
    if isinstance(world, PointMaze):
        centres, half = ogbench.centre(world.layout.walls.nonzero()).float(), ogbench.UNIT / 2
        return torch.cat([centres - half, centres + half], dim=1), ogbench.RADIUS
    return torch.zeros(0, 4), 0.0


def draw_scene(scene: Scene, axes: Axes) -> None:
    """Walls, or the recorded places where there are none to draw."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    side = scene.size * 0.96
    boxes = [Rectangle((x - side / 2, y - side / 2), side, side) for x, y in scene.places.tolist()]
    if len(scene.walls):
        boxes = [Rectangle((x, y), right - x, top - y) for x, y, right, top in scene.walls.tolist()]
    colour = WALL if len(scene.walls) else PLACE
    axes.add_collection(PatchCollection(boxes, facecolor=colour, edgecolor=colour, linewidth=0.4, zorder=0))
    axes.set(xlim=(float(scene.low[0]), float(scene.high[0])), ylim=(float(scene.low[1]), float(scene.high[1])))
    axes.set_aspect("equal")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw_plan(
    scene: Scene,
    planned: Tensor,
    goal: Tensor,
    near: float,
    lived: Tensor | None = None,
    steps: int = 8,
    title: str = "",
    tree: tuple[Tree, NDArray[np.float64]] | None = None,
) -> Figure:
    """A plan (S + 1, 2) from its start on, what was lived (L, 2), and the tree behind it, over the maze.

    goal: (2,), reached within `near`. steps: in a token, whose ends are dots. tree: with the positions of its nodes.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    extent = (scene.high - scene.low).tolist()
    larger = max(extent)
    width, height = (max(3.4, 5.6 * side / larger) for side in extent)
    figure = Figure(figsize=(width, height + 0.7), layout="constrained")
    axes = figure.add_subplot()
    draw_scene(scene, axes)
    axes.add_patch(Circle(tuple(goal.tolist()), near, facecolor=GOAL, alpha=0.35, linewidth=0, zorder=1))
    axes.plot(*goal.tolist(), "*", color=GOAL, markersize=11, markeredgecolor="white", zorder=6)
    if tree is not None:
        draw_tree(tree[0], tree[1], axes=axes)
        axes.set(xlim=(float(scene.low[0]), float(scene.high[0])), ylim=(float(scene.low[1]), float(scene.high[1])))
    axes.plot(*planned.T, color=PLAN, linewidth=1.6, zorder=4, label="first plan, a dot for each token")
    axes.plot(*planned[::steps].T, ".", color=PLAN, markersize=5, zorder=4)
    if lived is not None:
        axes.plot(*lived.T, color=LIVED, linewidth=1.3, zorder=5, label="lived, planning again")
    axes.plot(*planned[0].tolist(), "o", color=WALL, markersize=6, markeredgecolor="white", zorder=6)
    if title:
        axes.set_title(title, fontsize=10, loc="left")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def draw_comparison(found: Mapping[str, Evaluation], norms: Norms | None = None, title: str = "") -> Figure:
    """Planners side by side in the same episodes: score (or return), success, and milliseconds for each decision."""
    from matplotlib.figure import Figure

    what = "return" if norms is None else "score"
    panels: list[tuple[str, list[Interval]]] = [
        (f"{what}, with its 95 % interval", [_worth(one, norms) for one in found.values()]),
        ("episodes that reach the goal, %", [_percent(one.success_rate()) for one in found.values()]),
    ]
    figure = Figure(figsize=(10.5, 0.9 + 0.42 * max(3, len(found))), layout="constrained")
    grid = figure.subplots(1, 3, sharey=True)
    rows = np.arange(len(found))[::-1]
    for axes, (name, values) in zip(grid, panels):
        means = np.array([value.mean for value in values])
        low, high = np.array([value.low for value in values]), np.array([value.high for value in values])
        axes.barh(rows, means, color=PLAN, height=0.6, xerr=[means - low, high - means], ecolor=WALL, capsize=2)
        for row, mean, end in zip(rows, means, high):
            axes.text(end, row, f"  {mean:.1f}", va="center", fontsize=8)
        axes.set_title(name, fontsize=9, loc="left")
        axes.margins(x=0.15)
    times = np.array([one.milliseconds()[0] for one in found.values()])
    episodes = len(next(iter(found.values())).seeds)
    grid[2].barh(rows, times, color=PLACE, height=0.6)
    for row, value in zip(rows, times):
        grid[2].text(value, row, f"  {value:.3g}", va="center", fontsize=8)
    together = f"{episodes} episodes at once" if episodes > 1 else "one episode"
    grid[2].set_title(f"ms for a decision, {together}", fontsize=9, loc="left")
    grid[2].margins(x=0.25)
    grid[1].set_xlim(0, 118)
    grid[0].set_yticks(rows, list(found))
    for axes in grid:
        axes.tick_params(labelsize=8, length=2)
        axes.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def _worth(one: Evaluation, norms: Norms | None) -> Interval:
    return one.mean_return() if norms is None else one.score(norms)


def _percent(share: Interval) -> Interval:
    return Interval(100 * share.mean, 100 * share.low, 100 * share.high)


@dataclass(frozen=True)
class Moment:
    """A frame of life: the plan that is followed (S, 2), where the body has been (L, 2), and words."""

    planned: Tensor
    lived: Tensor
    words: str


def write_gif(
    scene: Scene,
    rows: Sequence[tuple[Tensor, Tensor]],
    moments: Sequence[Moment],
    goal: Tensor,
    near: float,
    path: Path,
    width: int = 480,
    tree: tuple[Tree, NDArray[np.float64]] | None = None,
) -> None:
    """Tokens falling out of the noise, near future first, or a tree as it grew; then what is lived; as a GIF.

    rows: levels (T,) and positions (n, S + 1, 2) of n plans from their start on, one for each row that `Planner.watch`
    yields. tree: with the positions (nodes, 2) of its nodes. Written atomically. Raises ValueError where there is
    nothing to show.
    """
    film = Film(scene, goal, near, width)
    frames = [film.noisy(levels, positions) for levels, positions in rows]
    if tree is not None:
        frames += [film.grown(*tree, count) for count in growth(len(tree[0]))]
    times = [90] * len(frames)
    if frames:
        times[0], times[-1] = 500, 900
    lived = [film.lived(moment) for moment in moments]
    times += [60] * len(lived)
    frames += lived
    if not frames:
        raise ValueError("there is neither a row nor a moment to show")
    times[-1] = 2500

    def write(partial: Path) -> None:
        first, *others = frames
        first.save(partial, format="GIF", save_all=True, append_images=others, duration=times, loop=0)

    replace_file(path, write)


def growth(nodes: int, frames: int = 24) -> list[int]:
    """Numbers of nodes for the frames of a growing tree, from its root to all of it."""
    return sorted({1 + round((nodes - 1) * frame / (frames - 1)) for frame in range(frames)})


class Film:
    """Draws frames of one scene."""

    def __init__(self, scene: Scene, goal: Tensor, near: float, width: int) -> None:
        from PIL import Image, ImageDraw, ImageFont

        extent = scene.high - scene.low
        self.scene = scene
        self.scale = FINE * width / float(extent.max())
        self.width, height = (max(200 * FINE, round(self.scale * side)) for side in extent.tolist())
        self.strip = 44 * FINE
        self.height = height
        self.font = ImageFont.load_default(12 * FINE)
        self.ground: Image.Image = Image.new("RGB", (self.width, height + self.strip), "white")
        brush = ImageDraw.Draw(self.ground)
        half = 0.48 * scene.size
        for x, y in scene.places.tolist() if not len(scene.walls) else []:
            self.box(brush, x - half, y - half, x + half, y + half, PLACE)
        for x, y, right, top in scene.walls.tolist():
            self.box(brush, x, y, right, top, WALL)
        brush.rectangle((0, height, self.width, height + self.strip), fill="white")
        self.disc(brush, goal, near * self.scale, _mixed(GOAL, "#ffffff", 0.55))
        self.disc(brush, goal, 5 * FINE, GOAL)

    def noisy(self, levels: Tensor, positions: Tensor) -> Image.Image:
        """A row of the matrix: levels (T,), positions (n, S + 1, 2) of n plans."""
        from PIL import ImageDraw

        frame = self.ground.copy()
        brush = ImageDraw.Draw(frame)
        each = (positions.shape[1] - 1) // len(levels)
        shades = [_mixed(PLAN, NOISE, level) for level in levels.tolist()]
        for plan in positions:
            pixels = self.pixels(plan)
            # The far future first, so that what is certain lies on top.
            for token in reversed(range(len(shades))):
                part = pixels[token * each : (token + 1) * each + 1]
                clear = float(levels[token]) < 0.5
                if clear:
                    brush.line(part, fill=shades[token], width=3 * FINE, joint="curve")
                radius = (2 if clear else 1.5) * FINE
                for x, y in part[1:] if not clear else part[-1:]:
                    brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shades[token])
        self.disc(brush, positions[0, 0], 5 * FINE, WALL)
        side = (self.width - 16 * FINE) / len(shades)
        brush.rectangle((0, self.height, self.width, self.height + self.strip), fill="white")
        brush.text((8 * FINE, self.height + 4 * FINE), "noise of each token, near future first", WALL, self.font)
        for token, shade in enumerate(shades):
            left, top = 8 * FINE + token * side, self.height + 24 * FINE
            brush.rectangle((left, top, left + side - FINE, top + 14 * FINE), fill=shade)
        return self.shown(frame)

    def grown(self, tree: Tree, places: NDArray[np.float64], count: int) -> Image.Image:
        """The first `count` nodes of a tree, whose nodes are at places (nodes, 2); the best branch last."""
        from PIL import ImageDraw

        frame = self.ground.copy()
        brush = ImageDraw.Draw(frame)
        points = self.pixels(torch.from_numpy(places))
        for node in range(1, count):
            brush.line((points[tree.parent[node]], points[node]), fill=_mixed(PLAN, "#ffffff", 0.55), width=FINE)
            x, y = points[node]
            brush.ellipse((x - FINE, y - FINE, x + FINE, y + FINE), fill=_mixed(PLAN, "#ffffff", 0.2))
        if count == len(tree):
            brush.line([points[node] for node in principal_path(tree)], fill=PLAN, width=3 * FINE, joint="curve")
        self.disc(brush, torch.from_numpy(places[0]), 5 * FINE, WALL)
        brush.rectangle((0, self.height, self.width, self.height + self.strip), fill="white")
        brush.text((8 * FINE, self.height + 4 * FINE), f"a tree of {count} plans so far", WALL, self.font)
        return self.shown(frame)

    def lived(self, moment: Moment) -> Image.Image:
        """A moment of life."""
        from PIL import ImageDraw

        frame = self.ground.copy()
        brush = ImageDraw.Draw(frame)
        brush.line(self.pixels(moment.planned), fill=_mixed(PLAN, "#ffffff", 0.4), width=2 * FINE, joint="curve")
        if len(moment.lived) > 1:
            brush.line(self.pixels(moment.lived), fill=LIVED, width=2 * FINE, joint="curve")
        self.disc(brush, moment.lived[-1], max(4 * FINE, self.scene.body * self.scale), LIVED)
        brush.rectangle((0, self.height, self.width, self.height + self.strip), fill="white")
        brush.text((8 * FINE, self.height + 4 * FINE), moment.words, WALL, self.font)
        return self.shown(frame)

    def pixels(self, points: Tensor) -> list[tuple[float, float]]:
        """Points (n, 2) of the plane as pixels; y points up."""
        x = (points[:, 0] - self.scene.low[0]) * self.scale
        y = self.height - (points[:, 1] - self.scene.low[1]) * self.scale
        return list(zip(x.tolist(), y.tolist()))

    def box(self, brush: ImageDraw.ImageDraw, x: float, y: float, right: float, top: float, colour: str) -> None:
        """A filled rectangle of the plane."""
        (left, bottom), (end, above) = self.pixels(torch.tensor([[x, y], [right, top]]))
        brush.rectangle((left, above, end, bottom), fill=colour)

    def disc(self, brush: ImageDraw.ImageDraw, point: Tensor, radius: float, colour: str) -> None:
        """A filled circle, its radius in pixels."""
        x, y = self.pixels(point[None, :2])[0]
        brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def shown(self, frame: Image.Image) -> Image.Image:
        """A frame in the size and the few colours in which it is shown."""
        from PIL import Image

        small = frame.resize((frame.width // FINE, frame.height // FINE), Image.Resampling.BOX)
        return small.quantize(64, dither=Image.Dither.NONE)


def _mixed(one: str, other: str, share: float) -> str:
    """A colour with this share of another, #rrggbb."""
    pairs = [(int(one[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(first + share * (second - first)):02x}" for first, second in pairs)
