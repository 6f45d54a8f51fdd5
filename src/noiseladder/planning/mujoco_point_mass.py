"""The same ball in MuJoCo itself (extra `planning`): the twin that the torch world is held against, step by step.

The model is that of D4RL's Maze2D, with what newer MuJoCo counts differently set as D4RL's MuJoCo had it: margins add
up now, so only the ball has one, and a body's inverse weight is now the mean over the axes that move, not over three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from .maze import RADIUS, Maze
from .point_mass import DAMPING, GEAR, MARGIN, MASS, TIME_STEP, TOP_SPEED, PointMass, check_step
from .world import Start

XML = """
<mujoco>
  <option timestep="{time_step}" gravity="0 0 0" iterations="20" integrator="Euler"/>
  <default>
    <joint type="slide" damping="{damping}" limited="false"/>
    <geom density="1000" condim="1" contype="2" conaffinity="1"/>
    <motor ctrlrange="-1 1" ctrllimited="true" gear="{gear}"/>
  </default>
  <worldbody>
    <body name="ball" pos="1.2 1.2 0">
      <joint name="x" axis="1 0 0"/>
      <joint name="y" axis="0 1 0"/>
      <geom type="sphere" size="{radius}" contype="1" margin="{margin}"/>
    </body>
    {walls}
  </worldbody>
  <actuator>
    <motor joint="x"/>
    <motor joint="y"/>
  </actuator>
</mujoco>
"""


def maze_xml(maze: Maze) -> str:
    """MuJoCo's description of the ball in a maze."""
    walls = "\n    ".join(
        f'<geom type="box" pos="{x + 1} {y + 1} 0" size=".5 .5 .2"/>' for x, y in maze.walls.nonzero().tolist()
    )
    return XML.format(time_step=TIME_STEP, damping=DAMPING, gear=GEAR, radius=RADIUS, margin=MARGIN, walls=walls)


@dataclass(frozen=True)
class MujocoPointMass:
    """`PointMass` with MuJoCo's own step, one row after another; starts and rewards are the same to the last digit."""

    maze: Maze
    multi: bool = False
    dtype: torch.dtype = torch.float32

    observation_size = 4
    action_size = 2
    goal_size = 2

    def __post_init__(self) -> None:
        """Say at once that MuJoCo is missing."""
        self._simulator  # noqa: B018

    @property
    def time_limit(self) -> int:
        """Steps in an episode."""
        return self.maze.time_limit

    def start(self, generators: Sequence[Generator]) -> Start:
        """As `PointMass.start`."""
        return self._twin.start(generators)

    def step(self, observation: Tensor, action: Tensor, generators: Sequence[Generator] | None = None) -> Tensor:
        """observation (B, 4), action (B, 2) -> the observation .01 seconds later (B, 4)."""
        check_step(observation, action)
        mujoco, model, data = self._simulator
        after = np.empty(observation.shape)
        for row, before, force in zip(after, observation.double().numpy(), action.double().numpy()):
            # Nothing is carried over: not even the solver's warm start.
            mujoco.mj_resetData(model, data)
            data.qpos[:] = before[:2]
            data.qvel[:] = before[2:].clip(-TOP_SPEED, TOP_SPEED)
            data.ctrl[:] = force
            mujoco.mj_step(model, data)
            row[:2], row[2:] = data.qpos, data.qvel
        return torch.from_numpy(after).to(observation.dtype)

    def reward(self, observation: Tensor, goal: Tensor) -> Tensor:
        """As `PointMass.reward`."""
        return self._twin.reward(observation, goal)

    def contact(self, observation: Tensor) -> Tensor:
        """As `PointMass.contact`."""
        return self._twin.contact(observation)

    @cached_property
    def _twin(self) -> PointMass:
        return PointMass(self.maze, self.multi, self.dtype)

    @cached_property
    def _simulator(self) -> tuple[Any, Any, Any]:
        try:
            import mujoco
        except ImportError as error:
            raise ValueError(
                "this world steps with MuJoCo: pip install 'noiseladder[planning]'; PointMass needs no extra"
            ) from error
        model = mujoco.MjModel.from_xml_string(maze_xml(self.maze))
        model.body_invweight0[1, 0] = 2 / (3 * MASS)
        return mujoco, model, mujoco.MjData(model)
