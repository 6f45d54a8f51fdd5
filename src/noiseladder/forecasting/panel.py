"""A panel: several series on one regular time axis; missing values are NaN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Panel:
    """`values` is `(T, D)` in float64, NaN where nothing is known; `times` has T entries one `frequency` apart."""

    values: Tensor
    times: pd.DatetimeIndex
    names: tuple[str, ...]
    frequency: str

    def __len__(self) -> int:
        return len(self.values)

    def before(self, origin: int) -> Panel:
        """The panel cut at a forecast origin: what is known when the forecast is made."""
        return Panel(self.values[:origin], self.times[:origin], self.names, self.frequency)

    def future_times(self, horizon: int) -> pd.DatetimeIndex:
        """The `horizon` timestamps that follow the last one."""
        import pandas as pd

        return pd.date_range(self.times[-1], periods=horizon + 1, freq=self.frequency)[1:]
