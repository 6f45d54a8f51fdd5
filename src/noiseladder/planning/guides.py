"""Three ways in which an energy guides a plan while it is sampled: `Planner(..., guide=ByEnergy(Arrival(), 2.0))`.

A guide is told where the plan begins and wraps the denoiser for it; guides compose as denoisers do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.denoiser import Denoised, Denoises
from noiseladder.diffusion.guidance import (
    EnergyGuided,
    Guided,
    LevelledGuided,
    MonteCarloGuided,
    check_scale,
    one_for_each,
)
from noiseladder.diffusion.state import State

from .energies import Energy, outlook
from .planner import Context, Guide


@dataclass(frozen=True)
class OfTokens:
    """An energy of plans as an energy of tokens (B n, T, D) -> (B n,), checked: one finite number for each plan.

    When gradients are asked for, it must depend on the plan.
    """

    energy: Energy
    context: Context

    def __call__(self, tokens: Tensor) -> Tensor:
        """Raises ValueError, or TypeError for what is no tensor."""
        energy = self.energy(outlook(tokens, self.context))
        if not isinstance(energy, Tensor):
            raise TypeError(f"the energy returned {type(energy).__name__}, expected a tensor (B,): one for each plan")
        if torch.is_grad_enabled() and tokens.requires_grad and not energy.requires_grad:
            raise ValueError(
                "the energy does not depend on the plan, so it cannot guide it: compute it from outlook.positions or"
                " outlook.rewards with torch operations, without .detach() or .item()"
            )
        return one_for_each(energy, len(tokens))


@dataclass(frozen=True)
class ByEnergy:
    """Follow the energy's gradient at the clean guess (`EnergyGuided`): one gradient for each denoising step."""

    energy: Energy
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_scale(self.scale)

    def __call__(self, denoiser: Denoises, context: Context) -> Denoises:
        """The guided denoiser."""
        return EnergyGuided(denoiser, OfTokens(self.energy, context), self.scale)


@dataclass(frozen=True)
class Levelled:
    """Follow it on a copy of the plan that is equally clean everywhere (`LevelledGuided`): for pyramids."""

    energy: Energy
    scale: float = 1.0
    steps: int = 2

    def __post_init__(self) -> None:
        check_scale(self.scale)
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, expected at least 1: the copy has to be denoised")

    def __call__(self, denoiser: Denoises, context: Context) -> Denoises:
        """The guided denoiser."""
        return LevelledGuided(denoiser, OfTokens(self.energy, context), self.scale, self.steps)


@dataclass(frozen=True)
class MonteCarlo:
    """Follow it averaged over whole sampled futures (`MonteCarloGuided`); with futures=1 it trusts a single one.

    Tokens at level 1 are the future, so it needs a matrix that leaves some there: a pyramid. matrix: (tokens, steps)
    -> how futures are sampled; None: all at once in `steps`. seed: of the futures' noise, which stays the same.
    """

    energy: Energy
    scale: float = 1.0
    futures: int = 10
    steps: int = 4
    matrix: Callable[[int, int], Tensor] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_scale(self.scale)
        if self.futures < 1 or self.steps < 1:
            raise ValueError(f"{self.futures} futures in {self.steps} steps, expected at least one of each")

    def __call__(self, denoiser: Denoises, context: Context) -> Denoises:
        """The guided denoiser."""
        return FuturesOfAnyLength(denoiser, self, context)


@dataclass(frozen=True)
class FuturesOfAnyLength(Guided):
    """`MonteCarloGuided` whose futures are as long as the plan turns out to be."""

    guide: MonteCarlo
    context: Context

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """Raises ValueError as EnergyGuided does."""
        guide, length = self.guide, noisy.shape[1]
        generator = Generator().manual_seed(guide.seed)
        noise = torch.randn(guide.futures, *noisy.shape[1:], generator=generator)
        matrix = None if guide.matrix is None else guide.matrix(length, guide.steps)
        energy = OfTokens(guide.energy, self.context)
        guided = MonteCarloGuided(self.denoiser, energy, noise, guide.scale, guide.steps, matrix)
        return guided(noisy, levels, condition, state)


@dataclass(frozen=True)
class Both:
    """Several guides, one around the other; the outer ones differentiate through the inner, so `Total` is cheaper."""

    guides: tuple[Guide, ...]

    def __call__(self, denoiser: Denoises, context: Context) -> Denoises:
        """The guided denoiser."""
        for guide in self.guides:
            denoiser = guide(denoiser, context)
        return denoiser
