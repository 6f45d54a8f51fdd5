"""A forecaster behind the interface of GluonTS: data sets of its entries in, its sample forecasts out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .forecaster import Forecaster, Progress
from .options import ForecasterOptions
from .panel import Panel

if TYPE_CHECKING:
    import pandas as pd

Entry = Mapping[str, Any]
"""What GluonTS calls a data entry: start (a Period), target (T,) or (D, T), item_id."""


@dataclass(frozen=True)
class GluonPredictor:
    """What GluonTS asks of a `Predictor`, so that `make_evaluation_predictions` and `evaluate_model` run on it.

    Its series are forecast together: sample s of all entries that end at the same time is one joint future. So at every
    such time a data set needs one entry for each series, by its item_id, or one entry with a target (D, T).
    """

    forecaster: Forecaster
    seed: int = 0
    lead_time: int = 0

    @classmethod
    def fit(
        cls,
        dataset: Iterable[Entry],
        frequency: str,
        options: ForecasterOptions | None = None,
        progress: Progress | None = None,
    ) -> GluonPredictor:
        """Train on a GluonTS data set. frequency: the pandas offset of its steps: D, B, h, W-SUN, MS."""
        return cls(Forecaster.fit(_panel(list(dataset), frequency), options, progress=progress))

    @property
    def prediction_length(self) -> int:
        """Steps of a forecast."""
        return self.forecaster.reading.options.horizon

    def predict(self, dataset: Iterable[Entry], num_samples: int | None = 100) -> Iterator[Any]:
        """Yield a `gluonts.model.forecast.SampleForecast` for each entry, in the order of the data set."""
        try:
            from gluonts.model.forecast import SampleForecast
        except ImportError as error:
            raise ImportError("GluonTS is not installed: pip install gluonts packaging") from error
        entries, past = list(dataset), self.forecaster.past
        together: dict[pd.Period, list[int]] = {}
        for number, entry in enumerate(entries):
            together.setdefault(_end(entry), []).append(number)
        panels = [_panel([entries[n] for n in group], past.frequency, past.names) for group in together.values()]
        drawn = self.forecaster.sample(panels, samples=num_samples or 100, seed=self.seed).numpy()
        found: dict[int, Any] = {}
        for paths, group in zip(drawn, together.values(), strict=True):
            for number in group:
                entry = entries[number]
                joint = np.ndim(entry["target"]) == 2
                samples = paths if joint else paths[..., past.names.index(_name(entry))]
                found[number] = SampleForecast(samples, _end(entry) + 1, entry.get("item_id"))
        yield from (found[number] for number in range(len(entries)))


def _name(entry: Entry) -> str:
    return str(entry.get("item_id", "y"))


def _end(entry: Entry) -> pd.Period:
    """The period of the last known value."""
    return entry["start"] + (np.shape(entry["target"])[-1] - 1)


def _panel(entries: list[Entry], frequency: str, names: tuple[str, ...] | None = None) -> Panel:
    """Entries that end together, as one panel; a series that starts later is missing before. names: the order."""
    import pandas as pd

    if not entries:
        raise ValueError("the data set has no entries: expected one for each series")
    ends = {_end(entry) for entry in entries}
    if len(ends) > 1:
        raise ValueError(f"series end between {min(ends)} and {max(ends)}: expected all to end together")
    joint = np.ndim(entries[0]["target"]) == 2
    rows = (
        list(np.asarray(entries[0]["target"], dtype=float))
        if joint
        else [np.asarray(entry["target"], dtype=float) for entry in entries]
    )
    told = list(names or map(str, range(len(rows)))) if joint else [_name(entry) for entry in entries]
    names = names or tuple(told)
    if len(rows) != len(names) or sorted(told) != sorted(names) or (joint and len(entries) > 1):
        raise ValueError(
            f"at {ends.pop()} the data set has {len(rows)} series, {', '.join(told)}, expected each of"
            f" {', '.join(names)} once: they are forecast together"
        )
    columns = dict(zip(told, rows, strict=True))
    length = max(map(len, columns.values()))
    values = torch.full((length, len(names)), torch.nan, dtype=torch.float64)
    for number, name in enumerate(names):
        series = torch.from_numpy(columns[name])
        values[length - len(series) :, number] = series
    offset, end = pd.tseries.frequencies.to_offset(frequency), ends.pop()
    # A period has a first and a last day; one of them is on the offset: a week's Sunday, a month's first day.
    stamps = (end.to_timestamp(how="start"), end.to_timestamp(how="end").normalize())
    last = next((stamp for stamp in stamps if offset.is_on_offset(stamp)), None)
    if last is None:
        raise ValueError(f"the period {end} does not fit the frequency {frequency}: give another frequency")
    times = pd.date_range(end=last, periods=length, freq=offset, name="ds")
    return Panel(values, times, names, frequency)
