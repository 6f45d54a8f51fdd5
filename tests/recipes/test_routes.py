from pathlib import Path

import torch

from noiseladder.recipes.routes import Routes, draw, experiment, passages
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
