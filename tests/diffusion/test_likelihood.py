"""Bounds on log p that are equalities for an exact denoiser."""

import math

import pytest
import torch

from exact import HiddenMarkovDenoiser, KalmanDenoiser
from noiseladder.diffusion.likelihood import (
    conditional_likelihood,
    gauss_legendre,
    negative_log_likelihood,
    stratified,
)
from noiseladder.diffusion.noise import Cosine, Flow, LogSNR
from noiseladder.recipes import hidden_markov, linear_gaussian

PROCESS = linear_gaussian.example()
KALMAN = KalmanDenoiser(PROCESS)
QUADRATURE = gauss_legendre(400)
# A linear denoiser's squared error is quadratic in the noise: its mean over +1 and -1 is exact.
SIGNS = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)


def draw(sequences, length, seed=0):
    return PROCESS.draw(sequences, length, torch.Generator().manual_seed(seed))


def test_gauss_legendre_is_exact_for_polynomials_and_stratified_covers_every_part():
    nodes = gauss_legendre(20, limit=2.0)
    assert float((nodes.weight * nodes.log_snr**38).sum()) == pytest.approx(2 * 2.0**39 / 39, rel=1e-10)
    drawn = stratified(28, torch.Generator().manual_seed(0)).log_snr
    assert (drawn.floor() == torch.arange(-14, 14)).all()


@pytest.mark.parametrize("schedule", [LogSNR(), Cosine(), Flow()], ids=lambda s: type(s).__name__)
def test_the_bound_is_the_exact_kalman_likelihood(schedule):
    """exact-tests.md section 4: to 3e-6 on average, single values up to 3e-5."""
    tokens = draw(20, 5)
    nats = negative_log_likelihood(KalmanDenoiser(PROCESS, schedule), tokens, QUADRATURE, SIGNS).nats
    gap = nats - KALMAN.negative_log_likelihood(tokens)
    assert abs(float(gap.mean())) < 3e-6
    assert float(gap.abs().max()) < 3e-5


def test_with_the_whole_history_hidden_it_is_the_free_running_prior():
    """ELBO 1: every token by itself, whose law is N(0, 1)."""
    tokens = draw(10, 3)
    nats = negative_log_likelihood(KALMAN, tokens, QUADRATURE, SIGNS, history_level=1.0).nats
    expected = 0.5 * tokens[..., 0] ** 2 + 0.5 * math.log(2 * math.pi)
    assert (nats - expected).abs().max() < 3e-5


def test_a_narrow_range_of_levels_pays_for_its_ends():
    """For N(0, 1) looked at only within log-SNR +-1 the bound is too high by the prior term, log(1 + exp(-1)) / 2."""
    tokens = torch.tensor([1.0, -1.0], dtype=torch.float64).reshape(2, 1, 1)  # x^2 at its mean
    nats = negative_log_likelihood(KALMAN, tokens, gauss_legendre(60, limit=1.0), SIGNS).per_step
    expected = 0.5 * math.log(2 * math.pi * math.e) + 0.5 * math.log1p(math.exp(-1))
    assert nats == pytest.approx(expected, abs=1e-9)


# exact-tests.md section 4: expected next-step nats with the whole history at this log-SNR.
LADDER = {12: 0.697, 6: 0.701, 4: 0.725, 2: 0.837, 0: 1.081, -2: 1.306, -4: 1.398, -6: 1.416, -12: 1.419}


def step_up(log_snr: float) -> float:
    """Expected nats of the next token after a long history at one log-SNR, through our likelihood."""
    level = float(KALMAN.schedule.level_of_log_snr(torch.tensor(log_snr, dtype=torch.float64)))
    state = KALMAN.observe(torch.zeros(2, 64, 1, dtype=torch.float64), level=level)
    said = KALMAN.predictions(torch.zeros(2, 1, 1).double(), torch.ones(2, 1).double(), state)
    # -log p is quadratic, so its mean over the law is its mean at one standard deviation either side.
    tokens = said.mean + said.variance.sqrt() * torch.tensor([[1.0], [-1.0]])
    return negative_log_likelihood(KALMAN, tokens[..., None], QUADRATURE, SIGNS, state=state).per_step


@pytest.mark.parametrize("log_snr", LADDER)
def test_the_ladder_from_posterior_to_prior(log_snr):
    assert step_up(log_snr) == pytest.approx(LADDER[log_snr], abs=6e-4)


def test_the_ladder_is_monotone():
    steps = [step_up(log_snr) for log_snr in range(12, -13, -3)]
    assert steps == sorted(set(steps))


def test_a_blurred_history_gives_the_same_step_of_the_ladder():
    """The argument `history_level`, with noise from a generator: against the filter on the same history."""
    tokens, level = draw(1000, 6, seed=3), 0.5
    measured = negative_log_likelihood(
        KALMAN,
        tokens,
        stratified(32, torch.Generator().manual_seed(1)),
        torch.Generator().manual_seed(2),
        history_level=level,
    )
    levels = torch.full((1, 6), level, dtype=torch.float64)
    variance = KALMAN.predictions(tokens[:1], levels).variance[0]
    expected = float((0.5 * (2 * math.pi * math.e * variance).log()).mean())
    assert abs(measured.per_step - expected) < 4.5 * measured.standard_error
    assert measured.standard_error < 0.05
    prior = 0.5 * math.log(2 * math.pi * math.e)
    assert measured.per_step < prior - 4.5 * measured.standard_error  # a blurred history still helps


def gaussian_nats(tokens, asked, given):
    """-log p(asked | given) by conditioning the joint covariance."""
    values, covariance = tokens[..., 0], PROCESS.covariance(tokens.shape[1])
    whole = torch.zeros(len(values), dtype=torch.float64)
    for subset, sign in ((asked | given, -1.0), (given, 1.0)):
        if subset.any():
            law = torch.distributions.MultivariateNormal(
                torch.zeros(int(subset.sum())).double(), covariance[subset][:, subset]
            )
            whole += sign * law.log_prob(values[:, subset])
    return whole


def subset(*members):
    return torch.isin(torch.arange(5), torch.tensor(members, dtype=torch.long))


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (subset(0, 1, 2, 3, 4), subset()),
        (subset(4), subset(0, 1, 2, 3)),
        (subset(0), subset(4)),  # the past given the future
        (subset(1, 3), subset(0, 2, 4)),  # the holes
        (subset(2), subset()),
        (subset(0, 4), subset(2)),
    ],
)
def test_any_subset_given_any_other(asked, given):
    tokens = draw(6, 5)
    nats = conditional_likelihood(KALMAN, tokens, asked, given, QUADRATURE, SIGNS)
    assert torch.allclose(nats, gaussian_nats(tokens, asked, given), atol=1e-4)


def test_given_tokens_are_read_and_not_counted():
    tokens = draw(6, 5)
    given = subset(0, 1)
    nats = negative_log_likelihood(KALMAN, tokens, QUADRATURE, SIGNS, given=given).nats
    whole = negative_log_likelihood(KALMAN, tokens, QUADRATURE, SIGNS).nats
    assert (nats[:, given] == 0).all()
    assert torch.allclose(nats[:, ~given], whole[:, ~given])


def test_a_token_that_is_neither_asked_nor_given_is_not_looked_at():
    tokens = draw(4, 4)
    asked = torch.tensor([True, False, True, True])
    moved = tokens.clone()
    moved[:, 1] += 100
    before, after = (negative_log_likelihood(KALMAN, t, QUADRATURE, SIGNS, asked=asked).nats for t in (tokens, moved))
    assert torch.equal(before, after)


def test_a_state_is_a_history():
    tokens = draw(6, 6)
    state = KALMAN.observe(tokens[:, :4])
    nats = negative_log_likelihood(KALMAN, tokens[:, 4:], QUADRATURE, SIGNS, state=state).nats
    assert torch.allclose(nats, KALMAN.negative_log_likelihood(tokens)[:, 4:], atol=3e-5)


def test_random_levels_and_noise_are_unbiased_with_the_stated_error():
    tokens = draw(400, 4, seed=4)
    measured = negative_log_likelihood(
        KALMAN, tokens, stratified(64, torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
    )
    expected = float(KALMAN.negative_log_likelihood(tokens).mean())
    assert abs(measured.per_step - expected) < 4.5 * measured.standard_error
    assert measured.per_dimension == measured.per_step


def test_the_likelihood_of_a_process_with_many_modes():
    """The forward algorithm's likelihood of a hidden Markov chain, through the same bound."""
    process = hidden_markov.example()
    denoiser = HiddenMarkovDenoiser(process)
    tokens = process.draw(30, 4, torch.Generator().manual_seed(0))
    emitted = torch.distributions.Normal(process.means, process.spread).log_prob(tokens).exp()  # (B, T, K)
    belief, expected = process.stationary.repeat(30, 1), torch.zeros(30, 4).double()
    for t in range(4):
        joint = belief * emitted[:, t]
        expected[:, t] = -joint.sum(1).log()
        belief = joint / joint.sum(1, keepdim=True) @ process.transition
    levels, generator = stratified(200, torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2)
    measured = negative_log_likelihood(
        denoiser, tokens, levels, torch.randn(40, 1, dtype=torch.float64, generator=generator)
    )
    gap = measured.nats - expected
    assert abs(float(gap.mean())) < 4.5 * float(gap.std()) / 120**0.5
    assert float(gap.std()) / 120**0.5 < 0.05


def test_bits_of_several_values_add_up():
    """Independent values: a token of two numbers has twice the nats, per dimension the same."""

    class Independent(KalmanDenoiser):
        """Every number of a token by itself is N(0, 1)."""

        def read(self, noisy, levels, state):
            from noiseladder.diffusion.denoiser import Denoised

            alpha, sigma = self.schedule.shares(levels, noisy)
            return Denoised(alpha * noisy, sigma * noisy), state

    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(20, 3, 2, dtype=torch.float64, generator=generator)
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    measured = negative_log_likelihood(Independent(PROCESS), tokens, QUADRATURE, signs)
    expected = 0.5 * (tokens**2).sum(-1) + math.log(2 * math.pi)
    assert (measured.nats - expected).abs().max() < 3e-5
    assert measured.per_dimension == pytest.approx(measured.per_step / 2)
    assert torch.allclose(measured.per_sequence, expected.sum(1), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"given": torch.ones(3, dtype=torch.bool)}, "no token is asked"),
        ({"given": subset(0)[:3], "asked": subset(0, 1)[:3]}, "both given and asked"),
        ({"asked": torch.ones(4, dtype=torch.bool)}, r"expected bool \(3,\)"),
        ({"asked": torch.ones(3)}, "asked is torch.float32"),
        ({"history_level": 0.5}, "pass a generator"),
    ],
)
def test_questions_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        negative_log_likelihood(KALMAN, draw(2, 3), QUADRATURE, SIGNS, **options)


def test_values_that_are_not_numbers_have_no_likelihood():
    tokens = draw(2, 3)
    tokens[0, 1] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        negative_log_likelihood(KALMAN, tokens, QUADRATURE, SIGNS)
