"""Doom itself, offered like a dream: the engine runs here, and a moment is the actions that led to it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noiseladder.training.randomness import check_seed

from .clip import Frames
from .doom import DoomOptions, Engine, make_maps
from .doom_explorer import ACTIONS
from .playable import Opening, checked_action

MAZES = 8


@dataclass(frozen=True, eq=False)
class Moment:
    """A walk from its seed on: its last action, and the moment before."""

    seed: int
    before: Moment | None = None
    action: int = -1

    def actions(self) -> list[int]:
        """All of them, first to last."""
        done, moment = [], self
        while moment.before is not None:
            done.append(moment.action)
            moment = moment.before
        return done[::-1]


class TrueDoom:
    """A `PlayableWorld` that is no dream. A context manager, because the engine is a process of its own.

    The engine cannot be put back, so `restore` walks again from the beginning (about a millisecond a frame), unless it
    is there already: one player can play so, several cannot. `reset` takes the seed, which chooses one of a few mazes,
    or the place to stand; frames and actions are not read.
    """

    dreaming: None = None
    levels: tuple[float, ...] = ()
    calls = 0
    actions = ACTIONS

    def __init__(self, options: DoomOptions) -> None:
        self.options = options
        self._folder = tempfile.TemporaryDirectory(prefix="noiseladder-doom-")
        # The engine writes its settings where it starts, and nowhere else can be told.
        with chdir(self._folder.name):
            self._engine = Engine(options, make_maps(options, [*range(MAZES)]))
        self._here: Moment | None = None

    def __enter__(self) -> TrueDoom:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the engine."""
        self._engine.game.close()
        self._folder.cleanup()

    @property
    def size(self) -> int:
        """Side of a frame in pixels."""
        return self.options.size

    def reset(self, frames: Frames, actions: Sequence[int] | NDArray[np.integer[Any]], seed: int) -> Frames:
        """Begin where the seed says. Raises ValueError for what is no seed."""
        number = check_seed(seed)
        self._start(number)
        self._here = Moment(number)
        return self._engine.frame()

    def step(self, action: int) -> Frames:
        """One frame later. Raises ValueError for an unknown action, before the first reset, and where the walk ends."""
        here = self.snapshot()
        number = checked_action(action, ACTIONS)
        self._here = None  # wherever the engine is, should it fail
        if not self._engine.act(number):
            raise ValueError("the walk ends here, at the prize: take back a second, or begin again at a real frame")
        self._here = Moment(here.seed, here, number)
        return self._engine.frame()

    def snapshot(self) -> Moment:
        """Where one is."""
        if self._here is None:
            raise ValueError("the world has not begun: call reset(frames, actions, seed) first")
        return self._here

    def restore(self, snapshot: Moment) -> None:
        """Go back to a moment, by walking there again."""
        if snapshot is self._here:
            return
        self._here = None
        self._start(snapshot.seed)
        for action in snapshot.actions():
            self._engine.act(action)
        self._here = snapshot

    def _start(self, seed: int) -> None:
        self._engine.start(1 + seed % MAZES, seed)

    def opening(self, seed: int) -> Opening:
        """The beginning that a seed gives: one frame."""
        frame = self.reset(np.empty((0, 0, 0, 3), np.uint8), [], seed)
        return Opening(frame[None], np.array([-1]), seed=seed)
