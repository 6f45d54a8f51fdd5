"""A network in two halves: a memory that reads every token once, and a light head that is asked at every sampling step.

What a sampler repeats is the head alone; what it does once a token, however many steps, is the memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noiseladder.diffusion.state import State

from .vectors import check_batch


@dataclass(frozen=True)
class FirstToken(State):
    """features: (B, width), what was read of the first token. begun: (B, 1), 1 after it and 0 before any token."""

    features: Tensor
    begun: Tensor


@dataclass(frozen=True)
class SplitState(State):
    """hidden: (B, layers, ..., width) of the recurrence. latest: (B, ..., width), what is made of the last token.

    prepared: like latest, the state's part of the head, or None. first: the first token, or None where it is not kept.
    Dots are the places of a token, where it has any.
    """

    hidden: Tensor
    latest: Tensor
    prepared: Tensor | None = None
    first: FirstToken | None = None


class DenoisesRemembering(Protocol):
    """The light half."""

    def remember(self, latest: Tensor) -> Tensor:
        """The state's part, which no sampling step changes: (..., width) -> (..., width)."""
        ...

    def __call__(self, past: Tensor, tokens: Tensor, levels: Tensor, condition: Tensor | None) -> Tensor:
        """past (B, T, ..., width), made by `remember`, tokens (B, T, D), levels, condition -> output (B, T, D)."""
        ...


class Halves(nn.Module, ABC):
    """How a memory and a head make a sequence network; what they are made of is the subclass's.

    The output at t sees token t only through the head, which is what two streams train: `query` costs the head once
    more, not the memory.
    """

    causal = True
    head: DenoisesRemembering
    start: Tensor
    """What is held before any token: of every layer of the memory, then of what it made of the last token."""

    @abstractmethod
    def check(self, tokens: Tensor, levels: Tensor, condition: Tensor | None) -> None:
        """Raise ValueError unless the input fits this network."""

    @abstractmethod
    def memorize(
        self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: SplitState
    ) -> tuple[Tensor, SplitState]:
        """What the memory makes of every token (B, T, ..., width), and the state after them; the input is checked."""

    def initial_state(self, batch: int) -> SplitState:
        """The state of `batch` sequences before any token."""
        start = self.start.expand(batch, *self.start.shape)
        return SplitState(start[:, :-1], start[:, -1])

    def prepare(self, state: State) -> SplitState:
        """Do the state's part of the head, once for all calls that start from this state."""
        held = as_split(state)
        return held if held.prepared is not None else replace(held, prepared=self.head.remember(held.latest))

    def forward(
        self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State
    ) -> tuple[Tensor, SplitState]:
        """tokens (B, T, D), levels (B, T) or (B, T, D), condition (B, T, C) -> output (B, T, D), state after T."""
        features, after = self.memorize(tokens, levels, condition, as_split(state))
        past = self.before(features, as_split(state))
        return self.head(past, tokens, levels, condition), after

    def look(self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State) -> Tensor:
        """The output of `forward` alone: the last token is not memorized."""
        self.check(tokens, levels, condition)
        return self.head(self.past(tokens, levels, condition, as_split(state)), tokens, levels, condition)

    def read(self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State) -> SplitState:
        """The state of `forward` alone: nothing is denoised."""
        return self.memorize(tokens, levels, condition, as_split(state))[1]

    def query(
        self,
        tokens: Tensor,
        levels: Tensor,
        condition: Tensor | None,
        state: State,
        query_tokens: Tensor,
        query_levels: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Read the main tokens and, from the state before each of them, a noisy version of it: two streams.

        Shapes as in `forward`; returns the outputs of both streams, (B, T, D) each.
        """
        self.check(tokens, levels, condition)
        self.check(query_tokens, query_levels, condition)
        past = self.past(tokens, levels, condition, as_split(state))
        return self.head(past, tokens, levels, condition), self.head(past, query_tokens, query_levels, condition)

    def answer(
        self,
        tokens: Tensor,
        levels: Tensor,
        condition: Tensor | None,
        state: State,
        query_tokens: Tensor,
        query_levels: Tensor,
    ) -> Tensor:
        """The second output of `query` alone: where the main tokens have no loss, one head less."""
        self.check(tokens, levels, condition)
        self.check(query_tokens, query_levels, condition)
        past = self.past(tokens, levels, condition, as_split(state))
        return self.head(past, query_tokens, query_levels, condition)

    def past(self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: SplitState) -> Tensor:
        """The state's part of the head for every token; the last token, which no head asks for, is not read."""
        check_batch(len(state.latest), tokens)
        features = None
        if tokens.shape[1] > 1:
            known = None if condition is None else condition[:, :-1]
            features, _ = self.memorize(tokens[:, :-1], levels[:, :-1], known, state)
            features = F.pad(features, (0, 0) * (features.ndim - 2) + (0, 1))
        return self.before(features, state)

    def before(self, features: Tensor | None, state: SplitState) -> Tensor:
        """The state's part of the head for every token: what the memory held before it, (B, T, ..., width)."""
        first = (self.head.remember(state.latest) if state.prepared is None else state.prepared).unsqueeze(1)
        if features is None or features.shape[1] == 1:
            return first
        return torch.cat([first, self.head.remember(features[:, :-1])], dim=1)


def as_split(state: State) -> SplitState:
    """The state, which only this kind of network makes."""
    assert isinstance(state, SplitState)
    return state
