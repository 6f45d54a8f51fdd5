"""Segments: every piece is as likely as any other, and is what the clip holds there."""

import numpy as np
import pytest
import torch
from torch import Generator

from noiseladder.video.clip import Clip
from noiseladder.video.segments import ClipList, Segments, to_frames, to_tokens


def numbered(length: int, first: int, actions: bool = True) -> Clip:
    """Every pixel of frame t is first + t, and so is the action that led there."""
    numbers = np.arange(first, first + length)
    frames = np.broadcast_to(numbers[:, None, None, None], (length, 4, 6, 3)).astype(np.uint8)
    return Clip(frames, numbers[:, None].astype(np.float32) if actions else None)


CLIPS = ClipList([numbered(5, 0), numbered(2, 50), numbered(3, 100)])


def test_all_segments_in_order() -> None:
    segments = Segments(CLIPS, 3)
    assert len(segments) == 4
    assert [segments[number].frames[:, 0, 0, 0].tolist() for number in range(4)] == [
        [0, 1, 2], [1, 2, 3], [2, 3, 4], [100, 101, 102]
    ]  # fmt: skip
    with pytest.raises(IndexError, match="no segment 4"):
        segments[4]
    assert len(Segments(CLIPS, 2)) == 4 + 1 + 2


def test_frames_and_actions_stay_together() -> None:
    batch = Segments(CLIPS, 3).draw(64, Generator().manual_seed(0))
    assert batch.tokens.shape == (64, 3, 3, 4, 6)
    assert batch.condition is not None
    assert batch.condition.shape == (64, 3, 1)
    shown = to_frames(batch.tokens)[:, :, 0, 0, 0]
    assert np.array_equal(shown, batch.condition[..., 0].numpy())
    assert (np.diff(shown.astype(int), axis=1) == 1).all(), "no cut inside a segment"


def test_each_is_as_likely_and_the_same_generator_draws_the_same() -> None:
    segments = Segments(CLIPS, 3)
    first = to_frames(segments.draw(4000, Generator().manual_seed(1)).tokens)[:, 0, 0, 0, 0]
    values, counts = np.unique(first, return_counts=True)
    assert values.tolist() == [0, 1, 2, 100]
    assert np.abs(counts - 1000).max() < 5 * 27.4  # five standard deviations of a binomial
    again = to_frames(segments.draw(4000, Generator().manual_seed(1)).tokens)[:, 0, 0, 0, 0]
    assert np.array_equal(first, again)


def test_validation_is_spread_over_everything() -> None:
    shown = to_frames(Segments(CLIPS, 3).spread(4).tokens)[:, 0, 0, 0, 0]
    assert shown.tolist() == [0, 1, 2, 100]
    assert to_frames(Segments(CLIPS, 3).spread(2).tokens)[:, 0, 0, 0, 0].tolist() == [0, 100]


def test_without_actions_there_is_no_condition() -> None:
    assert Segments(ClipList([numbered(4, 0, actions=False)]), 2).draw(3, Generator()).condition is None
    assert Segments(ClipList([numbered(4, 0, actions=False)]), 2).action_size == 0
    assert Segments(CLIPS, 2).action_size == 1
    with pytest.raises(ValueError, match="others have none"):
        Segments(ClipList([numbered(2, 0), numbered(2, 0, actions=False)]), 2).batch([0, 1])


def test_clips_that_are_too_short() -> None:
    with pytest.raises(ValueError, match="longest has 5 frames; use shorter"):
        Segments(CLIPS, 6)
    with pytest.raises(ValueError, match="no clips"):
        Segments(ClipList([]), 1)
    with pytest.raises(ValueError, match="length is 0"):
        Segments(CLIPS, 0)


def test_tokens_and_back() -> None:
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    tokens = to_tokens(frames)
    assert tokens.shape == (3, 16, 16)
    assert (tokens.min(), tokens.max()) == (-1, 1)
    assert np.array_equal(to_frames(tokens), frames)
    assert to_frames(torch.full((3, 2, 2), 7.0)).max() == 255
    with pytest.raises(ValueError, match="blown up"):
        to_frames(torch.full((3, 2, 2), torch.nan))
