"""A user's own environment is judged like ours; one of gymnasium-robotics is the check that it works."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from noiseladder.planning.evaluation import evaluate
from noiseladder.planning.gymnasium_world import GymnasiumWorld
from noiseladder.planning.world import seeded

gymnasium = pytest.importorskip("gymnasium")


class Corridor(gymnasium.Env):
    """Walk from about 0 to 2; actions in [-.5, .5]; ends when the goal is passed."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gymnasium.spaces.Box(-0.5, 0.5, (1,))

    def __init__(self, moving: bool = False) -> None:
        self.moving = moving

    def seen(self) -> Any:
        return np.array([self.place])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.steps, self.done = float(self.np_random.uniform(-0.2, 0.2)), 0, False
        return self.seen(), {"target": np.array([2.0])}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert not self.done
        assert abs(action[0]) <= 0.5
        self.place, self.steps = self.place + float(action[0]), self.steps + 1
        self.done = self.place >= 2
        return self.seen(), float(self.done), self.done, False, {}


class GoalCorridor(Corridor):
    def seen(self) -> Any:
        goal = np.array([2.0 + (self.moving and self.steps > 0)])
        return {"observation": np.array([self.place]), "desired_goal": goal}


def target(observation: Any, info: Any) -> Any:
    return info["target"]


def right(observation: Tensor, goal: Tensor) -> Tensor:
    return torch.ones(len(observation), 3, 1)


@pytest.mark.parametrize(
    "world",
    [GymnasiumWorld(Corridor, target, time_limit=9), GymnasiumWorld(GoalCorridor, time_limit=9)],
    ids=["vector", "dict"],
)
def test_walking_right_arrives_when_arithmetic_says(world: GymnasiumWorld) -> None:
    """Actions are clipped to the environment's own .5, and an ended environment is left alone."""
    starts = world.start(seeded(range(12))).observation[:, 0]
    found = evaluate(world, SimpleNamespace(plan=right), range(12))
    assert torch.equal(found.arrival, ((2 - starts) / 0.5).ceil().double())
    assert len(found.arrival.unique()) == 2  # both sides of 4 steps, so the formula is tested
    assert torch.equal(found.returns, torch.ones(12).double())
    assert torch.equal(evaluate(world, SimpleNamespace(plan=right), range(12), batch=5).arrival, found.arrival)


def test_shapes_that_differ_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="the model's observation has 4 numbers and the environment's 1"):
        GymnasiumWorld(Corridor, target, 9, observation_size=4)
    with pytest.raises(ValueError, match="the model's action has 2 numbers"):
        GymnasiumWorld(Corridor, target, 9, action_size=2)
    with pytest.raises(ValueError, match="the model's goal has 2 numbers"):
        GymnasiumWorld(GoalCorridor, None, 9, goal_size=2)


def test_what_cannot_be_lived_in_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="give goal=lambda"):
        GymnasiumWorld(Corridor, time_limit=9)
    with pytest.raises(ValueError, match="give time_limit="):
        GymnasiumWorld(Corridor, target)
    with pytest.raises(ValueError, match=r"shape \(1, 1\), expected a vector"):
        GymnasiumWorld(Corridor, lambda observation, info: [[2.0]], 9)
    with pytest.raises(ValueError, match="continuous actions only"):
        GymnasiumWorld(lambda: gymnasium.make("CartPole-v1"), target)
    moving = GymnasiumWorld(lambda: GoalCorridor(moving=True), time_limit=9)
    with pytest.raises(ValueError, match="moved its goal"):
        evaluate(moving, SimpleNamespace(plan=right), [0])


def test_an_environment_has_a_past() -> None:
    world = GymnasiumWorld(Corridor, target, 9)
    start = world.start(seeded([0, 1]))
    world.step(start.observation, torch.ones(2, 1) / 2)
    with pytest.raises(ValueError, match="only from its last observation"):
        world.step(start.observation, torch.ones(2, 1) / 2)


def test_point_maze_of_gymnasium_robotics() -> None:
    """A spring to the goal with a brake reaches goals in the same corridor; doing nothing never does."""
    robotics = pytest.importorskip("gymnasium_robotics")
    gymnasium.register_envs(robotics)
    open_maze = [[1, 1, 1, 1, 1], [1, "r", 0, "g", 1], [1, 1, 1, 1, 1]]
    world = GymnasiumWorld(
        lambda: gymnasium.make("PointMaze_UMaze-v3", maze_map=open_maze), observation_size=4, action_size=2, goal_size=2
    )

    def spring(observation: Tensor, goal: Tensor) -> Tensor:
        return (10 * (goal - observation[:, :2]) - observation[:, 2:])[:, None]

    assert world.time_limit == 300
    found = evaluate(world, SimpleNamespace(plan=spring), range(2))
    assert found.success.all()
    assert (found.returns > 100).all()
    assert (found.arrival > 20).all()
    nothing = evaluate(world, SimpleNamespace(plan=lambda o, g: torch.zeros(len(o), 50, 2)), range(2))
    assert not nothing.success.any()
    assert math.isnan(nothing.mean_arrival().mean)
    world.close()
