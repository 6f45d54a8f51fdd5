"""Demonstrations are recorded once: each is a file of its own, whole or not there, and known by its hash.

demonstrations.json        how they were made, and the SHA-256, seed, steps and success of each
episode_00000.npz          pictures, state and actions, see `noiseladder.data.npz_episodes`
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from noiseladder.data.episodes import Episode, Expected, checked
from noiseladder.data.lerobot import write_lerobot
from noiseladder.data.npz_episodes import read_npz_episode, write_npz_episode
from noiseladder.data.zarr_episodes import write_zarr
from noiseladder.training.durable import file_hash, replace_file, replace_text, sweep

from .demonstrator import Action, demonstrate
from .disturbances import Disturbance, Jolts
from .fruit_swap import HIGHEST_ACTION, LOWEST_ACTION, STEPS_PER_SECOND, FruitSwap
from .tabletop import CAMERAS

VERSION = 3  # of the world and its demonstrator: recordings of another one are not taken for these
LIST = "demonstrations.json"


@dataclass(frozen=True)
class Recording:
    """Which demonstrations: `episodes` of them, the paper's number, from seeds `seed`, `seed` + 1, ...

    jolts: whether somebody bumps against the arm now and then (`disturbances.Jolts`). The actions are those of the
    demonstrator, who does not know that it will come.
    """

    episodes: int = 150
    seed: int = 0
    size: int = 64
    jolts: bool = True

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.seed < 0:
            raise ValueError(f"{self.episodes} episodes from seed {self.seed}: expected at least 1, from 0 or more")

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that differ when anything that makes an episode does; not with their number."""
        made_by = {"version": VERSION, "seed": self.seed, "size": self.size, "jolts": self.jolts}
        return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Recorded:
    """One demonstration that is on disk: `done` of `of` are."""

    path: Path
    done: int
    of: int
    steps: int
    success: bool


def live(
    world: FruitSwap,
    seed: int,
    who: Callable[[FruitSwap, int], Iterator[Action]] = demonstrate,
    disturbances: Sequence[Disturbance] = (),
) -> Episode:
    """One episode from its beginning to its end, as it was seen and done by `who(world, seed)`.

    Its notes say the seed, the first plates of apple and orange, and whether it succeeded: the same seed, actions and
    disturbances live it again. Pictures need a world that draws them.
    """
    observation = world.reset(seed, disturbances)
    pictures: dict[str, list[Any]] = {camera: [] for camera in observation.pictures}
    states, actions = [], []
    for action in who(world, seed):
        taken = np.clip(action, LOWEST_ACTION, HIGHEST_ACTION).astype(np.float32)
        for camera, picture in observation.pictures.items():
            pictures[camera].append(picture)
        states.append(observation.state)
        actions.append(taken)
        observation = world.step(taken)
        if world.over:
            break
    return Episode(
        f"episode with seed {seed}",
        {camera: np.stack(frames) for camera, frames in pictures.items()},
        np.stack(states),
        np.stack(actions),
        STEPS_PER_SECOND,
        {"seed": seed, "slots": list(world.slots), "success": world.succeeded},
    )


def jolted(world: FruitSwap, seed: int) -> Episode:
    """A demonstration with jolts (`disturbances.Jolts`); its notes say in which steps, as `jolts`.

    What is done in the steps after a jolt answers to something that could not be seen before it. The steps in which
    the demonstrator's own hand went astray are noted as `slips`.
    """
    jolts, slips = Jolts(seed), list[int]()
    episode = live(world, seed, partial(demonstrate, slips=slips), (jolts,))
    steps = [step for step, state in enumerate(episode.state) if jolts.strikes(step, state[2]) is not None]
    return replace(
        episode, notes={**episode.notes, "jolts": steps, "slips": [step for step in slips if step < len(episode)]}
    )


def record(folder: Path, recording: Recording | None = None) -> Iterator[Recorded]:
    """Make the demonstrations that are not in `folder` yet, one at each step of this generator.

    Going on after an interruption makes the same files as a run without one. Raises ValueError for a folder that
    holds something else, or demonstrations made otherwise.
    """
    recording = recording or Recording()
    listed = _begin(folder, recording)
    world: FruitSwap | None = None
    try:
        for number in range(recording.episodes):
            path = folder / f"episode_{number:05d}.npz"
            known = listed.get(path.name)
            if known is None or not path.is_file():
                world = world or FruitSwap(recording.size)
                seed = recording.seed + number
                episode = jolted(world, seed) if recording.jolts else live(world, seed)
                replace_file(path, partial(write_npz_episode, episode=episode))
                known = {"sha256": file_hash(path), "steps": len(episode), **episode.notes}
                listed[path.name] = known
                _write_list(folder, recording, listed)
            yield Recorded(path, number + 1, recording.episodes, int(known["steps"]), bool(known["success"]))
    finally:
        if world is not None:
            world.close()


def demonstrations(folder: Path, successes_only: bool = True) -> Iterator[Episode]:
    """The recorded demonstrations, each read and checked when it is asked for.

    Raises FileNotFoundError for a folder without any and ValueError, naming the file, for one that is not what was
    written.
    """
    listed = _read_list(folder)["episodes"]
    wanted = [name for name, known in sorted(listed.items()) if known["success"] or not successes_only]

    def read() -> Iterator[Episode]:
        for name in wanted:
            path = folder / name
            if path.is_file() and file_hash(path) != listed[name]["sha256"]:
                raise ValueError(f"{path} is not what was written: remove it and record again")
            yield read_npz_episode(path)

    return checked(read(), expected())


def expected() -> Expected:
    """What the fruit swap needs of an episode recorded elsewhere; the size of its pictures is the user's choice."""
    return Expected(CAMERAS, None, LOWEST_ACTION.tolist(), HIGHEST_ACTION.tolist())


def export_lerobot(folder: Path, episodes: Iterable[Episode]) -> int:
    """Write a LeRobot v3 folder, whole or not at all; returns how many episodes. ValueError when it exists already."""
    return _whole(folder, lambda partial: write_lerobot(partial, checked(episodes)))


def export_zarr(folder: Path, episodes: Iterable[Episode]) -> int:
    """Write zarr in diffusion_policy's layout, whole or not at all; as `export_lerobot`, without loss."""
    return _whole(folder, lambda partial: write_zarr(partial, checked(episodes)))


def _whole(folder: Path, write: Callable[[Path], int]) -> int:
    if folder.exists():
        raise ValueError(f"{folder} is already there: choose another folder or remove it")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        count = write(partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return count


def _begin(folder: Path, recording: Recording) -> dict[str, Any]:
    """What is in the folder already, by file name."""
    if (folder / LIST).is_file():
        there = _read_list(folder)
        if there["key"] != recording.key:
            made = ", ".join(f"{name} {there['made_by'].get(name)}" for name in asdict(recording))
            raise ValueError(f"{folder} holds demonstrations made otherwise ({made}): choose another folder")
        sweep(folder)
        listed: dict[str, Any] = there["episodes"]
        return listed
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is neither empty nor a folder of demonstrations: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    _write_list(folder, recording, {})
    return {}


def _write_list(folder: Path, recording: Recording, listed: dict[str, Any]) -> None:
    values = {"version": VERSION, "key": recording.key, "made_by": asdict(recording), "episodes": listed}
    replace_text(folder / LIST, json.dumps(values, indent=1) + "\n")


def _read_list(folder: Path) -> dict[str, Any]:
    path = folder / LIST
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no demonstrations: it has no {LIST}; record some first")
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for known in values["episodes"].values():
            known["sha256"], known["success"], known["steps"]
        values["key"], values["made_by"]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not a list of demonstrations: {error!r}") from error
    return values
