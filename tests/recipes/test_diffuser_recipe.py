"""The baseline's recipe: a run folder that its planner opens, and a picture of what it plans."""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1] / "planning"))

from walks import pushed

from noiseladder.planning.recordings import arrays
from noiseladder.recipes.diffuser import Diffuser, experiment, load
from noiseladder.training.run import run


def test_a_run_is_opened_and_has_a_picture(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **arrays(pushed()))
    options = Diffuser(
        maze=str(tmp_path / "mine.npz"), horizon=16, steps_per_token=4, steps=2, batch=4, width=16, layers=1, warmup=0,
        threads=1,
    )  # fmt: skip
    run(lambda: experiment(options), options, tmp_path / "run", "diffuser")
    assert (tmp_path / "run" / "sample.png").read_bytes().startswith(b"\x89PNG")
    actions = load(tmp_path / "run").plan(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[3.0, 1.0]]))
    assert actions.shape == (1, 1, 2)
