"""A trained maze model is a folder: of a run of `train maze`, or one of those that ship with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch

import noiseladder.planning
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.planning.knowledge import FILE as KNOWLEDGE, Knowledge
from noiseladder.planning.problems import Problem, problem
from noiseladder.training.durable import replace_text
from noiseladder.training.options import from_json
from noiseladder.training.run import read_recipe_file
from noiseladder.training.tensors_file import read_tensors, write_tensors
from noiseladder.training.weights import load_weights

from .maze import Maze, network
from .run_folders import RECIPE, WEIGHTS, find_run, shipped_in

METRICS = "metrics.csv"
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
    folder = find_run(run, shipped(), "maze")
    recipe = read_recipe_file(folder)
    if recipe.get("recipe") != "maze":
        raise ValueError(f"{folder} is a run of {recipe.get('recipe')!r}, expected one of `noiseladder train maze`")
    options = from_json(Maze, recipe)
    if not (folder / KNOWLEDGE).is_file():
        raise ValueError(
            f"{folder} holds no {KNOWLEDGE}, what the model knows of roads and body: copy it too, or train again"
        )
    knowledge = Knowledge.load(folder)
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} holds no {WEIGHTS} yet: wait for the training's first checkpoint, or resume it")
    denoiser = Denoiser(network(options, knowledge.tokens), Cosine())
    load_weights(folder / WEIGHTS, denoiser)
    return TrainedMaze(denoiser.eval(), knowledge, options)


def ship(run: Path, folder: Path) -> None:
    """Write what planning needs of a run into another folder, weights as bfloat16: half the size.

    They are read back into float32 networks; the last 16 bits of a weight change no plan visibly. Of the training's
    log, where there is one, every tenth row is kept.
    """
    load(run)  # nothing half-trained or foreign is shipped
    tensors, note = read_tensors(run / WEIGHTS)
    small = {name: value.bfloat16() if value.dtype == torch.float32 else value for name, value in tensors.items()}
    write_tensors(folder / WEIGHTS, small, note)
    Knowledge.load(run).save(folder)
    replace_text(folder / RECIPE, json.dumps(read_recipe_file(run), indent=2) + "\n")
    if (run / METRICS).is_file():
        header, *rows = (run / METRICS).read_text().splitlines()
        replace_text(folder / METRICS, "\n".join([header, *rows[:1], *rows[9::10]]) + "\n")
