from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from noiseladder.forecasting import Calendar, Forecast, Forecaster, ForecasterOptions, Panel, panel_from_frame
from noiseladder.forecasting.calibration import spread_factor, trusted, widen
from noiseladder.forecasting.forecaster import check_learnable
from noiseladder.forecasting.model import NO_CALENDAR, Reading, keeps

TINY = ForecasterOptions(
    horizon=5, context=10, width=8, batch=4, steps=6, validate_every=6, threads=1, held_out=30, sampling_steps=3
)  # fmt: skip


def frame(wandering: bool, steps: int = 160) -> pd.DataFrame:
    random = np.random.default_rng(0)
    noise = random.normal(size=(steps, 2))
    values = np.exp(0.01 * noise.cumsum(0)) if wandering else 10 + noise
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=steps, name="ds"), ["a", "b"])


@pytest.fixture(scope="module", params=[True, False], ids=["wandering", "levels"])
def fitted(request) -> Forecaster:
    return Forecaster.fit(frame(request.param), TINY)


@pytest.fixture(scope="module")
def with_gaps() -> Forecaster:
    holes = frame(False)
    holes.iloc[20:30, 0] = np.nan
    return Forecaster.fit(holes, TINY)


def test_a_forecast_has_joint_samples_and_what_is_read_off_them(fitted, tmp_path):
    forecast = fitted.predict(samples=20)
    assert forecast.samples.shape == (20, 5, 2)
    assert bool(forecast.samples.isfinite().all())
    assert forecast.times[0] == fitted.past.times[-1] + pd.Timedelta(days=1)
    torch.testing.assert_close(forecast.mean, forecast.samples.mean(0))
    assert bool((forecast.quantile(0.1) <= forecast.quantile(0.9)).all())
    with pytest.raises(ValueError, match="between 0 and 1"):
        forecast.quantile(90)
    table = forecast.to_frame((0.1, 0.9))
    assert list(table.columns) == ["unique_id", "ds", "mean", "q0.1", "q0.9"]
    assert table[table.unique_id == "b"]["q0.9"].tolist() == forecast.quantile(0.9)[:, 1].tolist()
    rows = forecast.samples_to_frame().set_index(["unique_id", "sample", "ds"])["y"]
    assert rows["b", 7].tolist() == forecast.samples[7, :, 1].tolist()
    forecast.plot(tmp_path / "fan.png")
    assert (tmp_path / "fan.png").stat().st_size > 5000


def test_the_future_cannot_be_seen(fitted):
    panel = fitted.past
    origin = len(panel) - 20
    changed = panel.values.clone()
    changed[origin:] = changed[origin:] * 3 + 7
    futures = [
        fitted.sample([Panel(values, panel.times, panel.names, "D").before(origin)], samples=4)
        for values in (panel.values, changed)
    ]
    assert torch.equal(*futures)


def test_training_does_not_see_what_lies_after_its_panel():
    full = frame(True)
    changed = full.copy()
    changed.iloc[130:] *= 3
    panels = [panel_from_frame(table).before(130) for table in (full, changed)]
    futures = [Forecaster.fit(panel, TINY).predict(samples=3).samples for panel in panels]
    assert torch.equal(*futures)


def test_the_held_out_tail_reaches_neither_statistics_nor_training_windows():
    full = frame(True)
    changed = full.copy()
    changed.iloc[-30:] *= 3
    loose = replace(TINY, calibrate=False, validate_every=100, steps=1, learning_rate=1e-9)
    readings = [Forecaster.fit(table, loose).reading.normalizer for table in (full, changed)]
    assert torch.equal(readings[0].spread, readings[1].spread)
    assert torch.equal(readings[0].usual, readings[1].usual)


def test_the_past_matters(fitted):
    panel = fitted.past
    changed = panel.values.clone()
    changed[-3:] *= 1.1
    futures = [
        fitted.predict(Panel(values, panel.times, panel.names, "D"), samples=4).samples
        for values in (panel.values, changed)
    ]
    assert not torch.equal(*futures)


def test_a_forecast_does_not_depend_on_the_seed_of_torch_but_on_its_own(fitted):
    torch.manual_seed(1)
    first = fitted.predict(samples=4).samples
    torch.manual_seed(2)
    assert torch.equal(first, fitted.predict(samples=4).samples)
    assert not torch.equal(first, fitted.predict(samples=4, seed=1).samples)


def test_any_horizon_and_any_number_of_samples(fitted):
    assert fitted.predict(horizon=11, samples=3).samples.shape == (3, 11, 2)
    with pytest.raises(ValueError, match="expected at least 1"):
        fitted.predict(samples=0)


def test_where_series_wander_a_mirrored_past_has_the_mirrored_future():
    forecaster = Forecaster.fit(frame(True), replace(TINY, calibrate=False))
    panel = forecaster.past
    mirrored = Panel(1 / panel.values, panel.times, panel.names, "D")
    up, down = (forecaster.predict(past, samples=20).samples.log().sort(0).values for past in (panel, mirrored))
    torch.testing.assert_close(up, -down.flip(0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("gaps", [False, True])
def test_saved_and_loaded_it_forecasts_the_same(gaps, fitted, with_gaps, tmp_path):
    forecaster = with_gaps if gaps else fitted
    forecaster.save(tmp_path)
    loaded = Forecaster.load(tmp_path)
    assert torch.equal(loaded.predict(samples=4).samples, forecaster.predict(samples=4).samples)
    assert loaded.past.times[-1] == forecaster.past.times[-1]


def test_a_file_of_something_else_is_refused(tmp_path):
    with pytest.raises(OSError):
        Forecaster.load(tmp_path)
    (tmp_path / "member-0.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(ValueError, match="pickle"):
        Forecaster.load(tmp_path)


def test_missing_values_need_no_imputation(with_gaps):
    assert with_gaps.reading.normalizer.shift.isfinite().all()
    recent = with_gaps.past.values.clone()
    recent[-4:, 0] = torch.nan
    panel = Panel(recent, with_gaps.past.times, with_gaps.past.names, "D")
    missing = with_gaps.predict(panel, samples=8).samples
    assert bool(missing.isfinite().all())
    # What is missing is hidden from the network: the other series' values still reach it.
    recent = recent.clone()
    recent[-4:, 1] += 1
    other = with_gaps.predict(Panel(recent, panel.times, panel.names, "D"), samples=8).samples
    assert not torch.equal(missing, other)


def test_another_panel_is_refused(fitted):
    with pytest.raises(ValueError, match="expected a, b"):
        fitted.predict(frame(True).rename(columns={"b": "c"}))
    with pytest.raises(ValueError, match="expected at least 11"):
        fitted.predict(fitted.past.before(6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda panel: panel.values[:, 1].fill_(3.0), "series 'b' is constant"),
        (lambda panel: panel.values[5].fill_(float("inf")), "infinite"),
    ],
)
def test_series_that_cannot_be_learned_are_refused(change, message):
    panel = panel_from_frame(frame(False))
    change(panel)
    with pytest.raises(ValueError, match=message):
        Forecaster.fit(panel, TINY)


def test_a_horizon_longer_than_the_history_is_refused():
    with pytest.raises(ValueError, match="too few for a horizon of 100"):
        Forecaster.fit(frame(False), replace(TINY, horizon=100))
    with pytest.raises(ValueError, match="horizon is 0"):
        check_learnable(panel_from_frame(frame(False)), replace(TINY, horizon=0))


def test_calibration_finds_the_spread_that_is_missing():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(300, 4, 2, generator=generator)
    narrow = torch.randn(300, 200, 4, 2, generator=generator) / 1.5
    factor = spread_factor(narrow, truth)
    assert factor == pytest.approx(1.5, rel=0.05)
    assert spread_factor(widen(narrow, factor), truth) == pytest.approx(1, rel=0.05)
    truth[:, 2] = torch.nan
    assert spread_factor(narrow, truth) == pytest.approx(1.5, rel=0.07)


def test_a_factor_counts_by_the_windows_it_was_measured_on():
    assert trusted(1.4, 0) == 1
    assert 1 < trusted(1.4, 20) < trusted(1.4, 60) < 1.4
    assert trusted(1.4, 1e9) == pytest.approx(1.4)
    assert trusted(0.8, 20) * trusted(1 / 0.8, 20) == pytest.approx(1)


def test_calendar_features_are_known_in_advance():
    times = pd.date_range("2024-12-24", periods=3)
    calendar = Calendar(week=True, year=1, special_days=(("2024-12-25",),))
    features = calendar.features(times)
    assert features.shape == (3, 7 + 2 + 3)
    assert features[:, 9].tolist() == [0, 1, 0]  # the day
    assert features[:, 10].tolist() == [1, 0, 0]  # the day before
    assert features[:, 11].tolist() == [0, 0, 1]  # the day after
    assert features[0, :7].argmax() == 1  # a Tuesday
    assert Calendar.for_frequency("h").hour
    assert not Calendar.for_frequency("MS").week


def one_series(values: np.ndarray, frequency: str) -> Panel:
    times = pd.date_range("2015-01-01", periods=len(values), freq=frequency, name="ds")
    return panel_from_frame(pd.DataFrame({"y": values}, times))


def test_what_wanders_with_the_seasons_keeps_its_calendar_and_is_not_turned_over():
    """A yearly wave looks like wandering from week to week; its calendar was once thrown away and its rise mirrored."""
    random = np.random.default_rng(0)
    wave = 50 + 10 * np.sin(2 * np.pi * np.arange(300) / 52.18) + random.normal(size=300)
    reading = Reading.fit(one_series(wave, "W"), replace(TINY, held_out=0))
    assert bool(reading.normalizer.wandering.all())
    assert reading.calendar == Calendar(week=False, year=2)
    assert not reading.mirrored


def test_what_wanders_without_a_calendar_is_turned_over():
    walks = [100 + np.random.default_rng(seed).normal(size=400).cumsum() for seed in range(20)]
    readings = [Reading.fit(one_series(walk, "D"), TINY) for walk in walks]
    wandering = [reading for reading in readings if bool(reading.normalizer.wandering.all())]
    assert len(wandering) >= 18  # a short walk may return by chance
    for reading in wandering:
        assert reading.calendar == NO_CALENDAR
        assert reading.mirrored
        assert bool((reading.normalizer.shift == 0).all())


def test_chance_alone_explains_as_much_as_it_should():
    features = Calendar(hour=True).features(pd.date_range("2024-01-01", periods=900, freq="h"))
    noise = torch.randn(900, 50, generator=torch.Generator().manual_seed(0)).double()
    assert not keeps(features, noise)
    noise[::7] = torch.nan
    assert not keeps(features, noise)
    assert keeps(features, noise + 2 * features[:, 5:6])


def test_a_drift_that_is_sure_goes_on():
    """Rises and falls were once equally likely, whatever the past of a series said."""
    random = np.random.default_rng(1)
    growth = np.exp(0.01 * (0.7 + random.normal(size=250)).cumsum())
    fitted = Forecaster.fit(one_series(growth, "D"), replace(TINY, held_out=0, steps=2))
    futures = fitted.predict(samples=400).samples[:, -1, 0]
    expected = 0.01 * 0.7 * TINY.horizon
    assert abs(float((futures / growth[-1]).log().mean()) / expected - 1) < 0.4


@pytest.mark.parametrize("series", [1, 2, 5])
def test_nothing_of_the_picture_is_cut_off(series):
    random = np.random.default_rng(0)
    values = pd.DataFrame(10 + random.normal(size=(60, series)), pd.date_range("2024-01-01", periods=60))
    past = panel_from_frame(values.rename(columns=str))
    figure = Forecast(torch.randn(20, 5, series).double(), past.future_times(5), past).plot(truth=torch.ones(5, series))
    figure.canvas.draw()
    (legend,) = figure.legends
    frame_of_it, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= frame_of_it.x0
    assert frame_of_it.x1 <= whole.x1


@pytest.mark.parametrize(
    ("frequency", "steps", "horizon"),
    [("W-SUN", 120, 26), ("h", 60, 5), ("5min", 30, 1), ("MS", 30, 1), ("YS", 70, 10)],
)
@pytest.mark.filterwarnings("error")
def test_every_span_of_time_has_ticks(frequency, steps, horizon):
    past = one_series(10 + np.random.default_rng(0).normal(size=steps), frequency)
    figure = Forecast(torch.randn(9, horizon, 1).double(), past.future_times(horizon), past).plot(history=steps)
    figure.canvas.draw()
    assert 2 <= len(figure.axes[0].get_xticks()) <= 8


@pytest.mark.parametrize("horizon", [1, 2])
def test_the_bands_of_a_short_forecast_are_seen(horizon):
    """A single step is drawn half a step wide: a point of no width would leave the picture empty."""
    past = one_series(10 + np.random.default_rng(0).normal(size=40), "D")
    samples = 10 + torch.randn(200, horizon, 1, generator=torch.Generator().manual_seed(0)).double()
    forecast = Forecast(samples, past.future_times(horizon), past)
    axes = forecast.plot(truth=torch.full((horizon, 1), 11.0)).axes[0]
    bands = [band.get_paths()[0].get_extents() for band in axes.collections]
    assert [band.width for band in bands] == pytest.approx([0.5 if horizon == 1 else 1.0] * 3)
    low, high = (float(forecast.quantile(quantile)[0, 0]) for quantile in (0.025, 0.975))
    assert bands[0].y0 <= low
    assert bands[0].y1 >= high
    assert bands[0].height > bands[1].height > bands[2].height > 0
    for line in axes.lines[1:3]:  # the median and what happened
        assert np.ptp(axes.convert_xunits(line.get_xdata())) > 0


def test_a_picture_of_some_series_says_so():
    values = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 14)), pd.date_range("2024-01-01", periods=40))
    past = panel_from_frame(values.rename(columns=str))
    forecast = Forecast(torch.randn(9, 5, 14).double(), past.future_times(5), past)
    assert forecast.plot().get_suptitle() == "the first 12 of 14 series"
    assert forecast.plot(most=14).get_suptitle() == ""
    assert len(forecast.plot().axes[0].lines[0].get_xdata()) == 30
