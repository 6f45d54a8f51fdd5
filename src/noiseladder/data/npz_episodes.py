"""A folder of npz files is a set of episodes: one file each, one array for each camera, one each for state and actions.

episode_00000.npz    pictures.front (T, H, W, 3) uint8, pictures.side ..., state (T, S), actions (T, A) float32,
                     about: JSON text with the rate and the notes
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .episodes import Episode

CAMERA = "pictures."


def write_npz_episode(path: Path, episode: Episode) -> None:
    """Write one episode, compressed, over whatever is there."""
    arrays: dict[str, Any] = {f"{CAMERA}{camera}": frames for camera, frames in episode.pictures.items()}
    about = json.dumps({"rate": episode.rate, "notes": dict(episode.notes)})
    np.savez_compressed(path, state=episode.state, actions=episode.actions, about=np.array(about), **arrays)


def read_arrays(path: Path, name: str) -> dict[str, Any]:
    """All arrays of an npz file; nothing is unpickled. Raises ValueError, with this name, for a damaged file."""
    with path.open("rb") as opened:
        if opened.read(2) != b"PK":
            raise ValueError(f"{name} cannot be read as npz: it is none, expected arrays that numpy.savez wrote")
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                arrays[key] = _array(file, key)
            return arrays
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{name} cannot be read as npz: {' '.join(str(error).split())}") from error


def _array(file: Any, key: str) -> Any:
    try:
        return file[key]
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        # Not numpy's own sentence, which says how to unpickle.
        raise ValueError(f"{key!r} holds Python objects, which could run anything: save numbers") from error


def read_npz_episode(path: Path) -> Episode:
    """One episode. Raises ValueError, naming the file, when it cannot be read or lacks actions; OSError for none."""
    name = f"episode {path.name}"
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: give a folder of npz files")
    arrays = read_arrays(path, name)
    if "actions" not in arrays:
        raise ValueError(f"{name} holds {', '.join(arrays) or 'nothing'}, expected actions, state, {CAMERA}NAME")
    try:
        about = json.loads(str(arrays.get("about", "{}")))
        rate, notes = about.get("rate"), about.get("notes", {})
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{name}: 'about' is not a JSON object: {error}") from error
    pictures = {key.removeprefix(CAMERA): array for key, array in arrays.items() if key.startswith(CAMERA)}
    actions = numbers(name, "actions", arrays["actions"])
    state = numbers(name, "state", arrays["state"]) if "state" in arrays else np.zeros((len(actions), 0), np.float32)
    return Episode(name, pictures, state, actions, rate, notes)


def read_npz_folder(folder: Path) -> Iterator[Episode]:
    """The episodes of a folder, in the order of their names, read one at a time."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise ValueError(f"{folder} holds no npz files: expected one for each episode")
    return (read_npz_episode(path) for path in paths)


def numbers(name: str, what: str, array: Any) -> Any:
    """An array as float32; ValueError, naming the episode, when it holds no numbers."""
    try:
        return np.asarray(array).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {what} hold {np.asarray(array).dtype}, expected numbers") from error
