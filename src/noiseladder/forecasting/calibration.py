"""The spread of sampled paths is scaled so that bands hold what they promise, measured on windows not trained on."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST, MOST = 0.7, 2.0

PRIOR_WINDOWS = 60
"""How many windows the belief that samples are already right counts for: the steps of a window share their luck, and
a factor taken from twenty windows alone does harm (docs/experiments.md)."""


def trusted(factor: float, windows: float) -> float:
    """A factor measured on so many windows, drawn towards 1 on the log scale."""
    return float(factor ** (windows / (windows + PRIOR_WINDOWS)))


def widen(paths: Tensor, factor: float) -> Tensor:
    """Multiply every path's distance from the median path of its window by `factor`: `(B, S, H, D)`."""
    if factor == 1:
        return paths
    middle = paths.median(1, keepdim=True).values
    return middle + factor * (paths - middle)


def spread_factor(samples: Tensor, truth: Tensor, band: float = 0.8) -> float:
    """The factor with which a central band of the sum over series would have held its share of `truth`.

    samples `(W, S, H, D)`, truth `(W, H, D)`, of windows not trained on; missing truth is left out. Split conformal
    prediction (Vovk et al., 2005) with the half-width of the band as the unit: the factor is the `band` quantile of
    |truth - median| in that unit, each side by itself.
    """
    total, known = samples.sum(-1), truth.sum(-1)
    low, middle, high = (torch.quantile(total, q, dim=1) for q in ((1 - band) / 2, 0.5, (1 + band) / 2))
    side = torch.where(known > middle, high - middle, middle - low).clamp(min=1e-12)
    ratio = ((known - middle).abs() / side)[~known.isnan()]
    return float(torch.quantile(ratio, band).clamp(LEAST, MOST)) if len(ratio) else 1.0
