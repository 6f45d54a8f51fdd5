"""A clip is what was seen, what was done to see it, and where one stood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Numbers = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Clip:
    """T frames in a row, without a cut.

    frames: (T, H, W, 3) uint8, RGB. actions: (T, A) or None; row t is what led to frame t, row 0 is what led to the
    first frame, zeros where that is not known. poses: (T, P) or None; where the camera stood, in units of the world
    (Doom: x, y in map units, heading in degrees). Raises ValueError for arrays that do not belong together.
    """

    frames: Frames
    actions: Numbers | None = None
    poses: Numbers | None = None

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or shape[3] != 3 or 0 in shape:
            raise ValueError(
                f"frames are {self.frames.dtype} of shape {shape}, expected uint8 of shape (T, H, W, 3) with T, H and W"
                " at least 1: RGB, 0 to 255"
            )
        for name, rows in (("actions", self.actions), ("poses", self.poses)):
            if rows is None:
                continue
            if rows.ndim != 2 or len(rows) != len(self.frames):
                raise ValueError(f"{name} have shape {rows.shape}, expected ({len(self.frames)}, n): a row a frame")
            if not np.isfinite(rows).all():
                raise ValueError(f"{name} hold NaN or infinity: every row must be known")

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    def __getitem__(self, piece: slice) -> Clip:
        """A shorter clip."""
        return Clip(
            self.frames[piece],
            None if self.actions is None else self.actions[piece],
            None if self.poses is None else self.poses[piece],
        )


def one_hot(actions: NDArray[np.integer[Any]], count: int) -> NDArray[np.float32]:
    """Numbers of actions (T,) as rows (T, count); -1, not known, is a row of zeros."""
    if len(actions) and not -1 <= actions.min() <= actions.max() < count:
        raise ValueError(f"actions run from {actions.min()} to {actions.max()}, expected 0 to {count - 1}, or -1")
    rows: NDArray[np.float32] = np.eye(count + 1, dtype=np.float32)[actions][:, :count]
    return rows


def write_arrays(target: Path, clips: Sequence[Clip]) -> None:
    """Clips end to end as .npy files in the folder `target`: frames, lengths; actions and poses where all have them.

    Raises ValueError for clips of different sizes, or with different actions.
    """
    for name, kinds in (
        ("frames of a size", {clip.frames.shape[1:3] for clip in clips}),
        ("actions", {None if clip.actions is None else clip.actions.shape[1] for clip in clips}),
    ):
        if len(kinds) != 1:
            raise ValueError(f"the clips of one store must share {name}, these have {sorted(map(str, kinds))}")
    np.save(target / "frames.npy", np.concatenate([clip.frames for clip in clips]))
    np.save(target / "lengths.npy", np.array([len(clip) for clip in clips]))
    for name in ("actions", "poses"):
        rows = [getattr(clip, name) for clip in clips]
        if all(row is not None for row in rows):
            np.save(target / f"{name}.npy", np.concatenate(rows).astype(np.float32))
