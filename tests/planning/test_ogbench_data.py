"""The data made anew obeys the recipe: who walks, where to, with what noise, and what is written down."""

import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from noiseladder.planning.ogbench import (
    GIANT,
    LAYOUTS,
    MEDIUM,
    TELEPORT,
    Layout,
    Oracle,
    PointMaze,
    cell_of,
    centre,
)
from noiseladder.planning.ogbench_data import Recipe, crossing_cells, navigate, ogbench_data, record, stitch
from noiseladder.planning.recording_cache import cache_folder, kept
from noiseladder.planning.recordings import Recording, arrays

every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)


def made(steps: Generator[Any, None, Recording]) -> Recording:
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            return finished.value


def episodes(recording: Recording, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Observations, actions, goals and rewards, (episodes, steps, ...)."""
    named = (recording.observations, recording.actions, recording.goals, recording.rewards)
    observation, action, goal, reward = (torch.from_numpy(array).unflatten(0, (count, -1)) for array in named)
    return observation, action, goal, reward


def cells(places: Tensor) -> set[tuple[int, int]]:
    return {(i, j) for i, j in cell_of(places).tolist()}


def test_sizes_are_the_published_ones() -> None:
    assert [(navigate(layout).episodes, navigate(layout).steps) for layout in LAYOUTS.values()] == [
        (1000, 1001),
        (1000, 1001),
        (500, 2001),
        (1000, 1001),
    ]
    assert all((stitch(layout).episodes, stitch(layout).steps) == (5000, 201) for layout in LAYOUTS.values())


def test_crossings_by_hand() -> None:
    """Corners, crossings and dead ends are in; the middles of straight passages are out."""
    layout = Layout("own", ("1111111", "1000001", "1101011", "1101001", "1111111"), ())
    assert crossing_cells(layout) == ((1, 1), (1, 2), (1, 4), (1, 5), (3, 2), (3, 4), (3, 5))


@pytest.mark.parametrize("navigates", [True, False], ids=["navigate", "stitch"])
@every_layout
def test_each_step_follows_from_the_one_before(layout: Layout, navigates: bool) -> None:
    recording = made(record(layout, Recipe(150, 60, navigates)))
    observation, action, goal, reward = episodes(recording, 150)
    assert np.flatnonzero(recording.ends).tolist() == list(range(59, 150 * 60, 60))
    world = PointMaze(layout)
    before, after = observation[:, :-1].flatten(0, 1).double(), observation[:, 1:].flatten(0, 1).double()
    thrown = world.entered(before)
    expected = world.move(before, action[:, :-1].flatten(0, 1).double())
    assert (expected - after)[~thrown].abs().max() < 1e-4
    assert thrown.any() == bool(layout.entrances)
    if layout.entrances:
        exits = centre(torch.tensor(layout.exits))
        left = after[thrown] - 0.2 * action[:, :-1].flatten(0, 1)[thrown]
        to_exit = (left[:, None] - exits).norm(dim=2).min(1)
        assert to_exit.values.max() < 1e-4
        assert to_exit.indices.bincount(minlength=3).min() > 0.15 * thrown.sum()
    near = (observation[:, 1:] - goal[:, :-1]).norm(dim=2)
    sure = (near - 1).abs() > 1e-4
    assert torch.equal((near <= 1)[sure], (reward[:, :-1] == 1)[sure])


@every_layout
def test_actions_are_the_guide_and_noise(layout: Layout) -> None:
    """What is left after the guide's direction is N(0, .5^2) on both axes, where the clip does not hide it."""
    recording = made(record(layout, Recipe(200, 30, True)))
    observation, action, goal = (
        torch.from_numpy(array).double() for array in (recording.observations, recording.actions, recording.goals)
    )
    calm = ~PointMaze(layout).entered(observation)
    direction = Oracle(layout).direction(observation, goal)[calm]
    rest = (action[calm] - direction)[direction.abs() < 0.1]  # clipped as rarely as a standard normal passes two
    assert len(rest) > 1000
    noise = 0.5 * torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    assert rest.std() == pytest.approx(float(noise.clamp(-1, 1).std()), rel=0.05)
    assert abs(float(rest.mean())) < 0.03
    assert action.abs().max() == 1


def test_navigation_goes_to_crossings_one_after_another() -> None:
    observation, _, goal, reward = episodes(made(record(MEDIUM, Recipe(400, 80, True))), 400)
    assert cells(observation[:, 0]) == set(MEDIUM.free)
    assert cells(goal.flatten(0, 1)) == set(crossing_cells(MEDIUM))
    changed = (goal[:, 1:] != goal[:, :-1]).any(2)
    assert torch.equal(changed, reward[:, :-1] == 1)
    assert changed.sum() > 100


def test_stitching_never_goes_further_than_four_cells() -> None:
    observation, _, goal, _ = episodes(made(record(GIANT, Recipe(300, 60, False))), 300)
    assert torch.equal(goal, goal[:, :1].expand_as(goal))
    for start, end in zip(cell_of(observation[:, 0]).tolist(), cell_of(goal[:, 0]).tolist()):
        assert GIANT.distances(tuple(end))[tuple(start)] == 4
    visited = [len(cells(path)) for path in observation]
    assert max(visited) <= 8  # five, and cut corners
    trapped = episodes(made(record(TELEPORT, Recipe(300, 2, False))), 300)
    alone = (cell_of(trapped[0][:, 0]) == torch.tensor((1, 7))).all(1)
    assert alone.any()  # the cell without a way out is its own goal
    assert (cell_of(trapped[2][alone, 0]) == torch.tensor((1, 7))).all()


def test_a_seed_is_a_data_set() -> None:
    recipe = Recipe(20, 40, True)
    first, again, other = (made(record(TELEPORT, recipe, seed)).hash() for seed in (3, 3, 4))
    assert first == again != other
    with pytest.raises(ValueError, match="at least one episode"):
        next(record(MEDIUM, Recipe(0, 40, True)))


def test_made_once(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def ask(seed: int = 0) -> Recording:
        return ogbench_data(MEDIUM, Recipe(5, 20, False), seed, tmp_path, lambda done, of: seen.append((done, of)))

    first = ask()
    assert seen == [(50, 100), (100, 100)]
    assert ask().hash() == first.hash()
    assert len(seen) == 2  # nothing was made
    assert ask(1).hash() != first.hash()
    assert len(seen) == 4
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".json", ".npz", ".npz"]


def test_what_does_not_fit_is_made_again(tmp_path: Path) -> None:
    def make(value: float) -> Generator[tuple[int, int], None, Recording]:
        yield 4, 4
        return Recording(np.full((4, 2), value), np.zeros((4, 2)), np.array([0, 0, 0, 1]))

    def ask(value: float, description: dict[str, Any]) -> float:
        return float(kept(tmp_path, "name", description, lambda: make(value)).observations[0, 0])

    assert ask(1.0, {"rows": ("a", "b")}) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(2.0, {"rows": ("a", "b")}) == 1
    with pytest.warns(UserWarning, match="made from something else"):
        assert ask(3.0, {"rows": ("a", "c")}) == 3
    changed = {**arrays(Recording(np.ones((4, 2)), np.zeros((4, 2)), np.array([0, 0, 0, 1])))}
    np.savez(tmp_path / "name.npz", **changed)
    with pytest.warns(UserWarning, match="does not fit the hash"):
        assert ask(4.0, {"rows": ("a", "c")}) == 4
    (tmp_path / "name.npz").write_bytes(b"PK\x03\x04")
    with pytest.warns(UserWarning, match="no whole"):
        assert ask(5.0, {"rows": ("a", "c")}) == 5
    (tmp_path / "name.json").unlink()  # killed before the description was written
    assert ask(6.0, {"rows": ("a", "c")}) == 6


def test_the_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISELADDER_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere"
    assert cache_folder(tmp_path) == tmp_path
    monkeypatch.delenv("NOISELADDER_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "noiseladder"
