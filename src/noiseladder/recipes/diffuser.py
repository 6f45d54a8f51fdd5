"""The baseline for mazes: Diffuser on windows of the recording as they are, whole sequences at one level."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Generator

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.training_levels import shared
from noiseladder.networks import TransformerNetwork
from noiseladder.planning.diffuser import HORIZONS, BetweenEnds, DiffuserPlanner, Windows, WindowTokens
from noiseladder.planning.problems import problem
from noiseladder.training import Experiment, TrainingOptions, generator_for
from noiseladder.training.options import check_at_least, from_json
from noiseladder.training.run import read_recipe_file
from noiseladder.training.weights import load_weights

HELD_OUT = 128


@dataclass(frozen=True, kw_only=True)
class Diffuser(TrainingOptions):
    """Learn windows of a recording, to plan as Diffuser does: what our planners are compared with."""

    maze: str = "medium"
    """umaze, medium, large, or your own recording: a .npz or .hdf5 file."""
    horizon: int | None = None
    """World steps in a window; by default as published: 128, 256, 384 for the three mazes, 256 elsewhere."""
    steps_per_token: int = 8
    """World steps in a token."""
    steps: int = 2000
    batch: int = 64
    """Windows in a batch."""
    width: int = 128
    """Width of the transformer."""
    layers: int = 4
    """Layers of the transformer."""
    validate_every: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, batch=1, horizon=1, steps_per_token=1, width=1, layers=1)


def network(options: Diffuser, tokens: WindowTokens) -> TransformerNetwork:
    """Every token sees every other."""
    return TransformerNetwork(tokens.size, options.width, options.layers, 4, parts=tokens.parts, causal=False)


def experiment(options: Diffuser) -> Experiment:
    """One level for a whole window, whose first and last observation are known."""
    recording = problem(options.maze).recording(None)
    horizon = HORIZONS.get(options.maze, 256) if options.horizon is None else options.horizon
    tokens = WindowTokens.learn(recording, horizon, options.steps_per_token)
    windows, size = Windows(recording, tokens), recording.actions.shape[1]
    begins = windows.begins
    # The last twentieth is kept apart: no window of the training reaches into it.
    cut = int(0.95 * len(recording))
    learned, held_out = begins[begins < cut - horizon], begins[begins >= cut]
    if not len(learned) or not len(held_out):
        learned = held_out = begins

    def batches(step: int, generator: Generator) -> Batch:
        return Batch(windows.draw(learned, options.batch, generator))

    return Experiment(
        denoiser=Denoiser(network(options, tokens), Cosine()),
        objective=DiffusionForcing(BetweenEnds(shared, tokens)),
        batches=batches,
        validation=Batch(windows.draw(held_out, HELD_OUT, generator_for(options.seed, "validation windows"))),
        # One axis alone cannot be drawn.
        picture=None if size < 2 else lambda denoiser, path: draw(denoiser, windows, held_out, path, options),
        files=tokens.save,
    )


def draw(denoiser: Denoiser, windows: Windows, begins: NDArray[np.int64], path: Path, options: Diffuser) -> None:
    """A picture of plans between the first and the last place of windows that were never learned, and those windows."""
    from matplotlib.figure import Figure

    tokens = windows.tokens
    axes = len(tokens.middle) - tokens.observation_size
    recorded, _ = tokens.split(windows.draw(begins, 8, generator_for(options.seed, "picture")))
    planned, _ = DiffuserPlanner(denoiser, tokens).whole(recorded[:, 0], recorded[:, -1, :axes])
    figure = Figure(figsize=(7, 7), layout="constrained")
    axis = figure.subplots()
    for seen, found in zip(recorded[..., :2], planned[..., :2], strict=True):
        axis.plot(*seen.T, color="0.8", linewidth=1)
        line = axis.plot(*found.T, linewidth=1)[0]
        axis.plot(*seen[-1], "*", color=line.get_color(), markersize=9)
    axis.set_aspect("equal")
    axis.set_title("Plans between the ends of held-out windows (stars: goals); grey: what was recorded")
    figure.savefig(path, dpi=100, format="png")


def load(folder: Path, own_actions: bool = False, seed: int = 0) -> DiffuserPlanner:
    """The planner of a run folder. Raises ValueError for the run of another recipe, OSError where there is none."""
    recipe = read_recipe_file(folder)
    if recipe.get("recipe") != "diffuser":
        raise ValueError(f"{folder} is a run of {recipe.get('recipe')!r}, expected one of `noiseladder train diffuser`")
    options = from_json(Diffuser, recipe, folder / "recipe.json")
    tokens = WindowTokens.load(folder)
    denoiser = Denoiser(network(options, tokens), Cosine())
    load_weights(folder / "weights.safetensors", denoiser)
    return DiffuserPlanner(denoiser.eval(), tokens, own_actions=own_actions, seed=seed)
