"""How good a set of sampled futures is: proper scores, the coverage of a band, and how sure the comparison is.

Every score takes samples `(W, S, H, D)` (windows, samples, horizon, series) and the truth `(W, H, D)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

QUANTILES = tuple(round(0.05 * step, 2) for step in range(1, 20))


@dataclass(frozen=True)
class Ratio:
    """A score that is one sum over windows divided by another, so it can be resampled window by window."""

    above: Tensor  # (W,)
    below: Tensor  # (W,)

    @property
    def value(self) -> float:
        return float(self.above.sum() / self.below.sum())


def sample_quantile(samples: Tensor, quantile: float, dim: int = 1) -> Tensor:
    """The order statistic that GluonTS's `SampleForecast.quantile` takes: no interpolation.

    Raises ValueError for a quantile outside [0, 1].
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"a quantile lies between 0 and 1, got {quantile}")
    rank = round((samples.shape[dim] - 1) * quantile)
    return samples.sort(dim=dim).values.select(dim, rank)


def weighted_quantile_loss(samples: Tensor, truth: Tensor) -> Ratio:
    """Mean weighted quantile loss over 19 quantiles, as GluonTS's `mean_wQuantileLoss` defines it.

    samples `(W, S, ...)`, truth `(W, ...)`; the weight is the sum of |truth|.
    """
    ordered = samples.sort(dim=1).values
    last = samples.shape[1] - 1
    loss = torch.zeros(len(truth), dtype=truth.dtype)
    for quantile in QUANTILES:
        error = truth - ordered[:, round(last * quantile)]
        loss += 2 * torch.maximum(quantile * error, (quantile - 1) * error).flatten(1).sum(1)
    return Ratio(loss / len(QUANTILES), truth.abs().flatten(1).sum(1))


def crps_sum(samples: Tensor, truth: Tensor) -> Ratio:
    """CRPS_sum: the weighted quantile loss of the sum over series, which only joint samples get right."""
    return weighted_quantile_loss(samples.sum(-1), truth.sum(-1))


def crps(samples: Tensor, truth: Tensor) -> Ratio:
    """Weighted quantile loss of every series and step by itself."""
    return weighted_quantile_loss(samples, truth)


def energy_score(samples: Tensor, truth: Tensor, scale: Tensor) -> Ratio:
    """Energy score of the vector of all series at a step, averaged over steps (Gneiting and Raftery, 2007, eq. 22).

    Every series is divided by its `scale` `(D,)` first, so that no series counts for its unit.
    """
    scaled, known = samples / scale, truth / scale
    far = (scaled - known[:, None]).norm(dim=-1).mean(1)
    apart = torch.stack([torch.cdist(steps, steps).mean((1, 2)) for steps in scaled.transpose(1, 2)])
    return Ratio((far - apart / 2).sum(1), torch.full((len(truth),), float(truth.shape[1])))


def coverage(samples: Tensor, truth: Tensor, band: float = 0.8) -> Ratio:
    """Share of steps whose true sum over series lies in the central `band` of the samples."""
    total, known = samples.sum(-1), truth.sum(-1)
    low = torch.quantile(total, (1 - band) / 2, dim=1)
    high = torch.quantile(total, (1 + band) / 2, dim=1)
    inside = ((low <= known) & (known <= high)).to(truth.dtype)
    return Ratio(inside.sum(1), torch.full((len(truth),), float(truth.shape[1])))


def block_bootstrap(
    score: Ratio, against: Ratio | None = None, block: int = 2, draws: int = 4000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of a score, or of its difference `score - against` on the same windows.

    Windows are drawn in circular blocks of neighbours, because neighbouring windows share their regime
    (Politis and Romano, 1992).
    """
    windows = len(score.above)
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(windows, (draws, -(-windows // block), 1), generator=generator)
    drawn = ((starts + torch.arange(block)) % windows).flatten(1)[:, :windows]
    values = score.above[drawn].sum(1) / score.below[drawn].sum(1)
    if against is not None:
        values = values - against.above[drawn].sum(1) / against.below[drawn].sum(1)
    low, high = torch.quantile(values, torch.tensor([0.025, 0.975], dtype=values.dtype))
    return float(low), float(high)
