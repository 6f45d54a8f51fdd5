"""A frame's pixels as they are: the codec of a world without an autoencoder, and the pieces that it learns from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch

from .autoencoder import COLOURS
from .clip import Frames
from .segments import Segments, to_frames, to_tokens


@dataclass(frozen=True)
class PixelCodec:
    """Frames (..., 3, size, size) in [-1, 1] as flat tokens (..., D), D = 3 * size * size, and back; nothing is lost.

    It stands where a `FrameAutoencoder` stands. size: of a frame's side in pixels.
    """

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}, expected at least 1: pixels along the side of a frame")

    @property
    def token_size(self) -> int:
        """D."""
        return COLOURS * self.size**2

    @property
    def token_shape(self) -> tuple[int, ...]:
        """Of one frame's token."""
        return (self.token_size,)

    def vectors(self, frames: Tensor) -> Tensor:
        """Frames (..., 3, size, size) in [-1, 1] -> (..., D)."""
        if frames.shape[-3:] != (COLOURS, self.size, self.size):
            raise ValueError(
                f"frames have shape {tuple(frames.shape)}, expected (..., 3, {self.size}, {self.size}): this world was"
                " built for frames of that size"
            )
        return frames.flatten(-3)

    def rebuild(self, vectors: Tensor) -> Tensor:
        """Vectors (..., D) -> frames (..., 3, size, size)."""
        return vectors.reshape(*vectors.shape[:-1], COLOURS, self.size, self.size)

    @torch.no_grad()
    def encode(self, frames: Frames) -> Tensor:
        """Frames (T, size, size, 3) uint8 -> tokens (T, D)."""
        return self.vectors(to_tokens(frames))

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Frames:
        """Tokens (T, D) -> frames (T, size, size, 3) uint8."""
        return to_frames(self.rebuild(tokens))


@dataclass(frozen=True)
class PixelPieces:
    """All pieces of equal length in some clips as sequences of tokens (B, T, D); only those asked for are read."""

    segments: Segments
    codec: PixelCodec

    @property
    def condition_size(self) -> int:
        """C of conditions (B, T, C), 0 where nobody knows what was done."""
        return self.segments.action_size

    def draw(self, count: int, generator: Generator) -> Batch:
        """`count` pieces; the same generator draws the same."""
        return self._tokens(self.segments.draw(count, generator))

    def spread(self, count: int) -> Batch:
        """`count` pieces at even distances over all clips: always the same ones, for validation."""
        return self._tokens(self.segments.spread(count))

    def _tokens(self, batch: Batch) -> Batch:
        return replace(batch, tokens=self.codec.vectors(batch.tokens))
