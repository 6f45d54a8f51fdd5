"""A gated recurrence that is parallel in time: what it keeps and what it adds depend on its input alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from noiseladder.diffusion.state import State

from .vectors import Reader, ResidualMLP, Writer, check_batch, check_counts


@dataclass(frozen=True)
class MinGRUState(State):
    """hidden: (B, layers, width)."""

    hidden: Tensor


class MinGRULayer(nn.Module):
    """A minGRU (Feng et al., 2024) between a norm and an output gate, then an MLP; both are residual.

    h_t = (1 - gate_t) h_{t-1} + gate_t candidate_t. Everything but this sum is a matrix product over all tokens.
    """

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)  # gate, candidate, output gate
        self.mix = nn.Linear(width, width)
        self.mlp = ResidualMLP(width, expansion)

    def given(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, width) -> gate in (0, 1), candidate, output gate, each (B, T, width)."""
        gate, candidate, opened = self.project(self.norm(features)).chunk(3, dim=-1)
        return torch.sigmoid(gate), candidate, opened

    def write(self, features: Tensor, hidden: Tensor, opened: Tensor) -> Tensor:
        """Add what the state says (B, T, width) to the features (B, T, width)."""
        written: Tensor = self.mlp(features + self.mix(hidden * nn.functional.silu(opened)))
        return written


class MinGRUNetwork(nn.Module):
    """Layers of minGRU and MLP: whole sequences at once in training, one token at a time at constant cost in use.

    token_size: D of tokens (B, T, D). width: size of features and state. layers: how many. condition_size: C of
    conditions (B, T, C), 0 for none. parts: sizes of the parts of a token that may have levels of their own, summing
    to D; empty when a token has one level. expansion: hidden size of each MLP as a multiple of the width.
    learned_start: whether the state before any token is learned or zero.
    """

    causal = True

    def __init__(
        self,
        token_size: int,
        width: int = 128,
        layers: int = 2,
        condition_size: int = 0,
        parts: tuple[int, ...] = (),
        expansion: int = 2,
        learned_start: bool = True,
    ) -> None:
        super().__init__()
        check_counts(1, layers=layers, expansion=expansion)
        self.reader = Reader(token_size, width, condition_size, parts)
        self.layers = cast(Sequence[MinGRULayer], nn.ModuleList(MinGRULayer(width, expansion) for _ in range(layers)))
        self.writer = Writer(width, token_size)
        self.start = nn.Parameter(torch.zeros(layers, width), requires_grad=learned_start)

    def initial_state(self, batch: int) -> MinGRUState:
        """The state of `batch` sequences before any token."""
        return MinGRUState(self.start.expand(batch, -1, -1))

    def forward(
        self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State
    ) -> tuple[Tensor, MinGRUState]:
        """tokens (B, T, D), levels (B, T) or (B, T, D), condition (B, T, C) -> output (B, T, D), state after T."""
        features, skip = self.reader(tokens, levels, condition).pair
        assert isinstance(state, MinGRUState)
        check_batch(len(state.hidden), tokens)
        after: list[Tensor] = []
        for layer, hidden in zip(self.layers, state.hidden.unbind(1)):
            gate, candidate, opened = layer.given(features)
            past = scan(gate, candidate, hidden)
            features = layer.write(features, past, opened)
            after.append(past[:, -1])
        return torch.addcmul(self.writer(features), skip, tokens), MinGRUState(torch.stack(after, dim=1))

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
        features, skip = self.reader(tokens, levels, condition).pair
        asked, asked_skip = self.reader(query_tokens, query_levels, condition).pair
        assert isinstance(state, MinGRUState)
        check_batch(len(state.hidden), tokens)
        for layer, hidden in zip(self.layers, state.hidden.unbind(1)):
            gate, candidate, opened = layer.given(features)
            past = scan(gate, candidate, hidden)
            features = layer.write(features, past, opened)
            before = torch.cat([hidden.unsqueeze(1), past[:, :-1]], dim=1)
            gate, candidate, opened = layer.given(asked)
            asked = layer.write(asked, torch.lerp(before, candidate.to(before.dtype), gate.to(before.dtype)), opened)
        return (
            torch.addcmul(self.writer(features), skip, tokens),
            torch.addcmul(self.writer(asked), asked_skip, query_tokens),
        )


def scan(gate: Tensor, candidate: Tensor, hidden: Tensor) -> Tensor:
    """h_t = (1 - gate_t) h_{t-1} + gate_t candidate_t.

    gate, candidate (B, T, width), hidden (B, width) before them -> (B, T, width).
    """
    states: list[Tensor] = []
    # Under autocast the products are rounded, the state is not. Unbound once: indexing in a loop over time makes
    # the backward pass grow with the square of the length.
    for now, new in zip(gate.to(hidden.dtype).unbind(1), candidate.to(hidden.dtype).unbind(1)):
        hidden = torch.lerp(hidden, new, now)
        states.append(hidden)
    return torch.stack(states, dim=1)
