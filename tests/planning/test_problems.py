"""One name finds a recording and the world to be judged in; a wrong one gets a hint."""

from pathlib import Path

import numpy as np
import pytest
from walks import pushed

from noiseladder.planning.ogbench import GOAL_RADIUS, PointMaze
from noiseladder.planning.point_mass import PointMass
from noiseladder.planning.problems import REWARD_RADIUS, names, problem
from noiseladder.planning.recordings import arrays


def test_every_name_has_a_world() -> None:
    assert len(names()) == len(set(names())) == 3 + 3 + 2 * 4
    for name in names():
        found = problem(name)
        assert found.name == name
        assert found.world is not None
        assert found.near == (GOAL_RADIUS if name.startswith("ogbench") else REWARD_RADIUS)
        assert (found.norms is None) == name.startswith("ogbench")


def test_multi_means_a_random_goal_in_the_same_maze() -> None:
    single, multi = problem("large").world, problem("multi-large").world
    assert isinstance(single, PointMass)
    assert isinstance(multi, PointMass)
    assert (single.multi, multi.multi) == (False, True)
    assert single.maze == multi.maze
    world = problem("ogbench-giant-stitch").world
    assert isinstance(world, PointMaze)
    assert world.layout.name == "giant"


def test_a_file_is_a_recording_without_a_world(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays(pushed()))
    found = problem(str(path), near=0.3)
    assert (found.name, found.world, found.near, found.norms) == ("mine", None, 0.3, None)
    assert found.recording(None).hash() == pushed().hash()


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(ValueError, match="did you mean medium"):
        problem("meduim")
    with pytest.raises(ValueError, match=r"known are umaze, .* or a .npz"):
        problem("zzz")
