"""Forecast a table: `noiseladder forecast FILE.csv --horizon 30` trains, or loads, and writes quantiles and a fan."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.forecasting.calendar import Calendar, us_special_days
from noiseladder.forecasting.datasets import chicago, ecb
from noiseladder.forecasting.forecast import Forecast as Futures
from noiseladder.forecasting.forecaster import Forecaster, check_learnable, check_recent, fitted_options
from noiseladder.forecasting.frames import panel_from_frame, read_table
from noiseladder.forecasting.model import Reading, make_experiment
from noiseladder.forecasting.options import ForecasterOptions
from noiseladder.forecasting.panel import Panel
from noiseladder.training.durable import check_writable, replace_file
from noiseladder.training.experiment import Experiment
from noiseladder.training.options import check_at_least
from noiseladder.training.progress import Progress, duration


class Data(Enum):
    """The sets that come with a package."""

    ECB = "ecb"
    CHICAGO = "chicago"


@dataclass(frozen=True)
class Forecast:
    """What to forecast, how far, and where to write it."""

    file: Path | None = None
    """CSV or Parquet: long (unique_id, ds, y or item_id, timestamp, target) or wide (a time column, then a column a
    series). Without it, --data is forecast."""
    _: KW_ONLY
    horizon: int = 30
    """Steps to forecast."""
    context: int | None = None
    """Steps that are read before a forecast; chosen for you without it."""
    samples: int = 100
    """Joint futures to draw."""
    quantiles: Annotated[tuple[float, ...], Parameter(consume_multiple=True, negative=())] = (
        0.05,
        0.1,
        0.25,
        0.5,
        0.75,
        0.9,
        0.95,
    )
    """Quantiles to write."""
    steps: int | None = None
    """Training steps in all."""
    minutes: float | None = None
    """Train about this long, in place of --steps."""
    frequency: str | None = None
    """Distance of two steps (D, B, h, 15min, MS ...); read off the timestamps without it. Steps that the file leaves
    out are missing values."""
    us_holidays: bool = False
    """Tell the model which days are holidays in the United States."""
    data: Data = Data.ECB
    """What to forecast without a file: exchange rates (Source: ECB), or rides in Chicago."""
    run: Path | None = None
    """The folder of an earlier forecast: its model is loaded, nothing is trained."""
    output: Path | None = None
    """Folder to write to; forecast-NAME without it."""
    seed: int = 0
    """The same seed gives the same forecast on the same machine."""


def forecast(options: Annotated[Forecast, Parameter(name="*")] = Forecast()) -> None:
    """Forecast a table of series: many joint futures, their quantiles, and a picture."""
    check(options)
    panel, calendar = read(options)
    print(described(panel))
    output = options.output or Path(f"forecast-{options.file.stem if options.file else options.data.value}")
    check_writable(output / "quantiles.csv")
    if options.run is not None:
        forecaster = Forecaster.load(options.run / "model")
    else:
        forecaster = fit(panel, calendar, options)
        forecaster.save(output / "model")
    futures = forecaster.predict(panel, options.horizon, options.samples, options.seed)
    for path in write(futures, output, options.quantiles):
        print(f"wrote {path}")


def check(options: Forecast) -> None:
    """Raise ValueError for options that cannot be met, before anything is read or trained."""
    check_at_least(options, horizon=1, samples=1, context=1, steps=1)
    for quantile in options.quantiles:
        if not 0 < quantile < 1:
            raise ValueError(f"--quantiles holds {quantile}, expected numbers between 0 and 1")
    if options.minutes is not None and not options.minutes > 0:
        raise ValueError(f"--minutes is {options.minutes}, expected more than 0")
    if options.file is not None and (options.file / "model").is_dir():
        raise ValueError(f"{options.file} is an earlier forecast: give it as --run, beside the file to forecast")
    if options.run is not None and not options.run.is_dir():
        raise FileNotFoundError(f"there is no folder {options.run}: expected that of an earlier forecast")


def read(options: Forecast) -> tuple[Panel, Calendar | None]:
    """The panel to forecast and its calendar; None for what usually matters at its frequency."""
    if options.file is not None:
        panel = panel_from_frame(read_table(options.file), options.frequency)
        usual = Calendar.for_frequency(panel.frequency)
        return panel, replace(usual, special_days=us_special_days()) if options.us_holidays else None
    if options.data is Data.ECB:
        return ecb(), None
    return chicago(), Calendar(special_days=us_special_days())


def described(panel: Panel) -> str:
    """What was read, in one line, so that a wrong guess shows before training."""
    count, first, last = len(panel.names), panel.times[0], panel.times[-1]
    gaps = int(panel.values.isnan().sum())
    missing = f", {gaps} of {panel.values.numel()} values missing" if gaps else ""
    return f"{count} series of {len(panel)} steps ({panel.frequency}), {first} to {last}{missing}"


def fit(panel: Panel, calendar: Calendar | None, options: Forecast) -> Forecaster:
    """Train in front of the user."""
    wanted = ForecasterOptions(horizon=options.horizon, seed=options.seed)
    if options.context is not None:
        wanted = replace(wanted, context=options.context)
    if options.steps is not None:
        wanted = replace(wanted, steps=options.steps)
    wanted = fitted_options(wanted, panel)
    check_learnable(panel, wanted)
    check_recent(panel, wanted.context)  # before training, not after it
    if options.minutes is not None:
        wanted = replace(wanted, steps=steps_in(options.minutes, panel, calendar, wanted))
    line = Progress(sys.stderr, wanted.steps)
    forecaster = Forecaster.fit(panel, wanted, calendar, progress=lambda member, report: line.add(report))
    line.close()
    return forecaster


def steps_in(minutes: float, panel: Panel, calendar: Calendar | None, options: ForecasterOptions) -> int:
    """How many training steps fit into so many minutes, by the time that a few of them take."""
    trial = replace(options, steps=12, members=1, calibrate=False, validate_every=12)
    seconds: list[float] = []
    Forecaster.fit(panel, trial, calendar, progress=lambda member, report: seconds.append(report.seconds))
    each = (seconds[-2] - seconds[3]) / (len(seconds) - 5)
    steps = max(50, int(minutes * 60 / each / options.members))
    print(f"{steps} steps fit into {duration(minutes * 60)}", file=sys.stderr)
    return steps


def write(futures: Futures, output: Path, quantiles: tuple[float, ...]) -> list[Path]:
    """Quantiles and samples as CSV, fans as PNG; each file is whole or not there."""
    writers: dict[str, Callable[[Path], None]] = {
        "quantiles.csv": lambda path: futures.to_frame(quantiles).to_csv(path, index=False),
        "samples.csv": lambda path: futures.samples_to_frame().to_csv(path, index=False),
        "forecast.png": lambda path: futures.plot().savefig(path, dpi=140, format="png"),
    }
    for name, writer in writers.items():
        replace_file(output / name, writer)
    return [output / name for name in writers]


@dataclass(frozen=True, kw_only=True)
class Series(ForecasterOptions):
    """One network of a forecaster, with checkpoints and all that a training run keeps."""

    file: Path | None = None
    """CSV or Parquet file with the series; --data without it."""
    data: Data = Data.ECB
    """What to learn without a file."""


def experiment(options: Series) -> Experiment:
    """Windows anywhere before the held-out tail; the tail's windows choose the weights."""
    panel, calendar = read(Forecast(options.file, data=options.data))
    fitted = fitted_options(options, panel)
    check_learnable(panel, fitted)
    reading = Reading.fit(panel, fitted, calendar)
    made = make_experiment(panel, reading)
    return replace(made, picture=lambda denoiser, path: draw(denoiser, path, reading, panel))


def draw(denoiser: Denoiser, path: Path, reading: Reading, panel: Panel) -> None:
    """The forecast of the held-out tail's last steps, and what happened."""
    horizon = reading.options.horizon
    past = panel.before(len(panel) - horizon)
    Forecaster((denoiser,), reading, past).predict().plot(truth=panel.values[-horizon:]).savefig(path, format="png")
