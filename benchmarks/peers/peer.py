"""What a peer is: it fits on the panel before the first window and samples joint futures after every origin."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from noiseladder.forecasting.calendar import Calendar
from noiseladder.forecasting.panel import Panel


class Peer(Protocol):
    """A forecaster of joint paths; `calendar` holds what is known of the future, None where there is nothing."""

    name: str

    def fit(self, training: Panel, calendar: Calendar | None, horizon: int) -> None:
        """Learn from everything before the first window, choosing settings on windows inside it."""
        ...

    def sample(self, past: Panel, samples: int, generator: torch.Generator) -> Tensor:
        """`(samples, horizon, D)` futures of `past`, in the panel's own unit."""
        ...


def validation_origins(training: Panel, horizon: int, count: int = 20) -> list[int]:
    """Origins of the windows that lie before the test windows: settings are chosen on these."""
    return [len(training) - horizon * left for left in range(count, 0, -1)]
