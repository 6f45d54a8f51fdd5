import numpy as np
import pytest
import torch

from noiseladder.forecasting.metrics import (
    Ratio,
    block_bootstrap,
    coverage,
    crps,
    crps_sum,
    energy_score,
    sample_quantile,
)


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(0)
    truth = 5 + torch.randn(4, 6, 3, generator=generator, dtype=torch.float64)
    samples = truth[:, None] + torch.randn(4, 50, 6, 3, generator=generator, dtype=torch.float64)
    return samples, truth


def test_crps_sum_is_what_gluonts_computes(drawn):
    pytest.importorskip("gluonts")
    import pandas as pd
    from gluonts.evaluation import MultivariateEvaluator
    from gluonts.model.forecast import SampleForecast

    samples, truth = drawn
    start = pd.Period("2024-01-01", freq="D")
    series = [pd.DataFrame(t.numpy(), index=pd.period_range(start, periods=6, freq="D")) for t in truth]
    forecasts = [SampleForecast(s.numpy(), start) for s in samples]
    quantiles = np.arange(1, 20) / 20
    evaluator = MultivariateEvaluator(quantiles=quantiles, target_agg_funcs={"sum": np.sum})
    metrics, _ = evaluator(series, forecasts, num_series=4)
    assert crps_sum(samples, truth).value == pytest.approx(metrics["m_sum_mean_wQuantileLoss"], rel=1e-9)


def test_energy_score_is_scoringrules(drawn):
    scoringrules = pytest.importorskip("scoringrules")
    samples, truth = drawn
    scale = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    expected = scoringrules.es_ensemble(
        (truth / scale).numpy(), (samples / scale).transpose(1, 2).numpy(), m_axis=-2, v_axis=-1
    )
    assert energy_score(samples, truth, scale).value == pytest.approx(expected.mean(), rel=1e-9)


def test_crps_is_near_scoringrules(drawn):
    scoringrules = pytest.importorskip("scoringrules")
    samples, truth = drawn
    exact = scoringrules.crps_ensemble(truth.numpy(), samples.movedim(1, -1).numpy()).sum() / truth.abs().sum()
    # 19 quantiles are not the integral over all: a few per cent.
    assert crps(samples, truth).value == pytest.approx(float(exact), rel=0.08)


def test_a_perfect_forecast_scores_zero_and_metrics_change_nothing(drawn):
    _, truth = drawn
    before = truth.clone()
    perfect = truth[:, None].expand(-1, 10, -1, -1)
    assert crps_sum(perfect, truth).value == 0
    assert crps(perfect, truth).value == 0
    assert energy_score(perfect, truth, torch.ones(3, dtype=torch.float64)).value == pytest.approx(0, abs=1e-7)
    assert coverage(perfect, truth).value == 1
    assert torch.equal(truth, before)


def test_coverage_of_the_true_law():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(200, 20, 2, generator=generator)
    samples = torch.randn(200, 200, 20, 2, generator=generator)
    assert coverage(samples, truth).value == pytest.approx(0.8, abs=0.02)
    assert coverage(samples / 2, truth).value < 0.6


def test_crps_sum_sees_the_dependence_that_crps_does_not():
    generator = torch.Generator().manual_seed(0)
    truth = 3 + torch.randn(100, 5, 1, generator=generator).expand(-1, -1, 8)
    joint = 3 + torch.randn(100, 100, 5, 1, generator=generator).expand(-1, -1, -1, 8)
    apart = 3 + torch.randn(100, 100, 5, 8, generator=generator)
    assert crps_sum(joint, truth).value < 0.9 * crps_sum(apart, truth).value
    assert crps(joint, truth).value == pytest.approx(crps(apart, truth).value, rel=0.05)


def test_sample_quantile_is_an_order_statistic():
    samples = torch.arange(11.0)[None]
    assert sample_quantile(samples, 0.5, dim=1).item() == 5
    with pytest.raises(ValueError, match="between 0 and 1"):
        sample_quantile(samples, 1.5)


def test_bootstrap_interval_covers_the_mean_and_the_paired_one_is_sharper():
    generator = torch.Generator().manual_seed(0)
    hard = torch.rand(40, generator=generator)
    below = torch.ones(40)
    ours, theirs = Ratio(hard, below), Ratio(hard + 0.05, below)
    low, high = block_bootstrap(ours)
    assert low < ours.value < high
    assert high - low > 0.1
    low, high = block_bootstrap(ours, theirs)
    assert low == pytest.approx(-0.05, abs=1e-6)
    assert high == pytest.approx(-0.05, abs=1e-6)
