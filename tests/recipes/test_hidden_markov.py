"""A learned denoiser becomes the chain: its roll-outs visit the modes as often, and leave them as, the chain does."""

import pytest
import torch

from exact import HiddenMarkovDenoiser
from measures import chain_fit, roll_out, telling_stairs, trained
from noiseladder.recipes.hidden_markov import HiddenMarkovChain, HiddenMarkovOptions, example, experiment
from noiseladder.training import seeded, train

EXACT = HiddenMarkovDenoiser(example())
STAIRS = telling_stairs(40, -6.0, 7.0)  # the exact denoiser's modes are then right to .001


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(5))
def test_the_chain_itself_fits(seed):
    tokens = example().draw(100, 1000, generator(seed))[..., 0]
    found = chain_fit(tokens, EXACT)
    assert found.worst < found.limit + 0.5  # a hundred sequences have slightly heavier tails than the normal law
    assert found.between == pytest.approx(0, abs=1e-4)


def test_another_chain_does_not_fit():
    """A transition that is off by .02 is found, and so are modes that are off in mass or foretold wrongly."""
    process = example()
    moved = process.transition.clone()
    moved[0, 0] -= 0.02
    moved[0, 1] += 0.02
    other = HiddenMarkovChain(moved, process.means, process.spread)
    found = chain_fit(other.draw(100, 1000, generator(0))[..., 0], EXACT)
    assert found.transition.abs().max() > found.limit
    assert found.posterior.abs().max() > found.limit


def test_the_exact_denoiser_rolls_out_the_chain():
    """Through our sampler, so that what a learned one gets wrong is its own."""
    tokens = roll_out(EXACT, 100, 40, STAIRS, generator(3), torch.float64)
    found = chain_fit(tokens, EXACT)
    assert found.worst < found.limit + 0.5
    assert found.between < 0.002


@pytest.mark.slow
def test_a_roll_out_of_100_000_steps_is_the_chain():
    """exact-tests.md section 7, item 7: mode mass, transition matrix and state posterior inside their intervals."""
    tokens = roll_out(trained("hidden_markov"), 100, 1000, STAIRS, generator(21))
    found = chain_fit(tokens, EXACT)
    assert found.worst < found.limit + 0.5
    assert found.between < 0.002


@pytest.mark.slow
def test_training_from_scratch_learns_the_modes():
    options = HiddenMarkovOptions(steps=300, warmup=20, batch=128, width=24, average=0.98, threads=1)
    with seeded(options.seed, "weights"):
        trial = experiment(options)
    for _ in train(trial, options):
        pass
    tokens = roll_out(trial.denoiser.requires_grad_(False), 100, 30, STAIRS, generator(22))
    found = chain_fit(tokens, EXACT)
    assert (found.found_mass - example().stationary).abs().max() < 0.1
    assert found.found_transition.diagonal().min() > 0.5
    assert found.between < 0.1
