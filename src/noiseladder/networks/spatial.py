"""A network in two halves for tokens that have places: memory and head keep the grid of a frame, and its places mix.

The same weights are used at every place, so a frame costs much more than it takes to store the weights: what a cached
state saves is then worth having, and what is learned at one place is known at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .halves import Halves, SplitState
from .levels import LevelEmbedding
from .min_gru import MinGRULayer, scan
from .recurrent import GRULayer
from .split import Modulated
from .vectors import WIDTH_PER_LEVEL, check_batch, check_counts, check_input, check_sizes

PER_HEAD = 64  # features of a place that one head of attention compares


class SpatialNetwork(Halves):
    """Places remember by minGRU, each for itself; before that, and in every block of the head, they look at each other.

    What a minGRU keeps and adds depends on what it reads alone. So it cannot go on from its own last step, as one has
    to who follows what is pushed while nobody sees it: GRU layers after the others can, at the price of a loop in time.

    One level and one condition for all places of a token; with `parts` the level of each part reaches all of them.
    Attention is over the places of one token alone, so nothing flows but forward in time.

    token_size: D of tokens (B, T, D), places * depth values of which value d of place p is number d * places + p, as a
    convolution's output is flattened. places: P, of which each has a place of its own in a learned table. width: of
    each place in memory and head. gru_layers: how many follow the `layers` of minGRU; they begin by adding nothing.
    Other sizes as in SplitNetwork.
    """

    head: SpatialHead

    def __init__(
        self,
        token_size: int,
        places: int = 16,
        width: int = 256,
        layers: int = 2,
        blocks: int = 3,
        condition_size: int = 0,
        parts: tuple[int, ...] = (),
        expansion: int = 1,
        head_expansion: int = 1,
        learned_start: bool = True,
        gru_layers: int = 0,
    ) -> None:
        super().__init__()
        if places < 1 or token_size % places:
            raise ValueError(
                f"token_size is {token_size} and places {places}, expected a token size that the places divide"
            )
        check_counts(1, layers=layers, expansion=expansion, head_expansion=head_expansion)
        check_counts(0, blocks=blocks, gru_layers=gru_layers)
        self.reader = PlaceReader(token_size, places, width, condition_size, parts)
        self.layers = cast(Sequence[SpatialLayer], nn.ModuleList(SpatialLayer(width, expansion) for _ in range(layers)))
        self.head = SpatialHead(token_size, places, width, blocks, condition_size, parts, head_expansion)
        self.followers = cast(Sequence[FollowingLayer], nn.ModuleList(FollowingLayer(width) for _ in range(gru_layers)))
        held = layers + gru_layers + 1
        self.start = nn.Parameter(torch.zeros(held, places, width), requires_grad=learned_start)
        if learned_start:
            nn.init.normal_(self.start, std=0.02)

    @torch.no_grad()
    def begin_as(self, smaller: SpatialNetwork) -> None:
        """Take the weights of a network that differs in having fewer GRU layers; the outputs are then the same.

        Raises ValueError where it differs in something else.
        """
        mine, given = self.state_dict(), dict(smaller.state_dict())
        held = given.pop("start")
        kept = len(held) - 1
        new = {name for name in mine if name.startswith("followers.")} | {"start"}
        fits = all(name in mine and mine[name].shape == value.shape for name, value in given.items())
        if not fits or not mine.keys() - new <= given.keys() or kept > len(self.start) - 1:
            raise ValueError("the smaller network differs in more than its GRU layers: expected the same other sizes")
        for name, value in given.items():
            mine[name].copy_(value)
        self.start[:kept], self.start[-1] = held[:-1], held[-1]

    def check(self, tokens: Tensor, levels: Tensor, condition: Tensor | None) -> None:
        """Raise ValueError unless the input fits this network."""
        self.reader.check(tokens, levels, condition)

    def memorize(
        self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: SplitState
    ) -> tuple[Tensor, SplitState]:
        """What the memory makes of every token (B, T, P, width), and the state after them."""
        features = self.reader(tokens, levels, condition)
        check_batch(len(state.hidden), tokens)
        after: list[Tensor] = []
        for layer, hidden in zip((*self.layers, *self.followers), state.hidden.unbind(1)):
            features, past = layer(features, hidden)
            after.append(past[:, -1])
        features = features.to(state.latest.dtype)  # under autocast the products are rounded, the state is not
        return features, SplitState(torch.stack(after, dim=1), features[:, -1])


class PlaceReader(nn.Module):
    """Noisy tokens as features of their places: what a place holds, which one it is, the condition, and the level."""

    def __init__(self, token_size: int, places: int, width: int, condition_size: int, parts: tuple[int, ...]) -> None:
        super().__init__()
        check_sizes(token_size, width, condition_size)
        self.token_size, self.places, self.width, self.condition_size = token_size, places, width, condition_size
        told = min(width, WIDTH_PER_LEVEL * max(1, len(parts)))
        self.embed = LevelEmbedding(token_size, told, parts)
        self.read = nn.Linear(token_size // places, width)
        self.asked = nn.Linear(condition_size, width, bias=False) if condition_size else None
        self.told = nn.Linear(told, 2 * width)
        self.where = nn.Parameter(0.02 * torch.randn(places, width))
        with torch.no_grad():
            self.told.bias[:width] += 1.0  # the scale starts near 1

    def forward(self, tokens: Tensor, levels: Tensor, condition: Tensor | None) -> Tensor:
        """tokens (B, T, D), levels (B, T) or (B, T, D), condition (B, T, C) -> features (B, T, P, width)."""
        self.check(tokens, levels, condition)
        scale, shift = self.told(self.embed(levels)).unsqueeze(-2).chunk(2, dim=-1)
        if self.asked is not None:
            shift = shift + self.asked(condition).unsqueeze(-2)
        return torch.addcmul(shift + self.where, self.read(by_place(tokens, self.places)), scale)

    def check(self, tokens: Tensor, levels: Tensor, condition: Tensor | None) -> None:
        """Raise ValueError unless the input fits this network."""
        check_input(tokens, levels, condition, self.token_size, self.condition_size, self.embed, self.read.weight.dtype)


class SpatialLayer(nn.Module):
    """Attention between the places of a token, then a minGRU of every place and its MLP; all are residual."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.look_around = PlaceAttention(width)
        self.over_time = MinGRULayer(width, expansion)

    def forward(self, features: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, T, P, width), hidden (B, P, width) -> features, hidden after every token (B, T, P, width)."""
        features = features + self.look_around(self.norm(features))
        gate, candidate, opened = self.over_time.given(features)
        past = scan(gate, candidate, hidden)
        return self.over_time.write(features, past, opened), past


class FollowingLayer(nn.Module):
    """A GRU of every place over what it holds, added to it; its output layer starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.over_time = GRULayer(width)
        self.tell = nn.Linear(width, width)
        nn.init.zeros_(self.tell.weight)
        nn.init.zeros_(self.tell.bias)

    def forward(self, features: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, T, P, width), hidden (B, P, width) -> features, hidden after every token (B, T, P, width)."""
        batch, length, places, width = features.shape
        by_time = self.norm(features).to(hidden.dtype).transpose(1, 2).reshape(batch * places, length, width)
        held = hidden.reshape(batch * places, width)
        if length == 1:  # two products: for one token they take less time than a loop has to begin
            known = self.over_time.known(held)
            past = self.over_time.step(by_time[:, 0], self.over_time.from_features.weight, held, known).unsqueeze(1)
        else:
            past = self.over_time(by_time, held)
        past = past.view(batch, places, length, width).transpose(1, 2)
        return features + self.tell(past), past


class PlaceAttention(nn.Module):
    """Every place of a token looks at all places of the same token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // PER_HEAD)
        if width % self.heads:
            raise ValueError(f"width is {width}, expected a multiple of its {self.heads} heads of attention")
        self.ask = nn.Linear(width, 3 * width)  # queries, keys, values
        self.tell = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, P, width) -> (B, T, P, width)."""
        batch, length, places, width = features.shape
        asked = self.ask(features).view(batch * length, places, 3, self.heads, width // self.heads)
        query, key, value = asked.permute(2, 0, 3, 1, 4).unbind(0)
        # Three products: for a few places torch's fused attention takes seven times as long on its way back.
        weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(-1).to(value.dtype)
        seen = weights @ value
        told: Tensor = self.tell(seen.transpose(1, 2).reshape(batch, length, places, width))
        return told


class SpatialHead(nn.Module):
    """Denoises a token given what its places remember: blocks of attention and MLP that level and condition modulate.

    As in the head of SplitNetwork, x + gate * f(norm(x) * (1 + scale) + shift), adaLN of Peebles and Xie (2023); scales
    and shifts are the same for all places. The output layer starts at zero.
    """

    def __init__(
        self,
        token_size: int,
        places: int,
        width: int,
        blocks: int,
        condition_size: int,
        parts: tuple[int, ...],
        expansion: int,
    ) -> None:
        super().__init__()
        self.width, self.places, self.depth = width, places, token_size // places
        told = min(width, WIDTH_PER_LEVEL * max(1, len(parts)))
        self.embed = LevelEmbedding(token_size, told, parts)
        self.norm_past = nn.RMSNorm(width)
        self.past = nn.Linear(width, width)
        self.read = nn.Linear(self.depth, width)
        self.where = nn.Parameter(0.02 * torch.randn(places, width))
        # For every half of a block scale, shift and gate; for what is read a scale and a shift, for what is written a
        # skip.
        sizes = (6 * blocks + 2) * width + self.depth
        self.told = nn.Linear(told, sizes)
        self.asked = nn.Linear(condition_size, sizes, bias=False) if condition_size else None
        self.blocks = cast(
            Sequence[SpatialBlock], nn.ModuleList(SpatialBlock(width, expansion * width) for _ in range(blocks))
        )
        self.norm = nn.LayerNorm(width)
        self.write = nn.Linear(width, self.depth)
        with torch.no_grad():
            nn.init.zeros_(self.write.weight)
            nn.init.zeros_(self.write.bias)
            self.told.weight[-self.depth :] = 0.0
            self.told.bias.zero_()
            halves = self.told.bias[: 6 * blocks * width].view(2 * blocks, 3, width)
            halves[:, 2] = 1.0  # gates start open
            self.told.bias[6 * blocks * width : (6 * blocks + 1) * width] = 1.0

    def remember(self, latest: Tensor) -> Tensor:
        """The state's part: (..., P, width) -> (..., P, width)."""
        part: Tensor = self.past(self.norm_past(latest))
        return part + self.where

    def forward(self, past: Tensor, tokens: Tensor, levels: Tensor, condition: Tensor | None) -> Tensor:
        """past (B, T, P, width) from `remember`, tokens (B, T, D), levels, condition (B, T, C) -> output (B, T, D)."""
        told = self.told(self.embed(levels))
        if self.asked is not None:
            told = told + self.asked(condition)
        width, count = self.width, 6 * len(self.blocks)
        *modulation, scale, shift, skip = told.unsqueeze(-2).split([width] * (count + 2) + [self.depth], dim=-1)
        held = by_place(tokens, self.places)
        features = past + torch.addcmul(shift, self.read(held), scale)
        for number, block in enumerate(self.blocks):
            features = block(features, modulation[6 * number : 6 * number + 6])
        output: Tensor = self.write(self.norm(features))
        return torch.addcmul(output, skip, held).transpose(-1, -2).flatten(-2)


class SpatialBlock(nn.Module):
    """Attention between places, then an MLP of each; norms are per place, never over time."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.look_around = PlaceAttention(width)
        self.think = Modulated(width, hidden)

    def forward(self, features: Tensor, told: Sequence[Tensor]) -> Tensor:
        """features (B, T, P, width); told: scale, shift and gate of either half, each (B, T, 1, width)."""
        scale, shift, gate, *rest = told
        around = self.look_around(torch.addcmul(shift, self.norm(features), 1 + scale))
        thought: Tensor = self.think(torch.addcmul(features, gate, around), *rest)
        return thought


def by_place(tokens: Tensor, places: int) -> Tensor:
    """Tokens (B, T, D) as (B, T, P, depth): value d of place p is number d * P + p."""
    return tokens.reshape(*tokens.shape[:-1], -1, places).transpose(-1, -2)
