"""A checkpoint is one file with everything a run needs to go on as if it had never stopped.

Weights, their average, the best ones, and the optimizer's state are tensors; step, threads, times and the recipe are
a JSON note in the header. One file can be replaced atomically; the last two are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .durable import sweep
from .loop import Training
from .options import check_same_recipe
from .tensors_file import read_note, read_tensors, write_tensors
from .weights import check_fits

KIND = "checkpoint"
KEPT = 2


def save_checkpoint(folder: Path, training: Training, recipe: Mapping[str, Any]) -> Path:
    """Write a checkpoint of a run into `folder`, then remove all but the last two; every rank must call.

    Raises OSError for a full disk; earlier checkpoints stay.
    """
    path = folder / f"step-{training.steps_done:08d}.safetensors"
    tensors = training.tensors()
    if training.ranks.first:
        write_tensors(path, tensors, {"kind": KIND, "recipe": dict(recipe), **training.note()})
        for old in checkpoints(folder)[:-KEPT]:
            old.unlink(missing_ok=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first; half-written ones have other names."""
    return sorted(path for path in folder.glob("step-*.safetensors") if re.fullmatch(r"step-\d{8,}", path.stem))


def latest_checkpoint(folder: Path) -> Path:
    """The last checkpoint in a folder. Raises FileNotFoundError when there is none."""
    found = checkpoints(folder)
    if not found:
        raise FileNotFoundError(f"there is no checkpoint in {folder}: start the run without resume")
    return found[-1]


def read_checkpoint(path: Path, recipe: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and note of a checkpoint of this very recipe.

    Raises ValueError for a damaged or foreign file, a pickle, or a checkpoint of another recipe: it says which
    options differ.
    """
    try:
        note = read_note(path)
        if note.get("kind") != KIND:
            raise ValueError(f"{path} holds {note.get('kind')}, expected a checkpoint")
        check_same_recipe(note["recipe"], recipe)
        return read_tensors(path)[0], note
    except ValueError as error:
        before = [other for other in checkpoints(path.parent) if other < path]
        if "damaged" not in str(error) or not before:
            raise
        raise ValueError(f"{error}. Remove it to resume from {before[-1].name}") from error


def restore_checkpoint(training: Training, path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
    """Continue `training` from a checkpoint. Raises ValueError when its weights are another network's."""
    saved = {name: t for name, t in tensors.items() if name.startswith(("weights/", "buffers/"))}
    expected = {n: t for n, t in training.tensors().items() if n.startswith(("weights/", "buffers/"))}
    check_fits(path, saved, expected)
    training.restore(tensors, note)


def clear_leftovers(folder: Path) -> None:
    """Remove what a run killed in the middle of a write left behind."""
    sweep(folder)
