"""A transformer over time: causal with a rolling cache of keys and values, or bidirectional with the past at hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noiseladder.diffusion.state import State

from .vectors import Reader, check_batch, check_counts


@dataclass(frozen=True)
class CacheState(State):
    """Keys and values of the tokens that can still be seen: the first one and the latest.

    keys, values: for each layer (B, heads, n, head size), keys without their rotation, so that positions can be
    counted anew from the first token that is kept. rotated: the keys turned to these positions, or None.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    rotated: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class PastState(State):
    """The past as it was read: tokens (B, n, D), levels (B, n) or (B, n, D), condition (B, n, C) or None."""

    tokens: Tensor
    levels: Tensor
    condition: Tensor | None


class TransformerNetwork(nn.Module):
    """Pre-norm attention and MLP over time with rotary positions (Su et al., 2021).

    Causal, a token sees itself, the first token and the `cache` - 1 tokens before it, however long the sequence: the
    first token takes the attention that has nowhere else to go (Xiao et al., 2024), and its distance is counted as
    at most `cache`. Bidirectional, every token sees all tokens of the call and the past that the state keeps.

    token_size: D of tokens (B, T, D). width: size of the features, a multiple of twice the heads. layers, heads:
    how many. condition_size: C of conditions (B, T, C), 0 for none. parts: sizes of the parts of a token that may
    have levels of their own, summing to D; empty when a token has one level. causal: whether output t depends on
    tokens <= t only. cache: how many tokens of the past are kept, at least 2. expansion: hidden size of each MLP as
    a multiple of the width.
    """

    def __init__(
        self,
        token_size: int,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        condition_size: int = 0,
        parts: tuple[int, ...] = (),
        causal: bool = True,
        cache: int = 256,
        expansion: int = 4,
    ) -> None:
        super().__init__()
        check_counts(1, layers=layers, heads=heads, expansion=expansion)
        if width % (2 * heads):
            raise ValueError(f"width is {width}, expected a multiple of twice the number of heads, {2 * heads}")
        if cache < 2:
            raise ValueError(f"cache is {cache}, expected at least 2: the first token and the latest")
        self.causal, self.cache, self.heads = causal, cache, heads
        self.reader = Reader(token_size, width, condition_size, parts)
        self.layers = cast(
            Sequence[TransformerLayer],
            nn.ModuleList(TransformerLayer(width, heads, expansion) for _ in range(layers)),
        )
        self.norm = nn.LayerNorm(width)
        self.write = nn.Linear(width, token_size)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def initial_state(self, batch: int) -> State:
        """The state of `batch` sequences before any token: nothing is remembered."""
        weight = self.write.weight
        if self.causal:
            empty = weight.new_zeros(batch, self.heads, 0, self.reader.width // self.heads)
            return CacheState((empty,) * len(self.layers), (empty,) * len(self.layers))
        size, condition_size = self.reader.token_size, self.reader.condition_size
        return PastState(
            weight.new_zeros(batch, 0, size),
            weight.new_zeros(batch, 0, size) if self.reader.embed.parts else weight.new_zeros(batch, 0),
            weight.new_zeros(batch, 0, condition_size) if condition_size else None,
        )

    def prepare(self, state: State) -> State:
        """Turn the cached keys to their positions, once for all calls that start from this state."""
        if not isinstance(state, CacheState) or state.rotated is not None:
            return state
        turns = self._turns(0, state.keys[0].shape[2])
        return CacheState(state.keys, state.values, tuple(rotate(keys, turns) for keys in state.keys))

    def forward(self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State) -> tuple[Tensor, State]:
        """tokens (B, T, D), levels (B, T) or (B, T, D), condition (B, T, C) -> output (B, T, D), state after T."""
        self.reader.check(tokens, levels, condition)
        if not self.causal:
            return self._read_whole(tokens, levels, condition, state)
        assert isinstance(state, CacheState)
        check_batch(len(state.keys[0]), tokens)
        features, skip = self.reader(tokens, levels, condition).pair
        pieces: list[Tensor] = []
        # A piece as long as the cache sees no more than one cache of past: cost grows with T, not with its square.
        for piece in features.split(self.cache, dim=1):
            piece, _, state = self._read(piece, None, state)
            pieces.append(piece)
        features = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)
        return torch.addcmul(self.write(self.norm(features)), skip, tokens), state

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

        Shapes as in `forward`; returns the outputs of both streams, (B, T, D) each. Only for causal networks.
        """
        if not self.causal:
            raise ValueError("a bidirectional network has no state before a token: two streams need causal=True")
        assert isinstance(state, CacheState)
        features, skip = self.reader(tokens, levels, condition).pair
        asked, asked_skip = self.reader(query_tokens, query_levels, condition).pair
        check_batch(len(state.keys[0]), tokens)
        pieces: list[Tensor] = []
        answers: list[Tensor] = []
        for piece, question in zip(features.split(self.cache, dim=1), asked.split(self.cache, dim=1)):
            read, answer, state = self._read(piece, question, state)
            assert answer is not None
            pieces.append(read)
            answers.append(answer)
        features, asked = torch.cat(pieces, dim=1), torch.cat(answers, dim=1)
        return (
            torch.addcmul(self.write(self.norm(features)), skip, tokens),
            torch.addcmul(self.write(self.norm(asked)), asked_skip, query_tokens),
        )

    def _turns(self, first: int, count: int) -> Tensor:
        """Rotations of positions first, first + 1, ...: (count, head size / 2), complex."""
        positions = torch.arange(first, first + count, device=self.write.weight.device)
        return turns_at(positions, self.reader.width // self.heads, self.write.weight.dtype)

    def _read(
        self, features: Tensor, asked: Tensor | None, state: CacheState
    ) -> tuple[Tensor, Tensor | None, CacheState]:
        """Causal attention over a piece of at most `cache` tokens that follows what the state holds."""
        known, count = state.keys[0].shape[2], features.shape[1]
        sight = Sight(known, count, self.cache, self._turns(0, known + count))
        if known:
            state = cast(CacheState, self.prepare(state))
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            cached = (state.rotated[index], state.values[index]) if state.rotated is not None and known else None
            query, key, value = layer.project(features)
            keys.append(self._keep(state.keys[index], key))
            values.append(self._keep(state.values[index], value))
            key = rotate(key, sight.fresh)
            if asked is not None:
                own_query, own_key, own_value = layer.project(asked)
                own = (rotate(own_key, sight.fresh), own_value)
                asked = layer.write(asked, sight.attend(own_query, key, value, cached, own))
            features = layer.write(features, sight.attend(query, key, value, cached))
        return features, asked, CacheState(tuple(keys), tuple(values))

    def _keep(self, cached: Tensor, fresh: Tensor) -> Tensor:
        """Append to the cache and forget all but the first token and the latest."""
        fresh = fresh.to(cached.dtype)
        if cached.shape[2] + fresh.shape[2] <= self.cache:
            return torch.cat([cached, fresh], dim=2)
        first = (cached if cached.shape[2] else fresh)[:, :, :1]
        before = self.cache - 1 - fresh.shape[2]
        if before <= 0:
            return torch.cat([first, fresh[:, :, -(self.cache - 1) :]], dim=2)
        return torch.cat([first, cached[:, :, -before:], fresh], dim=2)

    def _read_whole(
        self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State
    ) -> tuple[Tensor, PastState]:
        """Attention between all tokens, those that the state holds included."""
        assert isinstance(state, PastState)
        check_batch(len(state.tokens), tokens)
        count = tokens.shape[1]
        if self.reader.embed.parts and levels.ndim == 2:
            levels = levels.unsqueeze(-1).expand_as(tokens)
        if state.tokens.shape[1]:
            tokens = torch.cat([state.tokens, tokens], dim=1)
            levels = torch.cat([state.levels.to(levels), levels], dim=1)
            condition = None if condition is None else torch.cat([_given(state.condition), condition], dim=1)
        features, skip = self.reader(tokens, levels, condition).pair
        turns = self._turns(0, tokens.shape[1])
        for layer in self.layers:
            query, key, value = layer.project(features)
            mixed = F.scaled_dot_product_attention(rotate(query, turns), rotate(key, turns), value)
            features = layer.write(features, mixed)
        output = torch.addcmul(self.write(self.norm(features)), skip, tokens)[:, -count:]
        return output, PastState(
            self._forget(tokens), self._forget(levels), None if condition is None else self._forget(condition)
        )

    def _forget(self, past: Tensor) -> Tensor:
        """Keep the first token and the latest."""
        if past.shape[1] <= self.cache:
            return past
        return torch.cat([past[:, :1], past[:, 1 - self.cache :]], dim=1)


class TransformerLayer(nn.Module):
    """Attention, then an MLP, each after a norm and added to what came in."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        # Without biases: they cost a copy forward and a sum backward, 5 % of a training step, and the norms have some.
        self.read = nn.Linear(width, 3 * width, bias=False)  # query, key, value
        self.mix = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, expansion * width, bias=False)
        self.narrow = nn.Linear(expansion * width, width, bias=False)

    def project(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, width) -> query, key and value, each (B, heads, T, head size)."""
        parts = self.read(self.norm(features)).unflatten(-1, (3, self.heads, -1)).transpose(1, 3)
        query, key, value = parts.unbind(2)
        return query, key, value

    def write(self, features: Tensor, mixed: Tensor) -> Tensor:
        """Add what attention brought (B, heads, T, head size) to the features (B, T, width), then the MLP."""
        features = features + self.mix(mixed.transpose(1, 2).flatten(2))
        mlp: Tensor = self.narrow(F.silu(self.widen(self.mlp_norm(features))))
        return features + mlp


@dataclass(frozen=True)
class Sight:
    """What each token of a piece sees: `known` cached tokens, itself and the fresh tokens before it.

    Positions are counted from the first token in the cache. Token p sees the first token and those closer than
    `cache`; the first token is never counted as farther away than `cache`.
    """

    known: int
    count: int
    cache: int
    turns: Tensor  # rotations of positions 0 .. known + count - 1

    @property
    def fresh(self) -> Tensor:
        """Rotations of the fresh tokens."""
        return self.turns[self.known :]

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cached: tuple[Tensor, Tensor] | None,
        own: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Attention of the fresh tokens; all tensors (B, heads, tokens, head size), keys rotated, query not.

        own: keys and values of a second stream, where each query sees its own key instead of that of its place.
        """
        turned = rotate(query, self.fresh)
        if cached is None and own is None:
            return F.scaled_dot_product_attention(turned, key, value, is_causal=True)
        # The cache is read where it lies: joining it with the fresh keys would copy all of it at every call.
        turned, scale = turned / math.sqrt(query.shape[-1]), 1 / math.sqrt(query.shape[-1])
        scores = [self._see_fresh(turned @ key.mT, strictly=own is not None)]
        values = [value]
        if cached is not None:
            scores.append(self._see_cached(turned, query * scale, cached[0]))
            values.append(cached[1])
        if own is not None:
            scores.append((turned * own[0]).sum(-1, keepdim=True))
        weights = torch.split(torch.cat(scores, dim=-1).softmax(-1), [score.shape[-1] for score in scores], dim=-1)
        mixed = sum((w.to(v.dtype) @ v for w, v in zip(weights, values)), torch.zeros((), dtype=value.dtype))
        return mixed if own is None else mixed + weights[-1] * own[1]

    def _see_fresh(self, scores: Tensor, strictly: bool) -> Tensor:
        """Hide later tokens, and the token's own place when `strictly`."""
        if self.count == 1 and not strictly:
            return scores
        hidden = torch.ones(self.count, self.count, dtype=torch.bool, device=scores.device)
        return scores.masked_fill(hidden.triu(0 if strictly else 1), -math.inf)

    def _see_cached(self, turned: Tensor, query: Tensor, keys: Tensor) -> Tensor:
        """Scores of the cached tokens, whose window moves on with every fresh token."""
        scores = turned @ keys.mT
        if self.known + self.count - 1 <= self.cache:
            return scores
        place = torch.arange(self.known, self.known + self.count, device=scores.device)
        capped = self.turns[place.clamp(max=self.cache)]
        first = rotate(query, capped) @ keys[:, :, :1].mT
        distance = place[:, None] - torch.arange(1, self.known, device=scores.device)
        return torch.cat([first, scores[..., 1:].masked_fill(distance >= self.cache, -math.inf)], dim=-1)


def turns_at(positions: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Rotations of `positions` (T,) for heads of `size`: (T, size / 2), complex, slower from pair to pair."""
    pairs = torch.arange(size // 2, device=positions.device, dtype=dtype)
    angles = positions.to(dtype)[:, None] * 10000 ** (-2 * pairs / size)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(vectors: Tensor, turns: Tensor) -> Tensor:
    """Turn pairs of values of (B, heads, T, head size) by (T, head size / 2)."""
    precise = vectors.to(turns.real.dtype)
    pairs = torch.view_as_complex(precise.reshape(*precise.shape[:-1], turns.shape[-1], 2))
    return torch.view_as_real(pairs * turns).flatten(-2).to(vectors.dtype)


def _given(condition: Tensor | None) -> Tensor:
    assert condition is not None
    return condition
