"""The paper's recurrent network: a latent state is updated by every noisy token and read by a residual MLP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noiseladder.diffusion.state import State

from .vectors import Reader, Reading, Writer, check_batch, check_counts


@dataclass(frozen=True)
class RecurrentState(State):
    """hidden: (B, layers, width). prepared: (B, layers, 3 width), the hidden part of the next gates, or None."""

    hidden: Tensor
    prepared: Tensor | None = None


class GRULayer(nn.Module):
    """A gated recurrent unit (Cho et al., 2014, reset gate after the product) that can be stepped in two parts.

    What comes from the features is one product over all tokens; what comes from the hidden state can be computed
    before the token is known.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.from_features = nn.Linear(width, 3 * width)  # reset, update, candidate
        self.from_hidden = nn.Linear(width, 3 * width)

    def forward(self, features: Tensor, hidden: Tensor) -> Tensor:
        """features (B, T, width), hidden (B, width) before them -> hidden after every token (B, T, width)."""
        weights = [
            self.from_features.weight,
            self.from_hidden.weight,
            self.from_features.bias,
            self.from_hidden.bias,
        ]
        hidden = hidden.unsqueeze(0).contiguous()
        return torch.gru(features, hidden, weights, True, 1, 0.0, self.training, False, True)[0]

    def known(self, hidden: Tensor) -> Tensor:
        """hidden (B, width) -> what the state and the biases bring to the gates, (B, 3 width)."""
        bias = self.from_hidden.bias + F.pad(self.from_features.bias[: 2 * self.width], (0, self.width))
        return F.linear(hidden, self.from_hidden.weight, bias)

    def step(self, rows: Tensor, weight: Tensor, hidden: Tensor, known: Tensor) -> Tensor:
        """One token: hidden (B, width) and what is `known` from it -> new hidden (B, width).

        rows (B, n), weight (3 width, n): their product is what the features bring, bias apart.
        """
        gates = 2 * self.width
        reset, update = torch.addmm(known[:, :gates], rows, weight[:gates].T).sigmoid().chunk(2, dim=-1)
        candidate = F.linear(rows, weight[gates:], self.from_features.bias[gates:])
        # Under autocast the products are rounded, the state is not.
        candidate = torch.addcmul(candidate.to(hidden), reset.to(hidden), known[:, gates:].to(hidden)).tanh()
        return torch.lerp(candidate, hidden, update.to(hidden))


class RecurrentNetwork(nn.Module):
    """z_t = GRU(z_{t-1}, f_t), output_t = MLP(z_t, f_t), where f_t are features of token, level and condition.

    The recurrent network of Diffusion Forcing (Chen et al., 2024, appendix D) for vectors: cost and memory per token
    are constant for ever.

    token_size: D of tokens (B, T, D). width: size of features and state. layers: GRUs stacked. condition_size: C of
    conditions (B, T, C), 0 for none. parts: sizes of the parts of a token that may have levels of their own, summing
    to D; empty when a token has one level. blocks: residual blocks of the MLP that reads the state.
    learned_start: whether the state before any token is learned or zero.
    """

    causal = True

    def __init__(
        self,
        token_size: int,
        width: int = 128,
        layers: int = 1,
        condition_size: int = 0,
        parts: tuple[int, ...] = (),
        blocks: int = 1,
        learned_start: bool = True,
    ) -> None:
        super().__init__()
        check_counts(1, layers=layers)
        check_counts(0, blocks=blocks)
        self.reader = Reader(token_size, width, condition_size, parts)
        self.layers = cast(Sequence[GRULayer], nn.ModuleList(GRULayer(width) for _ in range(layers)))
        self.writer = Writer(width, token_size, blocks)
        self.start = nn.Parameter(torch.zeros(layers, width), requires_grad=learned_start)

    def initial_state(self, batch: int) -> RecurrentState:
        """The state of `batch` sequences before any token."""
        return RecurrentState(self.start.expand(batch, -1, -1))

    def prepare(self, state: State) -> RecurrentState:
        """Compute the hidden part of the next token's gates, which all sampling steps of that token share."""
        assert isinstance(state, RecurrentState)
        if state.prepared is not None:
            return state
        hidden = state.hidden.unbind(1)
        prepared = torch.stack([layer.known(h) for layer, h in zip(self.layers, hidden)], dim=1)
        return RecurrentState(state.hidden, prepared)

    def forward(
        self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State
    ) -> tuple[Tensor, RecurrentState]:
        """tokens (B, T, D), levels (B, T) or (B, T, D), condition (B, T, C) -> output (B, T, D), state after T."""
        reading = self.reader(tokens, levels, condition)
        assert isinstance(state, RecurrentState)
        check_batch(len(state.hidden), tokens)
        layers, state = self._read(reading, state)
        return torch.addcmul(self.writer(layers[-1] + reading.features), reading.skip, tokens), state

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
        reading = self.reader(tokens, levels, condition)
        asked = self.reader(query_tokens, query_levels, condition)
        assert isinstance(state, RecurrentState)
        check_batch(len(state.hidden), tokens)
        layers, _ = self._read(reading, state)
        # The state before token t is what the layers held after token t - 1: all queries are one step each.
        past = torch.stack(layers, dim=2)[:, :-1]
        before = RecurrentState(torch.cat([state.hidden.unsqueeze(1), past], dim=1).flatten(0, 1))
        rows = Reading(asked.features.reshape(-1, 1, self.reader.width), asked.skip)
        answer = self._step(rows, before)[-1].view_as(asked.features)
        return (
            torch.addcmul(self.writer(layers[-1] + reading.features), reading.skip, tokens),
            torch.addcmul(self.writer(answer + asked.features), asked.skip, query_tokens),
        )

    def _read(self, reading: Reading, state: RecurrentState) -> tuple[list[Tensor], RecurrentState]:
        """The hidden state of each layer after every token, each (B, T, width), and the state after the last."""
        features = reading.features
        if features.shape[1] == 1:
            hidden = self._step(reading, state)
            after = hidden[0].unsqueeze(1) if len(hidden) == 1 else torch.stack(hidden, dim=1)
            return [layer.unsqueeze(1) for layer in hidden], RecurrentState(after)
        if state.prepared is not None:
            first, state = self._read(Reading(features[:, :1], reading.skip), state)
            rest, state = self._read(Reading(features[:, 1:], reading.skip), state)
            return [torch.cat(pair, dim=1) for pair in zip(first, rest)], state
        layers: list[Tensor] = []
        for layer, start in zip(self.layers, state.hidden.unbind(1)):
            features = layer(features, start)
            layers.append(features)
        return layers, RecurrentState(torch.stack([hidden[:, -1] for hidden in layers], dim=1))

    def _step(self, reading: Reading, state: RecurrentState) -> list[Tensor]:
        """Read one token: the new hidden state of each layer, (B, width) each."""
        prepared = self.prepare(state).prepared
        assert prepared is not None
        updated: list[Tensor] = []
        for layer, hidden, known in zip(self.layers, state.hidden.unbind(1), prepared.unbind(1)):
            weight = layer.from_features.weight
            rows, weight = (updated[-1], weight) if updated else reading.first(weight)
            updated.append(layer.step(rows, weight, hidden, known))
        return updated
