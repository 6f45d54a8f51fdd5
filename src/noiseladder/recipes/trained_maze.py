"""A trained maze model is a folder: of a run of `train maze`, or one of those that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import noiseladder.planning
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.planning.knowledge import FILE as KNOWLEDGE, Knowledge
from noiseladder.planning.problems import Problem, problem
from noiseladder.training.options import from_json
from noiseladder.training.weights import load_weights

from .maze import Maze, network
from .run_folders import RECIPE, WEIGHTS, open_run, shipped_in
from .shipping import write_shipped

SHIPPED = Path(noiseladder.planning.__file__).parent / "weights"


class TrainedMaze(NamedTuple):
    """All that planning takes, and the options it was trained with."""

    denoiser: Denoiser
    knowledge: Knowledge
    recipe: Maze

    @property
    def problem(self) -> Problem:
        """What it was trained for; for a recording of the user's own the world is None."""
        return problem(self.recipe.maze, self.recipe.near)


def shipped() -> dict[str, Path]:
    """Name -> folder of the models that ship with the package."""
    return shipped_in(SHIPPED)


def load(run: str | Path) -> TrainedMaze:
    """Denoiser, knowledge and options of a run folder or a shipped name.

    Raises ValueError, one sentence, where there is none, or where it is the run of another recipe or not yet whole.
    """
    folder, values = open_run(run, shipped(), "maze", (WEIGHTS, KNOWLEDGE))
    options = from_json(Maze, values, folder / RECIPE)
    knowledge = Knowledge.load(folder)
    denoiser = Denoiser(network(options, knowledge.tokens), Cosine())
    load_weights(folder / WEIGHTS, denoiser)
    return TrainedMaze(denoiser.eval(), knowledge, options)


def ship(run: Path, folder: Path) -> None:
    """Write what planning needs of a run into another folder; the last 16 bits of a weight change no plan visibly."""
    load(run)  # nothing half-trained or foreign is shipped
    write_shipped(run, folder, (WEIGHTS,), (KNOWLEDGE,))
