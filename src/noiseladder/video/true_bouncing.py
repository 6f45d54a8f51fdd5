"""The bouncing world itself, offered like a dream: nothing is learned, so nothing can drift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from noiseladder.training.randomness import check_seed

from .bouncing import ACTIONS, NO_PUSH, BouncingWorld, Shapes
from .clip import Frames
from .playable import Opening, checked_action

RATE = 25.0  # frames a second at which it is pleasant to play; the world itself knows no seconds


class TrueBouncing:
    """A `PlayableWorld` without noise. `reset` needs the seed: pixels do not show what is behind the bar, or speeds."""

    dreaming: None = None
    levels: tuple[float, ...] = ()
    calls = 0
    actions = (*ACTIONS, "wait")

    def __init__(self, world: BouncingWorld | None = None) -> None:
        self.world = world or BouncingWorld()
        self._shapes: Shapes | None = None

    @property
    def size(self) -> int:
        """Side of a frame in pixels."""
        return self.world.size

    def reset(self, frames: Frames, actions: Sequence[int] | NDArray[np.integer[Any]], seed: int) -> Frames:
        """Shapes as the seed places them; frames and actions are not read. Raises ValueError for what is no seed."""
        self._shapes = self.world.start(1, Generator().manual_seed(check_seed(seed)))
        return self._frame()

    def step(self, action: int) -> Frames:
        """One frame later. Raises ValueError for an unknown action, and before the first reset."""
        shapes = self.snapshot()
        number = checked_action(action, self.actions)
        push = number if number < len(ACTIONS) else NO_PUSH
        self._shapes = self.world.step(shapes, torch.tensor([push]))
        return self._frame()

    def snapshot(self) -> Shapes:
        """Where everything is and how it moves."""
        if self._shapes is None:
            raise ValueError("the world has not begun: call reset(frames, actions, seed) first")
        return self._shapes

    def restore(self, snapshot: Shapes) -> Frames:
        """Go back to a moment."""
        self._shapes = snapshot
        return self._frame()

    def opening(self, seed: int) -> Opening:
        """The beginning that a seed gives: one frame."""
        shapes = self.world.start(1, Generator().manual_seed(seed))
        return Opening(self.world.render(shapes).numpy(), np.array([-1]), seed=seed)

    def _frame(self) -> Frames:
        frame: Frames = self.world.render(self.snapshot())[0].numpy()
        return frame
