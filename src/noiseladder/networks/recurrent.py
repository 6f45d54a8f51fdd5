"""The paper's recurrent network: a latent state is updated by every noisy token and read by a residual MLP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noiseladder.diffusion.state import State

from .vectors import Reader, Writer, check_batch


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

    def step(self, features: Tensor, hidden: Tensor, known: Tensor) -> Tensor:
        """features (B, width) of one token, hidden (B, width) and what is `known` from it -> new hidden."""
        weight, gates = self.from_features.weight, 2 * self.width
        reset, update = torch.addmm(known[:, :gates], features, weight[:gates].T).sigmoid().chunk(2, dim=-1)
        candidate = F.linear(features, weight[gates:], self.from_features.bias[gates:])
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
        features, skip = self.reader(tokens, levels, condition)
        assert isinstance(state, RecurrentState)
        check_batch(len(state.hidden), tokens)
        output, _, state = self._read(features, state)
        return torch.addcmul(self.writer(output + features), skip, tokens), state

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
        features, skip = self.reader(tokens, levels, condition)
        asked, asked_skip = self.reader(query_tokens, query_levels, condition)
        assert isinstance(state, RecurrentState)
        check_batch(len(state.hidden), tokens)
        output, past, _ = self._read(features, state)
        # The state before token t is what the layers held after token t - 1: all queries are one step each.
        before = RecurrentState(torch.cat([state.hidden.unsqueeze(1), past[:, :-1]], dim=1).flatten(0, 1))
        answer = self._step(asked.flatten(0, 1), before)[:, -1].view_as(asked)
        return (
            torch.addcmul(self.writer(output + features), skip, tokens),
            torch.addcmul(self.writer(answer + asked), asked_skip, query_tokens),
        )

    def _read(self, features: Tensor, state: RecurrentState) -> tuple[Tensor, Tensor, RecurrentState]:
        """features (B, T, width) -> top state (B, T, width), state of all layers (B, T, layers, width), state."""
        if features.shape[1] == 1:
            hidden = self._step(features[:, 0], state)
            return hidden[:, -1:], hidden.unsqueeze(1), RecurrentState(hidden)
        if state.prepared is not None:
            first, rest = features[:, :1], features[:, 1:]
            output, past, state = self._read(first, state)
            more, later, state = self._read(rest, state)
            return torch.cat([output, more], dim=1), torch.cat([past, later], dim=1), state
        layers: list[Tensor] = []
        for layer, hidden in zip(self.layers, state.hidden.unbind(1)):
            features = layer(features, hidden)
            layers.append(features)
        after = torch.stack([hidden[:, -1] for hidden in layers], dim=1)
        return features, torch.stack(layers, dim=2), RecurrentState(after)

    def _step(self, features: Tensor, state: RecurrentState) -> Tensor:
        """features (B, width) of one token -> new hidden (B, layers, width)."""
        prepared = self.prepare(state).prepared
        assert prepared is not None
        updated: list[Tensor] = []
        for layer, hidden, gates in zip(self.layers, state.hidden.unbind(1), prepared.unbind(1)):
            features = layer.step(features, hidden, gates)
            updated.append(features)
        return features.unsqueeze(1) if len(updated) == 1 else torch.stack(updated, dim=1)
