"""The forecasts that cost nothing: a bootstrap random walk and the seasonal naive forecast with its own errors."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from noiseladder.forecasting.baselines import bootstrap_random_walk, seasonal_naive
from noiseladder.forecasting.calendar import Calendar
from noiseladder.forecasting.metrics import crps_sum
from noiseladder.forecasting.panel import Panel

from .peer import validation_origins


@dataclass
class BootstrapRandomWalk:
    """Joint increments of the past, drawn again; how much of the past is chosen on validation windows."""

    name: str = "bootstrap random walk"
    lengths: tuple[int, ...] = (60, 250, 750, 1_000_000)
    training: Panel | None = field(default=None, repr=False)

    def fit(self, training: Panel, calendar: Calendar | None, horizon: int) -> None:
        """Choose the length of the past whose increments are drawn."""
        self.horizon, self.all_increments = horizon, len(training)
        origins = validation_origins(training, horizon)
        truth = torch.stack([training.values[origin : origin + horizon] for origin in origins])

        def score(length: int) -> float:
            generator = torch.Generator().manual_seed(0)
            draws = [self._walk(training.before(origin), length, 400, generator) for origin in origins]
            return crps_sum(torch.stack(draws), truth).value

        self.length = min(self.lengths, key=score)

    def sample(self, past: Panel, samples: int, generator: torch.Generator) -> Tensor:
        """Random walks from the last value."""
        return self._walk(past, self.length, samples, generator)

    def _walk(self, past: Panel, length: int, samples: int, generator: torch.Generator) -> Tensor:
        return bootstrap_random_walk(past, self.horizon, samples, generator, recent=length)


@dataclass
class SeasonalNaive:
    """The last season again, with joint residual paths."""

    season: int
    name: str = "seasonal naive"

    def fit(self, training: Panel, calendar: Calendar | None, horizon: int) -> None:
        """Keep the training part: its error paths are what is drawn."""
        self.training, self.horizon = training, horizon

    def sample(self, past: Panel, samples: int, generator: torch.Generator) -> Tensor:
        """The last season plus an error path of the training part."""
        return seasonal_naive(self.training, past, self.horizon, samples, self.season, generator)
