"""What a network's output stands for, and what a denoiser must never look at."""

import math

import pytest
import torch
from torch import nn

from noiseladder.diffusion.denoiser import Denoiser, Prediction
from noiseladder.diffusion.noise import Cosine, Flow, Linear, LogSNR, Sigmoid
from noiseladder.diffusion.state import State

SCHEDULES = [Cosine(), Sigmoid(), Linear(), LogSNR(), Flow()]
everywhere = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
every_prediction = pytest.mark.parametrize("prediction", list(Prediction), ids=lambda p: p.value)


class Says(nn.Module):
    """A network that says the same whatever it reads, and keeps what it was shown."""

    causal = True

    def __init__(self, output=None):
        super().__init__()
        self.output, self.seen = output, []

    def initial_state(self, batch):
        return State()

    def forward(self, tokens, levels, condition, state):
        self.seen.append(tokens)
        return (torch.zeros_like(tokens) if self.output is None else self.output), state


def draw(levels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, *levels.shape, 3, dtype=torch.float64, generator=generator)
    return clean, noise


@everywhere
@every_prediction
def test_a_perfect_output_gives_back_clean_and_noise(schedule, prediction):
    levels = torch.linspace(0.05, 0.95, 19, dtype=torch.float64).repeat(4, 1)
    clean, noise = draw(levels)
    denoiser = Denoiser(Says(), schedule, prediction)
    noisy = schedule.mix(clean, noise, levels)
    guess = denoiser.interpret(denoiser.target(clean, noise, levels), noisy, levels)
    assert (guess.clean - clean).abs().max() < 1e-12
    assert (guess.noise - noise).abs().max() < 1e-12


@everywhere
@every_prediction
def test_at_level_0_the_token_is_its_own_clean_guess(schedule, prediction):
    levels = torch.zeros(4, 5, dtype=torch.float64)
    clean, output = draw(levels)
    denoiser = Denoiser(Says(output), schedule, prediction)
    assert torch.allclose(denoiser(clean, levels).clean, clean, atol=1e-15)


@everywhere
@every_prediction
def test_at_level_1_the_output_is_the_clean_guess_and_the_token_the_noise_guess(schedule, prediction):
    levels = torch.ones(4, 5, dtype=torch.float64)
    clean, noise = draw(levels)
    denoiser = Denoiser(Says(), schedule, prediction)
    guess = denoiser.interpret(denoiser.target(clean, noise, levels), noise, levels)
    assert torch.allclose(guess.clean, clean, atol=1e-14)
    assert torch.equal(guess.noise, noise) or torch.allclose(guess.noise, noise, atol=1e-14)


@everywhere
@every_prediction
def test_both_guesses_always_explain_the_input(schedule, prediction):
    levels = torch.tensor([[0.0, 1e-6, 0.1, 0.5, 0.9, 1 - 1e-6, 1.0]], dtype=torch.float64).repeat(4, 1)
    noisy, output = draw(levels)
    guess = Denoiser(Says(output), schedule, prediction)(noisy, levels)
    alpha, sigma = schedule.shares(levels, noisy)
    explained = alpha * guess.clean + sigma * guess.noise
    assert torch.isfinite(guess.clean).all()
    assert torch.isfinite(guess.noise).all()
    assert (explained - noisy).abs().max() < 1e-9


@everywhere
def test_errors_of_outputs_and_clean_guesses_have_the_ratio_that_weights_divide_by(schedule):
    """(a^2 + b^2)^2 / b^2 for velocity, snr for noise, (a + b)^2 / b^2 for flow."""
    from noiseladder.diffusion.objective import over_error_ratio

    levels = torch.tensor([[0.1, 0.4, 0.8]], dtype=torch.float64)
    noisy, output = draw(levels)
    error = torch.full_like(output, 0.01)
    for prediction in Prediction:
        denoiser = Denoiser(Says(), schedule, prediction)
        moved = denoiser.interpret(output + error, noisy, levels).clean
        still = denoiser.interpret(output, noisy, levels).clean
        ratio = 1 / over_error_ratio(schedule, prediction, levels, torch.ones_like(levels))
        assert torch.allclose(error**2, ratio[..., None] * (moved - still) ** 2, rtol=1e-9)


def test_a_token_at_level_1_never_reaches_the_network():
    network = Says()
    denoiser = Denoiser(network, Cosine())
    tokens, levels = torch.randn(2, 3, 2), torch.tensor([[0.5, 1.0, 0.0]]).repeat(2, 1)
    tokens[:, 1] = math.nan
    guess = denoiser(tokens, levels)
    denoiser.observe(tokens, level=levels)
    assert all((seen[:, 1] == 0).all() for seen in network.seen)
    assert torch.isfinite(guess.clean[:, [0, 2]]).all()


def test_observing_mixes_the_noise_that_it_is_given():
    network, schedule = Says(), Cosine()
    denoiser = Denoiser(network, schedule)
    tokens, noise = torch.randn(2, 2, 3, 2)
    denoiser.observe(tokens, level=0.3, noise=noise)
    denoiser.observe(tokens, level=0.3)
    level = torch.full((2, 3), 0.3)
    assert torch.equal(network.seen[0], schedule.mix(tokens, noise, level))
    assert torch.equal(network.seen[1], schedule.mix(tokens, torch.zeros_like(noise), level))


def test_looking_changes_no_state_and_no_input():
    denoiser = Denoiser(Says(), Cosine())
    tokens, levels = torch.randn(2, 3, 2), torch.rand(2, 3)
    before = tokens.clone(), levels.clone()
    denoiser(tokens, levels)
    denoiser.observe(tokens, level=levels)
    assert torch.equal(tokens, before[0])
    assert torch.equal(levels, before[1])


@pytest.mark.parametrize(
    ("tokens", "levels", "condition", "said"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 3), None, r"expected floats of shape \(B, T, ...\)"),
        (torch.zeros(2, 3, 1, dtype=torch.long), torch.zeros(2, 3), None, "int64"),
        (torch.zeros(2, 3, 1), torch.zeros(2, 4), None, r"levels are .* shape \(2, 4\)"),
        (torch.zeros(2, 3, 1), torch.zeros(2), None, "levels are"),
        (torch.zeros(2, 3, 1), torch.zeros(2, 3, dtype=torch.long), None, "levels are torch.int64"),
        (torch.zeros(2, 3, 1), torch.full((2, 3), 1.5), None, r"a noise level is 1.5.*\[0, 1\]"),
        (torch.zeros(2, 3, 1), torch.full((2, 3), math.nan), None, "a noise level is nan"),
        (torch.zeros(2, 3, 1), torch.zeros(2, 3), torch.zeros(2, 4, 1), r"condition has shape \(2, 4, 1\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(tokens, levels, condition, said):
    with pytest.raises(ValueError, match=said):
        Denoiser(Says(), Cosine())(tokens, levels, condition)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_observing_a_value_that_is_not_a_number_is_refused_unless_it_is_hidden(bad):
    denoiser = Denoiser(Says(), Cosine())
    tokens = torch.zeros(1, 2, 1)
    tokens[0, 1] = bad
    with pytest.raises(ValueError, match="level 1"):
        denoiser.observe(tokens)
    denoiser.observe(tokens, level=torch.tensor([[0.0, 1.0]]))
