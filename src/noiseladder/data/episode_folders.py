"""A folder of recorded episodes, in whichever layout it is: LeRobot v3, zarr as in diffusion_policy, or npz files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


def holds_episodes(path: Path) -> bool:
    """Whether something at `path` looks like one of the layouts; what is in it may still be wrong."""
    return _reader(path) is not None


def _layout(path: Path) -> Iterator[Episode]:
    reader = _reader(path)
    if reader is None:
        raise ValueError(f"{path} holds no episodes that can be read: expected {LAYOUTS}")
    return reader(path)


def _reader(path: Path) -> Callable[[Path], Iterator[Episode]] | None:
    if (path / "meta" / "info.json").is_file():
        return read_lerobot
    if path.name.endswith(".zarr.zip") or any((path / name).is_file() for name in (".zgroup", "zarr.json")):
        return read_zarr
    if path.is_dir() and any(path.glob("*.npz")):
        return read_npz_folder
    return None
