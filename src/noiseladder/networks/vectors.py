"""The door that all networks for vectors share: what goes in is checked, and noisy tokens become features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .levels import LevelEmbedding

# A level is one number: more features of it than this only cost time, at batch 1 a good part of a call.
WIDTH_PER_LEVEL = 64


@dataclass(frozen=True)
class Reading:
    """What a Reader makes of tokens: features (B, T, width) and a skip that broadcasts over the tokens.

    source: rows (B, n) and a weight (width, n) whose product the features are, if n is small against the batch.
    """

    features: Tensor
    skip: Tensor
    source: tuple[Tensor, Tensor] | None = None

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Features and skip."""
        return self.features, self.skip

    def first(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and a weight with the product of the first token's features and `weight` (out, width), cheaply.

        Many sequences at one level are features of one and the same linear map of the token. It is applied to the
        weight once instead of to every sequence: sampling 2000 sequences costs a quarter less.
        """
        if self.source is None:
            return self.features[:, 0], weight
        rows, read = self.source
        return rows, weight @ read


class Reader(nn.Module):
    """Noisy tokens, their levels and their conditions as features of one width.

    features = token and condition, scaled and shifted by the level: how far a token is trusted depends on its level.
    `skip` is the share of the noisy token that goes straight to the output; it depends on the level alone.

    token_size: D. width: size of the features. condition_size: C, 0 without conditions. parts: see LevelEmbedding.
    """

    def __init__(self, token_size: int, width: int, condition_size: int = 0, parts: tuple[int, ...] = ()) -> None:
        super().__init__()
        check_sizes(token_size, width, condition_size)
        self.token_size, self.width, self.condition_size = token_size, width, condition_size
        told = min(width, WIDTH_PER_LEVEL * max(1, len(parts)))
        self.embed = LevelEmbedding(token_size, told, parts)
        self.read = nn.Linear(token_size + condition_size, width)
        self.told = nn.Linear(told, 2 * width + token_size)
        with torch.no_grad():
            self.told.weight[width * 2 :] = 0.0
            self.told.bias[:width] += 1.0  # the scale starts near 1
            self.told.bias[width * 2 :] = 0.0

    def forward(self, tokens: Tensor, levels: Tensor, condition: Tensor | None) -> Reading:
        """tokens (B, T, D), levels (B, T) or (B, T, D), condition (B, T, C) -> features and skip."""
        self.check(tokens, levels, condition)
        told = self.told(self.embed(levels))
        scale, shift, skip = told.split((self.width, self.width, self.token_size), dim=-1)
        inputs = tokens if condition is None else torch.cat([tokens, condition], dim=-1)
        if told.shape[:2] == (1, 1) and len(tokens) > 2 * inputs.shape[2]:
            weight = self.read.weight * scale[0].T
            constant = torch.addcmul(shift, self.read.bias, scale)[0].T
            rows, weight = F.pad(inputs[:, 0], (0, 1), value=1.0), torch.cat([weight, constant], dim=1)
            return Reading(F.linear(rows, weight).unsqueeze(1), skip, (rows, weight))
        return Reading(torch.addcmul(shift, self.read(inputs), scale), skip)

    def check(self, tokens: Tensor, levels: Tensor, condition: Tensor | None) -> None:
        """Raise ValueError unless the input fits this network."""
        check_input(tokens, levels, condition, self.token_size, self.condition_size, self.embed, self.read.weight.dtype)


class Writer(nn.Module):
    """Features to outputs: residual MLP blocks, then a linear layer that starts at zero.

    width: size of the features. token_size: size of the outputs. blocks: number of residual blocks.
    """

    def __init__(self, width: int, token_size: int, blocks: int = 1) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualMLP(width) for _ in range(blocks))
        self.write = nn.Linear(width, token_size)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(..., width) -> (..., token_size)."""
        for block in self.blocks:
            features = block(features)
        output: Tensor = self.write(features)
        return output


class ResidualMLP(nn.Module):
    """x + MLP(norm(x)), one hidden layer of `expansion` times the width; the norm is per token, never over time."""

    def __init__(self, width: int, expansion: int = 1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        wide = F.silu(self.widen(self.norm(features)), inplace=True)
        mixed: Tensor = self.narrow(wide)
        return features + mixed


def check_batch(batch: int, tokens: Tensor) -> None:
    """Raise ValueError unless a state of `batch` sequences belongs to tokens (B, T, ...)."""
    if batch != len(tokens):
        raise ValueError(
            f"the state holds {batch} sequences and the tokens {len(tokens)}, expected as many:"
            " state[index] picks or repeats sequences"
        )


def check_sizes(token_size: int, width: int, condition_size: int) -> None:
    """Raise ValueError for sizes that no network can have."""
    for name, size, least in (
        ("token_size", token_size, 1),
        ("width", width, 1),
        ("condition_size", condition_size, 0),
    ):
        if size < least:
            raise ValueError(f"{name} is {size}, expected at least {least}")


def check_counts(least: int, **counts: int) -> None:
    """Raise ValueError where there are too few of something: layers, channels."""
    for name, count in counts.items():
        if count < least:
            raise ValueError(f"{name} is {count}, expected at least {least}")


def check_input(
    tokens: Tensor,
    levels: Tensor,
    condition: Tensor | None,
    token_size: int,
    condition_size: int,
    embed: LevelEmbedding,
    dtype: torch.dtype,
) -> None:
    """Raise ValueError unless tokens (B, T, token_size), levels and condition fit a network with weights of `dtype`."""
    if tokens.ndim != 3 or tokens.shape[2] != token_size or tokens.shape[1] < 1:
        raise ValueError(
            f"tokens have shape {tuple(tokens.shape)}, expected (B, T, {token_size}) with T at least 1:"
            f" this network was built for tokens of size {token_size}"
        )
    if tokens.dtype != dtype and not torch.is_autocast_enabled(tokens.device.type):
        raise ValueError(
            f"tokens are {tokens.dtype}, expected {dtype} like the weights: convert one of them with .to(dtype)"
        )
    split = bool(embed.parts)
    if levels.shape != tokens.shape[:2] and not (split and levels.shape == tokens.shape):
        expected = f"{tuple(tokens.shape[:2])}" + (f" or {tuple(tokens.shape)}" if split else "")
        hint = "" if split else "; for levels of parts of a token build the network with parts=(sizes)"
        raise ValueError(f"levels have shape {tuple(levels.shape)}, expected {expected}{hint}")
    if not levels.is_floating_point():
        raise ValueError(f"levels are {levels.dtype}, expected floats in [0, 1]")
    given = 0 if condition is None else condition.shape[-1]
    if given != condition_size or (condition is not None and condition.shape[:-1] != tokens.shape[:2]):
        shape = "no condition" if condition is None else f"condition of shape {tuple(condition.shape)}"
        expected = (
            f"(B, T, {condition_size}) with B, T = {tuple(tokens.shape[:2])}"
            if condition_size
            else "none: this network was built with condition_size=0"
        )
        raise ValueError(f"{shape} was given, expected {expected}")
