"""Segments are short pieces of clips, drawn anywhere, stacked into what a model learns from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch

from .clip import Clip, Frames


class Clips(Protocol):
    """What segments are cut from: a ClipStore, or a few clips in memory (`ClipList`)."""

    @property
    def lengths(self) -> Sequence[int] | np.ndarray:
        """Frames of each clip."""

    def piece(self, clip: int, start: int, length: int) -> Clip:
        """`length` frames of a clip from `start` on."""


class ClipList:
    """Clips in memory as a source of segments."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.clips = tuple(clips)

    @property
    def lengths(self) -> Sequence[int]:
        """Frames of each clip."""
        return [len(clip) for clip in self.clips]

    def piece(self, clip: int, start: int, length: int) -> Clip:
        """`length` frames of a clip from `start` on."""
        return self.clips[clip][start : start + length]


class Segments:
    """All pieces of `length` frames in some clips; only those that are asked for are read.

    Clips that are shorter are left out. Raises ValueError when none is long enough, or when some clips have actions
    and others have none.
    """

    def __init__(self, clips: Clips, length: int) -> None:
        if length < 1:
            raise ValueError(f"length is {length}, expected at least 1: frames of a segment")
        self.clips, self.length = clips, length
        lengths = np.asarray(clips.lengths)
        if not len(lengths) or lengths.max() < length:
            longest = f"the longest has {lengths.max()} frames" if len(lengths) else "there are no clips"
            raise ValueError(f"no clip holds a segment of {length} frames: {longest}; use shorter segments")
        self._ends = np.cumsum((lengths - length + 1).clip(0))

    def __len__(self) -> int:
        """How many different segments there are."""
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> Clip:
        """Segment `number`: clip after clip, start after start."""
        if not 0 <= number < len(self):
            raise IndexError(f"there is no segment {number}: there are {len(self)}")
        clip = int(np.searchsorted(self._ends, number, side="right"))
        start = number - (int(self._ends[clip - 1]) if clip else 0)
        return self.clips.piece(clip, start, self.length)

    def draw(self, count: int, generator: Generator) -> Batch:
        """`count` segments for training, each as likely as any other; the same generator draws the same."""
        return self.batch(torch.randint(len(self), (count,), generator=generator).tolist())

    def spread(self, count: int) -> Batch:
        """`count` segments at even distances over all clips: always the same ones, for validation."""
        return self.batch(np.linspace(0, len(self) - 1, count).round().astype(int).tolist())

    def batch(self, numbers: Sequence[int]) -> Batch:
        """These segments: tokens (B, T, 3, H, W) in [-1, 1]; condition (B, T, A), what led to each frame, or None."""
        pieces = [self[number] for number in numbers]
        tokens = to_tokens(np.stack([piece.frames for piece in pieces]))
        actions = [piece.actions for piece in pieces if piece.actions is not None]
        if not actions:
            return Batch(tokens)
        if len(actions) != len(pieces):
            raise ValueError("some clips have actions and others have none: give them to all or to none")
        return Batch(tokens, torch.from_numpy(np.stack(actions).astype(np.float32)))

    @cached_property
    def action_size(self) -> int:
        """How many numbers an action has; 0 without actions."""
        actions = self[0].actions
        return 0 if actions is None else actions.shape[1]


def to_tokens(frames: Frames) -> Tensor:
    """Frames (..., H, W, 3) uint8 as what a model learns, (..., 3, H, W) floats in [-1, 1]."""
    held = frames if frames.flags.writeable else frames.copy()  # torch has no read-only tensors, memory maps are
    return scaled(torch.from_numpy(np.ascontiguousarray(held)))


def to_frames(tokens: Tensor) -> Frames:
    """The way back: clipped to [-1, 1] and rounded, (..., H, W, 3) uint8."""
    if not tokens.isfinite().all():
        raise ValueError("tokens hold NaN or infinity: the model that made them has blown up")
    frames: Frames = rounded(tokens.detach()).cpu().numpy()
    return frames


def scaled(frames: Tensor) -> Tensor:
    """`to_tokens` of a tensor."""
    return frames.movedim(-1, -3).float() / 127.5 - 1


def rounded(tokens: Tensor) -> Tensor:
    """`to_frames` of finite tokens, as a tensor."""
    return ((tokens.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(-3, -1)
