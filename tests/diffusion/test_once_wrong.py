"""What a cold reader once got wrong answers or unclear errors from."""

import math

import pytest
import torch
from torch import Tensor, nn

from exact import JointDenoiser, KalmanDenoiser, sampled_covariance
from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoised, Denoiser, Prediction
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
from noiseladder.diffusion.likelihood import (
    conditional_likelihood,
    gauss_legendre,
    negative_log_likelihood,
    stratified,
)
from noiseladder.diffusion.noise import Cosine, Linear, LogSNR, Sigmoid
from noiseladder.diffusion.objective import DiffusionForcing, FusedSNRAsPublished, likelihood
from noiseladder.diffusion.sampling import final, rollout, sample
from noiseladder.diffusion.scheduling_matrix import (
    autoregressive,
    check_matrix,
    chunks,
    full_sequence,
    log_snr_stairs,
    pyramid,
    staircase,
)
from noiseladder.diffusion.training_levels import Constant
from noiseladder.networks.recurrent import RecurrentNetwork
from noiseladder.recipes.linear_gaussian import example

PROCESS = example()
KALMAN, JOINT = KalmanDenoiser(PROCESS), JointDenoiser(PROCESS)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def levels_like(tokens: Tensor, seed: int = 1) -> Tensor:
    return torch.rand(tokens.shape[:2], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def last(clean: Tensor) -> Tensor:
    return clean[:, -1].square().sum(dim=-1) + clean[:, 0].sum(dim=-1)


def test_energy_around_the_smoother_is_energy_around_the_joint_denoiser():
    noisy = random(3, 5, 1)
    levels = levels_like(noisy)
    levels[0, 1] = 0
    corrected = EnergyGuided(SmootherCorrected(KALMAN), last, 0.7)(noisy, levels)
    joint = EnergyGuided(JOINT, last, 0.7)(noisy, levels)
    torch.testing.assert_close(corrected.noise, joint.noise, atol=1e-10, rtol=1e-10)


class OneConstant(KalmanDenoiser):
    """Independent tokens of two numbers: one of unit variance, one that is always 0."""

    causal = True

    def __call__(self, noisy, levels, condition=None, state=None):
        alpha, sigma = self.schedule.shares(levels, noisy)
        varies = torch.tensor([1.0, 0.0], dtype=noisy.dtype)
        return Denoised(alpha * noisy * varies, torch.where(varies > 0, sigma * noisy, noisy))


def test_the_smoother_survives_numbers_that_are_certain():
    levels = torch.tensor([[0.5, 0.0, 0.5]], dtype=torch.float64)
    noisy = random(1, 3, 2)
    noisy[:, 1, 1] = 0
    denoiser = OneConstant(PROCESS)
    torch.testing.assert_close(SmootherCorrected(denoiser)(noisy, levels).clean, denoiser(noisy, levels).clean)


def test_the_smoother_refuses_what_it_cannot_repair():
    noisy = random(2, 3, 1)
    with pytest.raises(ValueError, match="sees later tokens already"):
        SmootherCorrected(JOINT)(noisy, levels_like(noisy))
    with pytest.raises(ValueError, match="one for each token"):
        SmootherCorrected(KALMAN)(noisy, levels_like(noisy)[..., None])


@pytest.mark.parametrize("schedule", [Linear(), Sigmoid(), Cosine()])
def test_the_likelihood_weight_is_finite_at_every_float(schedule):
    largest = torch.nextafter(torch.ones(40), torch.zeros(40))
    for step in range(39):
        largest[step + 1] = torch.nextafter(largest[step], torch.tensor(0.0))
    for prediction in Prediction:
        assert bool(torch.isfinite(likelihood(schedule, prediction, largest[None])).all())


def test_the_published_weight_is_finite_for_padding_first():
    levels = torch.tensor([[1.0, 0.5, 0.0]])
    assert bool(torch.isfinite(FusedSNRAsPublished()(Cosine(), Prediction.NOISE, levels)).all())


def test_futures_in_pyramid_order_vary_as_they_should():
    """All together they vary too little: the gradient's future is too sure of itself."""
    noise = random(3000, 6, 1)
    levels = torch.ones(1, 6, dtype=torch.float64)

    def spread_of(matrix: Tensor | None) -> float:
        guided = MonteCarloGuided(KALMAN, last, noise, steps=40, matrix=matrix)
        state = KALMAN.initial_state(1)[[0] * 3000]
        futures = guided.imagine(torch.zeros_like(noise), noise, levels.expand(3000, -1), None, state)
        return float(futures.sum(dim=1).var())

    truth = float(PROCESS.covariance(6).sum())
    stairs = log_snr_stairs(KALMAN.schedule, 40)
    assert spread_of(None) < 0.7 * truth
    assert spread_of(autoregressive(6, 40, stairs)) == pytest.approx(truth, rel=0.15)  # 40 steps lose some


def test_monte_carlo_without_anything_undecided_is_energy_guidance():
    noisy = random(2, 4, 1)
    levels = levels_like(noisy)
    calls = KALMAN.calls
    guess = MonteCarloGuided(KALMAN, last, random(5, 4, 1))(noisy, levels)
    assert KALMAN.calls == calls + 1
    torch.testing.assert_close(guess.noise, EnergyGuided(KALMAN, last)(noisy, levels).noise)


def test_monte_carlo_names_what_does_not_fit():
    with pytest.raises(ValueError, match="at least one of each"):
        MonteCarloGuided(KALMAN, last, random(5, 4, 1), steps=0)
    with pytest.raises(ValueError, match="futures' noise has shape"):
        MonteCarloGuided(KALMAN, last, random(5, 3, 1))(random(2, 4, 1), torch.ones(2, 4, dtype=torch.float64))


def test_levelled_guidance_pulls_far_tokens_that_energy_guidance_does_not_reach():
    noisy = random(2, 4, 1)
    levels = torch.tensor([[0.4, 0.6, 0.8, 1.0]], dtype=torch.float64).expand(2, -1)

    def far(clean: Tensor) -> Tensor:
        return -clean[:, -1, 0]

    plain = KALMAN(noisy, levels).clean
    energy = EnergyGuided(KALMAN, far, 1.0)(noisy, levels).clean - plain
    levelled = LevelledGuided(KALMAN, far, 1.0)(noisy, levels)
    assert float((levelled.clean[:, -1] - LevelledGuided(KALMAN, far, 0.0)(noisy, levels).clean[:, -1]).min()) > 1e-3
    assert float(energy[:, -1].abs().max()) == 0
    alpha, sigma = KALMAN.schedule.shares(levels, noisy)
    torch.testing.assert_close(alpha * levelled.clean + sigma * levelled.noise, noisy)


def test_levelled_guidance_at_one_level_is_energy_guidance():
    noisy, levels = random(2, 4, 1), torch.full((2, 4), 0.6, dtype=torch.float64)
    torch.testing.assert_close(
        LevelledGuided(KALMAN, last)(noisy, levels).clean, EnergyGuided(KALMAN, last)(noisy, levels).clean
    )


def test_history_and_condition_states_say_what_is_wrong():
    history = HistoryGuided(KALMAN, (HistoryTerm(2.0),))
    state = history.observe(random(2, 3, 1), random(2, 3, 1))
    with pytest.raises(ValueError, match="condition at some steps"):
        history.observe(random(2, 3, 1), None, state)
    with pytest.raises(ValueError, match="expected a HistoryState"):
        history(random(2, 3, 1), torch.ones(2, 3, dtype=torch.float64), None, KALMAN.initial_state(2))
    with pytest.raises(ValueError, match="expected a ConditionState"):
        ConditionGuided(KALMAN)(
            random(2, 3, 1), torch.ones(2, 3, dtype=torch.float64), random(2, 3, 1), KALMAN.initial_state(2)
        )


def test_inpainting_of_each_sequence_inside_guidance_that_repeats_them():
    known = torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None, None].expand(2, 4, 1)
    where = torch.tensor([False, False, False, True])[None, :, None].expand(2, 4, 1)
    painted = Inpainted(KALMAN, known, where)
    guess = MonteCarloGuided(painted, last, random(5, 4, 1))(random(2, 4, 1), torch.ones(2, 4, dtype=torch.float64))
    torch.testing.assert_close(guess.clean[:, -1, 0], known[:, -1, 0])


def test_guidance_under_inference_mode_says_so():
    with torch.inference_mode(), pytest.raises(ValueError, match="no_grad"):
        EnergyGuided(KALMAN, last)(random(2, 3, 1), torch.full((2, 3), 0.5, dtype=torch.float64))


def test_likelihood_is_averaged_over_what_was_asked():
    asked = torch.tensor([False, False, True, False])
    found = negative_log_likelihood(KALMAN, random(5, 4, 1), gauss_legendre(50), random(4, 1), asked=asked)
    assert found.per_step == pytest.approx(float(found.nats[:, 2].mean()))
    assert math.isnan(negative_log_likelihood(KALMAN, random(1, 4, 1), gauss_legendre(50), random(4, 1)).standard_error)


def test_what_is_given_first_is_one_bound_and_not_a_difference():
    tokens, generator = random(4, 8, 1), torch.Generator()
    given = torch.arange(8) < 7
    calls = KALMAN.calls
    nodes = stratified(32, generator.manual_seed(0))
    found = conditional_likelihood(KALMAN, tokens, ~given, given, nodes, generator.manual_seed(0))
    assert KALMAN.calls == calls + 1
    alone = negative_log_likelihood(KALMAN, tokens, nodes, generator.manual_seed(0), given=given, asked=~given)
    torch.testing.assert_close(found, alone.per_sequence)


def test_a_missing_token_that_is_not_asked_for_may_be_nan():
    tokens = random(3, 4, 1)
    asked = torch.tensor([True, True, False, True])
    unit = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    found = negative_log_likelihood(KALMAN, tokens, gauss_legendre(100), unit, asked=asked)
    tokens[:, 2] = torch.nan
    again = negative_log_likelihood(KALMAN, tokens, gauss_legendre(100), unit, asked=asked)
    torch.testing.assert_close(found.nats, again.nats)


def test_nodes_beyond_the_schedule_are_refused():
    with pytest.raises(ValueError, match="never reaches"):
        negative_log_likelihood(KalmanDenoiser(PROCESS, LogSNR(8.0)), random(2, 3, 1), gauss_legendre(50), random(1, 1))


@pytest.mark.parametrize("prediction", Prediction)
def test_a_clean_guess_does_not_depend_on_a_hidden_nan(prediction):
    denoiser = Denoiser(RecurrentNetwork(2, width=8), Cosine(), prediction)
    noisy, levels = torch.randn(2, 4, 2), torch.full((2, 4), 0.5)
    levels[:, 1] = 1
    guess = denoiser(noisy, levels)
    noisy[:, 1] = torch.nan
    assert torch.equal(denoiser(noisy, levels).clean, guess.clean)


def test_nothing_observed_changes_nothing():
    denoiser = Denoiser(RecurrentNetwork(2, width=8), Cosine())
    state = denoiser.observe(torch.randn(2, 4, 2))
    assert torch.equal(denoiser.observe(torch.randn(2, 0, 2), state=state).hidden, state.hidden)
    with pytest.raises(ValueError, match="at least one sequence"):
        denoiser(torch.randn(2, 0, 2), torch.rand(2, 0))


def test_half_precision_keeps_every_row():
    class Blind(nn.Module):
        causal = True
        calls = 0

        def initial_state(self, batch):
            return RecurrentNetwork(2, width=2).initial_state(batch)

        def forward(self, tokens, levels, condition, state):
            type(self).calls += 1
            assert levels.dtype == torch.float32
            return torch.zeros_like(tokens), state

    final(sample(Denoiser(Blind(), Cosine()), torch.randn(1, 1, 2, dtype=torch.bfloat16), full_sequence(1, 600)))
    assert Blind.calls == 600


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda: chunks(4, 5, 0), "at least 1 token"),
        (lambda: staircase(torch.tensor([0]), 2.5), "whole number"),
        (lambda: full_sequence(2, 2, torch.tensor([1.0, 1.2, 0.0])), "fall from 1 to 0"),
        (lambda: Constant(2.0), r"\[0, 1\]"),
        (lambda: check_matrix(full_sequence(3, 2), torch.tensor([True])), "one for each column"),
        (lambda: Batch(torch.randn(3, 3, 1), mask=torch.ones(3, dtype=torch.bool)), "mask"),
        (lambda: next(rollout(KALMAN, iter([]), pyramid(2, 3, 1), level=1.5)), "levels lie in"),
        (
            lambda: DiffusionForcing()(
                Denoiser(RecurrentNetwork(1, width=4, condition_size=1), Cosine()),
                Batch(torch.randn(2, 3, 1), torch.full((2, 3, 1), torch.nan)),
                torch.Generator(),
            ),
            "condition holds NaN",
        ),
    ],
)
def test_bad_input_is_named(what, message):
    with pytest.raises(ValueError, match=message):
        what()


def test_condition_guidance_keeps_the_fast_path():
    assert ConditionGuided(KALMAN).causal
    assert not ConditionGuided(JOINT).causal


def test_corrected_pyramid_has_the_joint_law():
    stairs = log_snr_stairs(KALMAN.schedule, 40)
    matrix = pyramid(5, 40, 3, stairs).double()
    found = sampled_covariance(SmootherCorrected(KALMAN), matrix)
    torch.testing.assert_close(found, sampled_covariance(JOINT, matrix), atol=1e-8, rtol=1e-8)
