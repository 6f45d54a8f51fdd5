"""Choosing instead of steering: best of n and particles, against tilted laws that are known."""

import pytest
import torch

from exact import JointDenoiser, gamble, sampled_covariance
from noiseladder.diffusion import scheduling_matrix as matrices
from noiseladder.diffusion.guidance import EnergyGuided
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.particles import Particles, best_of, particles, resample
from noiseladder.diffusion.sampling import Step, final, sample
from noiseladder.recipes.linear_gaussian import example

PROCESS = example()
PULL = torch.tensor([0.0, 0.5, 1.5], dtype=torch.float64)
STIFF = torch.tensor([[0.5, 0.2, 0.0], [0.2, 1.0, 0.3], [0.0, 0.3, 2.0]], dtype=torch.float64)


def energy(clean):
    """exp(-energy) tilts N(0, Sig) to precision Sig^-1 + M and mean (Sig^-1 + M)^-1 c."""
    values = clean[..., 0]
    return 0.5 * torch.einsum("bi,ij,bj->b", values, STIFF, values) - values @ PULL


def base(steps=40):
    """The covariance of what the sampler itself gives, exactly: with finitely many steps not quite the process's."""
    return sampled_covariance(JointDenoiser(PROCESS), matrices.full_sequence(3, steps), eta=1.0)


def tilted(covariance):
    covariance = torch.linalg.inv(torch.linalg.inv(covariance) + STIFF)
    return covariance @ PULL, covariance


def run(count, sequences=1, resample_below=0.5, steps=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(sequences, count, 3, 1, dtype=torch.float64, generator=generator)
    return final(
        particles(
            JointDenoiser(PROCESS),
            noise,
            matrices.full_sequence(3, steps),
            energy,
            Step(1.0, generator),
            generator,
            resample_below=resample_below,
        )
    )


def moments(found: Particles):
    share, values = found.log_weights[0].softmax(0), found.tokens[0, ..., 0]
    mean = share @ values
    centred = values - mean
    return mean, (share[:, None] * centred).T @ centred


@pytest.mark.parametrize("resample_below", [0.0, 0.5, 1.0])
def test_particles_follow_the_tilted_gaussian(resample_below):
    mean, covariance = moments(run(30_000, resample_below=resample_below))
    expected_mean, expected_covariance = tilted(base())
    assert torch.allclose(mean, expected_mean, atol=0.03)
    assert torch.allclose(covariance, expected_covariance, atol=0.03)
    # and the tilt is far from no tilt, so that the test can fail
    assert (PROCESS.covariance(3) - expected_covariance).abs().max() > 0.3
    assert expected_mean.abs().max() > 0.3


def test_more_particles_come_closer():
    expected, _ = tilted(base())

    def error(count, repeats):
        return sum(float((moments(run(count, seed=s))[0] - expected).square().sum()) for s in range(repeats)) / repeats

    assert error(1000, 4) < error(30, 20) / 4


def test_weights_estimate_the_normalising_constant():
    """E exp(-energy) = |I + Sig M|^-1/2 exp(c' (Sig^-1 + M)^-1 c / 2), whether or not particles are resampled."""
    mean, _ = tilted(base())
    whole = torch.eye(3, dtype=torch.float64) + base() @ STIFF
    expected = -0.5 * torch.linalg.slogdet(whole).logabsdet + 0.5 * PULL @ mean
    for below in (0.0, 0.9):
        log_weights = run(20_000, resample_below=below).log_weights[0]
        estimate = log_weights.logsumexp(0) - torch.tensor(20_000.0).log()
        assert float(estimate - expected) == pytest.approx(0, abs=0.05)


def test_gradients_are_biased_where_particles_are_not():
    """The gradient taken through a clean guess tilts approximately: its moments miss by more than the particles'."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 3, 1, dtype=torch.float64, generator=generator)
    guided, step = EnergyGuided(JointDenoiser(PROCESS), energy), Step(1.0, generator)
    steered = torch.cov(final(sample(guided, noise, matrices.full_sequence(3, 40), step=step))[..., 0].T)
    _, wanted = tilted(base())
    _, chosen = moments(run(20_000))
    assert (steered - wanted).norm() > 3 * (chosen - wanted).norm()
    assert (steered - wanted).norm() < (base() - wanted).norm()  # yet it moves the right way


@pytest.mark.parametrize(("strength", "expected"), [(5.0, 0.788), (20.0, 0.999)])
def test_tilting_the_joint_law_gambles(strength, expected):
    """exact-tests.md section 6: exp(l R) is optimistic, though the gamble pays less on average."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 4000, 2, 1, dtype=torch.float64, generator=generator)
    found = final(
        particles(
            gamble(Cosine(), causal=False),
            noise,
            matrices.full_sequence(2, 60),
            lambda clean: -strength * clean[:, 1, 0],
            Step(1.0, generator),
            generator,
        )
    )
    share = found.log_weights[0].softmax(0)
    assert float(share @ (found.tokens[0, :, 0, 0] > 0).double()) == pytest.approx(expected, abs=0.03)


def test_the_best_of_n_is_the_one_of_lowest_energy_for_each_sequence():
    samples = torch.arange(12.0).reshape(2, 3, 2, 1)
    best = best_of(samples, lambda clean: (clean.sum((1, 2)) - 7).abs())
    assert torch.equal(best, torch.stack([samples[0, 1], samples[1, 0]]))


def test_best_of_many_chooses_well():
    """Best of n by energy has lower energy the larger n, as the order statistics of the process say."""
    draws = PROCESS.draw(400 * 64, 3, torch.Generator().manual_seed(0)).reshape(400, 64, 3, 1)
    means = [float(energy(best_of(draws[:, :n], energy)).mean()) for n in (1, 4, 16, 64)]
    assert means == sorted(means, reverse=True)
    every = energy(draws.flatten(0, 1)).reshape(400, 64)
    assert means[-1] == pytest.approx(float(every.min(dim=1).values.mean()))


def test_systematic_resampling_keeps_each_particle_as_often_as_its_weight_says():
    log_weights = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log().repeat(500, 1)
    chosen = resample(log_weights, torch.Generator().manual_seed(0))
    counts = torch.nn.functional.one_hot(chosen, 4).sum(1)
    assert (counts[:, 0] == 2).all()
    assert (counts[:, 1] == 1).all()
    assert counts[:, 2].float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_one_draw_for_each_sequence_by_weight():
    tokens = torch.arange(3.0).reshape(1, 3, 1, 1).repeat(2000, 1, 1, 1)
    log_weights = torch.tensor([0.2, 0.5, 0.3]).log().repeat(2000, 1)
    drawn = Particles(tokens, log_weights).draw(torch.Generator().manual_seed(0))[:, 0, 0]
    assert (torch.bincount(drawn.long()) / 2000).tolist() == pytest.approx([0.2, 0.5, 0.3], abs=0.05)
    assert Particles(tokens, log_weights).effective()[0].item() == pytest.approx(1 / (0.04 + 0.25 + 0.09), rel=1e-5)


def test_sequences_have_particles_of_their_own():
    """Two sequences with states of their own are not mixed by resampling."""
    joint = JointDenoiser(PROCESS)
    history = torch.tensor([[[2.5]], [[-2.5]]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 400, 3, 1, dtype=torch.float64, generator=generator)
    found = final(
        particles(
            joint,
            noise,
            matrices.full_sequence(3, 30),
            lambda clean: clean[:, 2, 0] ** 2,
            Step(1.0, generator),
            generator,
            state=joint.observe(history),
            resample_below=1.0,
        )
    )
    assert (found.tokens[0, :, 0] > 0).double().mean() > 0.95
    assert (found.tokens[1, :, 0] < 0).double().mean() > 0.95


def test_particles_without_drawn_noise_are_refused():
    with pytest.raises(ValueError, match="eta=1"):
        particles(
            JointDenoiser(PROCESS),
            torch.zeros(1, 4, 3, 1).double(),
            matrices.full_sequence(3, 4),
            energy,
            Step(),
            torch.Generator(),
        )


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_particles_of_an_infinite_scale_are_refused(scale):
    noise, generator = torch.zeros(1, 4, 3, 1).double(), torch.Generator()
    with pytest.raises(ValueError, match=r"scale is (nan|inf), expected a finite number"):
        particles(
            JointDenoiser(PROCESS),
            noise,
            matrices.full_sequence(3, 4),
            energy,
            Step(1.0, generator),
            generator,
            scale,
        )
