import math

import pytest
import torch
from torch import Tensor

from noiseladder.planning.maze import DEEPEST, LARGE, MEDIUM, UMAZE
from noiseladder.planning.point_mass import MASS, PointMass
from noiseladder.planning.world import seeded

FREE_PLACE = [1.0, 2.0]


def moved(place: list[float], velocity: list[float], force: list[float], steps: int = 1) -> Tensor:
    world, action = PointMass(UMAZE), torch.tensor([force], dtype=torch.float64)
    observation = torch.tensor([place + velocity], dtype=torch.float64)
    for _ in range(steps):
        observation = world.step(observation, action)
    return observation[0]


def test_the_mass_is_that_of_a_ball_of_water() -> None:
    assert pytest.approx(4.18879, abs=1e-5) == MASS


def test_one_step_in_the_open() -> None:
    # Damping is implicit: m (v' - v) = dt (100 u - v').
    velocity = (MASS * 0.3 + 0.01 * 50) / (MASS + 0.01)
    expected = [1 + 0.01 * velocity, 2.0, velocity, 0.0]
    torch.testing.assert_close(moved(FREE_PLACE, [0.3, 0], [0.5, 0]).tolist(), expected, rtol=0, atol=1e-12)


def test_velocity_is_clipped_before_the_step_and_forces_always() -> None:
    assert moved(FREE_PLACE, [0, 9.0], [0, 1.0])[3] == pytest.approx(5 + 0.95 / (MASS + 0.01))
    assert moved(FREE_PLACE, [0, 0], [7.0, -7.0]).equal(moved(FREE_PLACE, [0, 0], [1.0, -1.0]))


def test_a_wall_stops_the_body_and_lets_it_slide() -> None:
    resting = moved([1.1, 1.5], [0, 0], [1.0, 0], steps=300)
    assert resting[0] == pytest.approx(1.2, abs=0.01)
    assert abs(resting[2]) < 1e-6
    sliding = moved([1.19, 1.45], [0, 0.5], [1.0, 0.2], steps=20)
    free = moved([1.0, 1.45], [0, 0.5], [0, 0.2], steps=20)
    torch.testing.assert_close(sliding[[1, 3]], free[[1, 3]], rtol=0, atol=1e-12)


def test_a_round_corner_throws_the_body_aside() -> None:
    # The free cell (2, 3) and the wall (2, 2), whose corner is at (2.3, 2.3): come down onto it, a little to its right.
    after = moved([2.36, 2.5], [0, -3.0], [0, 0], steps=8)
    assert after[2] > 0.5
    assert after[1] > 2.3


def test_nobody_passes_a_wall() -> None:
    generator = torch.Generator().manual_seed(3)
    world = PointMass(MEDIUM)
    observation = world.start(seeded(range(300))).observation
    deepest = 0.0
    for step in range(300):
        if step % 15 == 0:
            force = (2 * torch.rand(300, 2, generator=generator) - 1) * 3
        observation = world.step(observation, force)
        deepest = max(deepest, -float(MEDIUM.clearance(observation[:, :2]).min()))
    assert 0.03 < deepest < DEEPEST


def test_single_precision_is_enough() -> None:
    generator = torch.Generator().manual_seed(0)
    world = PointMass(LARGE)
    observation = world.start(seeded(range(200))).observation
    for _ in range(60):
        action = 2 * torch.rand(200, 2, generator=generator) - 1
        exact = world.step(observation.double(), action.double())
        observation = world.step(observation, action)
        assert observation.dtype == torch.float32
        torch.testing.assert_close(observation.double(), exact, rtol=0, atol=2e-4)
        assert (observation.double() - exact).abs().median() < 1e-6


def test_starts_are_those_of_d4rl() -> None:
    start = PointMass(MEDIUM).start(seeded(range(800)))
    cells = start.observation[:, :2].round()
    assert (start.observation[:, :2] - cells).abs().max() <= 0.1
    counts = torch.stack([(cells == cell).all(1).sum() for cell in MEDIUM.cells])
    assert counts.sum() == 800
    assert counts.min() > 800 / 26 - 4 * math.sqrt(800 / 26)
    assert start.observation[:, 2:].std().item() == pytest.approx(0.1, abs=0.01)
    assert (start.goal == torch.tensor([6.0, 6.0])).all()


def test_multi_has_random_goals_and_an_episode_does_not_depend_on_its_batch() -> None:
    world = PointMass(LARGE, multi=True)
    start = world.start(seeded(range(50)))
    assert len(start.goal.round().unique(dim=0)) > 20
    assert LARGE.inside(start.goal).all()
    alone = world.start(seeded([7]))
    assert alone.observation.equal(start.observation[7:8])
    assert alone.goal.equal(start.goal[7:8])
    assert world.start(seeded([7])).observation.equal(PointMass(LARGE).start(seeded([7])).observation)


def test_reward() -> None:
    places = torch.tensor([[1.0, 1.49, 0, 0], [1.0, 1.51, 0, 0], [1.4, 1.4, 0, 0]])
    assert PointMass(UMAZE).reward(places, torch.ones(3, 2)).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("observation", "action", "why"), [((4,), (2,), r"is \(B, 4\)"), ((3, 4), (1, 2), r"\(3, 2\)")]
)
def test_shapes_that_do_not_fit(observation: tuple[int, ...], action: tuple[int, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        PointMass(UMAZE).step(torch.zeros(observation), torch.zeros(action))
    with pytest.raises(ValueError, match="one for each episode"):
        PointMass(UMAZE).start([])
