"""How noisy each token is in training; the regime is nothing but this distribution.

A level sampler is a function (sequences B, length T, generator) -> levels (B, T) on the generator's device.
Independent levels are Diffusion Forcing; every other training regime is another sampler on the same network.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

DrawLevels = Callable[[int, int, Generator], Tensor]


def independent(sequences: int, length: int, generator: Generator) -> Tensor:
    """Every token its own level: Diffusion Forcing (Chen et al., 2024)."""
    return _uniform(sequences, length, generator)


def shared(sequences: int, length: int, generator: Generator) -> Tensor:
    """One level for all tokens of a sequence: whole-sequence diffusion."""
    return _uniform(sequences, 1, generator).expand(sequences, length).clone()


def clean(sequences: int, length: int, generator: Generator) -> Tensor:
    """Every token clean: the main stream of teacher forcing, when a query stream is asked (see objective)."""
    return torch.zeros(sequences, length, device=generator.device)


def pure_noise(sequences: int, length: int, generator: Generator) -> Tensor:
    """Every token hidden; as the query stream over a clean history this is the deterministic predictor."""
    return torch.ones(sequences, length, device=generator.device)


def teacher_forced(sequences: int, length: int, generator: Generator) -> Tensor:
    """A clean history and one noisy token, the last: next-token diffusion in one stream."""
    levels = torch.zeros(sequences, length, device=generator.device)
    levels[:, -1] = _uniform(sequences, 1, generator)[:, 0]
    return levels


def rolling(sequences: int, length: int, generator: Generator) -> Tensor:
    """Levels that rise linearly in t, from a random offset: rolling diffusion (Ruhe et al., 2024)."""
    position = torch.arange(length, device=generator.device)
    return ((position + 1 - length * (1 - 2 * _uniform(sequences, 1, generator))) / length).clamp(0, 1)


def non_decreasing(sequences: int, length: int, generator: Generator) -> Tensor:
    """Independent levels in rising order: the future never cleaner than the past (AR-Diffusion and kin)."""
    return _uniform(sequences, length, generator).sort(dim=1).values


@dataclass(frozen=True)
class ContextAndFuture:
    """A clean context of fixed length, one shared level for all that follows."""

    context: int

    def __call__(self, sequences: int, length: int, generator: Generator) -> Tensor:
        levels = shared(sequences, length, generator)
        levels[:, : self.context] = 0
        return levels


@dataclass(frozen=True)
class Constant:
    """Every token at this one level: for validation by level."""

    level: float

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 1:
            raise ValueError(f"level is {self.level}, expected a number in [0, 1]: 0 is clean, 1 is pure noise")

    def __call__(self, sequences: int, length: int, generator: Generator) -> Tensor:
        return torch.full((sequences, length), self.level, device=generator.device)


@dataclass(frozen=True)
class Mixture:
    """Each sequence draws its levels from one of `samplers`, chosen with `probabilities` (which sum to 1)."""

    samplers: tuple[DrawLevels, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.samplers) != len(self.probabilities) or not (
            abs(sum(self.probabilities) - 1) < 1e-6 and min(self.probabilities) >= 0
        ):
            raise ValueError(
                f"{len(self.samplers)} level samplers with probabilities {self.probabilities}: expected one"
                " probability for each, not negative, summing to 1"
            )

    def __call__(self, sequences: int, length: int, generator: Generator) -> Tensor:
        chance = torch.rand(sequences, 1, generator=generator, device=generator.device)
        levels = torch.zeros(sequences, length, device=generator.device)
        below = 0.0
        for sampler, probability in zip(self.samplers, self.probabilities, strict=True):
            drawn = sampler(sequences, length, generator)
            levels = torch.where(chance >= below, drawn, levels)
            below += probability
        return levels


@dataclass(frozen=True)
class WithExactEnds:
    """Sometimes a prefix of random length is exactly clean, and sometimes a suffix exactly pure noise.

    Continuous levels almost never hit 0 or 1, yet sampling starts from a history at 0 and a future at 1.
    """

    sampler: DrawLevels = independent
    clean_history: float = 0.1
    pure_noise_future: float = 0.1

    def __post_init__(self) -> None:
        for name in ("clean_history", "pure_noise_future"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a probability in [0, 1]")

    def __call__(self, sequences: int, length: int, generator: Generator) -> Tensor:
        device = generator.device
        levels = self.sampler(sequences, length, generator)
        position = torch.arange(length, device=device)
        history = torch.randint(1, length + 1, (sequences, 1), generator=generator, device=device)
        future = torch.randint(0, length, (sequences, 1), generator=generator, device=device)
        forget = torch.rand(sequences, 1, generator=generator, device=device) < self.pure_noise_future
        trust = torch.rand(sequences, 1, generator=generator, device=device) < self.clean_history
        levels = torch.where(forget & (position >= future), 1.0, levels)
        return torch.where(trust & (position < history), 0.0, levels)


def _uniform(sequences: int, length: int, generator: Generator) -> Tensor:
    return torch.rand(sequences, length, generator=generator, device=generator.device)
