"""Pictures of searches: value against budget beside the exact value and the rival, and a tree over the plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .search import Tree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TREE, RIVAL, EXACT, PALE = "#2a6f97", "#c1121f", "#22333b", "#8d99ae"


@dataclass(frozen=True)
class Curve:
    """What a method is worth by budget: calls and seconds (n,), worth (n, seeds) of its first decision."""

    calls: NDArray[np.float64]
    seconds: NDArray[np.float64]
    worth: NDArray[np.float64]


@dataclass(frozen=True)
class BedResult:
    """One problem: its exact value, the value of nothing learned (the zero of the scale), and both methods."""

    name: str
    exact: float
    floor: float
    tree: Curve
    best_of_n: Curve

    def share(self, curve: Curve) -> NDArray[np.float64]:
        """Worth as a share of what can be had above the floor, (n, seeds): 1 is exact."""
        shares: NDArray[np.float64] = (curve.worth - self.floor) / (self.exact - self.floor)
        return shares


def draw_value_against_budget(results: Sequence[BedResult], path: Path | None = None) -> Figure:
    """One column for each problem: value against network calls above, against seconds below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.5 * len(results), 5.6), layout="constrained")
    grid = figure.subplots(2, len(results), squeeze=False)
    for column, result in enumerate(results):
        for row, unit in enumerate(("calls", "seconds")):
            axes = grid[row, column]
            for curve, colour, label in (
                (result.tree, TREE, "tree search"),
                (result.best_of_n, RIVAL, "best of n plans"),
            ):
                shares = result.share(curve)
                middle, error = shares.mean(axis=1), shares.std(axis=1) / max(1, shares.shape[1]) ** 0.5
                x = getattr(curve, unit)
                axes.plot(x, middle, color=colour, marker="o", markersize=3, linewidth=1.2, label=label)
                axes.fill_between(x, middle - error, middle + error, color=colour, alpha=0.18, linewidth=0)
            axes.axhline(1, color=EXACT, linewidth=0.8, linestyle="--", label="exact")
            axes.axhline(0.99, color=PALE, linewidth=0.8, linestyle=":", label="99 %")
            axes.set(xscale="log", xlabel="expansions" if row == 0 else "seconds")
            if row == 0:
                axes.set_title(result.name, fontsize=9, loc="left")
            if column == 0:
                axes.set_ylabel("worth of the first decision,\nshare of what can be had", fontsize=8)
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    if path is not None:
        figure.savefig(path, dpi=140)
    return figure


def draw_tree(tree: Tree, positions: NDArray[np.float64], path: Sequence[int] = (), axes: Axes | None = None) -> Axes:
    """Draw a tree over the plane: well visited branches dark and thick, a path on top.

    positions: (nodes, 2). path: nodes from the root down (`principal_path`). axes: draw here, over a maze for example.
    """
    if positions.shape != (len(tree), 2):
        raise ValueError(f"positions have shape {positions.shape}, expected ({len(tree)}, 2): one for each node")
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    if axes is None:
        axes = Figure(figsize=(4.5, 4.5), layout="constrained").add_subplot()
        axes.set_aspect("equal")
    nodes = np.arange(1, len(tree))
    parents = tree.parent[nodes]
    # The most visited last, so that they lie on top.
    order = np.argsort(tree.visits[nodes], kind="stable")
    nodes, parents = nodes[order], parents[order]
    weight = np.log1p(tree.visits[nodes]) / np.log1p(tree.visits[0])
    lines = LineCollection(
        list(np.stack([positions[parents], positions[nodes]], axis=1)), linewidths=0.3 + 2.2 * weight,
        colors=[(*(0.16, 0.44, 0.59), float(0.15 + 0.85 * w)) for w in weight], capstyle="round", zorder=2,
        label="searched, dark where often",
    )  # fmt: skip
    axes.add_collection(lines)
    axes.scatter(positions[:1, 0], positions[:1, 1], color=EXACT, s=26, zorder=4)
    if len(path):
        axes.plot(*positions[list(path)].T, color=RIVAL, linewidth=1.6, zorder=3)
    axes.autoscale_view()
    return axes
