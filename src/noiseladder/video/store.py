"""A store is a folder of clips on disk, in shards that are whole or not there, read through memory maps.

store.json                 what is in it: frame size, names of the actions, frames a second, how it was made
shards/00000/frames.npy    (N, H, W, 3) uint8, clips end to end
shards/00000/lengths.npy   (clips,) how many frames each clip has
shards/00000/actions.npy, poses.npy      (N, A) and (N, P) float32, where there are any
shards/00000/shard.json    frames, clips and the SHA-256 of every file
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noiseladder.training.durable import file_hash, replace_text

from .clip import Clip, write_arrays

VERSION = 1
FILE = "store.json"
BEGUN = "store.begun.json"
"""In place of store.json in a folder that is a store only when all of it is written."""


@dataclass(frozen=True)
class Description:
    """What all clips of a store share.

    size: (H, W). action_names: one for each column of the actions, empty without actions. rate: frames a second, or
    None. made_by: the options that made it, plain values; `key` is their hash.
    """

    size: tuple[int, int]
    action_names: tuple[str, ...] = ()
    rate: float | None = None
    made_by: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that differ when anything in the description does."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:12]

    def write(self, folder: Path) -> None:
        """Make `folder` a store, or check that it is this one; ValueError when it holds something else."""
        path = folder / FILE
        if path.exists():
            there = Description.read(folder)
            if there != self:
                changed = [
                    name
                    for name in sorted({*self.made_by, *there.made_by})
                    if self.made_by.get(name) != there.made_by.get(name)
                ]
                what = ", ".join(changed) or "frame size, actions or rate"
                raise ValueError(f"{folder} holds clips made with another {what}: choose another folder or remove it")
            return
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} is neither empty nor a store of clips: choose another folder")
        replace_text(path, self.text())

    @staticmethod
    def read(folder: Path) -> Description:
        """The description of the store in `folder`; FileNotFoundError or ValueError when there is none."""
        path = folder / FILE
        if not path.is_file():
            begun = f", only the {BEGUN} of one that was stopped: collect it again" if (folder / BEGUN).exists() else ""
            raise FileNotFoundError(f"{folder} is not a store of clips: it has no {FILE}{begun}")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["version"] != VERSION:
                raise ValueError(f"version {values['version']}, expected {VERSION}")
            height, width = values["size"]
            return Description((height, width), tuple(values["action_names"]), values["rate"], values["made_by"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not describe a store of clips: {error}") from error

    def text(self) -> str:
        """What store.json says."""
        values = {
            "version": VERSION,
            "size": self.size,
            "action_names": self.action_names,
            "rate": self.rate,
            "made_by": self.made_by,
        }
        return json.dumps(values, indent=1, sort_keys=True) + "\n"


def shard_folder(folder: Path, number: int) -> Path:
    """Where a shard is, once it is whole."""
    return folder / "shards" / f"{number:05d}"


def partial_folder(folder: Path, number: int) -> Path:
    """Where this process writes a shard that is not whole yet; made empty."""
    partial = folder / "shards" / f".partial-{number:05d}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def commit_shard(folder: Path, number: int, partial: Path) -> int:
    """Turn a folder of arrays into shard `number` of the store, in one rename; returns its frames."""
    lengths = np.load(partial / "lengths.npy", allow_pickle=False)
    sums = {}
    for path in sorted(partial.glob("*.npy")):
        sums[path.name] = file_hash(path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    record = {"clips": len(lengths), "frames": int(lengths.sum()), "sha256": sums}
    replace_text(partial / "shard.json", json.dumps(record, indent=1) + "\n")
    target = shard_folder(folder, number)
    try:
        partial.rename(target)
    except OSError:
        if not (target / "shard.json").is_file():
            raise
        shutil.rmtree(partial)  # another process was faster; the same options make the same shard
    return int(lengths.sum())


def write_shard(folder: Path, number: int, clips: Sequence[Clip]) -> int:
    """Write clips as shard `number` of the store in `folder`; returns its frames. Nothing half-written stays."""
    partial = partial_folder(folder, number)
    try:
        write_arrays(partial, clips)
        return commit_shard(folder, number, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def whole_store(folder: Path, description: Description) -> Iterator[None]:
    """Make `folder` a store when the block is through; after a ValueError in it nothing is left of what it wrote.

    Killed in the block, the folder is no store yet: the shards that are there stay for the same description, and are
    removed for another. A store that is there already stays one. Raises ValueError for a folder with something else.
    """
    begun, shards, text = folder / BEGUN, folder / "shards", description.text()
    new = not folder.exists()
    if (folder / FILE).exists() or not (new or begun.is_file() or not any(folder.iterdir())):
        description.write(folder)  # looks whether it is this one
        yield
        return
    if begun.is_file() and begun.read_text(encoding="utf-8") != text:
        shutil.rmtree(shards, ignore_errors=True)
    replace_text(begun, text)
    try:
        yield
    except ValueError:
        shutil.rmtree(shards, ignore_errors=True)
        begun.unlink(missing_ok=True)
        if new:
            with suppress(OSError):  # somebody else's file may have come
                folder.rmdir()
        raise
    with suppress(FileNotFoundError):  # another process was faster; the same description makes the same store
        begun.replace(folder / FILE)


def sweep_shards(folder: Path) -> None:
    """Remove what killed writers left behind; those of living processes stay."""
    for leftover in (folder / "shards").glob(".partial-*"):
        try:
            os.kill(int(leftover.name.rsplit("-", 1)[1]), 0)
        except (ProcessLookupError, ValueError):
            shutil.rmtree(leftover, ignore_errors=True)
        except PermissionError:
            continue  # alive, and somebody else's


@dataclass(frozen=True)
class Shard:
    """Clips end to end; the frames are a memory map, so that a large store costs no memory until it is read."""

    folder: Path

    @cached_property
    def frames(self) -> NDArray[np.uint8]:
        """(N, H, W, 3)."""
        frames: NDArray[np.uint8] = np.load(self.folder / "frames.npy", mmap_mode="r", allow_pickle=False)
        return frames

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(clips,)."""
        lengths: NDArray[np.int64] = np.load(self.folder / "lengths.npy", allow_pickle=False)
        return lengths

    @cached_property
    def actions(self) -> NDArray[np.float32] | None:
        """(N, A) or None."""
        return self._rows("actions")

    @cached_property
    def poses(self) -> NDArray[np.float32] | None:
        """(N, P) or None."""
        return self._rows("poses")

    @cached_property
    def sums(self) -> dict[str, str]:
        """The SHA-256 of every file, as it was written. Raises ValueError where shard.json does not say."""
        path = self.folder / "shard.json"
        try:
            return {str(name): str(value) for name, value in json.loads(path.read_text())["sha256"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not what was written: remove {self.folder} and collect again") from error

    def damage(self) -> str | None:
        """What is wrong with the files, by their check sums; None when nothing is."""
        for name, expected in self.sums.items():
            path = self.folder / name
            if not path.is_file():
                return f"{path} is missing"
            if file_hash(path) != expected:
                return f"{path} is not what was written: remove {self.folder} and collect again"
        return None

    def _rows(self, name: str) -> NDArray[np.float32] | None:
        path = self.folder / f"{name}.npy"
        if not path.is_file():
            return None
        rows: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return rows


@dataclass(frozen=True)
class ClipStore:
    """The clips of some shards of a store, in order; a sequence of Clip."""

    description: Description
    shards: tuple[Shard, ...]

    @staticmethod
    def open(folder: Path) -> ClipStore:
        """The whole shards of the store in `folder`; what is still being written is not seen."""
        description = Description.read(folder)
        found = sorted(path.parent for path in (folder / "shards").glob("[0-9]*/shard.json"))
        if not found:
            raise ValueError(f"{folder} holds no clips yet: collecting was stopped before the first shard was whole")
        return ClipStore(description, tuple(Shard(path) for path in found))

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each clip, (clips,)."""
        return np.concatenate([shard.lengths for shard in self.shards])

    @property
    def contents(self) -> str:
        """Twelve hexadecimal digits that differ when the description or any clip does, wherever the store lies."""
        sums = [sorted(shard.sums.items()) for shard in self.shards]
        return hashlib.sha256(json.dumps([self.description.key, sums]).encode()).hexdigest()[:12]

    @cached_property
    def _places(self) -> list[tuple[int, int]]:
        """Of each clip, its shard and its first row there."""
        return [
            (number, int(start))
            for number, shard in enumerate(self.shards)
            for start in np.cumsum(shard.lengths) - shard.lengths
        ]

    @property
    def frames(self) -> int:
        """How many frames there are in all."""
        return int(self.lengths.sum())

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.lengths)

    def __getitem__(self, number: int) -> Clip:
        """One clip; its frames are a view of the file."""
        return self.piece(number, 0, int(self.lengths[number]))

    def __iter__(self) -> Iterator[Clip]:
        """All clips."""
        return (self[number] for number in range(len(self)))

    def piece(self, clip: int, start: int, length: int) -> Clip:
        """`length` frames of a clip from `start` on."""
        if not (0 <= clip < len(self) and start >= 0 and start + length <= self.lengths[clip] and length > 0):
            raise IndexError(f"clip {clip} has no frames {start} to {start + length - 1}")
        number, first = self._places[clip]
        rows = slice(first + start, first + start + length)
        shard = self.shards[number]
        return Clip(
            shard.frames[rows],
            None if shard.actions is None else shard.actions[rows],
            None if shard.poses is None else shard.poses[rows],
        )

    def split(self, held_out: float) -> tuple[ClipStore, ClipStore]:
        """For training and held out: the last shards, at least one, are held out; both parts must hold a shard."""
        count = max(1, round(held_out * len(self.shards)))
        if not 0 < held_out < 1 or count >= len(self.shards):
            raise ValueError(
                f"{held_out} of {len(self.shards)} shards cannot be held out: expected a share between 0 and 1 that"
                " leaves something to train on; collect more episodes"
            )
        return ClipStore(self.description, self.shards[:-count]), ClipStore(self.description, self.shards[-count:])

    def check(self) -> None:
        """Read every file once and raise ValueError if one has changed since it was written."""
        for shard in self.shards:
            if damage := shard.damage():
                raise ValueError(damage)
