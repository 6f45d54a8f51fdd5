"""A network in two halves for tokens that are read whole: minGRU layers remember, residual MLPs denoise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .halves import FirstToken, Halves, SplitState
from .levels import LevelEmbedding
from .min_gru import MinGRULayer, scan
from .vectors import WIDTH_PER_LEVEL, Reader, check_batch, check_counts


class SplitNetwork(Halves):
    """A memory of minGRU layers over clean or noisy tokens; a head that denoises a token given the memory before it.

    The condition reaches the head by scales and shifts of its own, because what led to a token
    (an action) decides how the past is turned into it.

    token_size: D of tokens (B, T, D). width: of the memory and the head. layers: of the memory. blocks: of the head.
    condition_size: C of conditions (B, T, C), 0 for none. parts: see LevelEmbedding. expansion: hidden size of each MLP
    of the memory as a multiple of the width; head_expansion: the same of the head. learned_start: whether the state
    before any token is learned or zero. keep_first: whether what was read of the first token stays in the state for
    ever and a projection of it, zero to begin with, reaches the head beside what the recurrence holds.
    """

    head: Head

    def __init__(
        self,
        token_size: int,
        width: int = 512,
        layers: int = 2,
        blocks: int = 3,
        condition_size: int = 0,
        parts: tuple[int, ...] = (),
        expansion: int = 1,
        head_expansion: int = 1,
        learned_start: bool = True,
        keep_first: bool = False,
    ) -> None:
        super().__init__()
        check_counts(1, layers=layers, expansion=expansion, head_expansion=head_expansion)
        check_counts(0, blocks=blocks)
        self.reader = Reader(token_size, width, condition_size, parts)
        self.layers = cast(Sequence[MinGRULayer], nn.ModuleList(MinGRULayer(width, expansion) for _ in range(layers)))
        self.head = Head(token_size, width, blocks, condition_size, parts, head_expansion)
        self.start = nn.Parameter(torch.zeros(layers + 1, width), requires_grad=learned_start)
        if learned_start:
            nn.init.normal_(self.start, std=0.02)  # the head sees a norm of it, and zeros have none
        # Last, so that all other weights are those of a network without it.
        self.keep = nn.Linear(width, width, bias=False) if keep_first else None
        if self.keep is not None:
            nn.init.zeros_(self.keep.weight)

    def initial_state(self, batch: int) -> SplitState:
        """The state of `batch` sequences before any token."""
        state = super().initial_state(batch)
        if self.keep is None:
            return state
        return replace(state, first=FirstToken(torch.zeros_like(state.latest), torch.zeros_like(state.latest[:, :1])))

    def check(self, tokens: Tensor, levels: Tensor, condition: Tensor | None) -> None:
        """Raise ValueError unless the input fits this network."""
        self.reader.check(tokens, levels, condition)

    def memorize(
        self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: SplitState
    ) -> tuple[Tensor, SplitState]:
        """What the memory makes of every token (B, T, width), and the state after them."""
        features = given = self.reader(tokens, levels, condition).features
        check_batch(len(state.hidden), tokens)
        after: list[Tensor] = []
        for layer, hidden in zip(self.layers, state.hidden.unbind(1)):
            gate, candidate, opened = layer.given(features)
            past = scan(gate, candidate, hidden)
            features = layer.write(features, past, opened)
            after.append(past[:, -1])
        first = state.first
        if self.keep is not None and first is not None:
            kept = torch.where(first.begun > 0, first.features, given[:, 0].to(first.features.dtype))
            first = FirstToken(kept, torch.ones_like(first.begun))
            features = features + self.keep(kept).unsqueeze(1)
        features = features.to(state.latest.dtype)  # under autocast the products are rounded, the state is not
        return features, SplitState(torch.stack(after, dim=1), features[:, -1], first=first)


class Head(nn.Module):
    """Denoises a token given what is remembered: residual MLPs that level and condition scale and shift.

    Each block is x + gate * MLP(norm(x) * (1 + scale) + shift), adaLN of Peebles and Xie (2023), in which the condition
    counts like the level. The output layer starts at zero. Sizes as in SplitNetwork.
    """

    def __init__(
        self, token_size: int, width: int, blocks: int, condition_size: int, parts: tuple[int, ...], expansion: int
    ) -> None:
        super().__init__()
        self.width, self.token_size = width, token_size
        told = min(width, WIDTH_PER_LEVEL * max(1, len(parts)))
        self.embed = LevelEmbedding(token_size, told, parts)
        self.norm_past = nn.RMSNorm(width)
        self.past = nn.Linear(width, width)
        self.read = nn.Linear(token_size, width)
        # For every block scale, shift and gate; for what is read a scale and a shift, for what is written a skip.
        sizes = 3 * blocks * width + 2 * width + token_size
        self.told = nn.Linear(told, sizes)
        self.asked = nn.Linear(condition_size, sizes, bias=False) if condition_size else None
        self.blocks = cast(
            Sequence[Modulated], nn.ModuleList(Modulated(width, expansion * width) for _ in range(blocks))
        )
        self.norm = nn.LayerNorm(width)
        self.write = nn.Linear(width, token_size)
        with torch.no_grad():
            nn.init.zeros_(self.write.weight)
            nn.init.zeros_(self.write.bias)
            self.told.weight[-token_size:] = 0.0
            self.told.bias[-token_size:] = 0.0
            self.told.bias[: 3 * blocks * width] = 0.0
            for block in range(blocks):
                self.told.bias[(3 * block + 2) * width : (3 * block + 3) * width] = 1.0  # gates start open
            self.told.bias[3 * blocks * width : (3 * blocks + 1) * width] = 1.0

    def remember(self, latest: Tensor) -> Tensor:
        """The state's part: (..., width) -> (..., width)."""
        part: Tensor = self.past(self.norm_past(latest))
        return part

    def forward(self, past: Tensor, tokens: Tensor, levels: Tensor, condition: Tensor | None) -> Tensor:
        """past (B, T, width) from `remember`, tokens (B, T, D), levels, condition (B, T, C) -> output (B, T, D)."""
        told = self.told(self.embed(levels))
        if self.asked is not None:
            told = told + self.asked(condition)
        *modulation, scale, shift, skip = told.split(
            [self.width] * (3 * len(self.blocks) + 2) + [self.token_size], dim=-1
        )
        features = past + torch.addcmul(shift, self.read(tokens), scale)
        for number, block in enumerate(self.blocks):
            features = block(features, *modulation[3 * number : 3 * number + 3])
        output: Tensor = self.write(self.norm(features))
        return torch.addcmul(output, skip, tokens)


class Modulated(nn.Module):
    """x + gate * MLP(norm(x) * (1 + scale) + shift) with one hidden layer; the norm is per token, never over time."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)

    def forward(self, features: Tensor, scale: Tensor, shift: Tensor, gate: Tensor) -> Tensor:
        """All (B, T, width), or broadcast over it."""
        normal = torch.addcmul(shift, self.norm(features), 1 + scale)
        mixed: Tensor = self.narrow(F.silu(self.widen(normal)))
        return torch.addcmul(features, gate, mixed)
