"""OGBench's mazes move as OGBench's own environments do, at walls too, and episodes are what its protocol says."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from noiseladder.planning.evaluation import evaluate, live
from noiseladder.planning.ogbench import (
    GIANT,
    LARGE,
    LAYOUTS,
    MEDIUM,
    TELEPORT,
    Layout,
    Oracle,
    PointMaze,
    cell_of,
    centre,
)
from noiseladder.planning.world import seeded

every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)


@pytest.fixture(scope="module")
def theirs() -> Iterator[Any]:
    """The wheel's maze environments alone: its package would import robots whose libraries need not be there."""
    pytest.importorskip("mujoco")
    pytest.importorskip("gymnasium")
    found = find_spec("ogbench")
    if found is None or found.origin is None:
        pytest.skip("needs the wheel ogbench")
    package = ModuleType("ogbench")
    package.__path__ = [str(Path(found.origin).parent)]
    package.__spec__ = found  # others may ask where the wheel lies while this stands in for it
    before = set(sys.modules)
    sys.modules["ogbench"] = package
    yield importlib.import_module("ogbench.locomaze.maze")
    for name in [name for name in set(sys.modules) - before if name.startswith("ogbench")]:
        del sys.modules[name]


def their_maze(theirs: Any, layout: Layout, **options: Any) -> Any:
    environment = theirs.make_maze_env("point", "maze", maze_type=layout.name, **options)
    environment.reset(options={"task_id": 1})
    return environment


@every_layout
def test_mazes_and_tasks_are_theirs(theirs: Any, layout: Layout) -> None:
    environment = their_maze(theirs, layout)
    assert np.array_equal(environment.maze_map == 1, layout.walls.numpy())
    assert [(task["init_ij"], task["goal_ij"]) for task in environment.task_infos] == list(layout.tasks)
    assert [task["init_xy"] for task in environment.task_infos] == [
        tuple(centre(torch.tensor(start)).tolist()) for start, _ in layout.tasks
    ]
    if layout.entrances:
        assert tuple(environment._teleport_info["teleport_in_ijs"]) == layout.entrances
        assert tuple(environment._teleport_info["teleport_out_ijs"]) == layout.exits


@every_layout
def test_every_step_is_theirs(theirs: Any, layout: Layout) -> None:
    """Walks that lean into walls: one step from each of their positions, off contact, at walls and in corners."""
    environment = their_maze(theirs, layout, terminate_at_goal=False)
    chance = np.random.default_rng(0)
    before, actions, after = [], [], []
    for _ in range(6):
        cell = torch.tensor(layout.free[chance.integers(len(layout.free))])
        environment.set_xy(centre(cell).numpy() + chance.uniform(-1, 1, 2))
        lean = chance.uniform(-1, 1, 2)
        for _ in range(40):
            actions.append(np.clip(lean + 0.6 * chance.standard_normal(2), -1, 1))
            before.append(environment.get_xy())
            after.append(environment.step(actions[-1])[0])
    start, action, end = (torch.from_numpy(np.array(rows)) for rows in (before, actions, after))
    world = PointMaze(layout)
    apart = (world.move(start, action) - end).abs().amax(1)
    touched = world.contact(start + 0.2 * action)
    assert 20 < touched.sum() < len(start) - 20
    assert apart[~touched].median() < 1e-6
    assert apart.max() < 1e-9
    assert ((start + 0.2 * action - end).abs().amax(1)[touched] > 1e-6).float().mean() > 0.9  # the walls did something
    single = world.move(start.float(), action.float())
    assert (single - end).abs().max() < 1e-4  # seven digits are enough


def test_being_thrown_is_seen_one_step_late(theirs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their observation shows the entrance, their next one the way from an exit; ours are the same."""
    environment = their_maze(theirs, TELEPORT, terminate_at_goal=False)
    environment.set_xy(centre(torch.tensor((4, 6))).numpy() + np.array([0, -1.6]))
    down = np.array([0.3, 1.0])
    exit_number = 2
    monkeypatch.setattr(theirs.np.random, "randint", lambda count: exit_number)
    seen = [environment.step(down)[0] for _ in range(4)]
    world = PointMaze(TELEPORT, dtype=torch.float64)
    monkeypatch.setattr(torch, "randint", lambda count, shape, generator: torch.tensor(exit_number))
    ours = [centre(torch.tensor((4, 6)))[None] + torch.tensor([[0.0, -1.6]], dtype=torch.float64)]
    for _ in range(4):
        ours.append(world.step(ours[-1], torch.from_numpy(down)[None], seeded([0])))
    assert np.abs(torch.cat(ours[1:]).numpy() - np.array(seen)).max() < 1e-9
    assert [world.entered(each).item() for each in ours] == [False, True, False, False, False]
    assert cell_of(ours[2]).tolist() == [[6, 10]]


def test_exits_are_equally_likely_and_a_seed_decides() -> None:
    world = PointMaze(TELEPORT)
    inside = centre(torch.tensor((5, 1))).float().repeat(3000, 1)
    left = cell_of(world.leave(inside, seeded(range(3000))))
    counts = [(left == torch.tensor(cell)).all(1).sum().item() for cell in TELEPORT.exits]
    assert sum(counts) == 3000
    assert max(abs(count - 1000) for count in counts) < 100  # four standard deviations
    assert torch.equal(cell_of(world.leave(inside[:1], seeded([77])))[0], left[77])
    with pytest.raises(ValueError, match="one generator a row"):
        world.step(inside, torch.zeros_like(inside))


@every_layout
def test_starts_and_goals_lie_around_the_tasks_cells(layout: Layout) -> None:
    for task, (start, goal) in enumerate(layout.tasks, 1):
        found = PointMaze(layout, task, torch.float64).start(seeded(range(200)))
        for places, cell in ((found.observation, start), (found.goal, goal)):
            off = places - centre(torch.tensor(cell))
            assert 0.97 < off.abs().max() <= 1
            assert off.mean(0).abs().max() < 4 * (1 / 3) ** 0.5 / 200**0.5
        assert not torch.equal(found.observation - found.goal, (found.observation - found.goal)[:1].expand(200, 2))
    turns = PointMaze(layout, dtype=torch.float64).start(seeded([5, 6, 7, 8, 9]))
    assert [tuple(cell) for cell in cell_of(turns.observation).tolist()] == [start for start, _ in layout.tasks]


def test_a_row_does_not_depend_on_its_batch() -> None:
    """Seeds 0 to 4 are the five tasks; three of them are thrown within this time, by their own chance."""

    def path(seeds: range) -> Tensor:
        blocks = live(PointMaze(TELEPORT), Oracle(TELEPORT), seeds)
        return torch.stack([block.before for block in islice(blocks, 45)], 1)

    together = path(range(5))
    assert ((together[:, 1:] - together[:, :-1]).norm(dim=2) > 1).any(1).sum() == 3
    for seed, row in enumerate(together):
        alone = path(range(seed, seed + 1))[0]  # is over sooner
        assert torch.allclose(row[: len(alone)], alone, atol=1e-5)


@every_layout
def test_a_guide_that_goes_all_the_way_always_arrives(layout: Layout) -> None:
    found = evaluate(PointMaze(layout), Oracle(layout, careful=True, to_goal=True), range(10))
    assert found.success.all()
    assert torch.equal(found.returns, torch.ones(10).double())  # ended at success
    shortest = [4 * layout.distances(goal)[start] for start, goal in layout.tasks]
    for arrival, cells in zip(found.arrival.tolist(), shortest * 2):
        assert arrival > (cells - 4 * 2**0.5) / (0.2 * 2**0.5)  # nobody is faster than the diagonal of an action


def test_doing_nothing_reaches_nothing() -> None:
    still = SimpleNamespace(plan=lambda observation, goal: torch.zeros(len(observation), 500, 2))
    found = evaluate(PointMaze(GIANT), still, range(5))
    assert not found.success.any()
    assert not found.collisions.any()


def test_the_guide_stops_at_the_centre_unless_told() -> None:
    """A goal in the far corner of the last cell is out of reach of its centre."""
    world = PointMaze(MEDIUM, 1)
    corner = centre(torch.tensor((6, 6)))[None] + 0.95
    far = SimpleNamespace(
        **{name: getattr(world, name) for name in ("observation_size", "action_size", "goal_size", "ends_at_success")},
        time_limit=400,
        start=lambda generators: replace(world.start(generators), goal=corner.float()),
        step=world.step,
        reward=world.reward,
    )
    assert not evaluate(far, Oracle(MEDIUM), [0]).success.any()
    assert evaluate(far, Oracle(MEDIUM, to_goal=True), [0]).success.all()


def test_a_wall_holds() -> None:
    """Leaning into walls for long keeps the ball within a contact's depth of the free place, whatever the angle."""
    place = centre(torch.tensor((1, 1))).repeat(64, 1)
    angle = torch.linspace(0, 2 * torch.pi, 64, dtype=torch.float64)
    push = torch.stack([angle.cos(), angle.sin()], 1)
    for _ in range(60):
        place = PointMaze(LARGE).move(place, push)
    assert bool(torch.isfinite(place).all())
    walls = LARGE.walls[tuple(cell_of(place).T)]
    assert not walls.any()
    assert PointMaze(LARGE).contact(place).sum() > 16


@pytest.mark.parametrize("place", [(-4.0, 0.0), (100.0, 3.0)])
def test_impossible_places_are_one_sentence(place: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="in a wall or outside"):
        PointMaze(MEDIUM).step(torch.tensor([place]), torch.zeros(1, 2))


def test_impossible_requests() -> None:
    with pytest.raises(ValueError, match="its tasks are 1 to 5"):
        PointMaze(MEDIUM, 6)
    with pytest.raises(ValueError, match=r"\(B, 2\); got \(3, 2\), \(1, 2\)"):
        PointMaze(MEDIUM).step(torch.zeros(3, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="no generators"):
        PointMaze(MEDIUM).start([])


@every_layout
def test_next_cells_are_those_of_their_guide(theirs: Any, layout: Layout) -> None:
    environment = their_maze(theirs, layout)
    chance = np.random.default_rng(1)
    guide = Oracle(layout)

    def place() -> Tensor:
        return centre(torch.tensor(layout.free[chance.integers(len(layout.free))])) + torch.from_numpy(chance.random(2))

    for _ in range(60):
        here, there = place(), place()
        target, _ = environment.get_oracle_subgoal(here.numpy(), there.numpy())
        way = torch.from_numpy(target).double() - here
        assert torch.allclose(guide.direction(here[None], there[None])[0], way / (way.norm() + 1e-6), atol=1e-9)
