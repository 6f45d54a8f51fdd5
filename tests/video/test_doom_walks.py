"""Doom walks: same seed same frames, poses that move as the actions say, killed collections that go on."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from noiseladder.video.clip import Clip
from noiseladder.video.collect import Collected, collect_doom, default_folder, doom_store
from noiseladder.video.doom import DoomOptions, Map, record
from noiseladder.video.doom_explorer import FORWARD, TURN_LEFT, TURN_RIGHT
from noiseladder.video.doom_maps import MazeOptions
from noiseladder.video.resize import shrink
from noiseladder.video.store import ClipStore, shard_folder

needs_vizdoom = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import vizdoom"], capture_output=True).returncode != 0,
    reason="needs the extra video",
)
SMALL = DoomOptions(frames=40, maze=MazeOptions(rooms=3))


def walk(options: DoomOptions, episodes: list[int], folder: Path) -> list[Clip]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        return [clip for _, clip in record(options, episodes)]
    finally:
        os.chdir(before)


def test_shrinking_takes_the_mean_of_the_middle_square() -> None:
    screen = np.zeros((120, 160, 3), np.uint8)
    screen[:, :20] = screen[:, 140:] = 255  # outside the square
    screen[0:2, 20:21] = 100
    small = shrink(screen, 60)
    assert small.shape == (60, 60, 3)
    assert small[0, 0].tolist() == [50, 50, 50]
    assert small.sum() == 150
    assert shrink(screen[:, 20:140], 64).shape == (64, 64, 3)
    assert np.array_equal(shrink(screen, 120), screen[:, 20:140])
    with pytest.raises(ValueError, match="160x120, expected at least 121x121"):
        shrink(screen, 121)


@needs_vizdoom
@pytest.mark.parametrize("kind", list(Map))
def test_actions_move_the_pose_as_they_say(kind: Map, tmp_path: Path) -> None:
    (clip,) = walk(DoomOptions(map=kind, frames=120, seed=2), [3], tmp_path)
    assert clip.frames.shape == (120, 64, 64, 3)
    assert clip.actions is not None
    assert clip.poses is not None
    assert clip.frames.std() > 10, "not a black screen"
    assert clip.actions[0].tolist() == [0, 0, 0]
    assert (clip.actions[1:].sum(1) == 1).all()
    action = clip.actions.argmax(1)[1:]
    turned = (np.diff(clip.poses[:, 2]) + 180) % 360 - 180
    assert np.abs(turned[action == TURN_LEFT] - 15).max() < 0.1
    assert np.abs(turned[action == TURN_RIGHT] + 15).max() < 0.1
    assert np.abs(turned[action == FORWARD]).max() < 0.01
    moved = np.hypot(*np.diff(clip.poses[:, :2], axis=0).T)
    assert moved[action == FORWARD].mean() > 10
    assert moved.max() < 60, "no jump: no cut inside a clip"


@needs_vizdoom
def test_the_frames_depend_on_the_seed_and_the_number_of_the_episode_alone(tmp_path: Path) -> None:
    both = walk(SMALL, [0, 5], tmp_path)
    alone = walk(SMALL, [5], tmp_path)
    assert np.array_equal(both[1].frames, alone[0].frames)
    assert np.array_equal(both[1].poses, alone[0].poses)
    assert not np.array_equal(both[0].frames, both[1].frames)
    other = walk(DoomOptions(frames=40, maze=MazeOptions(rooms=3), seed=1), [5], tmp_path)
    assert not np.array_equal(other[0].frames, alone[0].frames)


@needs_vizdoom
def test_who_stands_where_he_stood_sees_what_he_saw(tmp_path: Path) -> None:
    """The world is consistent: after a full turn on the spot, the first frame comes back (to a tenth of a degree)."""
    (clip,) = walk(DoomOptions(frames=500, map=Map.MY_WAY_HOME, seed=1), [0], tmp_path)
    assert clip.poses is not None
    x, y, heading = clip.poses.T.astype(float)
    near = (np.hypot(x - x[:, None], y - y[:, None]) < 0.5) & (
        np.abs((heading - heading[:, None] + 180) % 360 - 180) < 1
    )
    early, late = np.nonzero(np.triu(near, 20))
    assert len(early) > 3, "a walk comes back"
    frames = clip.frames.astype(float)
    again = np.abs(frames[early] - frames[late]).mean()
    other = np.abs(frames[early] - frames[(late + 250) % 500]).mean()
    assert again < 0.25 * other


@needs_vizdoom
def test_a_killed_collection_goes_on_to_the_same_store(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from noiseladder.video.collect import collect_doom
from noiseladder.video.doom import DoomOptions
from noiseladder.video.doom_maps import MazeOptions
for progress in collect_doom(Path({str(tmp_path / "killed")!r}), {SMALL!r}, 8, 1):
    print(progress.shards_done, flush=True)
""".replace("<Map.MAZES: 'mazes'>", "DoomOptions().map")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "1":
                break
        time.sleep(0.2)  # inside the second shard
        process.kill()
    kept = (shard_folder(tmp_path / "killed", 0) / "shard.json").stat().st_mtime_ns
    resumed = list(collect_doom(tmp_path / "killed", SMALL, 8, 1))
    assert resumed[0] == Collected(1, 2, 160, 0, 0.0)
    assert resumed[-1].shards_done == 2
    assert resumed[-1].new_frames == 160
    assert (shard_folder(tmp_path / "killed", 0) / "shard.json").stat().st_mtime_ns == kept
    assert not list((tmp_path / "killed" / "shards").glob(".*"))
    whole = doom_store(tmp_path / "whole", SMALL, 8)
    for number in range(2):
        name = "shard.json"  # with the hash of every file
        assert (shard_folder(tmp_path / "killed", number) / name).read_text() == (
            shard_folder(tmp_path / "whole", number) / name
        ).read_text()
    whole.check()
    assert whole.frames == 320
    with pytest.raises(ValueError, match="another seed"):
        list(collect_doom(tmp_path / "whole", DoomOptions(frames=40, maze=MazeOptions(rooms=3), seed=9), 4))


FAKE_ENGINE = """
import os, sys, types
from pathlib import Path
import numpy as np
class Names:
    def __getattr__(self, name): return name
ScreenResolution = ScreenFormat = GameVariable = Button = Mode = Names()
class Line: x1, y1, x2, y2, is_blocking = 0, 0, 500, 0, True
class Other: x1, y1, x2, y2, is_blocking = 500, 500, 0, 500, True
class DoomGame:
    def __getattr__(self, name): return lambda *arguments: None
    def init(self):
        tries = Path(os.environ["TRIES"])
        with tries.open("a") as file: file.write("x")
        if len(tries.read_text()) <= int(os.environ["FAILS"]):
            print("the engine is not well", file=sys.stderr, flush=True)
            os.abort()
    def is_episode_finished(self): return False
    def get_state(self):
        sector = types.SimpleNamespace(lines=[Line, Other])
        return types.SimpleNamespace(sectors=[sector], objects=[], game_variables=[100.0, 250.0, 0.0],
                                     screen_buffer=np.zeros((120, 160, 3), np.uint8))
    def close(self): os.abort()
"""


@pytest.fixture
def fake_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "vizdoom.py").write_text(FAKE_ENGINE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    monkeypatch.syspath_prepend(tmp_path / "fake")
    monkeypatch.setenv("TRIES", str(tmp_path / "tries"))
    yield tmp_path
    shutil.rmtree(tmp_path / "fake")


def test_an_engine_that_dies_when_closed_does_no_harm_and_one_that_dies_before_is_tried_again(
    fake_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in aborts its process whenever it is closed, and the first time also before it starts."""
    monkeypatch.setenv("FAILS", "1")
    assert list(collect_doom(fake_engine / "store", SMALL, 4, 1))[-1].shards_done == 1
    assert ClipStore.open(fake_engine / "store").frames == 160
    assert (fake_engine / "tries").read_text() == "xx"


def test_an_engine_that_always_dies_is_reported_with_its_last_words(
    fake_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS", "99")
    with pytest.raises(OSError, match=r"failed 3 times on shard 0: .*the engine is not well"):
        list(collect_doom(fake_engine / "store", SMALL, 4, 1))
    assert not list((fake_engine / "store" / "shards").iterdir())


def test_the_cache_has_a_folder_for_each_set_of_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOISELADDER_CACHE", str(tmp_path))
    folders = {default_folder(DoomOptions(seed=seed, size=size)) for seed in (0, 1) for size in (64, 128)}
    assert len(folders) == 4
    assert all(folder.is_relative_to(tmp_path) for folder in folders)


@pytest.mark.parametrize("mistake", [{"size": 8}, {"size": 1000}, {"frames": 1}])
def test_impossible_walks_are_refused(mistake: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        DoomOptions(**mistake)


def test_without_vizdoom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("noiseladder.video.doom.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"noiseladder\[video\]"):
        list(collect_doom(tmp_path / "store", SMALL, 1))
    assert not (tmp_path / "store").exists()
