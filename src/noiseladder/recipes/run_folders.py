"""A trained model is a folder: of a run of its recipe, or one of those that ship with the package, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from noiseladder.training.run import read_recipe_file

WEIGHTS, RECIPE, METRICS = "weights.safetensors", "recipe.json", "metrics.csv"


def shipped_in(folder: Path) -> dict[str, Path]:
    """Name -> folder of the models in a folder of the package."""
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{WEIGHTS}"))}


def find_run(run: str | Path, shipped: Mapping[str, Path], recipe: str) -> Path:
    """The folder of a run, or of a shipped name. Raises ValueError when there is neither."""
    folder = Path(run)
    if folder.is_dir():
        if not (folder / RECIPE).is_file():
            raise ValueError(f"{folder} is no run folder, it holds no {RECIPE}: give the --folder of a training")
        return folder
    if str(run) in shipped:
        return shipped[str(run)]
    close = get_close_matches(str(run), shipped, n=1)
    if close:
        raise ValueError(f"there is no run {str(run)!r}; did you mean {close[0]}?")
    known = f", or the name of a model that ships: {', '.join(shipped)}" if shipped else ""
    raise ValueError(f"there is no run {str(run)!r}: give the folder of a `noiseladder train {recipe}`{known}")


def open_run(
    run: str | Path, shipped: Mapping[str, Path], recipe: str, files: Sequence[str]
) -> tuple[Path, dict[str, Any]]:
    """The folder of a run of `recipe`, or of a shipped name, and its options by name.

    Raises ValueError, one sentence, where there is none, where it is the run of another recipe, or where one of the
    `files` is missing.
    """
    folder = find_run(run, shipped, recipe)
    options = read_recipe_file(folder)
    if options.get("recipe") != recipe:
        raise ValueError(
            f"{folder} is a run of {options.get('recipe')!r}, expected one of `noiseladder train {recipe}`"
        )
    check_files(folder, files)
    return folder, options


def check_files(folder: Path, files: Sequence[str]) -> None:
    """Raise ValueError, one sentence, where one of the `files` of a run is missing."""
    for name in files:
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} holds no {name}: wait for the training's first checkpoint, resume it, or copy the file too"
            )
