"""A trained model is a folder: of a run of its recipe, or one of those that ship with the package, by name."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

WEIGHTS, RECIPE = "weights.safetensors", "recipe.json"


def shipped_in(folder: Path) -> dict[str, Path]:
    """Name -> folder of the models in a folder of the package."""
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{WEIGHTS}"))}


def find_run(run: str | Path, shipped: dict[str, Path], recipe: str) -> Path:
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
    known = f", or one of {', '.join(shipped)}" if shipped else ""
    raise ValueError(f"there is no run {str(run)!r}: give the folder of a `noiseladder train {recipe}`{known}")
