"""Where dreams begin: a few real frames that were never trained on, kept beside the weights, and what can be done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noiseladder.training.tensors_file import read_tensors, write_tensors

from .clip import Frames
from .store import ClipStore

FILE, KIND = "beginnings.safetensors", "beginnings of dreams"
COUNT, LENGTH = 4, 8


@dataclass(frozen=True)
class Beginnings:
    """frames: (N, T, H, W, 3) uint8. actions: (N, T), numbers of what led to each frame, -1 where that is not known.

    names: of the actions. rows: (A, C), the condition that each stands for. rate: frames a second, or None.
    """

    frames: Tensor
    actions: Tensor
    names: tuple[str, ...]
    rows: Tensor
    rate: float | None = None

    def __len__(self) -> int:
        """How many there are."""
        return len(self.frames)

    def __getitem__(self, number: int) -> tuple[Frames, list[int]]:
        """Frames (T, H, W, 3) and the actions that led to them, (T,), for `WorldModel.reset`; counted in a circle."""
        place = number % len(self)
        return self.frames[place].numpy(), self.actions[place].tolist()

    @staticmethod
    def of(clips: ClipStore, names: tuple[str, ...], rows: Tensor) -> Beginnings:
        """From clips at even distances, the frames in the middle of each."""
        frames, actions = [], []
        for number in np.linspace(0, len(clips) - 1, min(COUNT, len(clips))).round().astype(int):
            start = max(0, int(clips.lengths[number]) // 2 - LENGTH)
            clip = clips.piece(int(number), start, min(LENGTH, int(clips.lengths[number])))
            frames.append(torch.from_numpy(clip.frames.copy()))
            actions.append(numbers_of(torch.from_numpy(np.asarray(clip.actions, np.float32)), rows))
        return Beginnings(torch.stack(frames), torch.stack(actions), names, rows, clips.description.rate)

    def save(self, folder: Path) -> None:
        """Write beginnings.safetensors, atomically."""
        tensors = {"frames": self.frames, "actions": self.actions, "rows": self.rows}
        write_tensors(folder / FILE, tensors, {"kind": KIND, "names": list(self.names), "rate": self.rate})

    @staticmethod
    def load(folder: Path) -> Beginnings:
        """Read them back. Raises ValueError for a damaged or foreign file, OSError where there is none."""
        tensors, note = read_tensors(folder / FILE)
        if note.get("kind") != KIND:
            raise ValueError(f"{folder / FILE} holds {note.get('kind')!r}, expected {KIND!r}")
        return Beginnings(
            tensors["frames"], tensors["actions"], tuple(note["names"]), tensors["rows"], note.get("rate")
        )


def numbers_of(conditions: Tensor, rows: Tensor) -> Tensor:
    """Conditions (T, C) as numbers of actions (T,), whose conditions are `rows` (A, C); -1 for what is none of them."""
    same = (conditions[:, None] == rows).all(-1)
    return torch.where(same.any(1), same.int().argmax(1), -1)
