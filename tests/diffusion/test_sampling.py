"""The sampler, held to the laws that exact denoisers give it."""

import math
from itertools import count, islice, pairwise

import pytest
import torch
from hypothesis import given, settings, strategies as st

from exact import (
    HiddenMarkovDenoiser,
    JointDenoiser,
    KalmanDenoiser,
    gaussian_kl,
    propagated_covariance,
    sampled_covariance,
)
from noiseladder.diffusion import scheduling_matrix as matrices
from noiseladder.diffusion.denoiser import Denoised, Denoiser
from noiseladder.diffusion.guidance import EnergyGuided
from noiseladder.diffusion.memory import ShortMemory
from noiseladder.diffusion.noise import Cosine, Flow, Linear, LogSNR, Sigmoid
from noiseladder.diffusion.sampling import DDIM, AngleStep, Step, draw_noise, final, rollout, sample
from noiseladder.diffusion.state import State
from noiseladder.recipes import hidden_markov, linear_gaussian

PROCESS = linear_gaussian.example()
TRUTH = PROCESS.covariance(16)
KALMAN, JOINT = KalmanDenoiser(PROCESS), JointDenoiser(PROCESS)
SCHEDULES = [Cosine(), Sigmoid(), Linear(), LogSNR(), Flow()]


def pyramid(share, steps=200, tokens=16):
    return matrices.pyramid(tokens, steps, round(share * steps))


# exact-tests.md section 5: KL to the truth in nats, 200 levels uniform in log-SNR, 16 tokens.
TABLE = {
    # share of the stairs each token waits: (DDIM, ancestral) with the causal denoiser
    0.00: (3.708, 2.406),
    0.01: (2.711, 1.643),
    0.02: (2.028, 1.156),
    0.04: (1.184, 0.606),
    0.08: (0.430, 0.169),
    0.16: (0.055, 0.020),
    0.32: (0.0054, 0.0186),
    1.00: (0.0048, 0.0187),
}


def slow_if(value, slow=True):
    """A parameter that belongs to the slow suite."""
    return pytest.param(value, marks=[pytest.mark.slow] if slow else [])


def digits(value: float) -> float:
    """Half a unit in the last digit of a printed number."""
    return 0.51 * 10 ** -(4 if value < 0.02 and value != 0.020 else 3)


@pytest.mark.parametrize("share", [slow_if(s, s in (0.01, 0.02, 1.0)) for s in TABLE])
def test_the_law_of_ddim_samples_with_a_causal_denoiser(share):
    expected = TABLE[share][0]
    assert gaussian_kl(sampled_covariance(KALMAN, pyramid(share)), TRUTH) == pytest.approx(
        expected, abs=digits(expected)
    )


@pytest.mark.parametrize("share", [slow_if(s, s not in (0.0, 0.08)) for s in TABLE])
def test_the_law_of_ancestral_samples_with_a_causal_denoiser(share):
    expected = TABLE[share][1]
    assert gaussian_kl(propagated_covariance(KALMAN, pyramid(share), eta=1.0), TRUTH) == pytest.approx(
        expected, abs=digits(expected)
    )


MATRICES = {
    "full_sequence": matrices.full_sequence(16, 200),
    "pyramid": pyramid(0.02),
    "trapezoid": matrices.trapezoid(16, 200, 16),
    "keyframes": matrices.keyframes(16, 200, 4),
    "chunks": matrices.chunks(16, 200, 8),
    "autoregressive": matrices.autoregressive(16, 200),
}


@pytest.mark.parametrize("name", [slow_if(name, name == "autoregressive") for name in MATRICES])
def test_with_a_denoiser_that_sees_all_every_matrix_samples_the_truth(name):
    assert gaussian_kl(sampled_covariance(JOINT, MATRICES[name]), TRUTH) == pytest.approx(0.0048, abs=6e-5)


@pytest.mark.parametrize("name", [slow_if(name, name != "pyramid") for name in MATRICES])
def test_with_a_denoiser_that_sees_all_every_matrix_samples_the_truth_ancestrally(name):
    kl = gaussian_kl(propagated_covariance(JOINT, MATRICES[name], eta=1.0), TRUTH)
    assert kl == pytest.approx(0.0187, abs=6e-5)


def test_trapezoid_and_keyframes_are_worse_than_no_delay_for_a_causal_denoiser():
    """It cannot use the cleaner tokens that come later."""
    trapezoid, keyframes = MATRICES["trapezoid"], MATRICES["keyframes"]
    assert gaussian_kl(sampled_covariance(KALMAN, trapezoid), TRUTH) == pytest.approx(7.35, abs=0.006)
    assert gaussian_kl(sampled_covariance(KALMAN, keyframes), TRUTH) == pytest.approx(6.82, abs=0.006)


@pytest.mark.slow
def test_trapezoid_and_keyframes_ancestrally():
    assert gaussian_kl(propagated_covariance(KALMAN, MATRICES["trapezoid"], 1.0), TRUTH) == pytest.approx(
        6.55, abs=0.006
    )
    assert gaussian_kl(propagated_covariance(KALMAN, MATRICES["keyframes"], 1.0), TRUTH) == pytest.approx(
        6.06, abs=0.006
    )


@pytest.mark.parametrize("share", [0.16, slow_if(0.32), slow_if(0.7)])
def test_cosine_stairs_need_a_longer_delay(share):
    expected = {0.16: 0.893, 0.32: 0.269, 0.7: 0.005}[share]
    denoiser = KalmanDenoiser(PROCESS, Cosine())
    assert gaussian_kl(sampled_covariance(denoiser, pyramid(share)), TRUTH) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_every_schedule_and_every_eta_reach_the_truth_with_an_exact_denoiser(schedule, eta):
    """Many steps of the joint denoiser; more steps come closer, so it is the steps that are missing."""
    truth = PROCESS.covariance(4)
    stairs = {n: matrices.log_snr_stairs(schedule, n).double() for n in (40, 160)}
    far, near = (
        gaussian_kl(propagated_covariance(JointDenoiser(PROCESS, schedule), matrices.pyramid(4, n, 2, s), eta), truth)
        for n, s in stairs.items()
    )
    assert near < 0.01
    assert near < far / 3


def test_both_ways_of_reading_off_the_law_agree():
    """All rows in one run with unit vectors, and row by row: state, windows and drawn noise included."""
    matrix = matrices.pyramid(5, 8, 3)
    for eta in (0.0, 0.4, 1.0):
        for denoiser in (KalmanDenoiser(PROCESS, Cosine()), JointDenoiser(PROCESS)):
            whole = sampled_covariance(denoiser, matrix, eta)
            assert torch.allclose(whole, propagated_covariance(denoiser, matrix, eta), atol=1e-10)


def test_the_law_read_off_is_the_law_of_samples():
    """The covariance of 40,000 real samples, drawn with our generators."""
    matrix = matrices.pyramid(4, 12, 2)
    denoiser = KalmanDenoiser(PROCESS, Cosine())
    generator = torch.Generator().manual_seed(0)
    for eta in (0.0, 0.7):
        noise = torch.randn(40_000, 4, 1, dtype=torch.float64, generator=generator)
        tokens = final(sample(denoiser, noise, matrix, step=Step(eta, generator)))[..., 0]
        expected = sampled_covariance(denoiser, matrix, eta)
        assert torch.allclose(tokens.T @ tokens / 40_000, expected, atol=5 * (2 / 40_000) ** 0.5)


def test_second_order_steps_need_fewer_steps_for_the_same_error():
    """DPM-Solver++(2M) against DDIM on the same stairs, with the exact joint denoiser."""
    truth, joint = PROCESS.covariance(4), JointDenoiser(PROCESS)

    def error(steps, second_order):
        matrix = matrices.full_sequence(4, steps)
        return gaussian_kl(propagated_map(joint, matrix, Step(second_order=second_order)), truth)

    for steps in (40, 80):
        assert error(steps, True) < error(steps, False) / 4
    assert error(80, True) < error(40, True) / 6  # fourth power of the step, in KL


def propagated_map(denoiser, matrix, step):
    """The covariance of samples of a deterministic step."""
    basis = torch.eye(matrix.shape[1], dtype=torch.float64)[..., None]
    rows = final(sample(denoiser, basis, matrix, step=step))[..., 0]
    return rows.T @ rows


# The flow map: exact-tests.md section 5.


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_many_small_steps_follow_the_flow_map(schedule):
    """y' = a' mu + sqrt((a'^2 S + b'^2) / (a^2 S + b^2)) (y - a mu) for one token that follows a history."""
    exact = KalmanDenoiser(PROCESS, schedule)
    history = PROCESS.draw(3, 5, torch.Generator().manual_seed(0))
    state = exact.observe(history)
    said = exact.predictions(torch.zeros(3, 1, 1).double(), torch.ones(3, 1).double(), state)
    start, end = schedule.level_of_log_snr(torch.tensor([-2.0, 3.0], dtype=torch.float64))
    stairs = schedule.level_of_log_snr(torch.linspace(-2, 3, 301, dtype=torch.float64))[:, None]
    y = torch.tensor([-1.5, 0.2, 2.0], dtype=torch.float64)[:, None, None]
    step = Step(second_order=True)
    walked = final(sample(exact, y, stairs, state=state, step=step, given=torch.tensor([True]), early_stop=True))
    a, b = schedule.alpha(start), schedule.sigma(start)
    a2, b2 = schedule.alpha(end), schedule.sigma(end)
    mu, variance = said.mean[:, 0], said.variance[:, 0]
    scale = ((a2**2 * variance + b2**2) / (a**2 * variance + b**2)).sqrt()
    assert torch.allclose(walked[:, 0, 0], a2 * mu + scale * (y[:, 0, 0] - a * mu), atol=2e-4)


# Held tokens, noise as an argument, batches.


class Restless:
    """A denoiser that would move everything: its guesses are wild."""

    schedule = Cosine()

    def __init__(self, causal=False):
        self.causal, self.read = causal, []

    def initial_state(self, batch):
        return State()

    def observe(self, tokens, condition=None, state=None, level=0.0, noise=None):
        self.read.append(tokens)
        return State()

    def __call__(self, noisy, levels, condition=None, state=None):
        return Denoised(noisy * 3 + 1, noisy * -2 + 5)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("causal", [False, True])
@given(
    delays=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    steps=st.integers(1, 4),
    second_order=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_held_tokens_are_bit_identical_while_they_are_held(eta, causal, delays, steps, second_order):
    """Published code denoised waiting tokens again and finished ones too."""
    matrix = matrices.staircase(torch.tensor(delays), steps)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, len(delays), 2, generator=generator)
    step = Step(eta, generator, second_order=second_order and eta == 0)
    rows = list(sample(Restless(causal), noise, matrix, step=step))
    assert len(rows) == len(matrix)
    assert torch.equal(rows[0], noise)
    for (before, after), (row, next_row) in zip(pairwise(rows), pairwise(matrix), strict=True):
        held = row == next_row
        assert torch.equal(before[:, held], after[:, held])
        assert (before[:, ~held] != after[:, ~held]).all()


def test_a_finished_token_is_read_into_the_state_as_it_is_and_once():
    denoiser = Restless(causal=True)
    tokens = final(sample(denoiser, torch.randn(2, 4, 1), matrices.autoregressive(4, 3)))
    assert torch.equal(torch.cat(denoiser.read, dim=1), tokens[:, :3])


def test_waiting_tokens_are_drawn_anew_only_if_asked():
    matrix = matrices.autoregressive(3, 2)
    step = Step(redraw_waiting=True, generators=torch.Generator().manual_seed(0))
    rows = list(sample(KALMAN, torch.randn(2, 3, 1).double(), matrix, step=step))
    waiting = (matrix[:-1] == 1) & (matrix[1:] == 1)
    for (before, after), wait in zip(pairwise(rows), waiting, strict=True):
        assert (before[:, wait] != after[:, wait]).all()
    finished = torch.stack(rows)[:, :, 0][2:]
    assert (finished == finished[0]).all()


def test_the_same_noise_gives_the_same_sample():
    noise, matrix = torch.randn(3, 5, 1).double(), pyramid(0.1, 20, 5)
    assert torch.equal(final(sample(KALMAN, noise, matrix)), final(sample(KALMAN, noise, matrix)))
    drawn = [final(sample(KALMAN, noise, matrix, step=Step(1.0, torch.Generator().manual_seed(s)))) for s in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_sampling_uses_nothing_random_that_is_not_given():
    noise, matrix = torch.randn(3, 5, 1).double(), pyramid(0.1, 20, 5)
    before = torch.random.get_rng_state()
    final(sample(KALMAN, noise, matrix, step=Step(1.0, torch.Generator().manual_seed(0))))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("eta", [0.0, 1.0])
@given(st.permutations(range(4)).map(lambda order: order[:3]))
@settings(max_examples=6, deadline=None)
def test_with_a_generator_each_a_sequence_does_not_depend_on_its_batch(eta, chosen):
    matrix, seeds = pyramid(0.1, 10, 4), [11, 12, 13, 14]

    def run(members):
        noise = draw_noise([torch.Generator().manual_seed(seeds[i]) for i in members], (len(members), 4, 1)).double()
        generators = [torch.Generator().manual_seed(100 + seeds[i]) for i in members]
        return final(sample(KALMAN, noise, matrix, step=Step(eta, generators)))

    everyone, some = run(range(4)), run(chosen)
    assert torch.allclose(everyone[list(chosen)], some, atol=1e-13)


def test_state_and_condition_reach_the_denoiser_cut_to_the_tokens_it_sees():
    seen = []

    class Conditioned(KalmanDenoiser):
        def __call__(self, noisy, levels, condition=None, state=None):
            seen.append((noisy.shape[1], condition[0, :, 0].tolist()))
            return super().__call__(noisy, levels, condition, state)

    condition = torch.arange(4.0)[None, :, None].repeat(2, 1, 1)
    final(sample(Conditioned(PROCESS), torch.randn(2, 4, 1).double(), matrices.autoregressive(4, 1), condition))
    assert seen == [(1, [0.0]), (1, [1.0]), (1, [2.0]), (1, [3.0])]


def test_a_history_conditions_the_sample():
    """Sampling after x_1..x_3 has the conditional law, computed from the joint covariance."""
    history = PROCESS.draw(1, 3, torch.Generator().manual_seed(5))
    state = KALMAN.observe(history)
    matrix = matrices.autoregressive(2, 400)
    start = torch.cat([torch.zeros(1, 2, 1), torch.eye(2)[..., None]]).double()
    rows = final(sample(KALMAN, start, matrix, state=state[torch.zeros(3, dtype=torch.long)]))[..., 0]
    covariance = PROCESS.covariance(5)
    gain = covariance[3:, :3] @ torch.linalg.inv(covariance[:3, :3])
    expected = covariance[3:, 3:] - gain @ covariance[:3, 3:]
    answer = rows[1:] - rows[:1]
    assert torch.allclose(rows[0], gain @ history[0, :, 0], atol=2e-2)
    assert gaussian_kl(answer.T @ answer, expected) < 2e-3


def test_sampling_may_stop_early_with_a_noisy_far_future():
    whole = matrices.pyramid(4, 6, 3)
    start = torch.randn(2, 4, 1).double()
    rows = list(sample(KALMAN, start, whole))
    early = list(sample(KALMAN, start, whole[:9], early_stop=True))
    assert torch.equal(early[-1], rows[8])
    assert (whole[8] == torch.tensor([0, 1 / 6 + 0.0, 2 / 3, 1])).sum() >= 2  # near clean, far pure noise
    with pytest.raises(ValueError, match="early_stop"):
        sample(KALMAN, start, whole[:9])


def test_given_tokens_are_kept_and_the_rest_is_conditioned_on_them():
    """Inpainting: a column at level 0 from the first row."""
    matrix = matrices.full_sequence(4, 300)
    matrix[:, 3] = 0.0
    start = torch.zeros(1, 4, 1).double()
    start[0, 3] = 1.7
    tokens = final(sample(JOINT, start, matrix, given=torch.arange(4) == 3))[0, :, 0]
    covariance = PROCESS.covariance(4)
    assert tokens[3] == 1.7
    assert torch.allclose(tokens[:3], covariance[:3, 3] * 1.7, atol=2e-2)


# Steps for tokens that have a variance of their own.


class White:
    """The exact denoiser of tokens that are independent and normal."""

    causal = True

    def __init__(self, schedule, mean, variance):
        self.schedule, self.mean, self.variance = schedule, mean, variance

    def __call__(self, noisy, levels, condition=None, state=None):
        alpha, sigma = self.schedule.shares(levels, noisy)
        surprise = (noisy - alpha * self.mean) / (alpha**2 * self.variance + sigma**2)
        return Denoised(self.mean + alpha * self.variance * surprise, sigma * surprise)

    def observe(self, tokens, condition=None, state=None, level=0.0, noise=None):
        return State()

    def initial_state(self, batch):
        return State()


def sampled(schedule, mean, variance, steps, step):
    """Mean and standard deviation of what standard normal noise becomes; every step is affine."""
    noise = torch.tensor([0.0, 1.0]).double().reshape(2, 1, 1)
    matrix = matrices.full_sequence(1, steps).double()
    low, high = final(sample(White(schedule, mean, variance), noise, matrix, step=step)).flatten().tolist()
    return low, high - low


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("variance", [0.2, 1.0, 3.0])
def test_a_step_with_the_true_variance_is_exact_in_any_number_of_steps(schedule, steps, variance):
    mean, deviation = sampled(schedule, 0.7, variance, steps, Step(variance=variance))
    assert mean == pytest.approx(0.7, abs=1e-12)
    assert deviation == pytest.approx(variance**0.5, abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("variance", [0.1, 0.3, 1.5])
def test_a_step_with_another_variance_keeps_means_exact_and_comes_closer_with_more_steps(schedule, variance):
    found = [sampled(schedule, 0.7, variance, steps, Step(variance=1.0)) for steps in (10, 100, 400)]
    assert all(mean == pytest.approx(0.7, abs=1e-12) for mean, _ in found)
    errors = [abs(deviation - variance**0.5) for _, deviation in found]
    assert errors[2] < errors[1] / 1.8 < errors[0]
    assert errors[2] < 0.02


def test_ddim_shrinks_standard_normal_tokens_by_the_cosine_of_each_step():
    for steps in (2, 8, 20):
        _, deviation = sampled(Cosine(), 0.0, 1.0, steps, DDIM)
        assert deviation == pytest.approx(math.cos(math.pi / 2 / steps) ** steps, abs=1e-6)


def test_a_variance_of_nothing_is_ddim_to_the_bit():
    noise = torch.randn(3, 4, 1)
    assert torch.equal(
        final(sample(KALMAN, noise.double(), matrices.pyramid(4, 9, 2), step=Step(variance=0.0))),
        final(sample(KALMAN, noise.double(), matrices.pyramid(4, 9, 2))),
    )


@pytest.mark.parametrize("variance", [1e-12, 1e-6])
def test_a_tiny_variance_is_nearly_ddim(variance):
    noise = torch.randn(3, 4, 1).double()
    tokens = final(sample(KALMAN, noise, matrices.pyramid(4, 9, 2), step=Step(variance=variance)))
    ddim = final(sample(KALMAN, noise, matrices.pyramid(4, 9, 2)))
    assert torch.allclose(tokens, ddim, atol=10 * variance**0.5)


def test_the_next_token_of_a_process_has_its_law_after_two_steps():
    """With the variance that the filter says the next token has, however few the steps."""
    state = KALMAN.observe(PROCESS.draw(1, 6, torch.Generator().manual_seed(0)))
    (said, _), *_ = KALMAN.steps(torch.zeros(1, 1, 1).double(), torch.ones(1, 1).double(), state)
    noise = torch.tensor([0.0, 1.0]).double().reshape(2, 1, 1)
    step = Step(variance=said.variance.item())
    matrix = matrices.full_sequence(1, 2).double()
    low, high = final(sample(KALMAN, noise, matrix, state=state[[0, 0]], step=step)).flatten().tolist()
    assert low == pytest.approx(said.mean.item(), abs=1e-12)
    assert high - low == pytest.approx(said.variance.item() ** 0.5, abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_standard_normal_tokens_are_exact_after_any_number_of_steps_along_the_circle(schedule, steps):
    assert sampled(schedule, 0.0, 1.0, steps, AngleStep())[1] == pytest.approx(1, abs=1e-12)


# docs/exact.md, "Few steps": what 8 Cosine steps make of a token of mean 1 and some variance.
FEW_STEPS = {
    0.1: {DDIM: (1, 0.058), Step(variance=1.0): (1, 0.153), Step(variance=0.1): (1, 0.1), AngleStep(): (1.057, 0.082)},
    0.5: {DDIM: (1, 0.360), Step(variance=1.0): (1, 0.557), Step(variance=0.5): (1, 0.5), AngleStep(): (1.084, 0.495)},
    1.0: {DDIM: (1, 0.733), Step(variance=1.0): (1, 1), AngleStep(): (1.095, 1)},
    1.5: {DDIM: (1, 1.093), Step(variance=1.0): (1, 1.409), Step(variance=1.5): (1, 1.5), AngleStep(): (1.101, 1.483)},
}


@pytest.mark.parametrize("variance", FEW_STEPS)
def test_what_few_steps_make_of_mean_and_variance(variance):
    for step, (mean, kept) in FEW_STEPS[variance].items():
        found, deviation = sampled(Cosine(), 1.0, variance, 8, step)
        assert (found, deviation**2) == (pytest.approx(mean, abs=6e-4), pytest.approx(kept, abs=6e-4))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_many_steps_along_the_circle_reach_the_flow_map(schedule):
    errors = [abs(sampled(schedule, 0.7, 0.3, steps, AngleStep())[0] - 0.7) for steps in (100, 400)]
    assert errors[1] < errors[0] / 1.8
    assert errors[1] < 0.01


def test_a_step_along_the_circle_in_single_precision_changes_no_radius():
    """Alpha^2 + sigma^2 is 1 but for rounding, which must not creep into the tokens."""
    tokens = torch.randn(50, 3, 4, generator=torch.Generator().manual_seed(0))
    levels = torch.rand(50, 3, generator=torch.Generator().manual_seed(1))
    still = Denoised(torch.zeros_like(tokens), torch.zeros_like(tokens))
    assert torch.equal(AngleStep()(Cosine(), tokens, still, levels, levels * 0.5), tokens)


def test_a_step_along_the_circle_holds_tokens_whose_level_stays():
    tokens = torch.randn(2, 3, 4)
    levels = torch.tensor([[0.5, 1.0, 0.0]]).expand(2, -1)
    assert torch.equal(AngleStep()(Flow(), tokens, Denoised(tokens * 0, tokens), levels, levels), tokens)


@pytest.mark.parametrize(
    "options", [{"eta": 1.0, "generators": torch.Generator()}, {"second_order": True}, {"variance": 1.0}]
)
def test_a_step_along_the_circle_refuses_what_it_would_ignore(options):
    with pytest.raises(ValueError, match="an AngleStep draws nothing, is of first order and has no variance"):
        AngleStep(**options)


# Roll-outs.


def test_a_roll_out_is_constant_in_calls_and_tokens_for_ever():
    """Published code recomputed the whole window for every frame."""
    matrix = matrices.pyramid(4, 6, 2)
    denoiser = HiddenMarkovDenoiser(hidden_markov.example())
    generator = torch.Generator().manual_seed(0)
    noise = (torch.randn(2, 4, 1, dtype=torch.float64, generator=generator) for _ in count())
    costs = [(denoiser.calls, denoiser.tokens) for _ in islice(rollout(denoiser, noise, matrix), 40)]
    spent = {(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(costs)}
    assert len(spent) == 1
    assert spent.pop()[0] == matrices.network_calls(matrix)


def test_a_roll_out_in_chunks_equals_one_long_sample():
    noise = torch.randn(2, 12, 1).double()
    pieces = list(rollout(KALMAN, noise.split(3, dim=1), matrices.autoregressive(3, 5)))
    whole = final(sample(KALMAN, noise, matrices.autoregressive(12, 5)))
    assert torch.allclose(torch.cat(pieces, dim=1), whole, atol=1e-12)


def test_stabilization_remembers_generated_tokens_at_its_level_with_the_noise_it_is_given():
    remembered = []

    class Spy(KalmanDenoiser):
        def observe(self, tokens, condition=None, state=None, level=0.0, noise=None):
            remembered.append((level, noise))
            return super().observe(tokens, condition, state, level, noise)

    blur = list(torch.randn(3, 2, 1, 1).double())
    list(
        rollout(
            Spy(PROCESS), torch.randn(3, 2, 1, 1).double(), matrices.full_sequence(1, 3), level=0.02, level_noise=blur
        )
    )
    assert [level for level, _ in remembered] == [0.02] * 3
    assert all(noise is given for (_, noise), given in zip(remembered, blur, strict=True))


@pytest.mark.parametrize(
    "denoiser",
    [KALMAN, ShortMemory(KALMAN, 2), EnergyGuided(KALMAN, lambda clean: clean.sum((1, 2)), scale=0.0)],
    ids=["bare", "short memory", "guided by nothing"],
)
def test_finished_tokens_are_remembered_alike_inside_a_chunk_and_after_it(denoiser):
    """Once a token inside a chunk was taken for a fact and blurred only when the chunk was over."""
    given = torch.randn(2, 3, 1).double()
    noise, blur = torch.randn(2, 6, 1).double(), torch.randn(2, 6, 1).double()
    state = denoiser.observe(given)
    whole = final(sample(denoiser, noise, matrices.autoregressive(6, 5), state=state, level=0.375, level_noise=blur))
    for size in (1, 3):
        chunks = rollout(
            denoiser,
            noise.split(size, dim=1),
            matrices.autoregressive(size, 5),
            state=state,
            level=0.375,
            level_noise=blur.split(size, dim=1),
        )
        assert torch.allclose(torch.cat(list(chunks), dim=1), whole, atol=1e-12)
    clean = final(sample(denoiser, noise, matrices.autoregressive(6, 5), state=state))
    assert torch.equal(clean[:, 0], whole[:, 0])
    assert not torch.allclose(clean[:, 1:], whole[:, 1:], atol=1e-2)


def test_a_given_token_is_a_fact_however_generated_ones_are_remembered():
    matrix = matrices.autoregressive(3, 5)
    matrix[:, 0] = 0.0
    given = torch.tensor([True, False, False])
    noise = torch.randn(2, 3, 1, generator=torch.Generator().manual_seed(0)).double()
    level_noise = torch.full((2, 3, 1), 3.0).double()
    plain = final(sample(KALMAN, noise, matrix, given=given))
    tokens = final(sample(KALMAN, noise, matrix, given=given, level=0.3, level_noise=level_noise))
    assert torch.equal(tokens[:, :2], plain[:, :2])
    assert not torch.allclose(tokens[:, 2], plain[:, 2], atol=1e-2)


def test_the_state_after_a_roll_out_is_what_observe_makes_of_its_chunks():
    state, blur = KALMAN.initial_state(2), list(torch.randn(4, 2, 3, 1).double())
    noise, matrix = list(torch.randn(4, 2, 3, 1).double()), matrices.pyramid(3, 6, 2)
    chunks = list(rollout(KALMAN, noise, matrix, level=0.0625, level_noise=blur))
    for chunk, noise_of_it in zip(chunks[:3], blur[:3], strict=True):
        state = KALMAN.observe(chunk, None, state, 0.0625, noise_of_it)
    again = list(rollout(KALMAN, noise[3:], matrix, state=state, level=0.0625, level_noise=blur[3:]))
    assert torch.allclose(again[0], chunks[3], atol=1e-12)


def test_a_roll_out_can_be_branched_from_any_state():
    """The state is never changed in place: two continuations of one history equal two separate ones."""
    state = KALMAN.observe(PROCESS.draw(1, 6, torch.Generator().manual_seed(0)))
    before = state.mean.clone()
    noise, matrix = torch.randn(2, 3, 1).double(), matrices.autoregressive(3, 4)
    both = final(sample(KALMAN, noise, matrix, state=state[torch.tensor([0, 0])]))
    alone = torch.cat([final(sample(KALMAN, noise[i : i + 1], matrix, state=state)) for i in range(2)])
    assert torch.allclose(both, alone, atol=1e-14)
    assert torch.equal(state.mean, before)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"eta": 1.5}, r"eta is 1.5, expected a number in \[0, 1\]"),
        ({"eta": -0.1}, "eta is -0.1"),
        ({"eta": 1.0}, "pass generators="),
        ({"redraw_waiting": True}, "pass generators="),
        ({"eta": 0.5, "second_order": True, "generators": torch.Generator()}, "deterministic"),
        ({"variance": -1.0}, "variance is -1.0, expected a number, at least 0"),
        ({"variance": math.nan}, "variance is nan"),
        ({"variance": 1.0, "second_order": True}, "variance 1.0 is deterministic and of first order"),
        ({"variance": 1.0, "eta": 0.5, "generators": torch.Generator()}, "variance 1.0 is deterministic"),
    ],
)
def test_a_step_that_makes_no_sense_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Step(**options)


@pytest.mark.parametrize(
    ("noise", "condition", "said"),
    [
        (torch.zeros(2, 3, 1), None, "T = 4"),
        (torch.zeros(2, 4), None, r"expected floats of shape \(B, T, ...\)"),
        (torch.zeros(2, 4, 1, dtype=torch.long), None, "int64"),
        (torch.full((2, 4, 1), float("nan")), None, "NaN"),
        (torch.zeros(2, 4, 1), torch.zeros(3, 4, 1), r"condition has shape \(3, 4, 1\)"),
    ],
)
def test_noise_that_does_not_fit_is_refused_at_once(noise, condition, said):
    with pytest.raises(ValueError, match=said):
        sample(KALMAN, noise, matrices.full_sequence(4, 2), condition)


def test_a_wrong_number_of_generators_is_refused():
    with pytest.raises(ValueError, match="2 generators for 3 sequences"):
        final(
            sample(
                KALMAN,
                torch.zeros(3, 2, 1).double(),
                matrices.full_sequence(2, 2),
                step=Step(1.0, [torch.Generator(), torch.Generator()]),
            )
        )


def test_ddim_is_the_default_and_draws_nothing():
    assert Step() == DDIM
    with pytest.raises(ValueError, match="no generators"):
        DDIM.draw(torch.zeros(1, 1, 1))
    assert issubclass(Denoiser, torch.nn.Module)
