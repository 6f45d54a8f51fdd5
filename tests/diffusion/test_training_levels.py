"""Every training regime is a law of levels; here each law is measured."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from noiseladder.diffusion import training_levels as levels

SAMPLERS = {
    "independent": levels.independent,
    "shared": levels.shared,
    "clean": levels.clean,
    "pure_noise": levels.pure_noise,
    "teacher_forced": levels.teacher_forced,
    "rolling": levels.rolling,
    "non_decreasing": levels.non_decreasing,
    "context_and_future": levels.ContextAndFuture(2),
    "constant": levels.Constant(0.3),
    "mixture": levels.Mixture((levels.independent, levels.shared), (0.5, 0.5)),
    "exact_ends": levels.WithExactEnds(levels.independent, 0.3, 0.3),
}


def draw(sampler, sequences=4000, length=6, seed=0):
    return sampler(sequences, length, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SAMPLERS)
@given(sequences=st.integers(1, 5), length=st.integers(1, 9), seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_levels_lie_in_the_unit_interval_and_come_from_the_generator_alone(name, sequences, length, seed):
    drawn = draw(SAMPLERS[name], sequences, length, seed)
    assert drawn.shape == (sequences, length)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    torch.rand(7)  # the global generator plays no part
    assert torch.equal(drawn, draw(SAMPLERS[name], sequences, length, seed))


def uniform_distance(sample):
    """Largest gap between the empirical and the uniform distribution, in units of its standard deviation bound."""
    ordered = sample.flatten().sort().values
    place = (torch.arange(len(ordered)) + 0.5) / len(ordered)
    return float((ordered - place).abs().max() * len(ordered) ** 0.5)


def test_independent_levels_are_uniform_and_uncorrelated():
    drawn = draw(levels.independent)
    assert uniform_distance(drawn) < 1.9  # Kolmogorov: exceeded once in 700
    correlation = torch.corrcoef(drawn.T) - torch.eye(6)
    assert correlation.abs().max() < 4.5 / 4000**0.5


def test_shared_levels_are_uniform_and_the_same_for_all_tokens():
    drawn = draw(levels.shared)
    assert uniform_distance(drawn[:, 0]) < 1.9
    assert torch.equal(drawn, drawn[:, :1].expand_as(drawn))


def test_teacher_forcing_has_a_clean_history_and_one_noisy_token():
    drawn = draw(levels.teacher_forced)
    assert (drawn[:, :-1] == 0).all()
    assert uniform_distance(drawn[:, -1]) < 1.9


def test_rolling_levels_rise_linearly_and_cover_warm_up_and_wind_down():
    drawn = draw(levels.rolling)
    inside = (drawn[:, 1:] < 1) & (drawn[:, :-1] > 0)
    assert torch.allclose(drawn.diff(dim=1)[inside], torch.tensor(1 / 6), atol=1e-5)
    assert (drawn == 1).all(1).any()  # before the first token has begun
    assert ((drawn[:, -2] == 0) & (drawn[:, -1] > 0)).any()  # all but the last finished


def test_non_decreasing_levels_are_sorted_uniforms():
    drawn = draw(levels.non_decreasing)
    assert (drawn.diff(dim=1) >= 0).all()
    assert uniform_distance(drawn) < 1.9


def test_context_is_clean_and_its_future_shares_one_level():
    drawn = draw(levels.ContextAndFuture(2))
    assert (drawn[:, :2] == 0).all()
    assert torch.equal(drawn[:, 2:], drawn[:, 2:3].expand(-1, 4))
    assert uniform_distance(drawn[:, 2]) < 1.9


def test_a_mixture_takes_each_sampler_as_often_as_it_says():
    mixture = levels.Mixture((levels.clean, levels.pure_noise, levels.independent), (0.2, 0.5, 0.3))
    drawn = draw(mixture, sequences=20_000)
    clean, hidden = (drawn == 0).all(1).float().mean(), (drawn == 1).all(1).float().mean()
    assert abs(clean - 0.2) < 4.5 * (0.2 * 0.8 / 20_000) ** 0.5
    assert abs(hidden - 0.5) < 4.5 * (0.5 * 0.5 / 20_000) ** 0.5


def test_exact_ends_are_a_clean_history_and_a_pure_noise_future():
    drawn = draw(levels.WithExactEnds(levels.independent, 0.25, 0.5), sequences=20_000)
    begins_clean, ends_hidden = (drawn[:, 0] == 0), (drawn[:, -1] == 1)
    assert abs(begins_clean.float().mean() - 0.25) < 0.015
    # The clean history is laid last: of the sequences that forget, a quarter trust, a sixth of those in full.
    assert abs(ends_hidden.float().mean() - 0.5 * (1 - 0.25 / 6)) < 0.017
    clean = drawn == 0
    assert ((clean[:, 1:] & ~clean[:, :-1]).sum() == 0).all()  # a prefix, never a hole
    lengths = clean.sum(1)[begins_clean]
    assert set(lengths.tolist()) == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("probabilities", [(0.5, 0.6), (1.2, -0.2), (1.0,)])
def test_a_mixture_with_wrong_probabilities_is_refused(probabilities):
    with pytest.raises(ValueError, match="expected one probability for each"):
        levels.Mixture((levels.clean, levels.shared), probabilities)


@pytest.mark.parametrize("options", [{"clean_history": 1.5}, {"pure_noise_future": -0.1}])
def test_exact_ends_with_a_wrong_probability_are_refused(options):
    with pytest.raises(ValueError, match=r"expected a probability in \[0, 1\]"):
        levels.WithExactEnds(**options)
