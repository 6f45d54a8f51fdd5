"""A fork: the counting, and that a trained model covers both branches where a deterministic one averages them."""

import pytest
import torch

from noiseladder.recipes.fork import STEM, TOLERANCE, Fork, branches, draw, experiment, judge, measure
from noiseladder.training import generator_for, seeded, train


def trained(options: Fork):
    with seeded(options.seed, "weights"):
        made = experiment(options)
    for _ in train(made, options):
        pass
    return made.denoiser


def test_true_paths_take_both_branches_evenly_and_none_strays() -> None:
    found = judge(draw(4000, generator_for(3, "test forks")))
    assert found.between == 0
    assert all(0.47 < share < 0.53 for share in found.shares)


def test_the_average_of_the_branches_is_counted_as_between() -> None:
    middle = branches().mean(dim=0, keepdim=True).expand(5, -1, -1)
    found = judge(middle)
    assert (found.between, found.shares) == (5, (0.0, 0.0))
    assert found.furthest > 2 * TOLERANCE


def test_a_path_that_changes_branch_is_counted_as_switched() -> None:
    up, down = branches()
    changed = torch.cat([up[: STEM + 2], down[STEM + 2 :]])[None]
    found = judge(changed)
    assert (found.switched, found.between, found.shares) == (1, 0, (0.0, 0.0))


def test_the_stem_says_nothing_about_the_branch() -> None:
    up, down = branches()[:, :STEM]
    assert torch.equal(up, down)


@pytest.mark.slow
def test_diffusion_forcing_covers_both_and_the_deterministic_network_averages() -> None:
    both = measure(trained(Fork(threads=1)), samples=2000, seed=11)
    assert all(0.45 <= share <= 0.55 for share in both.shares), both.shares
    assert both.between == 0, (both.between, both.furthest)
    assert both.switched <= 20, both.switched  # of 2000

    average = measure(trained(Fork(threads=1, deterministic=True, steps=500)), samples=1000, seed=11)
    assert average.between == 1000
    off_the_middle = average.paths[:, STEM:, 1].abs().max()
    assert off_the_middle < 0.35, off_the_middle
