"""AutoETS of statsforecast, one model a series; a rank copula pairs the separate paths again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noiseladder.forecasting.calendar import Calendar
from noiseladder.forecasting.panel import Panel


@dataclass
class AutoETS:
    """The form is chosen once on the end of the training part, its parameters again at every origin."""

    season: int
    logarithmic: bool
    name: str = "AutoETS"
    selection: int = 1000
    recent: int = 500

    def fit(self, training: Panel, calendar: Calendar | None, horizon: int) -> None:
        """Choose the form of every series, and take the rank correlation of its one-step errors."""
        from statsforecast.models import AutoETS as Select

        self.horizon = horizon
        self.sampled: dict[int, Tensor] = {}  # by origin, for the copula
        values = self._known(training)[-self.selection :]
        fitted = [Select(season_length=self.season).fit(series).model_ for series in values.T]
        # model_["method"] reads like ETS(A,Ad,N): error, trend (d: damped), season.
        parts = [model["method"][4:-1].split(",") for model in fitted]
        self.forms = [(error + trend[0] + season, trend.endswith("d")) for error, trend, season in parts]
        residuals = np.stack([np.asarray(model["residuals"])[-self.selection :] for model in fitted])
        ranks = residuals.argsort(1).argsort(1)
        self.correlation = torch.from_numpy(np.corrcoef(ranks))

    def sample(self, past: Panel, samples: int, generator: torch.Generator) -> Tensor:
        """Simulated paths of every series."""
        from statsforecast.models import AutoETS as Fixed

        values = self._known(past)[-self.recent :]
        seed = int(torch.randint(2**31, (1,), generator=generator))
        paths = []
        for number, (series, (form, damped)) in enumerate(zip(values.T, self.forms)):
            form = form.replace("M", "A") if series.min() <= 0 else form  # products need positive values
            model = Fixed(season_length=self.season, model=form, damped=damped).fit(series)
            paths.append(torch.from_numpy(np.asarray(model.simulate(self.horizon, samples, seed=seed + number))))
        futures = torch.stack(paths, -1).double()
        self.sampled[len(past)] = futures.exp() if self.logarithmic else futures
        return self.sampled[len(past)]

    def _known(self, panel: Panel) -> np.ndarray:
        values = panel.values.log() if self.logarithmic else panel.values
        return np.ascontiguousarray(values.numpy())


@dataclass
class RankCopula:
    """The same paths, paired so that their means have the rank correlation of the series' one-step errors.

    It shares fit and paths with `separate`, which must have run before it; its seconds are those of the pairing.
    """

    separate: AutoETS
    name: str = "AutoETS, rank copula"

    def fit(self, training: Panel, calendar: Calendar | None, horizon: int) -> None:
        """Nothing is left to fit."""

    def sample(self, past: Panel, samples: int, generator: torch.Generator) -> Tensor:
        """Give whole paths, ordered by their mean, the ranks of a Gaussian copula (2 sin(pi r / 6): Pearson)."""
        futures = self.separate.sampled[len(past)]
        pearson = 2 * torch.sin(math.pi / 6 * self.separate.correlation)
        values, vectors = torch.linalg.eigh(pearson)
        root = vectors * values.clamp(min=0).sqrt()
        drawn = torch.randn(len(futures), futures.shape[-1], generator=generator, dtype=root.dtype) @ root.T
        ranks = drawn.argsort(0).argsort(0)
        order = futures.mean(1).argsort(0)
        columns = [futures[order[ranks[:, d], d], :, d] for d in range(futures.shape[-1])]
        return torch.stack(columns, -1)
