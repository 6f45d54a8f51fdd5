"""A noise level says how much of a token is signal and how much is noise.

A level is a float in [0, 1]: 0 is a clean token, 1 is pure noise. Levels are continuous, so the number of
sampling steps is chosen when sampling. The ends are exact for every schedule: (alpha, sigma) is (1, 0) at
level 0 and (0, 1) at level 1, to the bit, so that level 1 says nothing at all about the token.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class NoiseSchedule(ABC):
    """noisy = alpha(level) * clean + sigma(level) * noise.

    A new schedule gives `curve`; the exact ends, mixing and the inverse come with it.
    """

    @abstractmethod
    def curve(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) for levels strictly between 0 and 1; what is returned at the ends is not used."""

    def alpha(self, levels: Tensor) -> Tensor:
        """Share of signal, the shape of `levels`: 1 at level 0, 0 at level 1, falling."""
        return self._exact(levels)[0]

    def sigma(self, levels: Tensor) -> Tensor:
        """Share of noise, the shape of `levels`: 0 at level 0, 1 at level 1, rising."""
        return self._exact(levels)[1]

    def _exact(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.curve(levels)
        clean, pure_noise = levels <= 0, levels >= 1
        alpha = alpha.masked_fill(clean, 1.0).masked_fill_(pure_noise, 0.0)
        return alpha, sigma.masked_fill(clean, 0.0).masked_fill_(pure_noise, 1.0)

    def shares(self, levels: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma in the dtype of `like` (B, T, ...), shaped to broadcast over it."""
        alpha, sigma = self._exact(spread(levels, like))
        return alpha.to(like.dtype), sigma.to(like.dtype)

    def mix(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """Bring every token to its own level.

        clean, noise: (B, T, ...). levels: (B, T), or (B, T, D) where parts of a token have their own.
        """
        alpha, sigma = self.shares(levels, clean)
        return alpha * clean + sigma * noise

    def renoise(self, noisy: Tensor, levels: Tensor, higher: Tensor, noise: Tensor) -> Tensor:
        """Take tokens at `levels` up to `higher` levels with fresh `noise`; the law is that of `mix`.

        x <- (a_k / a_n) x + sqrt(b_k^2 - (a_k / a_n)^2 b_n^2) e, for any schedule.
        Tokens whose level does not change are returned as they are.
        """
        alpha, sigma = self.shares(levels, noisy)
        new_alpha, new_sigma = self.shares(higher, noisy)
        kept = new_alpha / alpha.masked_fill(alpha == 0, 1.0)
        added = (new_sigma**2 - (kept * sigma) ** 2).clamp(min=0).sqrt()
        return torch.where(spread(levels == higher, noisy), noisy, kept * noisy + added * noise)

    def snr(self, levels: Tensor) -> Tensor:
        """Signal-to-noise ratio alpha^2 / sigma^2: infinite at level 0, zero at level 1."""
        alpha, sigma = self._exact(levels)
        return (alpha / sigma) ** 2

    def log_snr(self, levels: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2): +inf at level 0, -inf at level 1."""
        alpha, sigma = self._exact(levels)
        return 2 * (alpha.log() - sigma.log())

    def log_snr_slope(self, levels: Tensor) -> Tensor:
        """d log_snr / d level, below zero; not finite at the ends of most schedules."""
        with torch.enable_grad():
            inside = levels.detach().clone().requires_grad_()
            alpha, sigma = self.curve(inside)
            (slope,) = torch.autograd.grad(2 * (alpha.log() - sigma.log()).sum(), inside)
        return slope

    def level_of_log_snr(self, log_snr: Tensor) -> Tensor:
        """The level at which the log-SNR has this value, by bisection in float64 (log_snr falls with level)."""
        low = torch.zeros_like(log_snr, dtype=torch.float64)
        high = torch.ones_like(low)
        for _ in range(60):
            middle = (low + high) / 2
            too_clean = self.log_snr(middle) > log_snr
            low, high = torch.where(too_clean, middle, low), torch.where(too_clean, high, middle)
        level = ((low + high) / 2).masked_fill(log_snr == torch.inf, 0.0).masked_fill(log_snr == -torch.inf, 1.0)
        return level.masked_fill(log_snr.isnan(), torch.nan).to(log_snr.dtype)


@dataclass(frozen=True)
class Cosine(NoiseSchedule):
    """alpha = cos(pi level / 2): Nichol and Dhariwal (2021) in its continuous form."""

    def curve(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        angle = levels * (math.pi / 2)
        return angle.cos(), angle.sin()


@dataclass(frozen=True)
class Sigmoid(NoiseSchedule):
    """alpha^2 falls along a logistic curve from `start` to `end` (Jabri et al., 2022)."""

    start: float = -3.0
    end: float = 3.0

    def curve(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        first, last = 1 / (1 + math.exp(-self.start)), 1 / (1 + math.exp(-self.end))
        now = torch.sigmoid(self.start + levels * (self.end - self.start))
        return ((last - now).clamp(min=0) / (last - first)).sqrt(), ((now - first).clamp(min=0) / (last - first)).sqrt()


@dataclass(frozen=True)
class Linear(NoiseSchedule):
    """DDPM's linear betas (Ho et al., 2020) in continuous time, alpha rescaled so that it ends at exactly 0."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def curve(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        log_alpha = -0.25 * levels**2 * (self.beta_max - self.beta_min) - 0.5 * levels * self.beta_min
        lost_at_end = -math.expm1(-0.25 * (self.beta_max - self.beta_min) - 0.5 * self.beta_min)
        lost = -torch.expm1(log_alpha) / lost_at_end  # 1 - alpha, without cancellation near level 0
        return 1 - lost, (lost * (2 - lost)).clamp(min=0).sqrt()


@dataclass(frozen=True)
class LogSNR(NoiseSchedule):
    """log-SNR falls uniformly from `limit` to -`limit`; the natural clock of likelihoods and exact tests."""

    limit: float = 14.0

    def curve(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        log_snr = self.limit * (1 - 2 * levels)
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()


@dataclass(frozen=True)
class Flow(NoiseSchedule):
    """The straight path of rectified flow (Liu et al., 2022); not variance-preserving."""

    def curve(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - levels, levels


def spread(levels: Tensor, like: Tensor) -> Tensor:
    """Append dimensions to (B, T) or (B, T, D) so that it broadcasts over `like` (B, T, ...)."""
    return levels.reshape(levels.shape + (1,) * (like.ndim - levels.ndim))


def check_levels(levels: Tensor) -> None:
    """Raise ValueError unless every level is a number in [0, 1]."""
    lowest, highest = torch.aminmax(levels)  # NaN if any is
    if not (float(lowest) >= 0 and float(highest) <= 1):
        worst = levels[~((levels >= 0) & (levels <= 1))].flatten()[0].item()
        raise ValueError(f"a noise level is {worst:g}, but levels lie in [0, 1]: 0 is a clean token, 1 is pure noise")
