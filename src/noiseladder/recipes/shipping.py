"""What ships of a run: its weights at half the size, its recipe without the folders of one machine, a thin log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from noiseladder.training.durable import replace_file, replace_text
from noiseladder.training.run import read_recipe_file
from noiseladder.training.tensors_file import read_tensors, write_tensors

from .run_folders import METRICS, RECIPE

LINES = 200  # of a shipped log, besides those with a validation


def write_shipped(run: Path, folder: Path, weights: Sequence[str], others: Sequence[str]) -> None:
    """Write a run into another folder as it ships. Raises OSError where something cannot be read or written.

    weights: safetensors files whose float32 tensors are written as bfloat16; they are read back into float32
    networks. others: files that are copied as they are. The log is thinned where there is one.
    """
    for name in weights:
        tensors, note = read_tensors(run / name)
        small = {key: value.bfloat16() if value.dtype == torch.float32 else value for key, value in tensors.items()}
        recipe = {"recipe": portable(note["recipe"])} if "recipe" in note else {}
        write_tensors(folder / name, small, {**note, **recipe})
    for name in others:
        replace_file(folder / name, partial(shutil.copyfile, run / name))
    replace_text(folder / RECIPE, json.dumps(portable(read_recipe_file(run)), indent=2) + "\n")
    if (run / METRICS).is_file():
        replace_text(folder / METRICS, thinned((run / METRICS).read_text(encoding="utf-8")))


def portable(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without the folders of the machine it ran on: of a path, the run and the file."""
    paths = {
        name: str(Path(*Path(recipe[name]).parts[-2:]))
        for name in ("start", "autoencoder", "teacher")
        if recipe.get(name)
    }
    return {**recipe, **paths}


def thinned(log: str) -> str:
    """A log of training with some `LINES` of its lines at even distances, and every line that holds a validation."""
    header, *rows = log.splitlines()
    every = max(1, len(rows) // LINES)
    some = any(row.endswith(",") for row in rows)  # the last column is a validation's, empty in the other lines
    kept = [row for number, row in enumerate(rows, 1) if number % every == 0 or (some and not row.endswith(","))]
    return "\n".join([header, *kept]) + "\n"
