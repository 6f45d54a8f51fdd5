"""A world model is a world that is dreamt: begun with real frames, it answers every action with the next frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from noiseladder.diffusion.denoiser import Denoises
from noiseladder.diffusion.sampling import DDIM, Step, draw_noise, final, sample
from noiseladder.diffusion.scheduling_matrix import full_sequence
from noiseladder.diffusion.state import State
from noiseladder.training.randomness import check_seed

from .clip import Frames
from .past_guided import PastGuided
from .playable import checked_action, numbered

MOST_STEPS = 1000  # denoising calls for a frame; more are a slip of the hand, which takes minutes or all memory


@dataclass(frozen=True)
class Dreaming:
    """How the next frames are dreamt; may be replaced between two steps.

    steps: denoising calls for a frame. stabilization: the noise level at which a dreamt frame is remembered, in [0, 1],
    so that small errors are not taken for facts. history: how strongly the past speaks; 1 as it was learned, above 1
    more (`PastGuided`, two calls for one). bend: the levels of a frame fall as (1 - i / steps) ** bend; 1 is evenly,
    above 1 the first call takes most of the noise away, and the others sharpen what it guessed.
    """

    steps: int = 2
    stabilization: float = 0.05
    history: float = 1.0
    bend: float = 2.322

    def __post_init__(self) -> None:
        if not numbered(self.steps, MOST_STEPS + 1):
            raise ValueError(
                f"steps is {self.steps!r}, expected a whole number, 1 to {MOST_STEPS}: denoising calls for a frame"
            )
        if not 0 <= self.stabilization <= 1:
            raise ValueError(f"stabilization is {self.stabilization}, expected a noise level in [0, 1]; .05 is usual")
        if not 0 <= self.history <= 10:
            raise ValueError(f"history is {self.history}, expected 0 to 10: 1 is the model as it was learned")
        if not 0.1 <= self.bend <= 10:
            raise ValueError(f"bend is {self.bend}, expected .1 to 10: 1 lets the levels fall evenly")

    @property
    def matrix(self) -> Tensor:
        """The scheduling matrix of a frame, (steps + 1, 1): from 1 to 0."""
        return full_sequence(1, self.steps, (1 - torch.arange(self.steps + 1) / self.steps) ** self.bend)


class Codec(Protocol):
    """Frames as tokens and back: an autoencoder, or the pixels themselves."""

    @property
    def size(self) -> int:
        """Side of a frame in pixels."""

    @property
    def token_shape(self) -> tuple[int, ...]:
        """Of one frame's token."""

    def encode(self, frames: Frames) -> Tensor:
        """Frames (T, size, size, 3) uint8 -> tokens (T, ...)."""

    def decode(self, tokens: Tensor) -> Frames:
        """Tokens (T, ...) -> frames (T, size, size, 3) uint8."""


@dataclass(frozen=True)
class Snapshot:
    """All of a dream at one moment: `WorldModel.restore` goes back to it, as often as you like."""

    state: State
    frame: Frames
    levels: tuple[float, ...]
    generator: Tensor


class WorldModel:
    """One dream: `reset` begins it, `step` answers an action with the next frame. For several dreams make several.

    denoiser: of tokens (1, 1, ...) with a condition (1, 1, C), what led to the frame. codec: frames to tokens and back.
    actions: their names. action_rows: (A, C), the condition that each stands for; one-hot without it. dreaming: may be
    replaced at any time. step_formula: how a denoising step is taken (diffusion/sampling.py).
    """

    def __init__(
        self,
        denoiser: Denoises,
        codec: Codec,
        actions: Sequence[str],
        action_rows: Tensor | None = None,
        dreaming: Dreaming | None = None,
        step_formula: Step = DDIM,
    ) -> None:
        self.denoiser, self.codec, self.actions = denoiser, codec, tuple(actions)
        self.action_rows = torch.eye(len(self.actions)) if action_rows is None else action_rows
        if self.action_rows.ndim != 2 or len(self.action_rows) != len(self.actions):
            raise ValueError(
                f"action_rows have shape {tuple(self.action_rows.shape)}, expected a row for each of the"
                f" {len(self.actions)} actions: {', '.join(self.actions)}"
            )
        self.dreaming = dreaming or Dreaming()
        self.step_formula = step_formula
        self.levels: tuple[float, ...] = ()
        """The noise levels that the last frame went through, 1 to 0; empty after a reset."""
        self._generator = Generator()
        self._state: State | None = None
        self._frame: Frames | None = None

    @property
    def size(self) -> int:
        """Side of a frame in pixels."""
        return self.codec.size

    @property
    def calls(self) -> int:
        """Denoising calls that a frame like the last one takes; the one that remembers it comes on top."""
        return max(0, len(self.levels) - 1) * (1 if self.dreaming.history == 1 else 2)

    @property
    def frame(self) -> Frames:
        """The last frame, (size, size, 3) uint8. Raises ValueError before the first reset."""
        if self._frame is None:
            raise ValueError("the dream has not begun: call reset(frames, actions, seed) with at least one real frame")
        return self._frame

    @torch.no_grad()
    def reset(self, frames: Frames, actions: Sequence[int] | NDArray[np.integer], seed: int) -> Frames:
        """Begin with real frames, which are taken for facts; returns the last of them.

        frames: (T, size, size, 3) uint8. actions: what led to each frame after the first, (T - 1,), or to every frame,
        (T,), where -1 says that nobody knows. seed: of all noise that will be drawn.
        Raises ValueError for frames of another size, too many or too few actions, unknown ones, and what is no seed.
        """
        number = check_seed(seed)
        given = np.asarray(frames)
        expected = (self.size, self.size, 3)
        if given.dtype != np.uint8 or given.ndim != 4 or given.shape[1:] != expected or len(given) == 0:
            raise ValueError(
                f"frames are {given.dtype} of shape {given.shape}, expected uint8 of shape (T, {self.size},"
                f" {self.size}, 3) with at least one frame: a real beginning of the size that this model was trained on"
            )
        led = list(actions)
        if len(led) == len(given) - 1:
            led = [-1, *led]
        if len(led) != len(given):
            raise ValueError(
                f"{len(led)} actions for {len(given)} frames, expected {len(given) - 1}, what led from each to the"
                f" next, or {len(given)}"
            )
        condition = torch.stack([self._row(action, or_unknown=True) for action in led])[None]
        tokens = self.codec.encode(given)[None]
        self._state = self.denoiser.observe(tokens, condition, self.denoiser.initial_state(1))
        self._generator.manual_seed(number)
        self._frame, self.levels = given[-1].copy(), ()
        return self._frame

    @torch.no_grad()
    def step(self, action: int) -> Frames:
        """Dream the frame that `action`, a number of `actions`, leads to; (size, size, 3) uint8.

        Raises ValueError before the first reset, for an unknown action, and when the dream has blown up.
        """
        if self._state is None:
            raise ValueError("the dream has not begun: call reset(frames, actions, seed) with at least one real frame")
        condition = self._row(action)[None, None]
        how = self.dreaming
        denoiser = self.denoiser if how.history == 1 else PastGuided(self.denoiser, how.history)
        matrix = how.matrix
        noise = draw_noise(self._generator, (1, 1, *self.codec.token_shape))
        token = final(sample(denoiser, noise, matrix, condition, self._state, self.step_formula))
        if not bool(torch.isfinite(token).all()):
            raise ValueError("the dream has blown up, its frame holds NaN or infinity: reset it, or take a step back")
        blur = draw_noise(self._generator, tuple(token.shape)) if how.stabilization > 0 else None
        self._state = self.denoiser.observe(token, condition, self._state, how.stabilization, blur)
        self._frame = self.codec.decode(token[0])[0]
        self.levels = tuple(matrix[:, 0].tolist())
        return self._frame

    def snapshot(self) -> Snapshot:
        """This moment; cheap, because states are never changed, only replaced."""
        if self._state is None:
            raise ValueError("there is nothing to keep yet: call reset(frames, actions, seed) first")
        return Snapshot(self._state, self.frame, self.levels, self._generator.get_state())

    def restore(self, snapshot: Snapshot) -> Frames:
        """Go back to a moment of this dream, or of another of the same model; returns its frame.

        The same actions then lead to the same frames again.
        """
        self._state, self._frame, self.levels = snapshot.state, snapshot.frame, snapshot.levels
        self._generator.set_state(snapshot.generator)
        return snapshot.frame

    def _row(self, action: int, or_unknown: bool = False) -> Tensor:
        if or_unknown and action == -1:
            return torch.zeros_like(self.action_rows[0])
        return self.action_rows[checked_action(action, self.actions)]
