"""How a world remembers while it learns: mostly clearly, sometimes dimly, and how its questions are asked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

ROUNDED = 1e-9  # that a sum of shares may be off


@dataclass(frozen=True)
class DimMemory:
    """Levels (B, T) of the past: clear in some sequences, dim in some, and Diffusion Forcing's own in the rest.

    clear: share of sequences whose tokens are exactly clean. dim: share whose tokens have levels of their own up to
    `dimmest`, which is what a stabilized dream is remembered at. In the others every level is as likely as any other.
    dark: share of all sequences, whatever their levels, in which nothing at all is seen for a random stretch: what goes
    on meanwhile, and what is done to it, has to be followed from memory, as behind an obstacle.
    """

    clear: float = 0.4
    dim: float = 0.4
    dimmest: float = 0.3
    dark: float = 0.0

    def __post_init__(self) -> None:
        if not (self.clear >= 0 and self.dim >= 0 and self.clear + self.dim <= 1 + ROUNDED):
            raise ValueError(f"clear is {self.clear} and dim {self.dim}, expected shares that are at most 1 together")
        if not 0 <= self.dimmest <= 1:
            raise ValueError(f"dimmest is {self.dimmest}, expected a level, 0 to 1")
        if not 0 <= self.dark <= 1:
            raise ValueError(f"dark is {self.dark}, expected a share of the sequences, 0 to 1")

    def __call__(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Draw levels."""
        levels = torch.rand(sequences, length, generator=generator, device=generator.device)
        kind = torch.rand(sequences, 1, generator=generator, device=generator.device)
        levels = torch.where(kind < self.clear + self.dim, self.dimmest * levels, levels)
        levels = torch.where(kind < self.clear, 0.0, levels)
        if self.dark == 0:  # nothing is drawn, so that who was never in the dark learns as before
            return levels
        chance, *ends = torch.rand(3, sequences, 1, generator=generator, device=generator.device)
        first, last = (length * torch.stack(ends)).sort(0).values
        place = torch.arange(length, device=generator.device)
        return torch.where((chance < self.dark) & (place >= first) & (place <= last), 1.0, levels)


@dataclass(frozen=True)
class OftenUnseen:
    """Levels (B, T) of what is asked for: `unseen` of them exactly 1, which every frame is at first; else any."""

    unseen: float = 1 / 3

    def __post_init__(self) -> None:
        if not 0 <= self.unseen <= 1:
            raise ValueError(f"unseen is {self.unseen}, expected a share of the tokens, 0 to 1")

    def __call__(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Draw levels."""
        levels = torch.rand(sequences, length, generator=generator, device=generator.device)
        unseen = torch.rand(sequences, length, generator=generator, device=generator.device) < self.unseen
        return torch.where(unseen, 1.0, levels)
