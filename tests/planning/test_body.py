"""The body's law is read off a recording exactly, walls or not; what follows no such law is refused."""

import numpy as np
import pytest
import torch
from walks import jumped, pushed, walked

from noiseladder.planning.body import Body
from noiseladder.planning.maze import UMAZE
from noiseladder.planning.ogbench import MEDIUM, PointMaze
from noiseladder.planning.point_mass import DAMPING, GEAR, MASS, TIME_STEP, TOP_SPEED, PointMass
from noiseladder.planning.recordings import Recording
from noiseladder.planning.world import seeded


def test_the_recording_touches_walls_and_is_fast() -> None:
    """Otherwise the tests below would show little."""
    observations = torch.from_numpy(pushed().observations)
    touching = PointMass(UMAZE).contact(observations).float().mean()
    assert 0.05 < touching < 0.5
    assert (observations[:, 2:].abs() > TOP_SPEED).float().mean() > 0.01


def test_the_law_of_the_ball_is_exact() -> None:
    body = Body.learn(pushed())
    whole = MASS + TIME_STEP * DAMPING
    assert body.axes == 2
    assert body.keep == pytest.approx(1 - TIME_STEP * DAMPING / whole, abs=1e-6)
    assert body.push == pytest.approx(TIME_STEP * GEAR / whole, rel=1e-5)
    assert body.pace == pytest.approx(TIME_STEP, rel=1e-5)
    assert body.limit == pytest.approx(TOP_SPEED, rel=1e-5)
    assert body.misfit < 1e-4


def test_a_step_is_the_worlds_own_off_contact() -> None:
    """Also where the world clips the speed."""
    world, body = PointMass(UMAZE), Body.learn(pushed())
    observation = world.start(seeded(range(200))).observation
    observation[:, 2:] = 12 * torch.rand(200, 2, generator=torch.Generator().manual_seed(1)) - 6
    action = 3 * torch.rand(200, 2, generator=torch.Generator().manual_seed(2)) - 1.5
    after = world.step(observation, action)
    free = ~world.contact(observation) & ~world.contact(after)
    assert free.sum() > 100
    torch.testing.assert_close(body.step(observation, action)[free], after[free], atol=1e-4, rtol=0)
    slow = free & (observation[:, 2:].abs() < 4.9).all(1)
    torch.testing.assert_close(body.step(observation, action)[slow], after[slow], atol=1e-5, rtol=0)


def test_a_recording_that_is_never_fast_has_its_own_top_speed() -> None:
    slow = walked(PointMass(UMAZE), rows=400, steps=15, hold=3, seed=1)
    fastest = np.abs(slow.observations[~slow.ends, 2:]).max()  # of those that a step follows
    assert fastest < 4.5
    body = Body.learn(slow)
    assert body.limit == pytest.approx(fastest, rel=0.01)
    assert body.push == pytest.approx(TIME_STEP * GEAR / (MASS + TIME_STEP * DAMPING), rel=1e-5)


def test_the_law_without_velocity_is_exact() -> None:
    body, world = Body.learn(jumped()), PointMaze(MEDIUM)
    position = world.start(seeded([3])).observation
    action = torch.tensor([[0.4, -0.2]])
    assert body.limit is None
    assert body.misfit < 1e-4
    torch.testing.assert_close(body.step(position, action), world.step(position, action), atol=1e-4, rtol=0)
    assert torch.equal(body.at_rest(position), position)


def test_it_comes_to_rest_at_a_target_without_going_past() -> None:
    body = Body.learn(pushed())
    target = torch.tensor([[1.0, -2.0]])
    observation = body.at_rest(torch.zeros(1, 2))
    seen = []
    for _ in range(150):
        observation = body.step(observation, body.toward(observation, target))
        seen.append(observation)
    path = torch.cat(seen)
    assert (path[:, 0] < 1.01).all()
    assert (path[:, 1] > -2.02).all()
    torch.testing.assert_close(path[-1], torch.tensor([1.0, -2.0, 0.0, 0.0]), atol=1e-2, rtol=0)
    assert (path[:, :2] - target).norm(dim=1).argmin() < 150
    # 2 cells at no more than .05 a step with .5 cells to gather speed and as much to brake: 60 steps at the very least.
    assert int((path[:, 1] < -1.9).int().argmax()) < 75


def test_velocities_before_positions_are_refused() -> None:
    recording = pushed()
    turned = Recording(recording.observations[:, [2, 3, 0, 1]], recording.actions, recording.ends)
    with pytest.raises(ValueError, match="positions must come first"):
        Body.learn(turned)


def test_axes_in_another_order_than_actions_are_refused() -> None:
    recording = jumped()
    with pytest.raises(ValueError, match="differ from the body law"):
        Body.learn(Recording(recording.observations[:, [1, 0]], recording.actions, recording.ends))


def test_other_numbers_of_values_are_refused() -> None:
    recording = pushed()
    with pytest.raises(ValueError, match="observations have 3 values and actions 2"):
        Body.learn(Recording(recording.observations[:, :3], recording.actions, recording.ends))


def test_actions_that_velocities_do_not_answer_to_are_refused() -> None:
    """Swapped axes, and a body that goes where it likes: positions follow velocities there too."""
    ball = pushed()
    random = np.random.default_rng(0).uniform(-1, 1, ball.actions.shape).astype(np.float32)
    for actions in (ball.actions[:, ::-1].copy(), random):
        with pytest.raises(ValueError, match="do not answer to the actions"):
            Body.learn(Recording(ball.observations, actions, ball.ends))


def test_units_of_velocity_do_not_matter() -> None:
    """The same ball with velocities per step: the same actions towards a target."""
    ball = pushed()
    scaled = ball.observations * np.array([1, 1, 0.01, 0.01], np.float32)
    usual, per_step = Body.learn(ball), Body.learn(Recording(scaled, ball.actions, ball.ends))
    observation = torch.from_numpy(ball.observations[::50])
    target = observation[:, :2] + torch.tensor([0.7, -0.2])
    unit = torch.tensor([1, 1, 0.01, 0.01])
    torch.testing.assert_close(
        per_step.toward(observation * unit, target), usual.toward(observation, target), atol=1e-3, rtol=1e-3
    )
