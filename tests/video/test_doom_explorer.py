"""The explorer stays on the floor plan, gets everywhere, and walks the same walk from the same seed."""

from itertools import pairwise

import numpy as np
import pytest

from noiseladder.video.doom_explorer import FORWARD, TURN_LEFT, Explorer, FloorPlan, floor_plan

ROOM = np.array([[0, 0, 400, 0], [400, 0, 400, 400], [400, 400, 0, 400], [0, 400, 0, 0]], dtype=float)
# A wall through the room with a gap of 120 at one end, and a closed box outside.
WALLED = np.concatenate([ROOM, [[200, 0, 200, 280]]])


def test_squares_keep_their_distance_from_walls() -> None:
    plan = floor_plan(WALLED, (50, 50), cell=20, clearance=30)
    for cell in np.argwhere(plan.free):
        x, y = plan.centre((int(cell[0]), int(cell[1])))
        assert 30 <= x <= 370
        assert 30 <= y <= 370
        assert abs(x - 200) >= 30 or y > 280
    assert plan.free[plan.cell_of(350, 50)], "round the corner"


def test_what_cannot_be_reached_is_not_free() -> None:
    closed = np.concatenate([ROOM, [[200, 0, 200, 400]]])
    plan = floor_plan(closed, (50, 50), cell=20, clearance=30)
    assert max(plan.centre((int(x), int(y)))[0] for x, y in np.argwhere(plan.free)) < 200
    circle = floor_plan(ROOM, (50, 50), cell=20, clearance=30, avoid=np.array([[200, 200, 80.0]]))
    assert all(np.hypot(*(np.array(circle.centre((int(x), int(y)))) - 200)) >= 80 for x, y in np.argwhere(circle.free))
    with pytest.raises(ValueError, match="smaller clearance"):
        floor_plan(ROOM, (50, 50), cell=20, clearance=300)


def test_paths_are_shortest() -> None:
    free = np.zeros((7, 7), dtype=bool)
    free[1:6, 1:6] = True
    free[3, 1:5] = False
    plan = FloorPlan(free, (0.0, 0.0), 1.0)
    path = plan.path((2, 1), (4, 1))
    assert path[0] == (2, 1)
    assert path[-1] == (4, 1)
    assert len(path) == 11, "down to the gap, through, and back: ten steps"
    assert all(free[cell] for cell in path)
    assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in pairwise(path))
    free[3, 5] = False
    assert plan.path((2, 1), (4, 1)) == []


def walk(seed: int, steps: int) -> tuple[np.ndarray, list[int]]:
    """A walk in a room without inertia: 20 units a step."""
    plan = floor_plan(WALLED, (50, 50), cell=20, clearance=30)
    explorer = Explorer(plan, 15.0, np.random.default_rng(seed))
    x, y, heading, places, actions = 50.0, 50.0, 0.0, [], []
    for _ in range(steps):
        action = explorer.act(x, y, heading)
        if action == FORWARD:
            x = float(np.clip(x + 20 * np.cos(np.radians(heading)), 20, 380))
            y = float(np.clip(y + 20 * np.sin(np.radians(heading)), 20, 380))
        else:
            heading = (heading + (15 if action == TURN_LEFT else -15)) % 360
        places.append((x, y))
        actions.append(action)
    return np.array(places), actions


def test_it_gets_everywhere_and_does_everything() -> None:
    places, actions = walk(0, 1500)
    visited = {(int(x // 100), int(y // 100)) for x, y in places}
    assert len(visited) == 16
    share = np.bincount(actions, minlength=3) / len(actions)
    assert (share > 0.12).all(), share
    assert walk(0, 200)[1] == walk(0, 200)[1]
    assert walk(0, 200)[1] != walk(1, 200)[1]


def test_who_is_stuck_looks_for_another_way() -> None:
    plan = floor_plan(ROOM, (50, 50), cell=20, clearance=30)
    explorer = Explorer(plan, 15.0, np.random.default_rng(0))
    actions = [explorer.act(50, 50, 0.0) for _ in range(200)]  # nothing moves, whatever it does
    assert len(set(actions)) == 3
