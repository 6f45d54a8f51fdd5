import json
import os

import numpy as np
import pytest

from noiseladder.data.episode_folders import read_episodes
from noiseladder.imitation import FruitSwap, demonstrations as file, demonstrator, fruit_swap
from noiseladder.imitation.demonstrations import (
    Recording,
    demonstrations,
    expected,
    export_lerobot,
    export_zarr,
    jolted,
    live,
    record,
)

pytest.importorskip("mujoco")
pytest.importorskip("ogbench", reason="the arm's files: pip install --no-deps ogbench==1.2.2")


@pytest.fixture(scope="module")
def world():
    try:
        made = FruitSwap(16)
    except OSError as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture
def quick(monkeypatch, world):
    """Recordings in the one world of these tests, of episodes that are over after six steps."""

    class Short:
        def __init__(self, size):
            assert size == 16

        def __getattr__(self, name):
            return getattr(world, name)

        over = property(lambda self: world.steps >= 6)
        succeeded = property(lambda self: world.seed != 2)

        def close(self):
            pass

    monkeypatch.setattr(file, "FruitSwap", Short)


def test_an_episode_pairs_what_was_seen_with_what_was_done_then(world, monkeypatch):
    monkeypatch.setattr(fruit_swap, "TIME_LIMIT", 8)
    episode = live(world, 0, lambda world, seed: iter(np.tile([0.02, 0.0, 0.0, 0.3], (400, 1))))
    assert len(episode) == 8
    assert episode.notes == {"seed": 0, "slots": list(world.slots), "success": False}
    first = world.reset(0)
    np.testing.assert_array_equal(episode.state[0], first.state)
    np.testing.assert_array_equal(episode.pictures["side"][0], first.pictures["side"])
    second = world.step(episode.actions[0])
    np.testing.assert_array_equal(episode.state[1], second.state)
    np.testing.assert_array_equal(episode.pictures["front"][1], second.pictures["front"])


def test_recorded_actions_are_those_that_were_obeyed(world):
    """Replaying a recording, clipped and in float32, leads where the recording led."""
    wild = np.random.default_rng(0).normal(0, 0.05, (12, 4))
    episode = live(world, 1, lambda world, seed: iter(wild))
    assert np.abs(episode.actions[:, :3]).max() <= 0.04 + 1e-7
    assert episode.actions[:, 3].min() >= 0
    end = world.tips
    world.reset(1)
    for action in episode.actions:
        world.step(action)
    np.testing.assert_array_equal(world.tips, end)


def test_a_recording_says_in_which_steps_the_arm_was_jolted(world, monkeypatch):
    monkeypatch.setattr(fruit_swap, "TIME_LIMIT", 60)
    lived, told = [], world.jolt
    monkeypatch.setattr(world, "jolt", lambda shift: (lived.append(world.steps), told(shift)))
    episode = jolted(world, 3)
    assert episode.notes["jolts"] == [step for step in lived if step < 60]
    assert lived
    assert episode.notes["seed"] == 3


def test_a_recording_says_where_the_demonstrator_went_astray(world, monkeypatch):
    """With a hand that always errs: the first grip and the way down to it are noted, what comes after them is not."""
    monkeypatch.setattr(fruit_swap, "TIME_LIMIT", 60)
    monkeypatch.setattr(demonstrator, "CLUMSY", 1.0)
    episode = jolted(world, 4)
    closing = int((episode.actions[:, 3] > 0.5).argmax())
    assert closing in episode.notes["slips"]
    assert closing - 1 in episode.notes["slips"]
    assert closing + 1 not in episode.notes["slips"]
    monkeypatch.setattr(demonstrator, "CLUMSY", 0.0)
    assert jolted(world, 4).notes["slips"] == []


def test_recording_shows_progress_and_goes_on_where_it_stopped(tmp_path, quick):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    recording = Recording(4, size=16)
    steps = list(record(whole, recording))
    assert [(one.done, one.of, one.success) for one in steps] == [
        (1, 4, True),
        (2, 4, True),
        (3, 4, False),
        (4, 4, True),
    ]
    interrupted = record(parts, recording)
    next(interrupted)
    next(interrupted)
    interrupted.close()
    assert len(list(parts.glob("*.npz"))) == 2
    kept = (parts / "episode_00000.npz").stat().st_mtime_ns
    list(record(parts, recording))
    assert (parts / "episode_00000.npz").stat().st_mtime_ns == kept
    for one, two in zip(demonstrations(whole, False), demonstrations(parts, False)):
        np.testing.assert_array_equal(one.actions, two.actions)
        np.testing.assert_array_equal(one.pictures["front"], two.pictures["front"])


def test_failures_are_recorded_and_left_out(tmp_path, quick):
    list(record(tmp_path / "set", Recording(4, size=16)))
    assert [one.notes["seed"] for one in demonstrations(tmp_path / "set")] == [0, 1, 3]
    assert len(list(demonstrations(tmp_path / "set", successes_only=False))) == 4


def test_more_of_the_same_may_be_added_and_others_not(tmp_path, quick):
    folder = tmp_path / "set"
    list(record(folder, Recording(1, size=16)))
    assert [one.done for one in record(folder, Recording(3, size=16))] == [1, 2, 3]
    with pytest.raises(ValueError, match=r"made otherwise .*seed 0"):
        next(record(folder, Recording(3, seed=7, size=16)))
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "letter.txt").write_text("dear reader")
    with pytest.raises(ValueError, match="neither empty nor"):
        next(record(stranger, Recording(1, size=16)))


def test_a_changed_file_is_noticed_and_a_removed_one_made_again(tmp_path, quick):
    folder = tmp_path / "set"
    list(record(folder, Recording(2, size=16)))
    path = folder / "episode_00001.npz"
    before = path.read_bytes()
    path.write_bytes(before[:-1] + b"!")
    with pytest.raises(ValueError, match=r"episode_00001\.npz is not what was written"):
        list(demonstrations(folder))
    path.unlink()
    list(record(folder, Recording(2, size=16)))
    assert len(list(demonstrations(folder))) == 2


def test_a_list_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="record some first"):
        list(demonstrations(tmp_path))
    (tmp_path / "demonstrations.json").write_text(json.dumps({"episodes": {"a": {}}}))
    with pytest.raises(ValueError, match="not a list of demonstrations"):
        list(demonstrations(tmp_path))


def test_exports_come_back_as_what_a_policy_needs(tmp_path, quick):
    pytest.importorskip("zarr")
    pytest.importorskip("pyarrow")
    pytest.importorskip("av")
    folder = tmp_path / "set"
    list(record(folder, Recording(2, size=16)))
    originals = list(demonstrations(folder))
    assert export_lerobot(tmp_path / "lerobot", originals) == 2
    assert export_zarr(tmp_path / "swap.zarr", originals) == 2
    for path in (folder, tmp_path / "lerobot", tmp_path / "swap.zarr"):
        for original, back in zip(originals, read_episodes(path, expected()), strict=True):
            np.testing.assert_array_equal(back.actions, original.actions)
            np.testing.assert_array_equal(back.state, original.state)
            off = np.abs(back.pictures["side"].astype(int) - original.pictures["side"]).mean()
            assert off < (8 if path.name == "lerobot" else 1e-9)


def test_an_export_that_fails_leaves_nothing(tmp_path, quick):
    pytest.importorskip("zarr")
    folder = tmp_path / "set"
    list(record(folder, Recording(2, size=16)))

    def broken():
        yield next(demonstrations(folder))
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        export_zarr(tmp_path / "swap.zarr", broken())
    assert os.listdir(tmp_path) == ["set"]
    export_zarr(tmp_path / "swap.zarr", demonstrations(folder))
    with pytest.raises(ValueError, match="already there"):
        export_zarr(tmp_path / "swap.zarr", demonstrations(folder))


@pytest.mark.slow
def test_three_whole_demonstrations(tmp_path):
    try:
        made = list(record(tmp_path, Recording(3, seed=50, size=32)))
    except OSError as error:
        pytest.skip(str(error))
    assert all(one.success for one in made)
    for one in read_episodes(tmp_path, expected()):
        assert 150 < len(one) < 320
        # The last seconds are rest, but for a hand that trembles: the policy has to learn when it is done.
        assert np.abs(one.actions[-15:, :3]).mean() < 0.005
        assert one.actions[-15:, 3].max() == 0
