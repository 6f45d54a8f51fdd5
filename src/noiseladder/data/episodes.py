"""An episode is what the cameras saw, what the robot felt and what was done, step by step; a set of them agrees.

The readers of recorded episodes (npz, zarr, LeRobot) end here, so that whatever is wrong with a recording is said in
the same sentence, naming the episode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]
Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Episode:
    """T steps of a demonstration, and where it came from.

    pictures: camera -> (T, H, W, 3) uint8, RGB. state: (T, S) float32, may have S = 0. actions: (T, A) float32; row t
    is what was done after seeing row t. rate: steps a second, or None. notes: plain values, such as the seed.
    Raises ValueError, naming the episode by `name`, for parts that do not belong together, NaN and no steps at all.
    """

    name: str
    pictures: Mapping[str, Pictures]
    state: Numbers
    actions: Numbers
    rate: float | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        steps = len(self.actions)
        if self.actions.ndim != 2 or self.actions.shape[-1] == 0:
            raise ValueError(f"{self.name}: actions have shape {self.actions.shape}, expected (steps, numbers)")
        if steps == 0:
            raise ValueError(f"{self.name} has no steps: remove it")
        for what, rows in (("actions", self.actions), ("state", self.state)):
            if rows.ndim != 2 or len(rows) != steps:
                raise ValueError(
                    f"{self.name}: {what} have shape {rows.shape}, expected a row for each of {steps} steps"
                )
            wrong = ~np.isfinite(rows).all(axis=1)
            if wrong.any():
                raise ValueError(
                    f"{self.name}: {what} hold NaN or infinity at step {int(wrong.argmax())}: expected numbers; cut the"
                    " episode there or remove it"
                )
        for camera, frames in self.pictures.items():
            if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
                raise ValueError(
                    f"{self.name}: camera {camera!r} holds {frames.dtype} of shape {frames.shape}, expected uint8 of"
                    " shape (steps, height, width, 3)"
                )
            if len(frames) != steps:
                raise ValueError(
                    f"{self.name}: camera {camera!r} has {len(frames)} pictures for {steps} actions: expected as many"
                )

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.actions)

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width of each camera's pictures."""
        return {camera: (frames.shape[1], frames.shape[2]) for camera, frames in self.pictures.items()}


@dataclass(frozen=True)
class Expected:
    """What a policy needs of every episode; None where anything that is the same in all of them will do.

    cameras: names that must be there. sizes: camera -> (height, width). lowest, highest: the range of the actions (A,).
    """

    cameras: Sequence[str] | None = None
    sizes: Mapping[str, tuple[int, int]] | None = None
    lowest: Sequence[float] | None = None
    highest: Sequence[float] | None = None


def checked(episodes: Iterable[Episode], expected: Expected | None = None) -> Iterator[Episode]:
    """The episodes, each held against `expected` and against the first.

    Raises ValueError with one sentence, naming the episode, for missing cameras, other sizes of picture, state or
    action, and actions out of range.
    """
    expected = expected or Expected()
    first: Episode | None = None
    for episode in episodes:
        first = first or episode
        cameras = expected.cameras if expected.cameras is not None else tuple(first.pictures)
        missing = [camera for camera in cameras if camera not in episode.pictures]
        if missing:
            raise ValueError(
                f"{episode.name} lacks camera {', '.join(missing)}: expected {', '.join(cameras)}, found"
                f" {', '.join(episode.pictures) or 'none'}"
            )
        wanted = expected.sizes if expected.sizes is not None else first.sizes
        for camera in cameras:
            size = episode.sizes[camera]
            if camera in wanted and size != tuple(wanted[camera]):
                height, width = wanted[camera]
                raise ValueError(
                    f"{episode.name}: camera {camera!r} has pictures of {size[0]}x{size[1]} pixels, expected"
                    f" {height}x{width}: resize them all alike"
                )
        for what, found, there in (
            ("action", episode.actions.shape[1], first.actions.shape[1]),
            ("state", episode.state.shape[1], first.state.shape[1]),
        ):
            if found != there:
                raise ValueError(f"{episode.name}: {what} has {found} numbers, expected {there} as in {first.name}")
        _check_range(episode, expected)
        yield episode


def _check_range(episode: Episode, expected: Expected) -> None:
    tolerance = 1e-5  # float32 files of float64 commands
    for bounds, sign in ((expected.lowest, -1.0), (expected.highest, 1.0)):
        if bounds is None:
            continue
        limit = np.asarray(bounds, dtype=np.float64)
        if limit.shape != (episode.actions.shape[1],):
            raise ValueError(
                f"{episode.name}: action has {episode.actions.shape[1]} numbers, expected {limit.size} as in the range"
            )
        beyond = sign * (episode.actions - limit) > tolerance
        if beyond.any():
            step, part = (int(place) for place in np.argwhere(beyond)[0])
            side = "at least" if sign < 0 else "at most"
            raise ValueError(
                f"{episode.name}: action {part} at step {step} is {episode.actions[step, part]:g}, expected {side}"
                f" {limit[part]:g}: clip the recording or widen the range"
            )
