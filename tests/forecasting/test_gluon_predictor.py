"""Behind GluonTS's interface the same forecasts come out, in the order of the data set; its evaluator takes them."""

import numpy as np
import pandas as pd
import pytest
import torch

from noiseladder.forecasting import Forecaster, ForecasterOptions, panel_from_frame
from noiseladder.forecasting.gluon_predictor import GluonPredictor

pytest.importorskip("gluonts")

TINY = ForecasterOptions(
    horizon=4, context=8, width=8, batch=4, steps=3, validate_every=3, threads=1, held_out=0, sampling_steps=3
)  # fmt: skip
TIMES = pd.date_range("2024-01-01", periods=80, name="ds")
VALUES = 10 + np.random.default_rng(0).normal(size=(80, 2))
FRAME = pd.DataFrame(VALUES, TIMES, ["a", "b"])


def entries(length: int, first: int = 0) -> list[dict[str, object]]:
    start = pd.Period(TIMES[first], freq="D")
    return [{"start": start, "target": VALUES[first:length, n], "item_id": name} for n, name in enumerate("ab")]


@pytest.fixture(scope="module")
def predictor() -> GluonPredictor:
    return GluonPredictor.fit(entries(80), "D", TINY)


def test_it_is_the_forecaster_of_the_same_table(predictor):
    ours = Forecaster.fit(FRAME, TINY)
    assert torch.equal(predictor.forecaster.past.values, ours.past.values)
    assert predictor.forecaster.past.times.equals(panel_from_frame(FRAME).times)
    expected = ours.predict(samples=6).samples.numpy()
    found = list(predictor.predict(entries(80), num_samples=6))
    assert [forecast.item_id for forecast in found] == ["a", "b"]
    for number, forecast in enumerate(found):
        np.testing.assert_array_equal(forecast.samples, expected[..., number])
        assert forecast.start_date == pd.Period("2024-03-21", freq="D")
    (joint,) = predictor.predict([{"start": entries(80)[0]["start"], "target": VALUES.T}], num_samples=6)
    np.testing.assert_array_equal(joint.samples, expected)


def test_windows_come_back_in_the_order_of_the_data_set(predictor):
    (a, b), (late_a, late_b) = entries(60), entries(70)
    found = list(predictor.predict([a, late_a, late_b, b], num_samples=3))
    assert [(f.item_id, f.start_date.day, f.start_date.month) for f in found] == [
        ("a", 1, 3),
        ("a", 11, 3),
        ("b", 11, 3),
        ("b", 1, 3),
    ]
    assert predictor.prediction_length == 4
    assert not np.array_equal(found[0].samples, found[1].samples)


def test_gluonts_evaluates_it(predictor):
    from gluonts.dataset.split import split
    from gluonts.evaluation import Evaluator, make_evaluation_predictions

    forecasts, truth = make_evaluation_predictions(entries(80), predictor, num_samples=8)
    scores, _ = Evaluator(num_workers=0)(truth, forecasts)
    assert 0 < scores["mean_wQuantileLoss"] < 1
    _, template = split(entries(80), offset=-12)
    windows = template.generate_instances(4, windows=3)
    assert len(list(predictor.predict(windows.input, num_samples=2))) == 2 * 3


def test_a_series_that_starts_later_is_missing_before(predictor):
    (a, _), (_, b) = entries(80), entries(80, first=30)
    late = GluonPredictor.fit([a, b], "D", TINY).forecaster.past
    assert late.values[:30, 1].isnan().all()
    assert not late.values[30:].isnan().any()


@pytest.mark.parametrize(("frequency", "alias"), [("MS", "M"), ("ME", "M"), ("W-SUN", "W-SUN"), ("h", "h"), ("B", "B")])
def test_periods_and_timestamps_agree(frequency, alias):
    times = pd.date_range("2024-01-01", periods=80, freq=frequency)
    data = [{"start": times[0].to_period(alias), "target": VALUES[:, 0], "item_id": "a"}]
    fitted = GluonPredictor.fit(data, frequency, TINY)
    assert list(fitted.forecaster.past.times) == list(times)
    (forecast,) = fitted.predict(data, num_samples=2)
    assert forecast.start_date == times[-1].to_period(alias) + 1


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (entries(80)[:1], "expected each of a, b once"),
        ([*entries(80), entries(80)[0]], "expected each of a, b once"),
    ],
)
def test_what_does_not_fit_is_refused(predictor, dataset, message):
    with pytest.raises(ValueError, match=message):
        list(predictor.predict(dataset))
    with pytest.raises(ValueError, match="no entries"):
        GluonPredictor.fit([], "D", TINY)
    with pytest.raises(ValueError, match="expected all to end together"):
        GluonPredictor.fit([entries(80)[0], entries(70)[1]], "D", TINY)
