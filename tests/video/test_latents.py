"""Vectors of a store: what the codec makes of every frame, encoded once, cut like the clips are."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from noiseladder.video.clip import Clip, Frames
from noiseladder.video.latents import Latents, Pieces, encode_store
from noiseladder.video.store import ClipStore, Description, write_shard


@dataclass
class Mean:
    """A codec that keeps the mean of the upper and the lower half."""

    size: int = 4
    token_shape: tuple[int, ...] = (2,)
    encoded: int = 0

    def encode(self, frames: Frames) -> Tensor:
        self.encoded += len(frames)
        return torch.from_numpy(frames.reshape(len(frames), 2, -1).mean(-1)).float()

    def decode(self, tokens: Tensor) -> Frames:
        raise NotImplementedError


def numbered(length: int, first: int) -> Clip:
    """Every pixel of frame t is first + t, and so is the action that led there."""
    numbers = np.arange(first, first + length)
    frames = np.broadcast_to(numbers[:, None, None, None], (length, 4, 4, 3)).astype(np.uint8)
    return Clip(frames, numbers[:, None].astype(np.float32))


def store(folder: Path) -> ClipStore:
    Description((4, 4), ("go",)).write(folder)
    write_shard(folder, 0, [numbered(5, 0), numbered(2, 50)])
    write_shard(folder, 1, [numbered(3, 100)])
    return ClipStore.open(folder)


def test_every_frame_is_encoded_once_and_never_again(tmp_path: Path) -> None:
    codec, told = Mean(), []
    found = encode_store(store(tmp_path / "store"), codec, tmp_path / "vectors", lambda *done: told.append(done))
    assert found.tokens.dtype == torch.float16
    assert found.tokens[:, 0].tolist() == [0, 1, 2, 3, 4, 50, 51, 100, 101, 102]
    assert found.lengths == (5, 2, 3)
    assert found.token_size == 2
    assert codec.encoded == 10
    assert told == [(1, 2), (2, 2)]
    (tmp_path / "vectors" / "00001.npy").unlink()  # as if it had been killed
    again = encode_store(store(tmp_path / "store"), codec, tmp_path / "vectors")
    assert torch.equal(again.tokens, found.tokens)
    assert codec.encoded == 13
    np.save(tmp_path / "vectors" / "00001.npy", np.zeros((3, 2), np.float16))  # as if it had been damaged
    mended = encode_store(store(tmp_path / "store"), codec, tmp_path / "vectors")
    assert torch.equal(mended.tokens, found.tokens)
    assert codec.encoded == 16


def test_vectors_are_those_of_the_frames_whatever_a_store_says_of_itself(tmp_path: Path) -> None:
    codec, stores = Mean(), []
    for number in range(2):
        Description((4, 4), ("go",)).write(tmp_path / f"{number}")
        write_shard(tmp_path / f"{number}", 0, [numbered(5, 100 * number)])
        stores.append(ClipStore.open(tmp_path / f"{number}"))
    assert stores[0].description.key == stores[1].description.key
    assert stores[0].contents != stores[1].contents
    for store_ in (*stores, stores[0]):
        found = encode_store(store_, codec, tmp_path / "vectors")
        assert found.tokens[:, 0].tolist() == [frames[0, 0, 0] for frames in store_[0].frames]
    assert codec.encoded == 15


def test_vectors_of_before_there_were_hashes_stay_where_they_are_right(tmp_path: Path) -> None:
    found = encode_store(store(tmp_path / "store"), Mean(), tmp_path / "vectors")
    for wrong in (None, np.zeros((5, 2), np.float16), np.zeros((7, 2), np.float16), np.zeros((7, 3), np.float16)):
        for note in (tmp_path / "vectors").glob("*.json"):
            note.unlink()
        if wrong is not None:
            np.save(tmp_path / "vectors" / "00000.npy", wrong)
        before = (tmp_path / "vectors" / "00000.npy").stat().st_mtime_ns
        assert torch.equal(encode_store(store(tmp_path / "store"), Mean(), tmp_path / "vectors").tokens, found.tokens)
        assert ((tmp_path / "vectors" / "00000.npy").stat().st_mtime_ns == before) == (wrong is None)
        codec = Mean()
        encode_store(store(tmp_path / "store"), codec, tmp_path / "vectors")
        assert codec.encoded == 0, "what was looked at once is not looked at again"


def test_pieces_lie_within_clips_and_each_is_as_likely(tmp_path: Path) -> None:
    found = encode_store(store(tmp_path / "store"), Mean(), tmp_path / "vectors")
    pieces = Pieces(found, 3)
    assert pieces.starts.tolist() == [0, 1, 2, 7]
    batch = pieces.draw(400, Generator().manual_seed(0))
    assert batch.tokens.shape == (400, 3, 2)
    assert batch.tokens.dtype == torch.float32
    assert batch.condition is not None
    assert torch.equal(batch.tokens[..., 0], batch.condition[..., 0])
    assert bool((batch.tokens.diff(dim=1) == 1).all()), "no cut inside a piece"
    firsts, counts = batch.tokens[:, 0, 0].unique(return_counts=True)
    assert firsts.tolist() == [0, 1, 2, 100]
    assert counts.min() > 70
    assert torch.equal(
        pieces.draw(5, Generator().manual_seed(3)).tokens, pieces.draw(5, Generator().manual_seed(3)).tokens
    )
    assert pieces.spread(2).tokens[:, 0, 0].tolist() == [0, 100]
    with pytest.raises(ValueError, match="no clip is 6 frames long, the longest has 5"):
        Pieces(found, 6).draw(1, Generator())
    with pytest.raises(ValueError, match="there are none"):
        Latents(torch.zeros(0, 2), None, ()).starts(1)
