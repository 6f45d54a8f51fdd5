"""Two forecasts that cost nothing and are hard to beat: anything clever is shown beside them."""

from __future__ import annotations

import torch
from torch import Tensor

from .panel import Panel


def bootstrap_random_walk(
    past: Panel, horizon: int, samples: int, generator: torch.Generator, recent: int | None = None
) -> Tensor:
    """`past` goes on with joint increments of its own, drawn again: `(samples, horizon, D)`.

    Increments are of logarithms where every series is positive, else differences; a whole row is drawn at a time,
    so the dependence between series is kept. Their mean is removed: no drift is assumed. recent: draw only from the
    last so many increments.
    """
    logarithmic = bool((past.values > 0).all())
    known = past.values.log() if logarithmic else past.values
    increments = known.diff(dim=0)[-(recent or len(known)) :]
    increments = increments - increments.mean(0)
    drawn = torch.randint(len(increments), (samples, horizon), generator=generator)
    paths = known[-1] + increments[drawn].cumsum(1)
    return paths.exp() if logarithmic else paths


def seasonal_naive(
    training: Panel, past: Panel, horizon: int, samples: int, season: int, generator: torch.Generator
) -> Tensor:
    """The last season again, plus the joint error path of the same forecast at a random origin in `training`."""
    logarithmic = bool((training.values > 0).all())
    known = training.values.log() if logarithmic else training.values
    recent = past.values[-season:].log() if logarithmic else past.values[-season:]
    repeat = torch.arange(horizon) % season
    drawn = torch.randint(season, len(known) - horizon + 1, (samples,), generator=generator)
    paths = known.unfold(0, horizon, 1)[drawn].transpose(1, 2)  # (samples, horizon, D)
    future = recent[repeat] + paths - known[drawn[:, None] - season + repeat]
    if logarithmic:
        return future.exp()
    return future.clamp(min=0) if bool((training.values >= 0).all()) else future
