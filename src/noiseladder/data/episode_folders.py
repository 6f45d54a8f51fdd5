"""A folder of recorded episodes, in whichever layout it is: LeRobot v3, zarr as in diffusion_policy, or npz files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .episodes import Episode, Expected, checked
from .lerobot import read_lerobot
from .npz_episodes import read_npz_folder
from .zarr_episodes import read_zarr

LAYOUTS = "a LeRobot v3 folder (meta/info.json), a zarr folder or .zarr.zip (data, meta/episode_ends) or npz files"


def read_episodes(path: Path, expected: Expected | None = None) -> Iterator[Episode]:
    """The episodes at `path`, each checked when it is asked for.

    Raises FileNotFoundError when nothing is there and ValueError, in one sentence that names the episode, for
    whatever is wrong with one.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: expected {LAYOUTS}")
    return checked(_layout(path), expected)


def _layout(path: Path) -> Iterator[Episode]:
    if (path / "meta" / "info.json").is_file():
        return read_lerobot(path)
    if path.name.endswith(".zarr.zip") or any((path / name).is_file() for name in (".zgroup", "zarr.json")):
        return read_zarr(path)
    if path.is_dir() and any(path.glob("*.npz")):
        return read_npz_folder(path)
    raise ValueError(f"{path} holds no episodes that can be read: expected {LAYOUTS}")
