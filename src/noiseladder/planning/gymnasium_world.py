"""Any Gymnasium environment as a world to be judged in: one environment for each row, lived forward only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from .world import Start

GoalFunction = Callable[[Any, Mapping[str, Any]], Any]


class GymnasiumWorld:
    """A world made of environments, for `evaluate`.

    make: returns a new environment; called once for each row. Its observations are either a dict with "observation" and
        "desired_goal", as in gymnasium-robotics, or one vector.
    goal: for vectors, and to overrule a dict: (observation, info) of a reset -> the goal, a vector.
    time_limit: steps in an episode; by default what the environment was registered with.
    observation_size, action_size, goal_size: what the planner's model was trained on, to be held against the
        environment; by default whatever the environment has.

    Unlike other worlds it has a past: `step` goes on only from the observation it gave last, and `reward`, `reached`
    tell of the last step. The reset's seed is the generator's. An environment that terminates stands still after that,
    with reward 0. Success is `info["success"]` or `info["is_success"]`, or else a reward of 1.

    Raises ValueError when shapes differ, when actions are not a bounded vector, or when the goal moves.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        goal: GoalFunction | None = None,
        time_limit: int | None = None,
        observation_size: int | None = None,
        action_size: int | None = None,
        goal_size: int | None = None,
    ) -> None:
        self._make, self._goal = make, goal
        self._environments = [make()]
        environment = self._environments[0]
        self.time_limit = _time_limit(environment) if time_limit is None else time_limit
        self.action_bounds = _bounds(environment)
        found, info = environment.reset(seed=0)
        self.observation_size = self._vector(found).numel()
        self.action_size = self.action_bounds[0].numel()
        self.goal_size = self._goal_of(found, info).numel()
        for what, expected, there in (
            ("observation", observation_size, self.observation_size),
            ("action", action_size, self.action_size),
            ("goal", goal_size, self.goal_size),
        ):
            if expected is not None and expected != there:
                raise ValueError(
                    f"the model's {what} has {expected} numbers and the environment's {there}: plan with a model"
                    " trained on data of this environment, or wrap the environment so that they agree"
                )
        self._observation = torch.zeros(0, self.observation_size)
        self._desired = torch.zeros(0, self.goal_size)
        self._reward = torch.zeros(0)
        self._reached = torch.zeros(0, dtype=torch.bool)
        self._over: list[bool] = []

    def start(self, generators: Sequence[Generator]) -> Start:
        """One episode for each generator: reset with its seed."""
        while len(self._environments) < len(generators):
            self._environments.append(self._make())
        observations, goals = [], []
        for environment, generator in zip(self._environments, generators):
            found, info = environment.reset(seed=generator.initial_seed() % 2**32)
            observations.append(self._vector(found))
            goals.append(self._goal_of(found, info))
        self._observation, self._desired = torch.stack(observations), torch.stack(goals)
        self._reward = torch.zeros(len(generators))
        self._reached = torch.zeros(len(generators), dtype=torch.bool)
        self._over = [False] * len(generators)
        return Start(self._observation, self._desired)

    def step(self, observation: Tensor, action: Tensor, generators: Sequence[Generator] | None = None) -> Tensor:
        """observation (B, O) that was given last, action (B, A) -> the next observation (B, O)."""
        self._only_last(observation)
        following = self._observation.clone()
        self._reward = torch.zeros_like(self._reward)
        for row, over in enumerate(self._over):
            if over:
                continue
            space = self._environments[row].action_space
            command = action[row].detach().cpu().numpy().astype(space.dtype).reshape(space.shape)
            found, reward, terminated, truncated, info = self._environments[row].step(command)
            following[row] = self._vector(found)
            self._reward[row] = float(reward)
            self._reached[row] = bool(info.get("success", info.get("is_success", reward >= 1)))
            self._over[row] = bool(terminated or truncated)
            if self._goal is None and not torch.equal(_row(found["desired_goal"]), self._desired[row]):
                raise ValueError(
                    "the environment moved its goal within an episode, which no plan can know of: make it with"
                    " reset_target=False or continuing_task=False"
                )
        self._observation = following
        return following

    def reward(self, observation: Tensor, goal: Tensor) -> Tensor:
        """The environments' rewards for the step that led to `observation`, (B,)."""
        self._only_last(observation)
        return self._reward

    def reached(self, observation: Tensor, goal: Tensor) -> Tensor:
        """Whether the environments call the last step a success, (B,) bool."""
        self._only_last(observation)
        return self._reached

    def close(self) -> None:
        """Close the environments."""
        for environment in self._environments:
            environment.close()

    def _only_last(self, observation: Tensor) -> None:
        if not torch.equal(observation.to(self._observation), self._observation):
            raise ValueError(
                "a Gymnasium environment goes on only from its last observation: start anew, or use a world that keeps"
                " nothing, such as the point mass, where a planner wants to try actions out"
            )

    def _vector(self, found: Any) -> Tensor:
        if isinstance(found, Mapping):
            if "observation" not in found or ("desired_goal" not in found and self._goal is None):
                raise ValueError(
                    f"the environment's observation is a dict of {sorted(found)}, expected 'observation' and"
                    " 'desired_goal': wrap it, for example with gymnasium.wrappers.TransformObservation"
                )
            found = found["observation"]
        return _row(found)

    def _goal_of(self, found: Any, info: Mapping[str, Any]) -> Tensor:
        if self._goal is not None:
            return _row(self._goal(found["observation"] if isinstance(found, Mapping) else found, info))
        if not isinstance(found, Mapping):
            raise ValueError(
                "the environment's observation is one vector, which does not say what the goal is: give"
                " goal=lambda observation, info: ..., which returns the goal of an episode from what its reset returned"
            )
        return _row(found["desired_goal"])


def _row(vector: Any) -> Tensor:
    found = torch.as_tensor(vector, dtype=torch.get_default_dtype())
    if found.ndim != 1:
        raise ValueError(
            f"an observation or goal of the environment has shape {tuple(found.shape)}, expected a vector: flatten it,"
            " for example with gymnasium.wrappers.FlattenObservation"
        )
    return found


def _bounds(environment: Any) -> tuple[Tensor, Tensor]:
    space = environment.action_space
    if not hasattr(space, "low") or len(space.shape) != 1:
        raise ValueError(
            f"the environment's actions are {space}, expected a Box with one axis: continuous actions only"
        )
    return _row(space.low), _row(space.high)


def _time_limit(environment: Any) -> int:
    limit = environment.spec.max_episode_steps if environment.spec is not None else None
    if limit is None:
        raise ValueError("the environment does not say how long an episode lasts: give time_limit=, in steps")
    return int(limit)
