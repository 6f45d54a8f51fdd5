"""Pixels as tokens: nothing is lost on the way there and back, and pieces are those of the segments."""

import numpy as np
import pytest
import torch
from torch import Generator

from noiseladder.video.clip import Clip
from noiseladder.video.pixels import PixelCodec, PixelPieces
from noiseladder.video.segments import ClipList, Segments, to_tokens


def test_every_frame_comes_back_to_the_last_pixel() -> None:
    frames = np.arange(256 * 3 * 16 * 16).reshape(-1, 16, 16, 3).astype(np.uint8)
    frames[:, 3, 5, 1] = np.arange(len(frames))  # every value, at a place of its own
    codec = PixelCodec(16)
    tokens = codec.encode(frames)
    assert tokens.shape == (len(frames), *codec.token_shape) == (256, 768)
    assert np.array_equal(codec.decode(tokens), frames)
    assert (tokens.min().item(), tokens.max().item()) == (-1.0, 1.0)


def test_a_token_is_a_picture_with_its_colours_outermost() -> None:
    """As the convolutional network reads it."""
    codec, frames = PixelCodec(4), np.zeros((1, 4, 4, 3), np.uint8)
    frames[0, 1, 2, 2] = 255
    token = codec.encode(frames)
    assert token[0].argmax() == 2 * 16 + 1 * 4 + 2
    assert torch.equal(codec.rebuild(token[None])[0], to_tokens(frames))


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frames have shape \(2, 3, 8, 8\), expected \(\.\.\., 3, 4, 4\)"):
        PixelCodec(4).encode(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="size is 0, expected at least 1"):
        PixelCodec(0)


def test_pieces_are_segments_as_tokens() -> None:
    generator = np.random.default_rng(0)
    clips = [
        Clip(generator.integers(256, size=(length, 4, 4, 3), dtype=np.uint8), np.eye(length, 2, dtype=np.float32))
        for length in (5, 7)
    ]
    segments, codec = Segments(ClipList(clips), 3), PixelCodec(4)
    pieces = PixelPieces(segments, codec)
    assert pieces.condition_size == 2
    for mine, theirs in (
        (pieces.draw(6, Generator().manual_seed(0)), segments.draw(6, Generator().manual_seed(0))),
        (pieces.spread(4), segments.spread(4)),
    ):
        assert torch.equal(mine.tokens, theirs.tokens.flatten(2))
        assert mine.condition is not None
        assert theirs.condition is not None
        assert torch.equal(mine.condition, theirs.condition)
    assert PixelPieces(Segments(ClipList([Clip(clips[0].frames)]), 3), codec).condition_size == 0
