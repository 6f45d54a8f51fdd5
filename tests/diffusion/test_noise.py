"""What a level means: exact ends, variance kept, and inverses."""

import math

import pytest
import torch

from noiseladder.diffusion.noise import Cosine, Flow, Linear, LogSNR, NoiseSchedule, Sigmoid, check_levels

SCHEDULES = [Cosine(), Sigmoid(), Linear(), LogSNR(), Flow()]
PRESERVING = [schedule for schedule in SCHEDULES if not isinstance(schedule, Flow)]


def named(schedules):
    return pytest.mark.parametrize("schedule", schedules, ids=lambda s: type(s).__name__)


@named(SCHEDULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ends_are_exact_to_the_bit(schedule: NoiseSchedule, dtype):
    ends = torch.tensor([[0.0, 1.0]], dtype=dtype)
    assert torch.equal(schedule.alpha(ends), torch.tensor([[1.0, 0.0]], dtype=dtype))
    assert torch.equal(schedule.sigma(ends), torch.tensor([[0.0, 1.0]], dtype=dtype))
    assert schedule.snr(ends).tolist() == [[math.inf, 0.0]]
    assert schedule.log_snr(ends).tolist() == [[math.inf, -math.inf]]


@named(SCHEDULES)
def test_mixing_at_the_ends_gives_the_token_and_the_noise_to_the_bit(schedule):
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 4, 2, 3, generator=generator)
    levels = torch.tensor([[0.0, 1.0]]).repeat(4, 1)
    mixed = schedule.mix(clean, noise, levels)
    assert torch.equal(mixed[:, 0], clean[:, 0])
    assert torch.equal(mixed[:, 1], noise[:, 1])


@named(PRESERVING)
def test_the_variance_is_preserved(schedule):
    levels = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    power = schedule.alpha(levels) ** 2 + schedule.sigma(levels) ** 2
    assert (power - 1).abs().max() < 1e-12


@named(SCHEDULES)
def test_more_level_is_more_noise(schedule):
    levels = torch.linspace(0, 1, 1001, dtype=torch.float64)
    assert (schedule.alpha(levels).diff() < 0).all()
    assert (schedule.sigma(levels).diff() > 0).all()
    assert (schedule.log_snr(levels).diff() < 0).all()


@named(SCHEDULES)
def test_the_level_of_a_log_snr_is_the_inverse_of_the_log_snr(schedule):
    wanted = torch.linspace(-8, 8, 33, dtype=torch.float64)
    levels = schedule.level_of_log_snr(wanted)
    assert (schedule.log_snr(levels) - wanted).abs().max() < 1e-9


@named(SCHEDULES)
def test_the_slope_of_the_log_snr_agrees_with_finite_differences(schedule):
    levels, step = torch.linspace(0.05, 0.95, 19, dtype=torch.float64), 1e-6
    difference = (schedule.log_snr(levels + step) - schedule.log_snr(levels - step)) / (2 * step)
    assert torch.allclose(schedule.log_snr_slope(levels), difference, rtol=1e-6)


def test_cosine_sigmoid_flow_and_log_snr_follow_their_formulas():
    level = torch.tensor([0.3], dtype=torch.float64)

    def logistic(value):
        return 1 / (1 + math.exp(-value))

    expected = (logistic(3) - logistic(-3 + 0.3 * 6)) / (logistic(3) - logistic(-3))
    assert Cosine().alpha(level).item() == pytest.approx(math.cos(math.pi * 0.3 / 2), abs=1e-15)
    assert Sigmoid().alpha(level).item() ** 2 == pytest.approx(expected, abs=1e-15)
    assert Flow().alpha(level).item() == pytest.approx(0.7, abs=1e-15)
    assert Flow().sigma(level).item() == pytest.approx(0.3, abs=1e-15)
    assert LogSNR().log_snr(level).item() == pytest.approx(14 - 28 * 0.3, abs=1e-12)
    # DDPM's continuous alpha at .3, shifted and stretched onto the exact ends
    ddpm = math.exp(-0.25 * 0.3**2 * 19.9 - 0.5 * 0.3 * 0.1)
    last = math.exp(-0.25 * 19.9 - 0.5 * 0.1)
    assert Linear().alpha(level).item() == pytest.approx((ddpm - last) / (1 - last), abs=1e-14)


@named(SCHEDULES)
def test_renoising_has_the_law_of_mixing(schedule):
    """Un-pyramid: x <- (a'/a) x + sqrt(b'^2 - (a'/a)^2 b^2) e has mean a' clean and variance b'^2."""
    here = torch.linspace(0, 0.9, 10, dtype=torch.float64)[None]
    higher = here + 0.1
    ones, zeros = torch.ones(1, 10, 1, dtype=torch.float64), torch.zeros(1, 10, 1, dtype=torch.float64)
    alpha, sigma = schedule.shares(here, ones)
    # noisy = alpha clean + sigma noise is linear in clean, noise and the fresh noise: read off each share.
    clean_share = schedule.renoise(alpha * ones, here, higher, zeros)
    noise_share = schedule.renoise(sigma * ones, here, higher, zeros)
    fresh_share = schedule.renoise(zeros, here, higher, ones)
    new_alpha, new_sigma = schedule.shares(higher, ones)
    assert torch.allclose(clean_share, new_alpha, atol=1e-12)
    assert torch.allclose(noise_share**2 + fresh_share**2, new_sigma**2, atol=1e-12)


@named(SCHEDULES)
def test_renoising_to_the_same_level_changes_nothing(schedule):
    generator = torch.Generator().manual_seed(0)
    noisy, noise = torch.randn(2, 3, 4, 2, generator=generator)
    levels = torch.tensor([[0.0, 0.3, 0.7, 1.0]]).repeat(3, 1)
    assert torch.equal(schedule.renoise(noisy, levels, levels, noise), noisy)


def test_parts_of_a_token_may_have_levels_of_their_own():
    clean, noise = torch.full((1, 2, 2), 2.0), torch.full((1, 2, 2), 5.0)
    levels = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    assert Cosine().mix(clean, noise, levels).tolist() == [[[2.0, 5.0], [5.0, 2.0]]]


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_a_level_outside_its_range_is_refused(bad):
    with pytest.raises(ValueError, match=r"levels lie in \[0, 1\]"):
        check_levels(torch.tensor([[0.5, bad]]))
