"""A forecast is a set of joint sampled futures; everything else about it is read off the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .panel import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Forecast:
    """`samples` is `(S, H, D)`: sample s is one possible future of all series together.

    times: the H timestamps of the future. past: the panel up to the forecast origin.
    """

    samples: Tensor
    times: pd.DatetimeIndex
    past: Panel

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the D series."""
        return self.past.names

    @property
    def mean(self) -> Tensor:
        """`(H, D)`."""
        return self.samples.mean(0)

    @property
    def median(self) -> Tensor:
        """`(H, D)`."""
        return self.quantile(0.5)

    def quantile(self, quantile: float) -> Tensor:
        """`(H, D)`. Raises ValueError for a quantile outside [0, 1]."""
        if not 0 <= quantile <= 1:
            raise ValueError(f"a quantile lies between 0 and 1, got {quantile}: the 10 % quantile is 0.1")
        return torch.quantile(self.samples, quantile, dim=0)

    def to_frame(self, quantiles: Sequence[float] = (0.1, 0.5, 0.9)) -> pd.DataFrame:
        """Long table: unique_id, ds, mean and a column for each quantile."""
        columns = {"mean": self.mean} | {f"q{quantile:g}": self.quantile(quantile) for quantile in quantiles}
        return self._table({name: value.T.flatten() for name, value in columns.items()}, 1)

    def samples_to_frame(self) -> pd.DataFrame:
        """Long table: unique_id, ds, sample, y; rows with the same sample belong to one joint future."""
        count, horizon, series = self.samples.shape
        sample = torch.arange(count).repeat_interleave(horizon).repeat(series)
        return self._table({"sample": sample, "y": self.samples.permute(2, 0, 1).flatten()}, count)

    def _table(self, columns: dict[str, Tensor], repeats: int) -> pd.DataFrame:
        """Series after series, each with `repeats` runs through the horizon."""
        import pandas as pd

        rows = len(self.times) * repeats
        names = [name for name in self.names for _ in range(rows)]
        times = self.times.append([self.times] * (repeats * len(self.names) - 1))
        return pd.DataFrame({"unique_id": names, "ds": times} | {k: v.numpy() for k, v in columns.items()})

    def plot(
        self, path: Path | str | None = None, history: int | None = None, most: int = 12, truth: Tensor | None = None
    ) -> Figure:
        """Fans over history, one small plot a series; saved to `path` if given.

        history: steps of the past that are shown, four times the future's without it, at least 30. most: series that
        are shown. truth: `(H, D)`, drawn on top.
        """
        from .picture import draw_forecast

        history = max(30, 4 * len(self.times)) if history is None else history
        return draw_forecast(self, None if path is None else Path(path), history, most, truth)
