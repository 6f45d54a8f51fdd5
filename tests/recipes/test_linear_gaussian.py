"""A learned denoiser becomes the Kalman filter: at every time and level, on patterns it never saw, and for ever.

The weights in tests/weights were made by `noiseladder train linear_gaussian` (tests/weights/README.md); what is
measured here is measured on fresh sequences.
"""

import pytest
import torch

from exact import ExactDenoiser, KalmanDenoiser
from measures import (
    LADDER,
    UNSEEN,
    error_on_pattern,
    exact_ladder,
    excess_loss,
    ladder_gaps,
    nats_lost,
    roll_out,
    subset_gaps,
    telling_stairs,
    trained,
    trends,
    velocity,
)
from noiseladder.diffusion.denoiser import Denoised
from noiseladder.diffusion.likelihood import negative_log_likelihood, stratified
from noiseladder.recipes.linear_gaussian import LinearGaussianOptions, any_pattern, example, experiment
from noiseladder.training import seeded, train

EXACT = KalmanDenoiser(example())
STAIRS = telling_stairs(8, -3.0, 6.0)  # the exact denoiser's next-token variance is then right to .004
slow = pytest.mark.slow


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def learned():
    return trained("linear_gaussian")


# The measures themselves: the exact denoiser passes them, one that is wrong by a known amount gets that amount.


class Off(ExactDenoiser):
    """The Kalman filter with clean guesses that are off by a constant."""

    def __init__(self, by):
        super().__init__()
        self.by, self.exact = by, KalmanDenoiser(example())

    def initial_state(self, batch):
        return self.exact.initial_state(batch)

    def read(self, noisy, levels, state):
        guess, state = self.exact.read(noisy.double(), levels.double(), state)
        alpha, sigma = self.schedule.shares(levels.double(), noisy.double())
        clean = guess.clean + self.by * (sigma > 0)
        return Denoised(clean, (noisy - alpha * clean) / sigma.clamp(min=1e-9)), state


def test_the_measures_find_an_error_of_known_size():
    found = excess_loss(Off(0.1), EXACT, 3000, 4, generator(0))
    # An error of d in the clean guess is d / sigma in the velocity.
    middle = torch.linspace(-14, -10, 101).double()
    expected = 0.01 / torch.sigmoid(-middle).mean()
    assert found.loss[:, 0].mean().item() == pytest.approx(expected.item(), rel=1e-3)
    assert error_on_pattern(Off(0.1), EXACT, UNSEEN["falling"], 200, 5, generator(0)) == pytest.approx(0.1, rel=1e-6)
    clean = example().draw(50, 3, generator(1))
    # Half of .01 times the SNR up to exp(14) would be enormous: an error that does not vanish with the noise.
    assert nats_lost(Off(1e-4), EXACT, clean, torch.zeros(2), generator(2), 4000) == pytest.approx(
        0.5e-8 * torch.exp(torch.tensor(14.0)).item(), rel=0.02
    )


def test_the_exact_denoiser_has_no_excess():
    found = excess_loss(Off(0.0), EXACT, 500, 4, generator(0))
    assert found.loss.max() < 1e-9
    # What is left is the noise of float32, in which learned denoisers are asked.
    assert max(map(abs, subset_gaps(Off(0.0), EXACT, 3, 20, generator(0)).values())) < 1e-7


def test_a_leak_shows_as_a_loss_below_the_floor():
    """A denoiser that peeks at the clean tokens of the same draw is caught."""

    class Leaky(Off):
        def __call__(self, noisy, levels, condition=None, state=None):
            guess = super().__call__(noisy, levels, condition, state)
            own = generator(0)
            truth = example().draw(len(noisy), noisy.shape[1], own)
            clean = 0.9 * guess.clean + 0.1 * truth
            alpha, sigma = self.schedule.shares(levels.double(), noisy.double())
            return Denoised(clean, (noisy - alpha * clean) / sigma)

    found = excess_loss(Leaky(0.0), EXACT, 3000, 4, generator(0))
    assert found.below.max() > found.below_limit + 3
    honest = excess_loss(Off(0.03), EXACT, 3000, 4, generator(0))
    assert honest.below.max() < honest.below_limit


def test_the_unseen_patterns_are_not_drawn_in_training():
    """But for fewer than one in a thousand, which begin clean, end hidden and have next to nothing between."""
    drawn = any_pattern()(20_000, 24, generator(0))
    between = ((drawn > 0) & (drawn < 1)).sum(1)
    rises, falls = (drawn.diff(dim=1) >= 0).all(1), (drawn.diff(dim=1) <= 0).all(1)
    assert ((rises | falls) & (between > 3)).double().mean() < 1e-3
    assert ((drawn == drawn[:, :1]).all(1) & (between > 0)).sum() == 0
    assert (((drawn == 0).sum(1) == 1) & ((drawn == 1).sum(1) == 23)).double().mean() < 1e-3


@slow
def test_training_from_scratch_learns():
    """A small network, seconds of training: the excess over the Bayes floor falls twentyfold, from .25 to .0125."""
    options = LinearGaussianOptions(steps=400, warmup=20, batch=128, length=12, width=24, average=0.98, threads=1)
    with seeded(options.seed, "weights"):
        trial = experiment(options)
    with torch.no_grad():
        before = excess_loss(trial.denoiser.eval(), EXACT, 500, 12, generator(1)).loss.mean()
    losses = [report.loss for report in train(trial, options)]
    with torch.no_grad():
        after = excess_loss(trial.denoiser, EXACT, 500, 12, generator(1)).loss.mean()
    assert sum(losses[-25:]) < 0.9 * sum(losses[:25])
    assert after < before / 20


# exact-tests.md section 7, items 4 to 6 and 8, with the weights that are kept.


@slow
def test_excess_loss_is_below_a_thousandth_in_every_bin_and_never_below_the_floor(learned):
    found = excess_loss(learned, EXACT, 20_000, 24, generator(11))
    assert found.loss.shape == (24, 7)
    assert found.loss.max() < 1e-3
    assert found.below.max() < found.below_limit


@slow
@pytest.mark.parametrize("pattern", UNSEEN)
def test_clean_guesses_are_the_kalman_filters_on_patterns_never_drawn_in_training(learned, pattern):
    assert error_on_pattern(learned, EXACT, UNSEEN[pattern], 5000, 24, generator(12)) < 0.02


@slow
def test_the_likelihood_of_every_subset_given_every_other(learned):
    gaps = subset_gaps(learned, EXACT, 6, 200, generator(13))
    assert len(gaps) == 3**6 - 2**6
    assert max(map(abs, gaps.values())) < 0.01


@slow
def test_the_likelihood_as_a_user_asks_for_it(learned):
    """Our bound for the learned denoiser against the exact likelihood, on the same sequences, with its own error."""
    tokens = example().draw(300, 6, generator(14))
    draws = [(stratified(48, generator(15)), generator(16)) for _ in range(2)]
    ours = negative_log_likelihood(learned, tokens.float(), *draws[0]).nats
    best = negative_log_likelihood(EXACT, tokens, *draws[1]).nats
    # The noise is drawn in the precision of the tokens, yet from the same generator: pair what can be paired.
    gap = (ours - best).sum(1)
    assert abs(float(gap.mean())) < 0.01 + 4.5 * float(gap.std()) / len(gap) ** 0.5


@slow
def test_the_ladder_from_posterior_to_prior(learned):
    """After 40 tokens of history, at every rung; the exact rungs are those of exact-tests.md section 4."""
    gaps = ladder_gaps(learned, EXACT, 300, 40, generator(17))
    assert max(map(abs, gaps.values())) < 0.01
    rungs = [exact_ladder(EXACT, log_snr) + gaps[log_snr] for log_snr in LADDER]
    assert rungs == sorted(rungs)


@slow
def test_a_hundred_roll_outs_of_ten_thousand_steps_show_no_trend(learned):
    """400 times the training length; every token is made by eight second-order steps and read at level 0."""
    tokens = roll_out(learned, 100, 10_000, STAIRS, generator(18))
    found = trends(tokens, EXACT)
    for name, value in found.items():
        assert abs(value.standard_errors) < 3.5, name
    # An error of one step, up to 2 % of a standard deviation, comes back through the dynamics for some fifteen steps:
    # where the roll-outs settle is looked at more coarsely than whether they stay there.
    covariance = example().autocovariance(5)
    assert found["variance"].mean == pytest.approx(1.0, abs=0.1)
    assert found["covariance at lag 1"].mean == pytest.approx(covariance[1].item(), abs=0.1)
    assert found["covariance at lag 4"].mean == pytest.approx(covariance[4].item(), abs=0.1)
    assert found["nats of the true process"].mean == pytest.approx(exact_ladder(EXACT, 40.0), abs=0.02)


@slow
def test_a_state_carried_in_pieces_equals_reading_the_whole_when_learned(learned):
    tokens = example().draw(20, 30, generator(19)).float()
    levels = torch.rand(20, 30, generator=generator(20))
    levels[:, :20] = 0.0
    whole = learned(tokens, levels)
    state = learned.observe(tokens[:, 7:20], None, learned.observe(tokens[:, :7]))
    rest = learned(tokens[:, 20:], levels[:, 20:], None, state)
    assert torch.allclose(rest.clean, whole.clean[:, 20:], atol=1e-5)
    assert velocity(learned, rest, levels[:, 20:]).isfinite().all()
