"""The door for a user's table: long or wide, from a file or a data frame, checked before anything is learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .panel import Panel

if TYPE_CHECKING:
    import pandas as pd

LONG = (("unique_id", "ds", "y"), ("item_id", "timestamp", "target"))
TIME_NAMES = ("ds", "timestamp", "date", "time", "datetime")

SINGLE = (("ds", "y"), ("timestamp", "target"))  # a long table of one series needs no name for it

OFTEN_THERE = 0.8  # share of steps a table must have for the others to be taken for missing

LARGEST = 1e18  # the network computes in float32, and its squares must fit


def read_table(path: Path) -> pd.DataFrame:
    """A CSV or Parquet file as a data frame. Raises ValueError for an empty or unreadable file, OSError for none."""
    pandas = need_pandas()
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the path of a CSV or Parquet file")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: give the path of a CSV or Parquet file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: expected a header and rows of values")
    try:
        table = pandas.read_parquet(path) if path.suffix in (".parquet", ".pq") else _read_csv(path)
    except Exception as error:
        kind = "Parquet" if path.suffix in (".parquet", ".pq") else "CSV"
        raise ValueError(f"{path} cannot be read as {kind}: {' '.join(str(error).split())}") from error
    if table.empty:
        raise ValueError(f"{path} has no rows: expected a header and rows of values")
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    """A CSV with commas, or as spreadsheets write it where the comma is the decimal point, or with tabs."""
    pandas = need_pandas()
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline()
    separator = next((mark for mark in (",", ";", "\t") if mark in header), ",")
    table: pd.DataFrame = pandas.read_csv(path, sep=separator, decimal="," if separator == ";" else ".")
    return table


def panel_from_frame(frame: pd.DataFrame, frequency: str | None = None) -> Panel:
    """Read a data frame, long (`unique_id, ds, y` or `item_id, timestamp, target`) or wide (a column a series).

    A long table of one series may go without its name. The time of a wide frame is its index, a column called ds,
    timestamp, date, time or datetime, or the first one; years may be whole numbers. frequency: a pandas offset such as
    D, B, h, 15min, MS; taken from the timestamps when not given. Steps that the table leaves out are missing values;
    without a frequency given, at least 80 % of the steps must be there.

    Raises ValueError, naming row and column, for cells that are not finite numbers (empty cells are missing
    values), timestamps that are no dates, twice there, unsorted or irregular, and series without two values.
    """
    need_pandas()
    if frame.empty:
        raise ValueError("the table has no rows: expected a header and rows of values")
    long = next((names for names in LONG if set(names) <= set(frame.columns)), None)
    if long is None:
        _check_columns(frame)
        wide = _wide_with_times(frame)
    else:
        wide = _pivot(frame, *long)
    times = wide.index
    doubled = times[times.duplicated()]
    if len(doubled):
        raise ValueError(f"the timestamp {doubled[0]} is there twice: keep one row for each step")
    if not times.is_monotonic_increasing:
        place = int((times[1:] < times[:-1]).argmax()) + 1
        raise ValueError(f"timestamps are not sorted: {times[place]} comes after {times[place - 1]}; sort the rows")
    frequency, times = _regular(times, frequency)
    values = torch.from_numpy(wide.reindex(times).to_numpy(dtype="float64", copy=True))
    for name, column in zip(wide.columns, values.T):
        known = column[~column.isnan()]
        if len(known) < 2:
            raise ValueError(f"series {name!r} has {len(known)} values, expected many: drop it or fill it")
    return Panel(values, times.rename("ds"), tuple(map(str, wide.columns)), frequency)


def need_pandas() -> Any:
    """Pandas, or an ImportError that names the extra it comes with."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("tables need pandas: pip install 'noiseladder[forecasting]'") from error
    return pandas


def _check_columns(frame: pd.DataFrame) -> None:
    """Raise ValueError for a frame that wants to be long but lacks a column."""
    with_times = isinstance(frame.index, need_pandas().DatetimeIndex)
    if with_times or any(set(frame.columns) == set(names) for names in SINGLE):
        return
    for names in LONG:
        there = [name for name in names if name in frame.columns]
        missing = [name for name in names if name not in frame.columns]
        if names[0] in there or names[2] in there:
            raise ValueError(
                f"the table has {', '.join(there)} but not {', '.join(missing)}: a long table needs"
                f" {', '.join(names)}; a wide one a time column and one column a series"
            )


def _wide_with_times(frame: pd.DataFrame) -> pd.DataFrame:
    pandas = need_pandas()
    if isinstance(frame.index, pandas.DatetimeIndex):
        return _numbers(frame)
    names = {str(name).lower(): name for name in frame.columns}
    column = next((names[name] for name in TIME_NAMES if name in names), frame.columns[0])
    rest = frame.drop(columns=[column])
    if rest.shape[1] == 0:
        raise ValueError(f"the table has only the column {column!r}: expected times and at least one series")
    return _numbers(rest).set_axis(_times(frame[column]), axis=0)


def _pivot(frame: pd.DataFrame, series: str, time: str, value: str) -> pd.DataFrame:
    tidy = _numbers(frame[[value]]).assign(series=frame[series].astype(str), time=_times(frame[time]))
    for name, part in tidy.groupby("series", sort=False):
        doubled = part["time"][part["time"].duplicated()]
        if len(doubled):
            raise ValueError(f"series {name!r} has the timestamp {doubled.iloc[0]} twice: keep one row for each step")
        if not part["time"].is_monotonic_increasing:
            raise ValueError(f"timestamps of series {name!r} are not sorted: sort the rows by {series} and {time}")
    wide = tidy.pivot(index="time", columns="series", values=value)
    return wide[list(dict.fromkeys(tidy["series"]))].sort_index()


def _numbers(columns: pd.DataFrame) -> pd.DataFrame:
    """Every column as floats; row numbers in messages count the first row of values as 1."""
    pandas = need_pandas()
    numbers = columns.apply(pandas.to_numeric, errors="coerce").astype("float64")
    for name in columns.columns:
        wrong = numbers[name].isna() & columns[name].notna()
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise ValueError(
                f"column {name!r}, row {row + 1} holds {columns[name].iloc[row]!r}, expected a number (leave the cell"
                " empty if the value is missing)"
            )
        infinite = numbers[name].abs() > LARGEST
        if infinite.any():
            row = int(infinite.to_numpy().argmax())
            raise ValueError(
                f"column {name!r}, row {row + 1} is infinite or beyond {LARGEST:g},"
                " expected a number of ordinary size or an empty cell"
            )
    return numbers


def _times(column: pd.Series) -> pd.DatetimeIndex:
    pandas = need_pandas()
    if pandas.api.types.is_integer_dtype(column) and column.between(1000, 2999).all():
        return pandas.DatetimeIndex(pandas.to_datetime(column.astype(str), format="%Y"))
    if pandas.api.types.is_numeric_dtype(column):
        raise ValueError(
            f"the time column {column.name!r} holds numbers, expected dates such as 2026-01-31: name the time column"
            " ds, timestamp or date"
        )
    # With points the day comes first, whatever the country; with slashes it depends, so there pandas decides.
    dotted = bool(column.astype(str).str.match(r"\d{1,2}\.\d{1,2}\.\d{4}").all())
    times = pandas.to_datetime(column, errors="coerce", dayfirst=dotted)
    if times.isna().any():
        row = int(times.isna().to_numpy().argmax())
        raise ValueError(
            f"column {column.name!r}, row {row + 1} holds {column.iloc[row]!r}, expected a date such as 2026-01-31"
        )
    return pandas.DatetimeIndex(times)


def _regular(times: pd.DatetimeIndex, frequency: str | None) -> tuple[str, pd.DatetimeIndex]:
    """The frequency and every step of it between the first and the last timestamp."""
    pandas = need_pandas()
    if len(times) < 3:
        raise ValueError(f"the table has {len(times)} steps, expected many more than the horizon")
    if frequency is None:
        frequency = pandas.infer_freq(times) or _frequency_with_gaps(times)
    if frequency is None:
        gaps = times[1:] - times[:-1]
        usual = gaps.value_counts().index[0]
        odd = int((gaps != usual).argmax())
        raise ValueError(
            f"timestamps are irregular: {times[odd]} is followed by {times[odd + 1]}, while {usual} is usual;"
            " give --frequency (D, B, h, 15min, MS ...) and steps left out become missing values"
        )
    try:
        offset = pandas.tseries.frequencies.to_offset(frequency)
    except ValueError as error:
        raise ValueError(f"unknown frequency {frequency!r}: expected one such as D, B, h, 15min, W, MS") from error
    every = pandas.date_range(times[0], times[-1], freq=offset)
    off = times[~times.isin(every)]
    if len(off):
        raise ValueError(f"the timestamp {off[0]} does not fit the frequency {frequency}: give another --frequency")
    return str(frequency), every


def _frequency_with_gaps(times: pd.DatetimeIndex) -> str | None:
    """The frequency of which the timestamps leave out a few steps, or None."""
    pandas = need_pandas()
    usual = (times[1:] - times[:-1]).value_counts().index[0]
    week = [f"W-{day}" for day in sorted({*times.day_name().str[:3].str.upper()})]
    plain: str = pandas.tseries.frequencies.to_offset(usual).freqstr
    for frequency in ["YS", "QS", "MS", "ME", *(week if len(week) == 1 else []), "B", plain]:
        every = pandas.date_range(times[0], times[-1], freq=frequency)
        if len(times) >= OFTEN_THERE * len(every) and bool(times.isin(every).all()):
            return frequency
    return None
