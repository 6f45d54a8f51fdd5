"""What a network is told about noise levels: smooth features that are sharp where levels matter, near 0 and 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# How close to its ends a level is still resolved: Cosine's noise at this level is .00016.
CLOSEST_TO_AN_END = 1e-4


class LevelEmbedding(nn.Module):
    """Noise levels as vectors: sines of the level and of its log-odds, marks for exactly 0 and 1, then one layer.

    The log-odds follow the log-SNR of every usual schedule, so that levels near 0 and near 1 are told apart. The
    marks start with no weight: a network that never saw an exact 0 or 1 in training treats them as its neighbours.

    token_size: D of the tokens. width: size of the vectors. parts: sizes of the parts of a token that have levels of
    their own, summing to D; empty when a token has one level.
    """

    slow: Tensor
    steep: Tensor
    phase: Tensor
    ends: Tensor

    def __init__(self, token_size: int, width: int, parts: tuple[int, ...] = (), frequencies: int = 8):
        super().__init__()
        if parts and (sum(parts) != token_size or min(parts) < 1):
            raise ValueError(
                f"parts are {parts}, which sum to {sum(parts)}, expected positive sizes that sum to the token"
                f" size {token_size}"
            )
        self.token_size, self.parts = token_size, tuple(parts)
        turns = math.pi * torch.logspace(-3, 3, frequencies, base=2.0)
        still = torch.zeros(frequencies)
        self.register_buffer("slow", torch.cat([turns, turns, still, still]), persistent=False)
        self.register_buffer("steep", torch.cat([still, still, turns, turns]), persistent=False)
        quarter = torch.full_like(turns, math.pi / 2)
        self.register_buffer("phase", torch.cat([still, quarter, still, quarter]), persistent=False)
        self.register_buffer("ends", torch.tensor([0.0, 1.0]), persistent=False)
        features = 4 * frequencies + 2
        self.read = nn.Linear(features * max(1, len(parts)), width)
        with torch.no_grad():
            self.read.weight.view(width, -1, features)[:, :, -2:] = 0.0

    def forward(self, levels: Tensor) -> Tensor:
        """levels (B, T), or (B, T, D) when there are parts -> (B, T, width).

        Levels that are the same for all sequences because they were expanded over the batch give (1, T, width).
        """
        if levels.stride(0) == 0:
            levels = levels[:1]
        level = self._by_part(levels).unsqueeze(-1)
        log_odds = torch.logit(level * (1 - 2 * CLOSEST_TO_AN_END) + CLOSEST_TO_AN_END)
        log_odds = log_odds / -math.log(CLOSEST_TO_AN_END)
        angles = torch.addcmul(torch.addcmul(self.phase, level, self.slow), log_odds, self.steep)
        features = torch.cat([angles.sin(), (level == self.ends).to(angles.dtype)], dim=-1)
        return nn.functional.silu(self.read(features.flatten(2)))

    def _by_part(self, levels: Tensor) -> Tensor:
        """(B, T) or (B, T, D) -> (B, T), or (B, T, P) with parts."""
        levels = levels.to(self.phase.dtype)
        if not self.parts:
            return levels
        if levels.ndim == 2:
            return levels.unsqueeze(-1).expand(-1, -1, len(self.parts))
        if len(self.parts) == self.token_size:
            return levels
        sizes = torch.tensor(self.parts, device=levels.device)
        by_part = levels[..., sizes.cumsum(0) - sizes]
        if not torch.equal(by_part.repeat_interleave(sizes, dim=-1), levels):
            raise ValueError(
                f"levels differ within a part of the token, but the parts {self.parts} have one level each:"
                " give every value of a part the same level, or split the part"
            )
        return by_part
