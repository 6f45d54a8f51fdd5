"""A trained policy of the fruit swap is a folder: of a run of `train swap`, or the one that ships with the package."""

from __future__ import annotations

import json
from pathlib import Path

import torch

import noiseladder.imitation
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.imitation.drawing import FILE as DRAWING, Drawing
from noiseladder.imitation.policy import Policy
from noiseladder.imitation.policy_knowledge import PolicyKnowledge
from noiseladder.training.durable import replace_text
from noiseladder.training.options import from_json
from noiseladder.training.run import read_recipe_file
from noiseladder.training.tensors_file import read_tensors, write_tensors
from noiseladder.training.weights import load_weights, read_recipe

from .run_folders import RECIPE, WEIGHTS, find_run, shipped_in
from .swap import Swap, network

SHIPPED = Path(noiseladder.imitation.__file__).parent / "weights"
STEPS = 1  # of denoising, for a chunk of actions: what is done on average; with memory there is one thing to do


def shipped() -> dict[str, Path]:
    """Name -> folder of the policies that ship with the package."""
    return shipped_in(SHIPPED)


def find(run: str | Path) -> Path:
    """The folder of a run or of a shipped name. Raises ValueError when there is neither, or no weights yet."""
    folder = find_run(run, shipped(), "swap")
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} holds no {WEIGHTS} yet: wait for the training's first checkpoint, or resume it")
    return folder


def load_policy(run: str | Path, steps: int = STEPS, seed: int = 0) -> Policy:
    """The policy in a run folder of `noiseladder train swap`, or the shipped one of that name.

    Raises ValueError for a run of another recipe, damaged files, or where there is none.
    """
    folder = find(run)
    recipe = read_recipe(folder / WEIGHTS)
    if recipe.get("recipe") != "swap":
        raise ValueError(f"{folder} holds a run of {recipe.get('recipe')!r}, expected one of `noiseladder train swap`")
    knowledge = PolicyKnowledge.load(folder)
    denoiser = Denoiser(network(from_json(Swap, recipe), knowledge.tokens), Cosine()).eval()
    load_weights(folder / WEIGHTS, denoiser)
    return Policy(denoiser, knowledge, steps, seed=seed)


def load_drawing(run: str | Path) -> Drawing | None:
    """What draws the policy's dreams, or None where the run has none."""
    folder = find(run)
    return Drawing.load(folder) if (folder / DRAWING).is_file() else None


def ship(run: Path, folder: Path, lines: int = 250) -> None:
    """Write what acting needs of a run into another folder, weights as bfloat16, the log thinned to some `lines`."""
    load_policy(run)  # nothing half-trained or foreign is shipped
    tensors, note = read_tensors(run / WEIGHTS)
    small = {name: value.bfloat16() if value.dtype == torch.float32 else value for name, value in tensors.items()}
    write_tensors(folder / WEIGHTS, small, note)
    PolicyKnowledge.load(run).save(folder)
    drawing = load_drawing(run)
    if drawing is not None:
        drawing.save(folder, small=True)
    replace_text(folder / RECIPE, json.dumps(read_recipe_file(run), indent=2) + "\n")
    header, *rows = (run / "metrics.csv").read_text(encoding="utf-8").splitlines()
    every = max(1, len(rows) // lines)
    kept = [row for number, row in enumerate(rows, 1) if number % every == 0 or not row.endswith(",")]
    replace_text(folder / "metrics.csv", "\n".join([header, *kept]) + "\n")
