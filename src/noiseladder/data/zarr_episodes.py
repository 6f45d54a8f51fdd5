"""Zarr in the layout of diffusion_policy: all episodes end to end in `data`, where each ends in `meta/episode_ends`.

    data/action (N, A)    data/state (N, S)    data/CAMERA (N, H, W, 3)    meta/episode_ends (episodes,)

The replay buffers of diffusion_policy (Chi et al. 2023) read what is written here, and theirs are read here: pictures
as uint8 or as floats from 0 to 255.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .episodes import Episode
from .npz_episodes import numbers

STEPS_IN_A_CHUNK = 64


def need_zarr() -> Any:
    """Zarr, or an ImportError that names the extra it comes with."""
    try:
        return import_module("zarr")
    except ImportError as error:
        raise ImportError("zarr files need zarr: pip install 'noiseladder[imitation]'") from error


def write_zarr(folder: Path, episodes: Iterable[Episode]) -> int:
    """Write episodes into an empty folder, one in memory at a time; returns how many there were."""
    zarr = need_zarr()
    # diffusion_policy pins a zarr that knows only the second format.
    root = zarr.open_group(str(folder), mode="w", zarr_format=2)
    data, meta = root.create_group("data"), root.create_group("meta")
    arrays: dict[str, Any] = {}
    ends: list[int] = []
    notes = []
    rate = None
    for episode in episodes:
        parts: dict[str, Any] = {"action": episode.actions, "state": episode.state, **episode.pictures}
        for name, values in parts.items():
            if name not in arrays:
                shape, chunk = values.shape[1:], (STEPS_IN_A_CHUNK, *values.shape[1:])
                arrays[name] = data.create_array(name, shape=(0, *shape), chunks=chunk, dtype=values.dtype)
            arrays[name].append(values)
        ends.append((ends[-1] if ends else 0) + len(episode))
        notes.append(dict(episode.notes))
        rate = episode.rate
    meta.create_array("episode_ends", data=np.array(ends, dtype=np.int64))
    root.attrs.update({"rate": rate, "notes": json.dumps(notes)})
    return len(ends)


def read_zarr(folder: Path) -> Iterator[Episode]:
    """The episodes of a zarr folder or zip, read one at a time.

    Arrays of four axes are cameras; `action` or `actions` are the actions; `state` is the state. Others are left out.
    Raises ValueError, naming the episode where one is to blame, for what is not there or does not fit together.
    """
    zarr = need_zarr()
    try:
        root = zarr.open_group(str(folder), mode="r")
        data = dict(root["data"].arrays())
        ends: NDArray[np.int64] = np.asarray(root["meta/episode_ends"][:]).astype(np.int64)
    except Exception as error:  # what zarr raises differs with its version and its store
        raise ValueError(
            f"{folder} is not zarr in the layout of diffusion_policy, which has data/action and meta/episode_ends:"
            f" {' '.join(str(error).split())}"
        ) from error
    action = next((name for name in ("action", "actions") if name in data), None)
    if action is None:
        raise ValueError(f"{folder} has {', '.join(data) or 'nothing'} in data, expected action among them")
    if ends.ndim != 1 or len(ends) == 0:
        raise ValueError(f"{folder} holds no episodes: meta/episode_ends has shape {ends.shape}")
    cameras = sorted(name for name, array in data.items() if array.ndim == 4)  # folders list in any order
    starts = np.concatenate([[0], ends[:-1]])
    try:
        notes = json.loads(root.attrs.get("notes", "[]"))
    except (TypeError, ValueError):
        notes = []
    rate = root.attrs.get("rate")
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist())):
        name = f"episode {number}"
        if end <= start:
            raise ValueError(f"{name} has no steps: meta/episode_ends goes from {start} to {end}; remove it")
        parts = {}
        for part in (action, *(["state"] if "state" in data else []), *cameras):
            if end > data[part].shape[0]:
                raise ValueError(f"{name} ends at row {end}, but data/{part} has {data[part].shape[0]} rows")
            try:
                parts[part] = data[part][start:end]
            except Exception as error:
                raise ValueError(f"{name}: data/{part} cannot be read: {' '.join(str(error).split())}") from error
        yield Episode(
            name,
            {camera: _pictures(name, camera, parts[camera]) for camera in cameras},
            numbers(name, "state", parts["state"]) if "state" in parts else np.zeros((end - start, 0), np.float32),
            numbers(name, "actions", parts[action]),
            None if rate is None else float(rate),
            notes[number] if number < len(notes) else {},
        )


def _pictures(name: str, camera: str, frames: NDArray[Any]) -> NDArray[np.uint8]:
    """Frames as uint8; floats are taken to run from 0 to 255, as there."""
    if frames.dtype == np.uint8:
        return frames
    if not np.isfinite(frames).all() or frames.min() < 0 or frames.max() > 255 or frames.max() <= 1:
        raise ValueError(
            f"{name}: camera {camera!r} runs from {frames.min():g} to {frames.max():g}, expected 0 to 255: rescale it"
        )
    rounded: NDArray[np.uint8] = np.rint(frames).astype(np.uint8)
    return rounded
