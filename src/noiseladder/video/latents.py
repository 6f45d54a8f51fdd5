"""A store of clips as vectors: every frame is encoded once, so that training a world never touches a pixel."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch
from noiseladder.training.durable import file_hash, replace_file, replace_text

from .clip import Frames
from .store import ClipStore, Shard
from .world_model import Codec


@dataclass(frozen=True)
class Latents:
    """Clips end to end: tokens (N, D) float16, actions (N, A) float32 or None, lengths of the clips."""

    tokens: Tensor
    actions: Tensor | None
    lengths: tuple[int, ...]

    def starts(self, length: int) -> Tensor:
        """Where pieces of `length` tokens begin that lie within a clip; ValueError when there are none."""
        found, first = [], 0
        for size in self.lengths:
            found.append(torch.arange(first, max(first, first + size - length + 1)))
            first += size
        starts = torch.cat(found) if found else torch.empty(0, dtype=torch.long)
        if len(starts) == 0:
            longest = f"the longest has {max(self.lengths)}" if self.lengths else "there are none"
            raise ValueError(f"no clip is {length} frames long, {longest}: use shorter sequences")
        return starts

    def pieces(self, starts: Tensor, length: int) -> Batch:
        """The pieces that begin at `starts` (B,): tokens (B, T, D) and condition (B, T, A), float32."""
        rows = starts[:, None] + torch.arange(length)
        return Batch(self.tokens[rows].float(), None if self.actions is None else self.actions[rows])

    @property
    def token_size(self) -> int:
        """D."""
        return self.tokens.shape[1]


@dataclass(frozen=True)
class Pieces:
    """All pieces of `length` tokens in some latents, each as likely as any other."""

    latents: Latents
    length: int

    @property
    def condition_size(self) -> int:
        """C of conditions (B, T, C), 0 where nobody knows what was done."""
        return 0 if self.latents.actions is None else self.latents.actions.shape[1]

    @cached_property
    def starts(self) -> Tensor:
        """Where they begin."""
        return self.latents.starts(self.length)

    def draw(self, count: int, generator: Generator) -> Batch:
        """`count` pieces; the same generator draws the same."""
        return self.latents.pieces(
            self.starts[torch.randint(len(self.starts), (count,), generator=generator)], self.length
        )

    def spread(self, count: int) -> Batch:
        """`count` pieces at even distances over all clips: always the same ones, for validation."""
        places = torch.linspace(0, len(self.starts) - 1, count).round().long()
        return self.latents.pieces(self.starts[places], self.length)


LOOKED_AT = 16  # frames of a shard that are encoded again where nobody wrote down what its vectors are of
ALIKE = 0.02  # vectors, whose variance is 1, are kept in half precision


def encode_store(
    store: ClipStore, codec: Codec, folder: Path, done: Callable[[int, int], None] = lambda shard, shards: None
) -> Latents:
    """Encode all frames of a store, shard by shard, into `folder`; shards that are there already are read.

    A folder belongs to one codec. Beside its vectors stand the hashes of the frames of a shard and of the vectors; of
    other frames, or damaged, they are made anew. done: told after every shard (shard, shards).
    """
    parts: list[np.ndarray] = []
    for number, shard in enumerate(store.shards, start=1):
        path = folder / f"{shard.folder.name}.npy"
        if not is_of(path, shard, codec):
            vectors = encoded(codec, shard.frames)
            replace_file(path, lambda partial, vectors=vectors: np.save(partial, vectors))  # type: ignore[misc]
            write_hashes(path, shard)
        parts.append(np.load(path, allow_pickle=False))
        done(number, len(store.shards))
    actions = [shard.actions for shard in store.shards]
    known = [torch.from_numpy(rows) for rows in actions if rows is not None]
    return Latents(
        torch.from_numpy(np.concatenate(parts)),
        torch.cat(known) if len(known) == len(actions) else None,
        tuple(int(length) for length in store.lengths),
    )


def encoded(codec: Codec, frames: Frames) -> np.ndarray:
    """Vectors of frames (T, H, W, 3) as they are kept, (T, D) float16."""
    return codec.encode(frames).flatten(1).half().numpy()


def is_of(path: Path, shard: Shard, codec: Codec) -> bool:
    """Whether a file holds the vectors of all frames of a shard, by the hashes beside it.

    Vectors of before there were hashes are held against some frames that are encoded now, and get theirs.
    """
    if not path.is_file():
        return False
    note = path.with_suffix(".json")
    if note.is_file():
        return note.read_text(encoding="utf-8") == hashes(path, shard)
    try:
        there = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return False
    if len(there) != len(shard.frames):
        return False
    places = np.linspace(0, len(there) - 1, min(LOOKED_AT, len(there))).round().astype(int)
    some = encoded(codec, shard.frames[places])
    if some.shape != there[places].shape or not np.allclose(some, there[places], rtol=ALIKE, atol=ALIKE):
        return False
    write_hashes(path, shard)
    return True


def write_hashes(path: Path, shard: Shard) -> None:
    """Write down beside a file of vectors whose they are."""
    replace_text(path.with_suffix(".json"), hashes(path, shard))


def hashes(path: Path, shard: Shard) -> str:
    """The SHA-256 of the frames of a shard and of the file of its vectors, as JSON."""
    return json.dumps({"frames": shard.sums["frames.npy"], "vectors": file_hash(path)}) + "\n"
