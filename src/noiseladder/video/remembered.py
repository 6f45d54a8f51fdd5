"""How a world remembers while it learns: mostly clearly, sometimes dimly, and how its questions are asked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class DimMemory:
    """Levels (B, T) of the past: clear in some sequences, dim in some, and Diffusion Forcing's own in the rest.

    clear: share of sequences whose tokens are exactly clean. dim: share whose tokens have levels of their own up to
    `dimmest`, which is what a stabilized dream is remembered at. In the others every level is as likely as any other.
    """

    clear: float = 0.4
    dim: float = 0.4
    dimmest: float = 0.3

    def __call__(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Draw levels."""
        levels = torch.rand(sequences, length, generator=generator, device=generator.device)
        kind = torch.rand(sequences, 1, generator=generator, device=generator.device)
        levels = torch.where(kind < self.clear + self.dim, self.dimmest * levels, levels)
        return torch.where(kind < self.clear, 0.0, levels)


@dataclass(frozen=True)
class OftenUnseen:
    """Levels (B, T) of what is asked for: `unseen` of them exactly 1, which every frame is at first; else any."""

    unseen: float = 1 / 3

    def __call__(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Draw levels."""
        levels = torch.rand(sequences, length, generator=generator, device=generator.device)
        unseen = torch.rand(sequences, length, generator=generator, device=generator.device) < self.unseen
        return torch.where(unseen, 1.0, levels)
