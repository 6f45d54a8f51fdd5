"""Doom as something to play: the same actions lead to the same frames, also after going back."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from noiseladder.video.doom import DoomOptions, Map
from noiseladder.video.true_doom import TrueDoom

pytestmark = pytest.mark.skipif(find_spec("vizdoom") is None, reason="needs the extra video")

PLAN = [2, 2, 2, 0, 0, 2, 1, 2, 2, 1, 1, 2]


@pytest.fixture(scope="module", params=[Map.MY_WAY_HOME, Map.MAZES])
def world(request: pytest.FixtureRequest) -> Iterator[TrueDoom]:
    with TrueDoom(DoomOptions(map=request.param, size=64)) as running:
        yield running


def walk(world: TrueDoom, plan: list[int]) -> list[np.ndarray]:
    return [world.step(action) for action in plan]


def test_a_walk_is_its_seed_and_its_actions(world: TrueDoom) -> None:
    start = world.opening(5)
    first = walk(world, PLAN)
    assert first[0].shape == (64, 64, 3)
    assert (first[0] != first[-1]).any()
    np.testing.assert_array_equal(world.reset(start.frames, start.actions, 5), start.frames[-1])
    for frame, again in zip(first, walk(world, PLAN)):
        np.testing.assert_array_equal(frame, again)
    assert (world.opening(6).frames != start.frames).any()


def test_going_back_is_walking_there_again(world: TrueDoom) -> None:
    world.opening(5)
    walk(world, PLAN[:5])
    moment = world.snapshot()
    rest = walk(world, PLAN[5:])
    other = walk(world, [0, 0, 0])
    world.restore(moment)
    assert world.snapshot() is moment
    assert moment.actions() == PLAN[:5]
    for frame, again in zip(rest, walk(world, PLAN[5:])):
        np.testing.assert_array_equal(frame, again)
    assert (other[0] != rest[0]).any()


def test_mistakes_are_one_sentence_and_change_nothing(world: TrueDoom) -> None:
    world.opening(5)
    walk(world, PLAN[:2])
    here = world.snapshot()
    for action in (3, -1, True):
        with pytest.raises(ValueError, match="unknown action"):
            world.step(action)
    assert world.snapshot() is here


def test_nothing_is_left_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with TrueDoom(DoomOptions(map=Map.MY_WAY_HOME)) as world:
        with pytest.raises(ValueError, match="not begun"):
            world.step(0)
        world.opening(1)
        world.step(2)
    assert not list(tmp_path.iterdir())
