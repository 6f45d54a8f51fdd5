"""The loss: golden weights, and values that must never matter."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from exact import KalmanDenoiser
from noiseladder.diffusion import objective, training_levels
from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser, Prediction
from noiseladder.diffusion.noise import Cosine, Flow, LogSNR, NoiseSchedule
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.state import State
from noiseladder.recipes.linear_gaussian import example


class PublishedCosine(NoiseSchedule):
    """The discrete cosine schedule of the published code: level i / 1000 has the i-th product of 1 - beta."""

    def __init__(self):
        def curve(u):
            return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

        betas = [min(1 - curve((i + 1) / 1000) / curve(i / 1000), 0.999) for i in range(1000)]
        self.kept = (1 - torch.tensor(betas, dtype=torch.float64)).cumprod(0)

    def curve(self, levels):
        kept = self.kept[(levels * 1000).round().long().clamp(0, 999)]
        return kept.sqrt(), (1 - kept).sqrt()

    def _exact(self, levels):  # this schedule has no exact ends: its index 0 is not clean
        return self.curve(levels)


GOLDEN_LEVELS = torch.tensor([[0, 500, 999, 10, 700]], dtype=torch.float64) / 1000


def golden(weight, prediction=Prediction.VELOCITY):
    return weight(PublishedCosine(), prediction, GOLDEN_LEVELS)[0].tolist()


def test_golden_fused_shares():
    """design golden numbers: S and F for i = 0, 500, 999, 10, 700 with C = 5, g = .9."""
    snr = PublishedCosine().snr(GOLDEN_LEVELS)
    own = snr.clamp(max=5) / 5
    assert own[0].tolist() == pytest.approx([1, 0.193922, 0, 1, 0.050585], abs=1e-6)
    assert objective.FusedSNR().fused(snr)[0].tolist() == pytest.approx([1, 0.919392, 0.827453, 1, 0.772365], abs=1e-6)
    assert objective.FusedSNRAsInPaper().fused(snr)[0].tolist() == pytest.approx(
        [1, 1, 0.919392, 1, 0.852563], abs=1e-6
    )


def test_golden_velocity_weights():
    published = golden(objective.FusedSNRAsPublished())
    assert published == pytest.approx([0.000206, 0.821332, 0.805344, 0.013947, 0.794316], abs=1e-6)
    assert golden(objective.FusedSNR()) == pytest.approx([0.0002, 2.334, 4.137, 0.0036, 3.082], abs=6e-4)
    assert golden(objective.FusedSNRAsInPaper()) == pytest.approx([0.0002, 2.539, 4.597, 0.0036, 3.402], abs=6e-4)
    assert golden(objective.MinSNR()) == pytest.approx([0.000206, 0.492285, 0, 0.003605, 0.201869], abs=1e-6)


def test_the_decay_of_the_fused_weight_is_per_frame():
    one = objective.FusedSNR(decay=0.9, frames_per_token=4)
    assert one.keep == pytest.approx(0.9**4)


def test_the_published_weight_knows_no_flow():
    with pytest.raises(ValueError, match="use FusedSNR"):
        golden(objective.FusedSNRAsPublished(), Prediction.FLOW)


@pytest.mark.parametrize("schedule", [Cosine(), LogSNR(), Flow()], ids=lambda s: type(s).__name__)
def test_the_likelihood_weight_is_uniform_in_log_snr(schedule):
    """1/2 |noise error|^2 d(log-SNR): the weight on the noise error over the slope is one half everywhere."""
    levels = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)[None]
    weight = objective.likelihood(schedule, Prediction.NOISE, levels)
    assert torch.allclose(weight / -schedule.log_snr_slope(levels), torch.tensor(0.5).double(), rtol=1e-9)
    assert objective.likelihood(schedule, Prediction.NOISE, torch.tensor([[0.0, 1.0]])).tolist() == [[0, 0]]


class Exactly(nn.Module):
    """The output that the exact denoiser would have given as a network."""

    causal = True

    def __init__(self, exact):
        super().__init__()
        self.exact = exact

    def initial_state(self, batch):
        return self.exact.initial_state(batch)

    def forward(self, tokens, levels, condition, state):
        guess = self.exact(tokens, levels, None, state)
        alpha, sigma = self.exact.schedule.shares(levels, tokens)
        return alpha * guess.noise - sigma * guess.clean, state


def wrapped(exact):
    return Denoiser(Exactly(exact), exact.schedule, Prediction.VELOCITY)


@pytest.mark.parametrize("level", [0.2, 0.5, 0.8])
def test_the_loss_of_the_exact_denoiser_is_the_bayes_floor(level):
    """Velocity floor: the posterior variance over b^2."""
    process = example()
    exact = KalmanDenoiser(process)
    generator = torch.Generator().manual_seed(0)
    clean = process.draw(20_000, 5, generator)
    levels = torch.full((1, 5), level, dtype=torch.float64)
    floor = exact.predictions(clean[:1], levels).clean_variance / exact.schedule.sigma(levels) ** 2
    loss = DiffusionForcing(training_levels.Constant(level))(wrapped(exact), Batch(clean), generator)
    assert float(loss) == pytest.approx(float(floor.mean()), rel=0.03)


class Averages(nn.Module):
    """A tiny causal network: output t is a learned gain times the running sum of what it was shown."""

    causal = True

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.3))

    def initial_state(self, batch):
        return State()

    def forward(self, tokens, levels, condition, state):
        return self.gain * (tokens * (1 - levels.reshape(*levels.shape, *[1] * (3 - levels.ndim)))).cumsum(1), state


def loss_and_gradient(batch, forcing=None, seed=0, part=slice(None)):
    denoiser = Denoiser(Averages(), Cosine())
    loss = (forcing or DiffusionForcing())(denoiser, batch, torch.Generator().manual_seed(seed), part)
    loss.backward()
    return float(loss.detach()), float(denoiser.network.gain.grad)


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), junk=st.sampled_from([math.nan, math.inf, 1e9]))
@settings(max_examples=30, deadline=None)
def test_what_is_masked_never_matters(lengths, junk):
    """Padding of any content gives the same loss and the same gradient, to the bit."""
    tokens = torch.randn(len(lengths), 6, 2, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    spoiled = torch.where(mask[..., None], tokens, junk)
    assert loss_and_gradient(Batch(tokens, mask=mask)) == loss_and_gradient(Batch(spoiled, mask=mask))


def test_a_padded_tail_counts_for_nothing_in_the_mean():
    """The loss of a sequence with a tail is that of the values that are real, by hand."""
    tokens = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]
    forcing, denoiser = DiffusionForcing(training_levels.Constant(0.5)), Denoiser(Averages(), Cosine())
    loss = forcing(denoiser, Batch(tokens, mask=mask), torch.Generator().manual_seed(0))
    noise = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))
    levels = torch.where(mask, 0.5, 1.0)
    clean = torch.where(mask[..., None], tokens, 0.0)
    noisy = Cosine().mix(clean, noise, levels)
    output, _ = denoiser.network(torch.where(mask[..., None], noisy, 0.0), levels, None, State())
    error = (output - denoiser.target(clean, noise, levels)) ** 2
    assert loss.item() == pytest.approx(error[mask].mean().item(), rel=1e-6)


def test_missing_parts_of_a_token_never_matter():
    generator = torch.Generator().manual_seed(1)
    tokens, mask = torch.randn(3, 5, 2, generator=generator), torch.rand(3, 5, 2, generator=generator) < 0.7
    spoiled = torch.where(mask, tokens, math.nan)
    assert loss_and_gradient(Batch(tokens, mask=mask)) == loss_and_gradient(Batch(spoiled, mask=mask))


def test_the_future_has_no_part_in_the_loss_of_a_causal_past():
    tokens = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(6) < 3).repeat(2, 1)
    moved = tokens.clone()
    moved[:, 3:] += 9
    assert loss_and_gradient(Batch(tokens, mask=mask)) == loss_and_gradient(Batch(moved, mask=mask))


def test_the_losses_of_parts_add_up_to_the_loss_of_the_batch():
    tokens = torch.randn(6, 4, 2, generator=torch.Generator().manual_seed(1))
    batch = Batch(tokens, mask=torch.arange(4) < torch.tensor([4, 1, 2, 3, 4, 4])[:, None])
    whole = loss_and_gradient(batch)
    first, rest = loss_and_gradient(batch, part=slice(0, 2)), loss_and_gradient(batch, part=slice(2, 6))
    assert whole == pytest.approx([a + b for a, b in zip(first, rest, strict=True)], rel=1e-6)


def test_the_same_generator_gives_the_same_loss_and_another_does_not():
    batch = Batch(torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(1)))
    assert loss_and_gradient(batch) == loss_and_gradient(batch)
    assert loss_and_gradient(batch) != loss_and_gradient(batch, seed=1)


def test_a_clean_token_has_no_loss():
    batch = Batch(torch.randn(3, 4, 2))
    assert loss_and_gradient(batch, DiffusionForcing(training_levels.clean))[0] == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_real_value_that_is_not_a_number_is_refused(bad):
    tokens = torch.zeros(2, 3, 1)
    tokens[1, 2] = bad
    with pytest.raises(ValueError, match="set mask to False"):
        loss_and_gradient(Batch(tokens))


def test_a_level_sampler_that_leaves_the_interval_is_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        loss_and_gradient(Batch(torch.zeros(2, 3, 1)), DiffusionForcing(training_levels.Constant(1.2)))


@pytest.mark.parametrize("options", [{"query_share": 1.5}, {"drop_condition": -0.1}])
def test_an_objective_with_a_share_outside_its_range_is_refused(options):
    with pytest.raises(ValueError, match=r"expected a share in \[0, 1\]"):
        DiffusionForcing(**options)


def test_two_streams_of_a_network_that_has_none_are_refused():
    with pytest.raises(ValueError, match=r"has no query\(...\): leave query_levels out"):
        loss_and_gradient(Batch(torch.zeros(2, 3, 1)), DiffusionForcing(query_levels=training_levels.independent))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Batch(torch.zeros(2, 3)), r"expected \(B, T, ...\)"),
        (lambda: Batch(torch.zeros(2, 3, 1, dtype=torch.long)), "expected floats"),
        (lambda: Batch(torch.zeros(2, 3, 1), condition=torch.zeros(2, 4, 1)), r"condition has shape \(2, 4, 1\)"),
        (lambda: Batch(torch.zeros(2, 3, 1), mask=torch.zeros(2, 3)), "expected bool"),
        (lambda: Batch(torch.zeros(2, 3, 1), mask=torch.zeros(2, 4, dtype=torch.bool)), "mask is"),
    ],
)
def test_a_batch_that_does_not_fit_together_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("padded", [False, True])
def test_parts_with_levels_of_their_own_need_no_mask_of_parts(padded):
    """A mask of tokens, or none, is the mask that says the same of every part."""

    def by_part(sequences, length, generator):
        return torch.rand(sequences, length, 2, generator=generator)

    tokens = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(5) < torch.tensor([5, 3, 1])[:, None] if padded else None
    everywhere = torch.ones(3, 5, 2, dtype=torch.bool) if mask is None else mask[..., None].expand(3, 5, 2)
    forcing = DiffusionForcing(by_part)
    assert loss_and_gradient(Batch(tokens, mask=mask), forcing) == loss_and_gradient(
        Batch(tokens, mask=everywhere), forcing
    )
