"""What can be played: a world that begins with frames and answers every action with the next frame, dreamt or true."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .clip import Clip, Frames

IDLE_NAMES = ("wait", "nothing", "no push", "idle", "none", "noop")


class PlayableWorld(Protocol):
    """What the page and the Gymnasium environment ask of a world; `WorldModel` and `TrueBouncing` offer it.

    actions: their names; `step` takes their numbers. dreaming: a frozen dataclass of numbers that says how frames are
    dreamt and may be replaced between two steps, or None where nothing is dreamt. levels: the noise levels that the
    last frame went through, from 1 down to 0; empty where there were none. calls: of the network to denoise a frame.
    """

    dreaming: Any

    @property
    def actions(self) -> Sequence[str]:
        """Names of the actions."""

    @property
    def levels(self) -> Sequence[float]:
        """Noise levels of the last frame, first to last."""

    @property
    def calls(self) -> int:
        """Denoising calls a frame; 0 where nothing is dreamt."""

    def reset(self, frames: Frames, actions: Sequence[int] | NDArray[np.integer[Any]], seed: int) -> Frames:
        """Begin with frames (T, H, W, 3) uint8 and what led to each, (T,), -1 where unknown; returns the last frame."""

    def step(self, action: int) -> Frames:
        """The next frame, (H, W, 3) uint8; ValueError for an unknown action."""

    def snapshot(self) -> Any:
        """This moment; a value that later steps do not change."""

    def restore(self, snapshot: Any) -> object:
        """Go back to a moment, as often as wanted; the same actions lead to the same frames again."""


@dataclass(frozen=True)
class Opening:
    """Where a walk can begin: real frames, and how the real walk went on.

    frames: (T, H, W, 3) uint8. actions: (T,), what led to each, -1 where unknown. later, later_actions: (N, H, W, 3)
    and (N,), what came after, none without a recording. seed: of the world's noise; a new one at every reset if None.
    Raises ValueError for arrays that do not belong together.
    """

    frames: Frames
    actions: NDArray[np.integer[Any]]
    later: Frames | None = None
    later_actions: NDArray[np.integer[Any]] | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        Clip(self.frames)
        if self.actions.shape != self.frames.shape[:1]:
            raise ValueError(f"{self.actions.size} actions for {len(self.frames)} frames: expected one a frame")
        if (self.later is None) != (self.later_actions is None):
            raise ValueError("later frames and later actions belong together: give both or none")
        if self.later is not None and self.later_actions is not None:
            Clip(self.later)
            if self.later.shape[1:] != self.frames.shape[1:] or self.later_actions.shape != self.later.shape[:1]:
                raise ValueError(
                    f"later frames have shape {self.later.shape} with {self.later_actions.size} actions, expected"
                    f" (N, {', '.join(map(str, self.frames.shape[1:]))}) with N actions"
                )

    @staticmethod
    def of_clip(clip: Clip, length: int, seed: int | None = None) -> Opening:
        """The first `length` frames of a clip, and the rest as what came after. The clip's actions are one-hot rows."""
        if not 1 <= length <= len(clip):
            raise ValueError(f"an opening of {length} frames does not fit a clip of {len(clip)}")
        frames, actions = np.array(clip.frames), action_numbers(clip)
        if length == len(clip):
            return Opening(frames, actions, seed=seed)
        return Opening(frames[:length], actions[:length], frames[length:], actions[length:], seed)


def action_numbers(clip: Clip) -> NDArray[np.int64]:
    """The numbers of a clip's actions (T,), whose rows are one-hot; -1 where a row is zeros or nothing is known.

    Raises ValueError for rows that are neither, as those of continuous actions.
    """
    if clip.actions is None:
        return np.full(len(clip), -1)
    rows = clip.actions
    if not (np.isin(rows, (0, 1)).all() and (rows.sum(1) <= 1).all()):
        raise ValueError("the clip's actions are not one-hot rows: a walk can be followed with numbered actions only")
    return np.where(rows.any(1), rows.argmax(1), -1)


def checked_action(action: Any, names: Sequence[str]) -> int:
    """The number of one of the actions `names`. Raises ValueError for anything but a whole number of one of them."""
    number = numbered(action, len(names))
    if number is None:
        raise ValueError(f"unknown action {action!r}, expected 0 to {len(names) - 1}: {', '.join(names)}")
    return number


def numbered(value: Any, count: int) -> int | None:
    """A whole number from 0 to `count` - 1 as an int; None for all else, 1.0, "1" and True among it."""
    try:
        number = operator.index(value)
    except TypeError:
        return None
    return number if 0 <= number < count and not isinstance(value, bool) else None


def idle_action(actions: Sequence[str]) -> int | None:
    """The number of the action that does nothing, by its name; None where every action does something."""
    return next((number for number, name in enumerate(actions) if name in IDLE_NAMES), None)
