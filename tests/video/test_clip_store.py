"""A store gives back what was written, through memory maps; nothing half-written is ever seen."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from noiseladder.video.clip import Clip, one_hot, write_arrays
from noiseladder.video.store import (
    BEGUN,
    ClipStore,
    Description,
    partial_folder,
    shard_folder,
    sweep_shards,
    whole_store,
    write_shard,
)


def clip(length: int, seed: int = 0, actions: bool = True, size: int = 4) -> Clip:
    generator = np.random.default_rng(seed)
    return Clip(
        generator.integers(0, 256, (length, size, size, 3), dtype=np.uint8),
        generator.random((length, 2), dtype=np.float32) if actions else None,
        generator.random((length, 3), dtype=np.float32),
    )


def same(one: Clip, other: Clip) -> bool:
    return all(
        (a is None) == (b is None) and (a is None or np.array_equal(a, b))
        for a, b in ((one.frames, other.frames), (one.actions, other.actions), (one.poses, other.poses))
    )


@pytest.fixture
def store(tmp_path: Path) -> ClipStore:
    Description((4, 4), ("a", "b"), 10.0, {"seed": 1}).write(tmp_path)
    write_shard(tmp_path, 0, [clip(5, 0), clip(3, 1)])
    write_shard(tmp_path, 1, [clip(7, 2)])
    return ClipStore.open(tmp_path)


def test_what_was_written_comes_back(store: ClipStore) -> None:
    assert len(store) == 3
    assert store.frames == 15
    assert store.lengths.tolist() == [5, 3, 7]
    for number, original in enumerate([clip(5, 0), clip(3, 1), clip(7, 2)]):
        assert same(store[number], original)
    assert same(store.piece(2, 3, 2), clip(7, 2)[3:5])
    assert isinstance(store[0].frames, np.memmap), "read when needed, not before"
    assert not store[0].frames.flags.writeable
    with pytest.raises(IndexError, match="no frames 2 to 5"):
        store.piece(1, 2, 4)
    store.check()


def test_clips_without_actions_or_poses(tmp_path: Path) -> None:
    Description((4, 4)).write(tmp_path)
    bare = Clip(clip(5).frames)
    write_shard(tmp_path, 0, [bare])
    assert same(ClipStore.open(tmp_path)[0], bare)
    with pytest.raises(ValueError, match="must share actions"):
        write_shard(tmp_path, 1, [clip(5), clip(5, actions=False)])
    with pytest.raises(ValueError, match="frames of a size"):
        write_shard(tmp_path, 1, [clip(5), clip(5, size=6)])
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["00000"]


def test_a_partial_shard_is_not_seen_and_is_swept(store: ClipStore, tmp_path: Path) -> None:
    mine = partial_folder(tmp_path, 2)
    write_arrays(mine, [clip(9)])
    dead = mine.with_name(".partial-00003-999999999")
    dead.mkdir()
    assert len(ClipStore.open(tmp_path)) == 3
    sweep_shards(tmp_path)
    assert mine.is_dir(), "its process is alive"
    assert not dead.exists()


def test_a_damaged_file_is_found(store: ClipStore, tmp_path: Path) -> None:
    path = shard_folder(tmp_path, 1) / "frames.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="not what was written"):
        ClipStore.open(tmp_path).check()


def test_one_folder_holds_one_kind_of_clips(store: ClipStore, tmp_path: Path) -> None:
    Description((4, 4), ("a", "b"), 10.0, {"seed": 1}).write(tmp_path)
    with pytest.raises(ValueError, match="another seed"):
        Description((4, 4), ("a", "b"), 10.0, {"seed": 2}).write(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").touch()
    with pytest.raises(ValueError, match="neither empty nor a store"):
        Description((4, 4)).write(tmp_path / "full")
    with pytest.raises(FileNotFoundError, match="not a store"):
        ClipStore.open(tmp_path / "full")
    (tmp_path / "store.json").write_text('{"version": 7}')
    with pytest.raises(ValueError, match="version 7"):
        ClipStore.open(tmp_path)


def test_keys_differ_with_anything() -> None:
    kinds = [
        Description((4, 4)),
        Description((4, 5)),
        Description((4, 4), ("a",)),
        Description((4, 4), rate=2.0),
        Description((4, 4), made_by={"seed": 1}),
    ]
    assert len({kind.key for kind in kinds}) == 5
    assert Description((4, 4)).key == kinds[0].key


def test_split_keeps_clips_apart(store: ClipStore) -> None:
    training, held_out = store.split(0.4)
    assert training.lengths.tolist() == [5, 3]
    assert same(held_out[0], clip(7, 2))
    with pytest.raises(ValueError, match="cannot be held out"):
        training.split(0.5)


@pytest.mark.parametrize(
    ("frames", "rows", "message"),
    [
        (np.zeros((3, 4, 4, 3)), None, "float64"),
        (np.zeros((0, 4, 4, 3), np.uint8), None, "at least 1"),
        (np.zeros((3, 4, 4), np.uint8), None, "RGB"),
        (np.zeros((3, 4, 4, 3), np.uint8), np.zeros((2, 1)), "a row a frame"),
        (np.zeros((3, 4, 4, 3), np.uint8), np.full((3, 1), np.nan), "NaN"),
    ],
)
def test_arrays_that_do_not_belong_together(frames: np.ndarray, rows: np.ndarray | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Clip(frames, rows)


def test_one_hot() -> None:
    assert one_hot(np.array([-1, 2, 0]), 3).tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0]]
    with pytest.raises(ValueError, match="0 to 2"):
        one_hot(np.array([3]), 3)


def test_contents_are_those_of_the_clips_wherever_they_lie(store: ClipStore, tmp_path: Path) -> None:
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert ClipStore.open(tmp_path / "copy").contents == store.contents
    shutil.rmtree(shard_folder(tmp_path / "copy", 1))
    write_shard(tmp_path / "copy", 1, [clip(7, 3)])
    assert ClipStore.open(tmp_path / "copy").contents != store.contents
    (shard_folder(tmp_path / "copy", 1) / "shard.json").write_text("[]")
    with pytest.raises(ValueError, match=r"shard\.json is not what was written: remove .* and collect again"):
        _ = ClipStore.open(tmp_path / "copy").contents


def stopped(folder: Path, description: Description, by: BaseException) -> None:
    """A store with one shard, of a clip of five frames, that was to get more."""
    with whole_store(folder, description):
        write_shard(folder, 0, [clip(5)])
        raise by


def test_a_store_that_has_to_be_whole_is_none_before(tmp_path: Path) -> None:
    folder, one = tmp_path / "store", Description((4, 4), made_by={"source": 1})
    with pytest.raises(KeyboardInterrupt):  # as if it had been killed
        stopped(folder, one, KeyboardInterrupt())
    with pytest.raises(FileNotFoundError, match=f"has no store.json, only the {BEGUN} of one that was stopped"):
        ClipStore.open(folder)
    with whole_store(folder, one):
        assert (shard_folder(folder, 0) / "shard.json").is_file(), "the same goes on"
        write_shard(folder, 1, [clip(3)])
    assert ClipStore.open(folder).lengths.tolist() == [5, 3]
    assert sorted(path.name for path in folder.iterdir()) == ["shards", "store.json"]
    with whole_store(tmp_path / "twice", one):
        with whole_store(tmp_path / "twice", one):  # as another process does, which is faster
            write_shard(tmp_path / "twice", 0, [clip(5)])
        write_shard(tmp_path / "twice", 0, [clip(5)])
    assert ClipStore.open(tmp_path / "twice").lengths.tolist() == [5]
    with pytest.raises(ValueError, match="made with another source"), whole_store(folder, Description((4, 4))):
        raise AssertionError
    with pytest.raises(ValueError, match="mistake"), whole_store(folder, one):
        raise ValueError("mistake")
    assert len(ClipStore.open(folder)) == 2, "what was whole stays"


def test_a_store_that_was_stopped_gives_way_to_another_and_a_refused_one_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        stopped(folder, Description((4, 4), made_by={"source": 1}), KeyboardInterrupt())
    other = Description((4, 4), made_by={"source": 2})
    with whole_store(folder, other):
        assert not shard_folder(folder, 0).exists()
        write_shard(folder, 0, [clip(3)])
    assert ClipStore.open(folder).lengths.tolist() == [3]
    with pytest.raises(ValueError, match="mistake"):
        stopped(tmp_path / "new", other, ValueError("mistake"))
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="neither empty nor a store"), whole_store(tmp_path / "mine", other):
        raise AssertionError
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]
