from pathlib import Path

import pytest
import torch

from noiseladder.imitation.two_routes import sail
from noiseladder.recipes.routes import COURSE, Routes, draw, experiment, passages, policy_of, voyages
from noiseladder.training import seeded, train


def trained(steps, **options):
    chosen = Routes(steps=steps, threads=1, validate_every=steps, **options)
    with seeded(0, "weights"):
        made = experiment(chosen)
    for _ in train(made, chosen):
        pass
    return made.denoiser, chosen


def test_a_few_steps_train_and_draw(tmp_path: Path):
    denoiser, options = trained(3, passages=20, width=16, batch=8)
    line = draw({"": denoiser}, options, tmp_path / "routes.png", boats=8)
    assert "of 8 boats run aground" in line
    assert (tmp_path / "routes.png").stat().st_size > 1000


def test_passages_become_traces():
    trace = passages(1, first=3)[0]
    assert trace.seen["state"].shape == trace.actions.shape
    assert torch.allclose(trace.seen["state"][0] + trace.actions[0], trace.seen["state"][1])


@pytest.mark.slow
def test_sampling_goes_round_where_the_average_runs_aground():
    crashes, sides = {}, None
    for cloning in (False, True):
        denoiser, options = trained(600, cloning=cloning)
        paths = voyages(policy_of(denoiser, options), 200, seed=1)
        crashed, _ = sail(COURSE, paths)
        crashes[cloning] = float(crashed.float().mean())
        if not cloning:
            sides = (paths[:, :40, 1].mean(1) > 0).float().mean()
    assert crashes[False] <= 0.01
    # Deterministic is continuous: between the boats that pass on one side and on the other some have to run aground.
    assert crashes[True] >= crashes[False] + 0.02
    assert 0.3 < sides < 0.7  # both routes are taken
