import json
from pathlib import Path

import numpy as np
import pytest
import torch

from noiseladder.planning.maze import MAZES, MEDIUM, UMAZE, layout
from noiseladder.planning.maze_data import cache_path, maze_data, record
from noiseladder.planning.point_mass import PointMass
from noiseladder.planning.recordings import Recording

# Mean x, y; standard deviation x, y, vx, vy; of the two actions: of D4RL's published files.
PUBLISHED = {
    "umaze": (1.933, 2.375, 0.900, 0.709, 2.213, 2.468, 0.704, 0.751),
    "medium": (3.509, 3.477, 1.337, 1.521, 2.341, 2.369, 0.740, 0.746),
    "large": (3.730, 5.305, 1.807, 2.569, 2.437, 2.649, 0.725, 0.739),
}


def made(name: str, steps: int, seed: int = 0) -> Recording:
    walk = record(MAZES[name], steps, seed)
    while True:
        try:
            next(walk)
        except StopIteration as finished:
            return finished.value


@pytest.mark.slow
@pytest.mark.parametrize("name", MAZES)
def test_statistics_are_the_published_ones(name: str) -> None:
    recording = made(name, {"umaze": 500_000, "medium": 1_000_000, "large": 1_000_000}[name])
    found = [*recording.observations[:, :2].mean(0), *recording.observations.std(0), *recording.actions.std(0)]
    np.testing.assert_allclose(found, PUBLISHED[name], rtol=0.02)


def test_each_row_leads_to_the_next_but_at_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noiseladder.planning.maze_data.SHORTEST_WALK", 500)
    recording = made("medium", 19_900)
    assert len(recording) == 19_900
    assert np.flatnonzero(recording.ends).tolist() == [*range(510, 19_900, 511), 19_899]
    world = PointMass(MEDIUM)
    observations, actions = (torch.from_numpy(part).double() for part in (recording.observations, recording.actions))
    after = world.step(observations[:-1], actions[:-1])
    wrong = ((after - observations[1:]).abs() > 1e-4).any(1)
    assert np.array_equal(wrong.numpy(), recording.ends[:-1])
    assert recording.rewards is not None
    assert recording.goals is not None
    goal = torch.tensor(MEDIUM.goal).expand(len(after), 2)
    assert np.array_equal(world.reward(after, goal).numpy(), recording.rewards[:-1])
    # The demonstrator gets to its own goals: a new one about every 160 steps.
    new = (np.diff(recording.goals, axis=0) != 0).any(1) & ~recording.ends[:-1]
    assert 110 < len(recording) / new.sum() < 220
    place = np.linalg.norm(recording.observations[:-1, :2] - recording.goals[:-1].round(), axis=1)[new]
    assert (place < 0.1).mean() > 0.95
    assert np.abs(recording.actions).max() == 1


def test_seeds() -> None:
    assert made("umaze", 300, seed=1).hash() == made("umaze", 300, seed=1).hash()
    assert made("umaze", 300, seed=1).hash() != made("umaze", 300, seed=2).hash()
    with pytest.raises(ValueError, match="at least 2"):
        next(record(UMAZE, 1))


def test_progress_is_shown() -> None:
    told: list[int] = []
    walk = record(UMAZE, 1000)
    told.extend(walk)
    assert told[-1] == 1000
    assert told == sorted(told)
    assert len(told) == 10


def test_the_cache_is_written_once_and_named_by_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISELADDER_CACHE", str(tmp_path / "cache"))
    told: list[tuple[int, int]] = []
    first = maze_data(UMAZE, 400, 3, watch=lambda done, steps: told.append((done, steps)))
    assert told[-1] == (400, 400)
    path = cache_path(UMAZE, 400, 3)
    assert path.parent == tmp_path / "cache"
    assert sorted(file.name for file in path.parent.iterdir()) == sorted([path.name, path.with_suffix(".json").name])
    description = json.loads(path.with_suffix(".json").read_text())
    assert description["seed"] == 3
    assert description["sha256"] == first.hash()
    written = path.stat().st_mtime_ns
    again = maze_data(UMAZE, 400, 3, watch=lambda done, steps: pytest.fail("made again"))
    assert again.hash() == first.hash()
    assert path.stat().st_mtime_ns == written
    other = layout("|".join(UMAZE.rows).replace("G", "O"), "umaze")
    assert len({cache_path(maze, steps, seed) for maze in (UMAZE, other) for steps in (1, 2) for seed in (1, 2)}) == 8


@pytest.mark.parametrize("harm", ["cut", "changed", "description"])
def test_a_damaged_cache_is_noticed_and_made_again(tmp_path: Path, harm: str) -> None:
    first = maze_data(UMAZE, 300, folder=tmp_path)
    path = cache_path(UMAZE, 300, 0, tmp_path)
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif harm == "changed":
        np.savez(path, observations=first.observations + 1, actions=first.actions, ends=first.ends)
    else:
        path.with_suffix(".json").write_text("{}")
    with pytest.warns(UserWarning, match="damaged"):
        assert maze_data(UMAZE, 300, folder=tmp_path).hash() == first.hash()
    assert maze_data(UMAZE, 300, folder=tmp_path).hash() == first.hash()


def test_arrays_without_a_description_are_half_written(tmp_path: Path) -> None:
    first = maze_data(UMAZE, 300, folder=tmp_path)
    path = cache_path(UMAZE, 300, 0, tmp_path)
    path.with_suffix(".json").unlink()
    path.write_bytes(b"")
    assert maze_data(UMAZE, 300, folder=tmp_path).hash() == first.hash()
