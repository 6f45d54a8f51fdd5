"""Vector autoregression with a calendar, its order chosen on validation windows, its errors drawn jointly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noiseladder.forecasting.calendar import Calendar
from noiseladder.forecasting.metrics import crps_sum
from noiseladder.forecasting.panel import Panel

from .peer import validation_origins


@dataclass
class VectorAutoregression:
    """y_t = constant + calendar_t B + sum_l y_{t-l} A_l + e_t by ridge; on log-returns where `returns` is set."""

    returns: bool
    name: str = "VAR"
    orders: tuple[int, ...] = (0, 1, 2, 3, 5, 7, 14, 21)
    ridge: float = 1e-3

    def fit(self, training: Panel, calendar: Calendar | None, horizon: int) -> None:
        """Choose the order on windows at the end of the training part, then fit on all of it."""
        self.calendar, self.horizon = calendar, horizon
        origins = validation_origins(training, horizon)
        truth = torch.stack([training.values[origin : origin + horizon] for origin in origins])

        def score(order: int) -> float:
            self._solve(training.before(origins[0]), order)
            generator = torch.Generator().manual_seed(0)
            draws = [self.sample(training.before(origin), 200, generator) for origin in origins]
            value = crps_sum(torch.stack(draws), truth).value
            return value if value == value else float("inf")  # an explosive fit

        self._solve(training, min(self.orders, key=score))

    def sample(self, past: Panel, samples: int, generator: torch.Generator) -> Tensor:
        """Simulate forward with rows of residuals drawn again."""
        known = self._tokens(past.values)
        history = ((known[len(known) - self.order :] - self.center) / self.scale).expand(samples, -1, -1)
        drawn = torch.randint(len(self.errors), (self.horizon, samples), generator=generator)
        future = self._calendar(past, self.horizon)[-self.horizon :]
        steps = []
        for step in range(self.horizon):
            lags = history[:, history.shape[1] - self.order :].flip(1).flatten(1)
            inputs = torch.cat([future[step].expand(samples, -1), lags], 1)
            value = inputs @ self.weights + self.errors[drawn[step]]
            steps.append(value)
            history = torch.cat([history, value[:, None]], 1)
        paths = torch.stack(steps, 1) * self.scale + self.center
        return (past.values[-1].log() + paths.cumsum(1)).exp() if self.returns else paths

    def _solve(self, training: Panel, order: int) -> None:
        self.order = order
        values = self._tokens(training.values)
        self.center, self.scale = values.mean(0), values.std(0)
        scaled = (values - self.center) / self.scale
        known = self._calendar(training, 0)[len(training) - len(values) :]
        lags = [scaled[order - lag : len(scaled) - lag] for lag in range(1, order + 1)]
        inputs = torch.cat([known[order:], *lags], 1)
        gram = inputs.T @ inputs + self.ridge * len(inputs) * torch.eye(inputs.shape[1], dtype=inputs.dtype)
        self.weights = torch.linalg.solve(gram, inputs.T @ scaled[order:])
        self.errors = scaled[order:] - inputs @ self.weights
        self.errors = self.errors - self.errors.mean(0)

    def _tokens(self, values: Tensor) -> Tensor:
        return values.log().diff(dim=0) if self.returns else values

    def _calendar(self, panel: Panel, ahead: int) -> Tensor:
        constant = torch.ones(len(panel) + ahead, 1, dtype=torch.float64)
        if self.calendar is None:
            return constant
        times = panel.times if ahead == 0 else panel.times.append(panel.future_times(ahead))
        return torch.cat([constant, self.calendar.features(times).double()], 1)
