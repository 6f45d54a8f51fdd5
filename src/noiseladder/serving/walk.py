"""One player's walk: where it is, moments to go back to, what is recorded. The world is lent to it for a frame."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from noiseladder.video.clip import Frames
from noiseladder.video.playable import Opening

from .playground import Playground

MARKS_A_SECOND, MARKED_SECONDS = 4, 2
FILM_SECONDS = 30.0
GAP = 4  # pixels between the real walk and the dream in a film
EMPTY = 24  # brightness where a film shows nothing


def longest_film(rate: float) -> int:
    """How many frames of a walk are kept at most."""
    return round(FILM_SECONDS * rate)


@dataclass(frozen=True)
class Shown:
    """What a player sees after a question.

    number: frames since the beginning. frame: (H, W, 3) uint8; real: of the real walk, beside it, or None. levels: that
    the frame went through. remembered: the level it is remembered at. calls: of the network for it. left: frames that
    the real walk still has, if it is being followed. recorded: frames kept for a film, or None. milliseconds: that the
    world took.
    """

    number: int
    frame: Frames
    real: Frames | None
    levels: tuple[float, ...]
    remembered: float
    calls: int
    left: int
    recorded: int | None
    milliseconds: float

    def header(self) -> dict[str, Any]:
        """All but the pictures, as JSON values."""
        return {
            "kind": "frame",
            "number": self.number,
            "height": self.frame.shape[0],
            "width": self.frame.shape[1],
            "real": self.real is not None,
            "levels": [round(level, 4) for level in self.levels],
            "remembered": round(self.remembered, 4),
            "calls": self.calls,
            "left": self.left,
            "recorded": self.recorded,
            "milliseconds": round(self.milliseconds, 2),
        }

    def pixels(self) -> tuple[bytes, ...]:
        """The pictures: rows of RGB."""
        pictures = (self.frame,) if self.real is None else (self.frame, self.real)
        return tuple(np.ascontiguousarray(picture).tobytes() for picture in pictures)


@dataclass(frozen=True)
class _Mark:
    number: int
    followed: int | None
    snapshot: Any
    frame: Frames


class Walk:
    """A walk of one player through a world that others use too.

    Its methods must be called one at a time, in the thread of the world: each puts the world where this walk is, moves
    it, and keeps where it came to. When the world raises, the walk stays where it was.
    """

    def __init__(self, playground: Playground) -> None:
        self.playground = playground
        self.dreaming = playground.dreaming
        self.number = 0
        self._followed: int | None = 0
        """Frames that the real walk was followed for, or None once another way was taken."""
        self._opening: Opening = playground.openings[0]
        self._snapshot: Any = None
        self._frame: Frames | None = None
        self._marks: deque[_Mark] = deque(maxlen=MARKS_A_SECOND * MARKED_SECONDS + 1)
        self._film: list[Frames] | None = None

    def reset(self, number: int | None) -> Shown:
        """Begin at the opening of that number, or at any."""
        openings = self.playground.openings
        if number is not None and number >= len(openings):
            raise ValueError(f"there is no real frame {number}: they are numbered 0 to {len(openings) - 1}")
        opening = openings[secrets.randbelow(len(openings)) if number is None else number]
        began, world = time.perf_counter(), self.playground.world
        seed = secrets.randbelow(2**31) if opening.seed is None else opening.seed
        frame = _checked(world.reset(opening.frames, opening.actions, seed))
        self._snapshot, self._frame, self._opening = world.snapshot(), frame, opening
        self.number, self._followed = 0, 0
        self._marks.clear()
        self._mark()
        return self._shown(began, None, ())

    def step(self, action: int) -> Shown:
        """The frame that an action leads to; the real walk is left."""
        if action >= len(self.playground.world.actions):
            raise ValueError(f"there is no action {action}: {', '.join(self.playground.world.actions)}")
        began = time.perf_counter()
        levels = self._move(action)
        self._followed = None
        return self._after(began, None, levels)

    def follow(self) -> Shown:
        """The frame that the action of the real walk leads to, and the real frame beside it."""
        opening = self._opening
        if opening.later is None or opening.later_actions is None:
            raise ValueError("nobody recorded how the real walk went on from here: begin at another real frame")
        if self._followed is None:
            raise ValueError("you have taken another way than the real walk: begin again at a real frame to follow it")
        if self._followed >= len(opening.later):
            raise ValueError("the recorded walk ends here: begin again at a real frame")
        action = int(opening.later_actions[self._followed])
        if action < 0:
            action = self.playground.idle if self.playground.idle is not None else 0
        began = time.perf_counter()
        levels = self._move(action)
        real = opening.later[self._followed]
        self._followed += 1
        return self._after(began, real, levels)

    def back(self) -> Shown:
        """Take back a second, or as much as is remembered."""
        if not self._marks:
            raise ValueError("there is nothing to take back yet: begin at a real frame")
        began = time.perf_counter()
        target = self.number - round(self.playground.rate)
        while len(self._marks) > 1 and self._marks[-1].number > target:
            self._marks.pop()
        mark = self._marks[-1]
        self.number, self._followed, self._snapshot, self._frame = mark.number, mark.followed, mark.snapshot, mark.frame
        return self._shown(began, self._real(), ())

    def look(self) -> Shown:
        """Where the walk is; it begins where it has not yet."""
        if self._frame is None:
            return self.reset(None)
        return self._shown(time.perf_counter(), None, ())

    def slide(self, values: Mapping[str, float]) -> list[dict[str, Any]]:
        """Move some sliders; returns where all stand."""
        self.dreaming = self.playground.slid(self.dreaming, values)
        return self.sliders()

    def sliders(self) -> list[dict[str, Any]]:
        """Where the sliders stand, as JSON values."""
        return self.playground.sliding(self.dreaming)

    def record(self) -> None:
        """Keep frames from now on; what was kept before is dropped."""
        self._film = [] if self._frame is None else [_beside(self._frame, self._real())]

    def film(self) -> list[Frames]:
        """What was kept; the recording ends."""
        kept, self._film = self._film, None
        if not kept:
            raise ValueError("nothing is being recorded: begin a recording first")
        # A film has one size: frames with a real one beside them are wider. Without one its place, the left, is empty.
        widest = max(frame.shape[1] for frame in kept)
        return [np.pad(frame, ((0, 0), (widest - frame.shape[1], 0), (0, 0)), constant_values=EMPTY) for frame in kept]

    def _real(self) -> Frames | None:
        """The real frame that belongs beside this one, while the real walk is followed."""
        later = self._opening.later
        return later[self._followed - 1] if later is not None and self._followed else None

    def _move(self, action: int) -> tuple[float, ...]:
        """Put the world here, take a step, keep where it came to: all or nothing. Returns the frame's levels."""
        if self._frame is None:
            raise ValueError("the walk has not begun: begin at a real frame")
        world = self.playground.world
        world.restore(self._snapshot)
        world.dreaming = self.dreaming
        frame = _checked(world.step(action))
        levels, snapshot = tuple(float(level) for level in world.levels), world.snapshot()
        self._frame, self._snapshot = frame, snapshot
        return levels

    def _after(self, began: float, real: Frames | None, levels: tuple[float, ...]) -> Shown:
        self.number += 1
        if self.number % max(1, round(self.playground.rate / MARKS_A_SECOND)) == 0:
            self._mark()
        assert self._frame is not None
        if self._film is not None and len(self._film) < longest_film(self.playground.rate):
            self._film.append(_beside(self._frame, real))
        return self._shown(began, real, levels)

    def _mark(self) -> None:
        assert self._frame is not None
        self._marks.append(_Mark(self.number, self._followed, self._snapshot, self._frame))

    def _shown(self, began: float, real: Frames | None, levels: tuple[float, ...]) -> Shown:
        assert self._frame is not None
        later = self._opening.later
        return Shown(
            self.number,
            self._frame,
            real,
            levels,
            float(getattr(self.dreaming, "stabilization", 0.0)),
            self.playground.world.calls if levels else 0,
            0 if later is None or self._followed is None else len(later) - self._followed,
            None if self._film is None else len(self._film),
            1e3 * (time.perf_counter() - began),
        )


def _checked(frame: Frames) -> Frames:
    """A copy of our own: a world may draw its next frame into the same memory."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise TypeError(f"the world gave a frame {frame.dtype} of shape {frame.shape}, expected uint8 (H, W, 3)")
    return np.array(frame)


def _beside(frame: Frames, real: Frames | None) -> Frames:
    if real is None:
        return frame
    gap = np.full((len(frame), GAP, 3), EMPTY, np.uint8)
    return np.concatenate([real, gap, frame], axis=1)
