"""How noisy a policy's tokens are in training: what it remembers, and what it is asked for.

Both draw levels (B, T, D) that are the same within each part of a token; after the senses come the actions, and
perhaps a waypoint, which has the level of the actions when it is asked for and is never remembered.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.denoiser import Prediction
from noiseladder.diffusion.noise import NoiseSchedule
from noiseladder.diffusion.objective import over_error_ratio

from .policy_tokens import PolicyTokens


@dataclass(frozen=True)
class Remembered:
    """Levels of the past: mostly exactly clean; sometimes a prefix is forgotten, a sense gone, a deed not known.

    noisy: share of sequences in which every part has a level of its own. forgotten: share whose tokens before a
    random one are at level 1, which is a short memory. blind: share in which one sense is at a random level, half of
    the time 1, for a random while. dark: share in which no camera sees anything after a random token, half of the
    time after the first, so that what is done has to follow from what was seen before. unaware: share in which the
    actions are not remembered.
    """

    tokens: PolicyTokens
    noisy: float = 0.25
    forgotten: float = 0.2
    blind: float = 0.3
    dark: float = 0.0
    unaware: float = 0.5

    def __call__(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Draw levels (B, T, D)."""

        def chance(*shape: int) -> Tensor:
            return torch.rand(sequences, *shape, generator=generator, device=generator.device)

        parts = len(self.tokens.parts)
        place = torch.arange(length, device=generator.device)
        levels = torch.where(chance(1, 1) < self.noisy, chance(length, parts), 0.0)
        hidden = (chance(1) < self.forgotten) & (place < (chance(1) * (length + 1)).long())
        levels = torch.where(hidden[..., None], 1.0, levels)
        begin, lasts = (chance(1) * length).floor(), 1 + chance(1) * length / 2
        during = (place >= begin) & (place < begin + lasts) & (chance(1) < self.blind)
        senses = len(self.tokens.senses)
        which = (chance(1, 1) * senses).long() == torch.arange(parts, device=generator.device)
        depth = chance(1, 1)
        depth = torch.where(chance(1, 1) < 0.5, 1.0, depth)
        levels = torch.where(during[..., None] & which, depth.maximum(levels), levels)
        if self.dark > 0:
            falls = ((2 * chance(1) - 1).clamp(min=0) * length).floor().clamp(min=1)  # half of the time after one look
            night = (chance(1) < self.dark) & (place >= falls)
            cameras = self.tokens.cameras.to(generator.device)
            levels[..., :senses] = torch.where(night[..., None] & cameras, 1.0, levels[..., :senses])
        unknown = (chance(1) < self.unaware).expand(-1, length)
        levels[..., senses] = torch.where(unknown, 1.0, levels[..., senses])
        levels[..., senses + 1 :] = 1.0
        return self.tokens.spread(levels)


@dataclass(frozen=True)
class Asked:
    """Levels of what is asked for: actions at any level, a share of them unseen, after senses that are mostly clean.

    imagined: share of tokens in which the senses are asked for too, at levels of their own, some of them unseen.
    blind: share of the others in which one sense is at a random level, half of the time 1. dark: share of the others
    in which no camera sees anything. unseen: share of parts that are asked for from nothing, at level 1.
    """

    tokens: PolicyTokens
    imagined: float = 0.25
    blind: float = 0.25
    dark: float = 0.0
    unseen: float = 1 / 3

    def __call__(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Draw levels (B, T, D)."""

        def chance(*shape: int) -> Tensor:
            return torch.rand(sequences, length, *shape, generator=generator, device=generator.device)

        parts, senses = len(self.tokens.parts), len(self.tokens.senses)
        levels = chance(parts)
        levels = torch.where(chance(parts) < self.unseen, 1.0, levels)
        which = (chance(1) * senses).long() == torch.arange(senses, device=generator.device)
        depth = torch.where(chance(1) < 0.5, 1.0, chance(1))
        seen = torch.where(which & (chance(1) < self.blind), depth, 0.0)
        if self.dark > 0:
            seen = torch.where((chance(1) < self.dark) & self.tokens.cameras.to(generator.device), 1.0, seen)
        levels[..., :senses] = torch.where(chance(1) < self.imagined, levels[..., :senses], seen)
        levels[..., senses + 1 :] = levels[..., senses : senses + 1]
        return self.tokens.spread(levels)


@dataclass(frozen=True)
class Means:
    """The question of deterministic cloning: what is done on average after these senses; nothing is noisy."""

    tokens: PolicyTokens
    actions: float = 1.0

    def __call__(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Levels (B, T, D): senses 0, actions `actions`."""
        levels = torch.zeros(sequences, length, len(self.tokens.parts), device=generator.device)
        levels[..., len(self.tokens.senses) :] = self.actions
        return self.tokens.spread(levels)


@dataclass(frozen=True)
class SensesCount:
    """The squared error of the clean guess, that of senses times `share`: acting is what a policy is for.

    waypoint: how much an error of the waypoint counts, of which there are few values in a token.

    Weighted by the output's error, as is usual, most of the loss is the tremor of whoever showed the way, which
    nobody can predict: a token that is nearly clean has the largest error of its velocity, and the least to learn from.
    """

    tokens: PolicyTokens
    share: float = 0.3
    waypoint: float = 4.0

    def __call__(self, schedule: NoiseSchedule, prediction: Prediction, levels: Tensor) -> Tensor:
        """Weights of the shape of levels (B, T, D)."""
        weight = torch.ones_like(levels)
        if levels.ndim == 3:
            weight[..., : self.tokens.seen_size] = self.share
            weight[..., self.tokens.ending + 1 :] = self.waypoint
        return over_error_ratio(schedule, prediction, levels, weight)
