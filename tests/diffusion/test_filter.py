"""Observing is a Bayes filter: level 1 the prior, level 0 the posterior, between a noisy observation."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from exact import HiddenMarkovDenoiser, JointDenoiser, KalmanDenoiser, StoryDenoiser, gamble
from noiseladder.diffusion.noise import Cosine, Flow, LogSNR
from noiseladder.recipes import hidden_markov, linear_gaussian

PROCESS = linear_gaussian.example()
CAUSAL = [KalmanDenoiser(PROCESS), HiddenMarkovDenoiser(hidden_markov.example()), KalmanDenoiser(PROCESS, Cosine())]
DENOISERS = [*CAUSAL, JointDenoiser(PROCESS), KalmanDenoiser(PROCESS, Flow())]
named = pytest.mark.parametrize("denoiser", DENOISERS, ids=lambda d: f"{type(d).__name__}-{type(d.schedule).__name__}")
causal = pytest.mark.parametrize("denoiser", CAUSAL, ids=lambda d: f"{type(d).__name__}-{type(d.schedule).__name__}")


def draw(batch=3, length=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens, noise = torch.randn(2, batch, length, 1, dtype=torch.float64, generator=generator)
    return tokens, noise, torch.rand(batch, length, dtype=torch.float64, generator=generator)


def belief(denoiser, tokens, level, noise=None, state=None):
    state = denoiser.observe(tokens, None, state, level, noise)
    return [value for value in vars(state).values() if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("denoiser", CAUSAL, ids=lambda d: type(d).__name__)
def test_level_1_ignores_the_token_to_the_bit(denoiser):
    tokens, _, _ = draw()
    other = tokens * 100 + 7
    other[0] = float("nan")
    for a, b in zip(belief(denoiser, tokens, 1.0), belief(denoiser, other, 1.0), strict=True):
        assert torch.equal(a, b)


def textbook_filter(tokens, observation_noise):
    """The covariance-form Kalman filter of any textbook, one sequence, with a noise variance for each step."""
    transition, emission = PROCESS.transition, PROCESS.emission[None]
    mean, covariance = torch.zeros(2, 1, dtype=torch.float64), PROCESS.stationary
    for value, variance in zip(tokens, observation_noise, strict=True):
        innovation = emission @ covariance @ emission.T + variance
        gain = covariance @ emission.T @ torch.linalg.inv(innovation)
        mean = mean + gain @ (value - emission @ mean)
        covariance = (torch.eye(2, dtype=torch.float64) - gain @ emission) @ covariance
        mean, covariance = transition @ mean, transition @ covariance @ transition.T + PROCESS.state_noise
    return mean[:, 0], covariance


@pytest.mark.parametrize("schedule", [LogSNR(), Cosine(), Flow()], ids=lambda s: type(s).__name__)
def test_level_0_is_the_textbook_kalman_filter_and_between_is_the_noisy_one(schedule):
    """Effective noise R + (b / a)^2, and the token as seen, y / a."""
    tokens, noise, levels = draw()
    levels[0] = 0.0
    alpha, sigma = schedule.shares(levels, tokens)
    state = KalmanDenoiser(PROCESS, schedule).observe(tokens, None, None, levels, noise)
    seen = (tokens + sigma / alpha * noise)[..., 0]
    for row in range(len(tokens)):
        variance = PROCESS.emission_noise + (sigma / alpha)[row, :, 0] ** 2
        mean, covariance = textbook_filter(seen[row], variance)
        assert torch.allclose(state.mean[row], mean, atol=1e-10)
        assert torch.allclose(state.covariance[row], covariance, atol=1e-10)


@pytest.mark.parametrize("schedule", [LogSNR(), Cosine(), Flow()], ids=lambda s: type(s).__name__)
def test_the_causal_filter_and_the_joint_law_agree_on_the_last_token(schedule):
    denoiser = KalmanDenoiser(PROCESS, schedule)
    tokens, noise, levels = draw()
    noisy = denoiser.schedule.mix(tokens, noise, levels)
    joint = JointDenoiser(PROCESS, denoiser.schedule)(noisy, levels)
    own = denoiser(noisy, levels)
    assert torch.allclose(own.clean[:, -1], joint.clean[:, -1], atol=1e-10)
    assert torch.allclose(own.noise[:, -1], joint.noise[:, -1], atol=1e-10)


@named
@given(cut=st.integers(1, 7), again=st.integers(0, 7))
@settings(max_examples=15, deadline=None)
def test_a_state_carried_in_pieces_equals_reading_the_whole(denoiser, cut, again):
    tokens, noise, levels = draw()
    again = min(again, cut)
    levels[:, :cut] = torch.where(levels[:, :cut] < 0.3, 0.0, levels[:, :cut])
    noisy = denoiser.schedule.mix(tokens, noise, levels)
    whole = denoiser(noisy, levels)
    state = None
    for piece in (slice(0, again), slice(again, cut)):
        if piece.start < piece.stop:
            state = denoiser.observe(tokens[:, piece], None, state, levels[:, piece], noise[:, piece])
    rest = denoiser(noisy[:, cut:], levels[:, cut:], None, state)
    if denoiser.causal:
        assert torch.allclose(rest.clean, whole.clean[:, cut:], atol=1e-10)
        assert torch.allclose(rest.noise, whole.noise[:, cut:], atol=1e-10)
    else:  # the past is conditioned on as well as it would be in one piece
        assert torch.allclose(rest.clean, whole.clean[:, cut:], atol=1e-8)


@causal
def test_no_guess_depends_on_a_later_token(denoiser):
    tokens, noise, levels = draw()
    noisy = denoiser.schedule.mix(tokens, noise, levels)
    before = denoiser(noisy, levels)
    for last in range(noisy.shape[1]):
        moved = noisy.clone()
        moved[:, last] += 3
        after = denoiser(moved, levels)
        assert torch.equal(after.clean[:, :last], before.clean[:, :last])
        assert not torch.equal(after.clean[:, last:], before.clean[:, last:])


@causal
def test_causality_by_autograd(denoiser):
    tokens, noise, levels = draw(batch=1)
    noisy = denoiser.schedule.mix(tokens, noise, levels)
    slopes = torch.autograd.functional.jacobian(lambda y: denoiser(y, levels).clean[0, :, 0], noisy)[:, 0, :, 0]
    assert (slopes.triu(1) == 0).all()
    assert (slopes.tril() != 0).any(dim=1).all()


@named
def test_sequences_of_a_batch_do_not_mix(denoiser):
    tokens, noise, levels = draw()
    noisy = denoiser.schedule.mix(tokens, noise, levels)
    moved = noisy.clone()
    moved[0] += 5
    before, after = denoiser(noisy, levels).clean, denoiser(moved, levels).clean
    assert torch.equal(before[1:], after[1:])
    assert not torch.equal(before[0], after[0])


@named
def test_both_guesses_explain_the_input(denoiser):
    tokens, noise, levels = draw()
    levels[:, 2], levels[:, 5] = 0.0, 1.0
    noisy = denoiser.schedule.mix(tokens, noise, levels)
    guess = denoiser(noisy, levels)
    alpha, sigma = denoiser.schedule.shares(levels, noisy)
    assert torch.allclose(alpha * guess.clean + sigma * guess.noise, noisy, atol=1e-12)
    assert torch.allclose(guess.clean[:, 2], tokens[:, 2], atol=1e-12)


def test_tweedie_the_joint_score_is_the_gradient_of_the_law():
    """E[x_t | y] = (y_t + b_t^2 d/dy_t log p(y)) / a_t (exact-tests.md section 2)."""
    denoiser = JointDenoiser(PROCESS)
    tokens, noise, levels = draw(batch=1)
    noisy = denoiser.schedule.mix(tokens, noise, levels)
    alpha, sigma = denoiser.schedule.alpha(levels)[0], denoiser.schedule.sigma(levels)[0]
    covariance = alpha[:, None] * PROCESS.covariance(8) * alpha + torch.diag(sigma**2)
    law = torch.distributions.MultivariateNormal(torch.zeros(8, dtype=torch.float64), covariance)
    y = noisy[0, :, 0].clone().requires_grad_()
    (score,) = torch.autograd.grad(law.log_prob(y), y)
    assert torch.allclose(denoiser(noisy, levels).clean[0, :, 0], (y + sigma**2 * score) / alpha, atol=1e-9)


def test_floors_are_what_the_filter_really_misses():
    """The stated variances of the clean guess are its mean squared errors, at every time and level."""
    denoiser, generator = KalmanDenoiser(PROCESS), torch.Generator().manual_seed(1)
    clean = PROCESS.draw(40_000, 6, generator)
    noise = torch.randn(clean.shape, dtype=torch.float64, generator=generator)
    levels = torch.rand(6, dtype=torch.float64, generator=generator).expand(40_000, 6)
    said = denoiser.predictions(denoiser.schedule.mix(clean, noise, levels), levels)
    error = ((said.clean - clean[..., 0]) ** 2).mean(0)
    assert torch.allclose(error, said.clean_variance[0], rtol=4.5 * (2 / 40_000) ** 0.5)


def test_the_kalman_filter_knows_the_likelihood():
    tokens = PROCESS.draw(20, 9, torch.Generator().manual_seed(0))
    law = torch.distributions.MultivariateNormal(torch.zeros(9, dtype=torch.float64), PROCESS.covariance(9))
    nats = KalmanDenoiser(PROCESS).negative_log_likelihood(tokens).sum(1)
    assert torch.allclose(nats, -law.log_prob(tokens[..., 0]), atol=1e-10)


def test_the_process_has_the_moments_it_says():
    tokens = PROCESS.draw(50_000, 5, torch.Generator().manual_seed(2))[..., 0]
    assert torch.allclose(tokens.T @ tokens / 50_000, PROCESS.covariance(5), atol=4.5 * (2 / 50_000) ** 0.5)
    assert PROCESS.covariance(1).item() == pytest.approx(1, abs=1e-14)


def test_the_hidden_chain_guesses_as_well_as_brute_force():
    """E[x | y] over all 3^4 mode sequences, written out."""
    process = hidden_markov.example()
    denoiser = HiddenMarkovDenoiser(process)
    tokens, noise, levels = draw(batch=1, length=4)
    levels[0, 1] = 1.0
    noisy = denoiser.schedule.mix(tokens, noise, levels)
    alpha, sigma = denoiser.schedule.alpha(levels)[0], denoiser.schedule.sigma(levels)[0]
    paths = torch.cartesian_prod(*[torch.arange(3)] * 4)
    weight = process.stationary[paths[:, 0]].log()
    for t in range(1, 4):
        weight = weight + process.transition[paths[:, t - 1], paths[:, t]].log()
    means = process.means[paths]
    variance = alpha**2 * process.spread**2 + sigma**2
    evidence = torch.distributions.Normal(alpha * means, variance.sqrt()).log_prob(noisy[0, :, 0])
    for t in range(4):
        share = (weight + evidence[:, : t + 1].sum(1)).softmax(0)
        gain = alpha[t] * process.spread**2 / variance[t]
        expected = (share * (means[:, t] + gain * (noisy[0, t, 0] - alpha[t] * means[:, t]))).sum()
        assert denoiser(noisy, levels).clean[0, t, 0].item() == pytest.approx(expected.item(), abs=1e-12)


def test_the_hidden_chain_visits_modes_as_its_transition_says():
    process = hidden_markov.example()
    modes = process.draw_modes(2000, 60, torch.Generator().manual_seed(0))
    assert torch.allclose(process.stationary @ process.transition, process.stationary, atol=1e-12)
    first = torch.bincount(modes[:, 0], minlength=3) / 2000
    assert torch.allclose(first.double(), process.stationary, atol=0.05)
    jumps = torch.zeros(3, 3, dtype=torch.float64)
    jumps.index_put_((modes[:, :-1].flatten(), modes[:, 1:].flatten()), torch.ones(2000 * 59).double(), accumulate=True)
    assert torch.allclose(jumps / jumps.sum(1, keepdim=True), process.transition, atol=0.012)


def test_a_story_is_recognised_by_a_clean_token_and_not_by_a_hidden_one():
    denoiser = gamble()
    decided = torch.tensor([[[-1.0]], [[1.0]]], dtype=torch.float64)
    pay = torch.zeros(2, 1, 1, dtype=torch.float64)
    hidden = torch.ones(2, 1, dtype=torch.float64)
    after = denoiser(pay, hidden, None, denoiser.observe(decided))
    assert torch.allclose(after.clean[:, 0, 0], torch.tensor([0.6, 0.5]).double())
    blind = denoiser(pay, hidden, None, denoiser.observe(decided, level=1.0))
    assert torch.allclose(blind.clean[:, 0, 0], torch.tensor([0.55, 0.55]).double())


def test_a_causal_story_denoiser_hears_nothing_of_the_future_and_a_joint_one_does():
    tokens = torch.tensor([[[0.3], [1.0]]], dtype=torch.float64)
    levels = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    causal, joint = gamble(causal=True)(tokens, levels), gamble(causal=False)(tokens, levels)
    assert causal.clean[0, 0].item() == pytest.approx(0.0)
    assert joint.clean[0, 0].item() == pytest.approx(1.0)
    assert isinstance(gamble(), StoryDenoiser)
