"""A recording is what a planner learns from: observations, actions and where trajectories end, from whatever file."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Recording:
    """N steps of one or many trajectories, one after another.

    observations (N, O): before the action. actions (N, A). ends (N,) booleans: the step after this one does not follow
    from it. rewards (N,): for what the action led to. goals (N, G): of whoever was recorded. Kept as float32.
    Raises ValueError, one sentence, for shapes that do not fit, too few rows, NaN or infinity.
    """

    observations: Array
    actions: Array
    ends: Array
    rewards: Array | None = None
    goals: Array | None = None

    def __post_init__(self) -> None:
        """Check, and bring to one type."""
        for name, dimensions in (("observations", 2), ("actions", 2), ("ends", 1), ("rewards", 1), ("goals", 2)):
            given = getattr(self, name)
            if given is not None:
                kind = np.bool_ if name == "ends" else np.float32
                object.__setattr__(self, name, _checked(name, np.asarray(given), dimensions, kind, self.observations))
        if len(self.observations) < 2:
            raise ValueError(f"a recording of {len(self.observations)} steps: at least 2 are needed to see one follow")
        if not self.ends[-1]:
            object.__setattr__(self, "ends", np.append(self.ends[:-1], True))

    def __len__(self) -> int:
        """Steps."""
        return len(self.observations)

    def trajectories(self) -> Iterator[slice]:
        """The rows of each trajectory."""
        bounds = [0, *(np.flatnonzero(self.ends) + 1).tolist()]
        return (slice(first, last) for first, last in pairwise(bounds))

    def hash(self) -> str:
        """SHA-256 of everything in it."""
        digest = hashlib.sha256()
        for name, array in arrays(self).items():
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def arrays(recording: Recording) -> dict[str, Array]:
    """What is there, by name."""
    named = {field.name: getattr(recording, field.name) for field in fields(recording)}
    return {name: array for name, array in named.items() if array is not None}


def read(path: Path | str) -> Recording:
    """An .npz, or an HDF5 file (.hdf5, .h5): see `read_npz` and `read_hdf5`."""
    path = Path(path)
    if path.suffix.lower() == ".npz":
        return read_npz(path)
    if path.suffix.lower() in (".hdf5", ".h5"):
        return read_hdf5(path)
    raise ValueError(f"{path} is neither .npz nor .hdf5: save your arrays with numpy.savez (Minari: read_minari)")


def read_npz(path: Path | str) -> Recording:
    """Arrays observations, actions and, if there, rewards, goals, terminals, timeouts or ends; nothing is unpickled."""
    path = _existing(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files if name in _KEYS}
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no whole .npz file of numbers: save it again with numpy.savez") from error
    return _from_keys(found, str(path))


def read_hdf5(path: Path | str) -> Recording:
    """D4RL's keys: observations, actions, rewards, terminals, timeouts, infos/goal (its extra: planning).

    D4RL's Maze2D files hold the last observation before each new goal twice, though the body moves on in between; the
    second of the two rows is left out and the trajectory ends there.
    """
    path = _existing(path)
    try:
        import h5py
    except ImportError as error:
        raise ValueError("HDF5 files are read with h5py: pip install 'noiseladder[planning]'") from error
    try:
        with h5py.File(path, "r") as file:
            found = {name: file[name][()] for name in (*_KEYS, "infos/goal") if name in file}
    except OSError as error:
        raise ValueError(f"{path} is no whole HDF5 file: copy it again") from error
    if "infos/goal" in found:
        found.setdefault("goals", found.pop("infos/goal"))
    return _without_repeats(_from_keys(found, str(path)))


def read_minari(dataset: Any) -> Recording:
    """A Minari data set, by its name or as loaded (its extra: interop).

    A dictionary of observations gives its `observation`, and its `desired_goal` as goals. An episode holds one
    observation more than actions: the last one is left out.
    """
    if isinstance(dataset, str):
        try:
            import minari
        except ImportError as error:
            raise ValueError("Minari data sets are read with minari: pip install 'noiseladder[interop]'") from error
        try:
            dataset = minari.load_dataset(dataset)
        except FileNotFoundError as error:
            raise ValueError(f"there is no Minari data set of this name here ({error}): download it first") from error
    parts: dict[str, list[Array]] = {}
    for number, episode in enumerate(dataset.iterate_episodes()):
        seen = episode.observations
        steps = len(episode.actions)
        if isinstance(seen, dict):
            if "observation" not in seen:
                raise ValueError(f"Minari episode {number} has observations {sorted(seen)}, but no 'observation'")
            if "desired_goal" in seen:
                parts.setdefault("goals", []).append(np.asarray(seen["desired_goal"])[:steps])
            seen = seen["observation"]
        parts.setdefault("observations", []).append(np.asarray(seen)[:steps])
        parts.setdefault("actions", []).append(np.asarray(episode.actions))
        parts.setdefault("rewards", []).append(np.asarray(episode.rewards))
        parts.setdefault("ends", []).append(np.arange(1, steps + 1) == steps)
    if not parts:
        raise ValueError("the Minari data set has no episodes")
    return _from_keys({name: np.concatenate(part) for name, part in parts.items()}, "the Minari data set")


_KEYS = ("observations", "actions", "rewards", "goals", "terminals", "timeouts", "ends")


def _from_keys(found: dict[str, Array], source: str) -> Recording:
    for name in ("observations", "actions"):
        if name not in found:
            there = ", ".join(found) or "nothing that is known"
            raise ValueError(f"{source} has no {name!r}, only {there}: it needs observations (N, O) and actions (N, A)")
    endings = [np.asarray(found[name]) for name in ("terminals", "timeouts", "ends") if name in found]
    if not endings:
        raise ValueError(f"{source} does not say where trajectories end: add 'ends', 'terminals' or 'timeouts', (N,)")
    steps = len(found["observations"])
    for ending in endings:
        if ending.shape != (steps,):
            raise ValueError(f"{source}: the ends are {ending.shape} for {steps} observations: give ({steps},)")
    ends = np.logical_or.reduce([ending.astype(bool) for ending in endings])
    try:
        return Recording(found["observations"], found["actions"], ends, found.get("rewards"), found.get("goals"))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _checked(name: str, array: Array, dimensions: int, kind: type, observations: Array) -> Array:
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} are of type {array.dtype}: give numbers")
    if array.ndim != dimensions or 0 in array.shape[1:]:
        shape = "(steps, size)" if dimensions == 2 else "(steps,)"
        raise ValueError(f"{name} have the shape {array.shape}: give {shape}")
    if len(array) != len(observations):
        raise ValueError(f"there are {len(observations)} observations but {len(array)} {name}: give one for each step")
    array = np.ascontiguousarray(array, dtype=kind)
    if array.dtype.kind == "f":
        finite = np.isfinite(array).all(tuple(range(1, dimensions)))
        if not finite.all():
            raise ValueError(f"{name} hold NaN or infinity, first in row {int(finite.argmin())}: leave such rows out")
    return array


def _without_repeats(recording: Recording) -> Recording:
    again = np.zeros(len(recording), dtype=bool)
    same = (recording.observations[1:] == recording.observations[:-1]).all(1)
    again[1:] = same & recording.ends[:-1]
    if not again.any():
        return recording
    return Recording(**{name: array[~again] for name, array in arrays(recording).items()})


def _existing(path: Path | str) -> Path:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is a folder, expected a file" if path.is_dir() else f"there is no file {path}")
    return path
