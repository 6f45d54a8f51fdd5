"""Guidance, checked by finite differences, by composition and by the laws it must leave or reach."""

import pytest
import torch

from exact import (
    GaussianBelief,
    HiddenMarkovDenoiser,
    JointDenoiser,
    KalmanDenoiser,
    gamble,
    gaussian_kl,
    propagated_covariance,
    sampled_covariance,
)
from noiseladder.diffusion import scheduling_matrix as matrices
from noiseladder.diffusion.denoiser import Denoised
from noiseladder.diffusion.guidance import (
    ConditionGuided,
    EnergyGuided,
    HistoryGuided,
    HistoryTerm,
    Inpainted,
    LevelledGuided,
    MonteCarloGuided,
    SmootherCorrected,
)
from noiseladder.diffusion.noise import Cosine, Flow, LogSNR
from noiseladder.diffusion.sampling import Step, final, sample
from noiseladder.recipes import hidden_markov, linear_gaussian

PROCESS = linear_gaussian.example()
KALMAN = KalmanDenoiser(PROCESS, Cosine())
CHAIN = HiddenMarkovDenoiser(hidden_markov.example(), Cosine())
JOINT = JointDenoiser(PROCESS, Cosine())


def draw(batch=3, length=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.randn(batch, length, 1, dtype=torch.float64, generator=generator)
    return noisy, 0.1 + 0.8 * torch.rand(batch, length, dtype=torch.float64, generator=generator)


def hill(clean):
    """An energy that is neither linear nor separable."""
    values = clean[..., 0]
    return (values[:, -1] - 1) ** 2 + (values[:, :-1] * values[:, 1:]).sum(1) + values.sin().sum(1)


def slope(function, noisy, step=1e-5):
    """d function / d noisy by central differences, token by token."""
    gradient = torch.zeros_like(noisy)
    for t in range(noisy.shape[1]):
        moved = torch.zeros_like(noisy)
        moved[:, t] = step
        gradient[:, t, 0] = (function(noisy + moved) - function(noisy - moved)) / (2 * step)
    return gradient


@pytest.mark.parametrize("inner", [KALMAN, CHAIN, JOINT], ids=lambda d: type(d).__name__)
def test_energy_guidance_is_the_gradient_through_guess_and_state(inner):
    """noise' = noise + sigma s grad E, clean' = clean - sigma^2 / alpha s grad E, at the current level."""
    noisy, levels = draw()
    plain, guided = inner(noisy, levels), EnergyGuided(inner, hill, 1.7)(noisy, levels)
    gradient = slope(lambda y: hill(inner(y, levels).clean), noisy)
    alpha, sigma = inner.schedule.shares(levels, noisy)
    assert torch.allclose(guided.noise - plain.noise, 1.7 * sigma * gradient, atol=1e-8)
    assert torch.allclose(guided.clean - plain.clean, -1.7 * sigma**2 / alpha * gradient, atol=1e-8)
    assert (gradient.abs() > 1e-3).all()


def test_guidance_is_strong_at_every_level_and_not_only_at_the_end():
    """Published code's guidance was about zero for the first 40 % of the steps."""
    for level in (0.3, 0.6, 0.9, 0.97):
        noisy, levels = draw()[0], torch.full((3, 5), level, dtype=torch.float64)
        moved = EnergyGuided(KALMAN, lambda clean: clean.sum((1, 2)))(noisy, levels).noise - KALMAN(noisy, levels).noise
        gradient = slope(lambda y, at=levels: KALMAN(y, at).clean.sum((1, 2)), noisy)
        assert torch.allclose(moved, KALMAN.schedule.shares(levels, noisy)[1] * gradient, atol=1e-8)
        assert moved.abs().min() > 0.02


def test_a_late_token_pulls_every_earlier_one_through_the_causal_state():
    noisy, levels = draw()
    guided = EnergyGuided(KALMAN, lambda clean: clean[:, -1, 0])(noisy, levels)
    assert ((guided.clean - KALMAN(noisy, levels).clean).abs() > 1e-4).all()


def test_pure_noise_tokens_are_not_pushed_but_pull_what_they_depend_on():
    noisy, levels = draw()
    levels[:, 3:] = 1.0
    guided, plain = EnergyGuided(KALMAN, lambda clean: clean[:, -1, 0])(noisy, levels), KALMAN(noisy, levels)
    assert torch.equal(guided.clean[:, 3:], plain.clean[:, 3:])
    assert torch.equal(guided.noise[:, 3:], plain.noise[:, 3:])
    assert (guided.clean[:, :3] != plain.clean[:, :3]).all()


WRAPPERS = {
    "energy": lambda inner: EnergyGuided(inner, hill, 2.0),
    "monte_carlo": lambda inner: MonteCarloGuided(
        inner, hill, torch.randn(3, 5, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), 2.0
    ),
    "smoother": SmootherCorrected,
    "inpainted": lambda inner: Inpainted(inner, torch.ones(1, 5, 1).double(), (torch.arange(5) == 2).reshape(1, 5, 1)),
    "history": lambda inner: HistoryGuided(inner, (HistoryTerm(2.0), HistoryTerm(-0.5, 0.5))),
    "energy of smoother": lambda inner: EnergyGuided(SmootherCorrected(inner), hill),
    "energy of history": lambda inner: EnergyGuided(HistoryGuided(inner, (HistoryTerm(3.0),)), hill),
}


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("schedule", [Cosine(), LogSNR(), Flow()], ids=lambda s: type(s).__name__)
def test_guided_guesses_still_explain_the_input(name, schedule):
    guided = WRAPPERS[name](KalmanDenoiser(PROCESS, schedule))
    noisy, levels = draw()
    levels[:, 1], levels[:, 4] = 0.0, 1.0
    if name == "inpainted":
        levels[:, 2] = 0.5
    state = guided.observe(draw(seed=3)[0])
    guess = guided(noisy, levels, None, state)
    alpha, sigma = schedule.shares(levels, noisy)
    assert torch.allclose(alpha * guess.clean + sigma * guess.noise, noisy, atol=1e-9)


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_batch_of_one_equals_a_batch_of_eight(name):
    """Published guidance grew weaker with the batch."""
    guided = WRAPPERS[name](KALMAN)
    noisy, levels = draw(batch=8)
    history = draw(batch=8, seed=3)[0]
    whole = guided(noisy, levels, None, guided.observe(history))
    for one in range(8):
        pick = slice(one, one + 1)
        alone = guided(noisy[pick], levels[pick], None, guided.observe(history[pick]))
        assert torch.allclose(alone.clean, whole.clean[pick], atol=1e-12)
        assert torch.allclose(alone.noise, whole.noise[pick], atol=1e-12)


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_guided_denoiser_is_sampled_like_any_other(name, eta):
    guided = WRAPPERS[name](KALMAN)
    step = Step(eta, torch.Generator().manual_seed(0)) if eta else Step()
    tokens = final(sample(guided, draw()[0], matrices.pyramid(5, 6, 2), step=step))
    assert torch.isfinite(tokens).all()
    assert not tokens.requires_grad


def test_two_linear_energies_one_around_the_other_add_up():
    noisy, levels = draw()

    def first(clean):
        return clean[:, -1, 0]

    def second(clean):
        return 2 * clean[:, 1, 0]

    nested = EnergyGuided(EnergyGuided(KALMAN, first, 0.7), second, 0.3)(noisy, levels)
    joint = EnergyGuided(KALMAN, lambda clean: 0.7 * first(clean) + 0.3 * second(clean))(noisy, levels)
    assert torch.allclose(nested.noise, joint.noise, atol=1e-10)


@pytest.mark.parametrize(
    ("energy", "said"),
    [
        (lambda clean: clean.mean(), r"expected \(3,\): one number for each sequence"),
        (lambda clean: clean.sum(2), r"returned shape \(3, 5\)"),
        (lambda clean: clean.sum((1, 2)) / 0, "NaN or infinite"),
        (lambda clean: torch.ones(len(clean)), "does not depend on the tokens"),
    ],
)
def test_an_energy_that_is_not_one_number_for_each_sequence_is_refused(energy, said):
    with pytest.raises(ValueError, match=said):
        EnergyGuided(KALMAN, energy)(*draw())


@pytest.mark.parametrize("scale", [float("nan"), float("-inf")])
def test_a_scale_that_is_no_number_is_refused_at_once(scale):
    noise = torch.zeros(2, 5, 1).double()
    for guided in (
        EnergyGuided,
        LevelledGuided,
        lambda inner, energy, scale: MonteCarloGuided(inner, energy, noise, scale),
    ):
        with pytest.raises(ValueError, match=r"scale is (nan|-inf), expected a finite number"):
            guided(KALMAN, lambda clean: clean.sum((1, 2)), scale)
    with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
        LevelledGuided(KALMAN, lambda clean: clean.sum((1, 2)), steps=0)


# History guidance.


def history_parts():
    """Predictions after no history, the whole, the last two tokens and a blurred whole, by hand."""
    noisy, levels = draw()
    history, blur = draw(seed=3)[0], draw(seed=4)[0]
    hidden = torch.ones(3, 5, dtype=torch.float64)
    late = hidden.clone()
    late[:, -2:] = 0.0
    states = {
        "none": KALMAN.observe(history, level=1.0),
        "whole": KALMAN.observe(history),
        "late": KALMAN.observe(history, level=late),
        "blurred": KALMAN.observe(history, level=0.4, noise=blur),
    }
    return noisy, levels, history, blur, {name: KALMAN(noisy, levels, None, s) for name, s in states.items()}


@pytest.mark.parametrize(
    ("terms", "shares"),
    [
        ((HistoryTerm(4.0),), {"none": -3.0, "whole": 4.0}),  # vanilla
        ((HistoryTerm(1.5), HistoryTerm(0.5, start=-2)), {"none": -1.0, "whole": 1.5, "late": 0.5}),  # temporal
        ((HistoryTerm(1.0), HistoryTerm(2.0, 0.4)), {"none": -2.0, "whole": 1.0, "blurred": 2.0}),  # fractional
        ((HistoryTerm(1.0),), {"whole": 1.0}),
    ],
)
def test_history_guidance_mixes_predictions(terms, shares):
    """s = s_0 + sum of w_i (s_i - s_0)."""
    noisy, levels, history, blur, parts = history_parts()
    guided = HistoryGuided(KALMAN, terms)
    state = guided.observe(history, noise=blur)
    KALMAN.calls = 0
    guess = guided(noisy, levels, None, state)
    assert KALMAN.calls == len(shares)  # the number of distinct histories with weight
    expected = sum(share * parts[name].noise for name, share in shares.items())
    assert torch.allclose(guess.noise, expected, atol=1e-10)


def test_equal_histories_are_merged():
    guided = HistoryGuided(KALMAN, (HistoryTerm(1.0), HistoryTerm(0.5), HistoryTerm(0.5, 0.3)))
    noisy, levels = draw()
    state = guided.observe(draw(seed=3)[0])
    KALMAN.calls = 0
    guided(noisy, levels, None, state)
    assert KALMAN.calls == 3


def test_a_history_from_its_start_is_the_whole_and_one_at_level_1_is_none():
    terms = (HistoryTerm(1.0), HistoryTerm(0.5, start=0), HistoryTerm(3.0, level=1.0))
    assert HistoryGuided(KALMAN, terms).distinct() == (HistoryTerm(1.5),)
    noisy, levels = draw()
    history = draw(seed=3)[0]
    plain, merged = (HistoryGuided(KALMAN, chosen) for chosen in ((HistoryTerm(1.5),), terms))
    guesses = [guided(noisy, levels, None, guided.observe(history)).clean for guided in (plain, merged)]
    assert torch.allclose(*guesses, atol=1e-12)


def test_a_history_read_in_pieces_is_the_history():
    guided = HistoryGuided(KALMAN, (HistoryTerm(2.0), HistoryTerm(0.5, start=-2)))
    noisy, levels = draw()
    history = draw(seed=3)[0]
    whole = guided.observe(history)
    pieces = guided.observe(history[:, 2:], None, guided.observe(history[:, :2]))
    assert torch.allclose(
        guided(noisy, levels, None, whole).clean, guided(noisy, levels, None, pieces).clean, atol=1e-12
    )


@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_history_guidance_with_drawn_noise_keeps_unit_noise_variance(weight):
    """Published code mixed samples, each with noise of its own: w^2 + (1 - w)^2 = 25 times too much at w = 4.

    Where the history says nothing all scores agree, so any weight must give the plain sampler's samples.
    """
    still = linear_gaussian.LinearGaussian(
        torch.zeros(2, 2).double(),
        PROCESS.state_noise,
        torch.tensor([2.0, 2.0]).double(),
        torch.tensor(0.48).double(),  # 4 * (.05 + .08) + .48 = 1
    )
    plain = KalmanDenoiser(still, Cosine())
    guided = HistoryGuided(plain, (HistoryTerm(weight),))
    matrix, noise = matrices.full_sequence(3, 80), draw(batch=2000, length=3)[0]
    state = guided.observe(torch.full((2000, 2, 1), 1.3).double())
    steps = [Step(1.0, torch.Generator().manual_seed(0)) for _ in range(2)]
    rows = zip(sample(guided, noise, matrix, state=state, step=steps[0]), sample(plain, noise, matrix, step=steps[1]))
    for guided_tokens, plain_tokens in rows:
        assert torch.allclose(guided_tokens, plain_tokens, atol=1e-10)
        assert guided_tokens.var().item() == pytest.approx(1, abs=0.08)  # eighty steps, not infinitely many


# Conditions and known values.


class Conditioned(KalmanDenoiser):
    """Clean guesses are shifted by the condition, and so is the state, so that what is dropped shows."""

    def __call__(self, noisy, levels, condition=None, state=None):
        guess = super().__call__(noisy, levels, None, state)
        alpha, sigma = self.schedule.shares(levels, noisy)
        clean = guess.clean + condition
        return Denoised(clean, (noisy - alpha * clean) / sigma)

    def observe(self, tokens, condition=None, state=None, level=0.0, noise=None):
        state = super().observe(tokens, None, state, level, noise)
        return GaussianBelief(state.mean + condition.sum(), state.covariance)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_condition_guidance_moves_along_what_the_condition_says(scale):
    inner = Conditioned(PROCESS, Cosine())
    noisy, levels = draw()
    condition, before = torch.full((3, 5, 1), 0.4).double(), torch.full((3, 5, 1), 0.1).double()
    history = draw(seed=3)[0]
    guided = ConditionGuided(inner, scale)
    guess = guided(noisy, levels, condition, guided.observe(history, before))
    with_it = inner(noisy, levels, condition, inner.observe(history, before))
    without = inner(noisy, levels, 0 * condition, inner.observe(history, 0 * before))
    assert torch.allclose(guess.noise, without.noise + scale * (with_it.noise - without.noise), atol=1e-12)


def test_condition_guidance_without_a_condition_is_refused():
    with pytest.raises(ValueError, match="needs a condition"):
        ConditionGuided(KALMAN, 2.0)(*draw())


def test_inpainted_values_arrive_exactly_and_the_rest_is_untouched():
    known = torch.tensor([0.0, 0.0, 1.7, 0.0, 0.0]).reshape(1, 5, 1).double()
    guided = Inpainted(KALMAN, known, known != 0)
    noise, matrix = draw()[0], matrices.full_sequence(5, 30)
    tokens, plain = final(sample(guided, noise, matrix)), final(sample(KALMAN, noise, matrix))
    assert (tokens[:, 2] == known[0, 2]).all()
    assert torch.equal(tokens[:, :2], plain[:, :2])
    assert (tokens[:, 3:] != plain[:, 3:]).all()  # a causal denoiser tells what comes after


# The smoother's message.


@pytest.mark.parametrize("schedule", [Cosine(), LogSNR(), Flow()], ids=lambda s: type(s).__name__)
def test_the_corrected_causal_score_is_the_joint_score(schedule):
    """exact-tests.md section 2, to 1e-10, with clean, hidden and noisy tokens and a history."""
    causal, joint = KalmanDenoiser(PROCESS, schedule), JointDenoiser(PROCESS, schedule)
    noisy, levels = draw(length=6)
    levels[1, 2], levels[2, 4], levels[0, 5] = 0.0, 1.0, 1.0
    history = draw(seed=3)[0]
    corrected = SmootherCorrected(causal)
    guess = corrected(noisy, levels, None, causal.observe(history))
    truth = joint(noisy, levels, None, joint.observe(history))
    seen = (levels < 1)[..., None]  # a hidden token has no score; its guess comes from the causal past
    assert ((guess.noise - truth.noise) * seen).abs().max() < 1e-10
    assert ((guess.clean - truth.clean) * seen).abs().max() < 1e-8
    assert ((causal(noisy, levels, None, causal.observe(history)).clean - truth.clean) * seen).abs().max() > 0.1


@pytest.mark.parametrize("matrix", ["full_sequence", "trapezoid"])
def test_the_corrected_causal_sampler_samples_the_truth_without_delay(matrix):
    """KL .0048 where the plain causal denoiser has 3.708 (full sequence) and worse (trapezoid)."""
    corrected, tokens = SmootherCorrected(KalmanDenoiser(PROCESS)), 6
    rows = {
        "full_sequence": matrices.full_sequence(tokens, 40),
        "trapezoid": matrices.trapezoid(tokens, 40, 4),
    }[matrix]
    truth = PROCESS.covariance(tokens)
    floor = gaussian_kl(sampled_covariance(JointDenoiser(PROCESS), rows), truth)
    plain = gaussian_kl(sampled_covariance(KalmanDenoiser(PROCESS), rows), truth)
    repaired = gaussian_kl(sampled_covariance(corrected, rows), truth)
    assert repaired == pytest.approx(floor, rel=1e-6)
    assert plain > 5 * repaired


@pytest.mark.slow
def test_the_corrected_causal_sampler_reaches_the_targets_of_the_table():
    """exact-tests.md section 5: .0048 | .0187 with delay 0, 200 levels, 16 tokens."""
    corrected, matrix = SmootherCorrected(KalmanDenoiser(PROCESS)), matrices.full_sequence(16, 200)
    truth = PROCESS.covariance(16)
    assert gaussian_kl(sampled_covariance(corrected, matrix), truth) == pytest.approx(0.0048, abs=6e-5)
    assert gaussian_kl(propagated_covariance(corrected, matrix, 1.0), truth) == pytest.approx(0.0187, abs=6e-5)


# Monte Carlo guidance: consideration of causal uncertainty.


def share_of_gambles(guide, samples=150, steps=16):
    inner = gamble(Cosine())
    noise = torch.randn(samples, 2, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tokens = final(sample(guide(inner), noise, matrices.autoregressive(2, steps)))
    assert torch.allclose(tokens[:, 0].abs(), torch.ones(samples, 1).double(), atol=1e-3)
    return (tokens[:, 0, 0] > 0).double().mean().item()


def minus_pay(clean):
    return -clean[:, 1, 0]


def futures(count):
    """Noise that is spread as evenly over the outcomes as can be, so that few futures show the true odds."""
    quantiles = torch.special.ndtri((torch.arange(count) + 0.5).double() / count)
    return torch.stack([torch.zeros(count).double(), quantiles], dim=1)[..., None]


@pytest.mark.parametrize("strength", [5.0, 20.0])
def test_monte_carlo_guidance_prefers_the_sure_pay(strength):
    """Tilting by the expected pay gives .378 and .119; tilting by the pay itself, which is optimistic, .788 and .999.

    Guidance follows a gradient of the expectation at finite noise, so it approximates the first.
    """
    gambles = share_of_gambles(lambda inner: MonteCarloGuided(inner, minus_pay, futures(24), strength, steps=8))
    assert share_of_gambles(lambda inner: inner) == pytest.approx(0.5, abs=0.12)
    assert gambles < {5.0: 0.45, 20.0: 0.2}[strength]


def test_the_gradient_of_monte_carlo_guidance_gets_steadier_with_more_futures():
    """The variance over draws of the futures falls as one over their number."""
    inner = CHAIN
    noisy, levels = draw(batch=1)
    levels[:, 2:] = 1.0

    def energy(clean):
        return (clean[..., 0] ** 2 * torch.arange(5)).sum(1)

    def spread(count, repeats=40):
        generator = torch.Generator().manual_seed(0)
        moves = [
            MonteCarloGuided(inner, energy, torch.randn(count, 5, 1, generator=generator).double())(noisy, levels).noise
            for _ in range(repeats)
        ]
        return torch.stack(moves)[:, 0, 0, 0].var().item()

    assert spread(1) / spread(16) == pytest.approx(16, rel=0.7)


def test_monte_carlo_guidance_is_the_gradient_of_the_mean_energy_of_futures():
    """Against finite differences of our own futures, one by one."""
    noisy, levels = draw()
    levels[:, 3:] = 1.0
    noise = draw(batch=4, seed=9)[0]
    guided = MonteCarloGuided(KALMAN, hill, noise, 1.3, steps=5)

    def expected(y):
        total = torch.zeros(len(y)).double()
        for one in noise:
            stairs = matrices.full_sequence(5, 5).double()
            tokens = torch.where((levels == 1)[..., None], one, y)
            for now, then in zip(stairs[:-1, 0], stairs[1:, 0], strict=True):
                here, there = torch.where(levels == 1, now, levels), torch.where(levels == 1, then, levels)
                guess = KALMAN(tokens, here)
                tokens = Step()(KALMAN.schedule, tokens, guess, here, there)
            total += hill(torch.where((levels == 1)[..., None], tokens, guess.clean))
        return total / len(noise)

    moved = guided(noisy, levels).noise - KALMAN(noisy, levels).noise
    expected_move = 1.3 * KALMAN.schedule.shares(levels, noisy)[1] * slope(expected, noisy)
    assert torch.allclose(moved[:, :3], expected_move[:, :3], atol=1e-8)
    assert (moved[:, 3:] == 0).all()
