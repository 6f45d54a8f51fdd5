"""Paths in the plane: which of the known ones each path follows, and how they are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEITHER = -1
"""What `follows` says of a path that strays from all known ones."""
LATE = 2.0
"""How many times further from the end of a course a path may end than it may be off course."""


def distances(paths: Tensor, known: Tensor) -> Tensor:
    """The greatest distance, over all steps, from each path (B, T, 2) to each known path (K, T, 2): (B, K)."""
    away = paths[:, None] - known[None]
    furthest: Tensor = torch.linalg.vector_norm(away, dim=-1).amax(dim=-1)
    return furthest


def follows(paths: Tensor, known: Tensor, tolerance: float) -> Tensor:
    """The index of the known path that each path keeps within `tolerance` of at every step, or NEITHER: (B,)."""
    return nearest_within(distances(paths, known), tolerance)


def distances_off_course(paths: Tensor, courses: Tensor) -> Tensor:
    """The greatest distance of any token of a path (B, T, 2) from a course (K, S, 2), wherever on it: (B, K).

    Being early or late does not count, but a course begins and ends: its last point is due at the last token.
    """
    away = (paths[:, None, :, None] - courses[None, :, None]).norm(dim=-1)  # (B, K, T, S)
    return torch.maximum(away.amin(dim=-1).amax(dim=-1), away[:, :, -1, -1] / LATE)


def nearest_within(distance: Tensor, tolerance: float) -> Tensor:
    """Which of K is nearest, or NEITHER when even that is further than `tolerance`: (B, K) -> (B,)."""
    nearest = distance.min(dim=1)
    return torch.where(nearest.values <= tolerance, nearest.indices, NEITHER)


def draw_paths(axes: Axes, paths: Tensor, colour: str, label: str | None = None, strength: float = 0.25) -> None:
    """Thin lines, one for each path (B, T, 2), with a single entry in the legend."""
    for number, path in enumerate(paths):
        axes.plot(
            path[:, 0],
            path[:, 1],
            color=colour,
            alpha=strength,
            linewidth=0.9,
            solid_capstyle="round",
            label=None if number else label,
        )
