"""What is known of every future day in advance: hour, weekday, season and special days, as covariates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Calendar:
    """Which features of a timestamp are used; all of them are known before the forecast origin.

    hour: hour of the day, one-hot. week: day of the week, one-hot. year: number of harmonics of the day of the year.
    special_days: one kind a tuple, as ISO dates; each kind gets a column of its own, and all together get one for
    the day before and one for the day after.
    """

    hour: bool = False
    week: bool = True
    year: int = 2
    special_days: tuple[tuple[str, ...], ...] = ()

    def features(self, times: pd.DatetimeIndex) -> Tensor:
        """`(T, C)` in float32."""
        import pandas as pd

        columns: list[Tensor] = []
        if self.hour:
            columns += [torch.eye(24)[torch.from_numpy(times.hour.to_numpy(dtype="int64"))]]
        if self.week:
            columns += [torch.eye(7)[torch.from_numpy(times.dayofweek.to_numpy(dtype="int64"))]]
        angle = torch.from_numpy(times.dayofyear.to_numpy(dtype="float32"))[:, None] * (2 * math.pi / 365.25)
        for harmonic in range(1, self.year + 1):
            columns += [(harmonic * angle).sin(), (harmonic * angle).cos()]
        if self.special_days:
            days = times.normalize()
            kinds = [pd.DatetimeIndex(kind) for kind in self.special_days]
            every = kinds[0].append(kinds[1:])
            shifted = [every - pd.Timedelta(days=1), every + pd.Timedelta(days=1)]
            flags = [torch.from_numpy(days.isin(dates)) for dates in [*kinds, *shifted]]
            columns += [torch.stack(flags, 1).float()]
        return torch.cat(columns, 1) if columns else torch.zeros(len(times), 0)

    @classmethod
    def for_frequency(cls, frequency: str) -> Calendar:
        """What usually matters at a pandas frequency: hours below a day, weekdays up to a day, the season always."""
        import pandas as pd

        step = pd.tseries.frequencies.to_offset(frequency)
        start = pd.Timestamp("2024-01-01")
        length = (start + step) - start
        return cls(hour=length < pd.Timedelta(days=1), week=length <= pd.Timedelta(days=1))


def us_special_days(first: int = 1990, last: int = 2050) -> tuple[tuple[str, ...], ...]:
    """Federal holidays of the United States, the day after Thanksgiving and the days from Christmas to New Year."""
    import pandas as pd
    from pandas.tseries.holiday import USFederalHolidayCalendar

    named = USFederalHolidayCalendar().holidays(f"{first}-01-01", f"{last}-12-31", return_name=True)
    kinds = [tuple(str(day.date()) for day in named.index[named == name]) for name in sorted(set(named))]
    thanksgiving = named.index[named.str.contains("Thanksgiving")]
    kinds += [tuple(str(day.date()) for day in thanksgiving + pd.Timedelta(days=1))]
    kinds += [
        tuple(f"{year}-12-{day}" for year in range(first, last + 1) for day in days)
        for days in ((24,), (25,), (26, 27, 28, 29, 30), (31,))
    ]
    return tuple(kinds)
