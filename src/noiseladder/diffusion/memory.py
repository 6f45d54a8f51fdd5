"""How much of the past counts is chosen when sampling: a denoiser that remembers only the last tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from .denoiser import Denoised, Denoises
from .noise import NoiseSchedule
from .state import State, of_kind


@dataclass(frozen=True)
class Past(State):
    """Observed tokens (B, n, ...), their levels (B, n) or (B, n, D), noise like tokens, condition (B, n, C) or None."""

    tokens: Tensor
    levels: Tensor
    noise: Tensor
    condition: Tensor | None

    @classmethod
    def of(cls, tokens: Tensor, condition: Tensor | None, level: float | Tensor, noise: Tensor | None) -> Past:
        """What `observe` is given, with nothing left open."""
        if not isinstance(level, Tensor):
            level = torch.full(tokens.shape[:2], level, dtype=tokens.dtype, device=tokens.device)
        return cls(tokens, level, torch.zeros_like(tokens) if noise is None else noise, condition)

    def __len__(self) -> int:
        """Number of tokens n."""
        return self.tokens.shape[1]

    def then(self, later: Past) -> Past:
        """This past and a later one. Raises ValueError where only one of them has a condition."""
        if (self.condition is None) != (later.condition is None):
            raise ValueError("the history has a condition at some steps and none at others: give one at every step")
        return Past(
            torch.cat([self.tokens, later.tokens], dim=1),
            torch.cat([self.levels, later.levels], dim=1),
            torch.cat([self.noise, later.noise], dim=1),
            None
            if self.condition is None or later.condition is None
            else torch.cat([self.condition, later.condition], dim=1),
        )

    def last(self, count: int) -> Past:
        """The last `count` tokens, or all where there are fewer."""
        return self.map(lambda tensor: tensor[:, max(0, tensor.shape[1] - count) :])


@dataclass(frozen=True)
class RecentState(State):
    """What the inner denoiser makes of the last tokens, and these tokens."""

    inner: State
    past: Past | None = None


@dataclass(frozen=True)
class ShortMemory:
    """A denoiser that knows the last `context` tokens only: its state is built anew from them.

    With all of the past the joint law of the data is sampled; with little of it, pieces that were never seen together
    are stitched (Chen et al., 2024, compositionality). 0 forgets everything. It fits a network that was also trained on
    sequences that begin anywhere. Costs one reading of `context` tokens for every `observe` that forgets some.
    """

    denoiser: Denoises
    context: int

    def __post_init__(self) -> None:
        if self.context < 0:
            raise ValueError(f"context is {self.context}, expected a number of tokens to remember, 0 or more")

    @property
    def schedule(self) -> NoiseSchedule:
        """What the levels mean."""
        return self.denoiser.schedule

    @property
    def causal(self) -> bool:
        """As the inner denoiser."""
        return bool(getattr(self.denoiser, "causal", False))

    def initial_state(self, batch: int) -> RecentState:
        """Nothing has been seen."""
        return RecentState(self.denoiser.initial_state(batch))

    def prepare(self, state: State) -> RecentState:
        """Do once what all calls that start from `state` have in common."""
        recent = of_kind(RecentState, state)
        prepare = getattr(self.denoiser, "prepare", lambda inner: inner)
        return RecentState(cast(State, prepare(recent.inner)), recent.past)

    def observe(
        self,
        tokens: Tensor,
        condition: Tensor | None = None,
        state: State | None = None,
        level: float | Tensor = 0.0,
        noise: Tensor | None = None,
    ) -> RecentState:
        """The state after the last `context` tokens, as they were observed."""
        recent = self.initial_state(len(tokens)) if state is None else of_kind(RecentState, state)
        past = Past.of(tokens, condition, level, noise)
        past = past if recent.past is None else recent.past.then(past)
        if len(past) <= self.context:
            return RecentState(self.denoiser.observe(tokens, condition, recent.inner, level, noise), past)
        past = past.last(self.context)
        if len(past) == 0:
            return self.initial_state(len(tokens))
        return RecentState(self.denoiser.observe(past.tokens, past.condition, None, past.levels, past.noise), past)

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """Denoise tokens (B, T, ...) that follow the last `context` tokens; all tokens of the call see each other."""
        recent = self.initial_state(len(noisy)) if state is None else of_kind(RecentState, state)
        return self.denoiser(noisy, levels, condition, recent.inner)
