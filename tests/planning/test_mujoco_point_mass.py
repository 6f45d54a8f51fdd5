import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from noiseladder.planning.maze import MAZES, MEDIUM, UMAZE, Maze
from noiseladder.planning.mujoco_point_mass import MujocoPointMass
from noiseladder.planning.point_mass import MASS, PointMass
from noiseladder.planning.world import World, seeded

mujoco = pytest.importorskip("mujoco")


def lived(maze: Maze, steps: int = 40, rows: int = 60) -> tuple[Tensor, Tensor]:
    """Random states and actions, many of them fast and at walls."""
    generator = torch.Generator().manual_seed(1)
    world = PointMass(maze, dtype=torch.float64)
    observation = world.start(seeded(range(rows))).observation
    observation[:, 2:] += 3 * torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    observations, actions = [], []
    for step in range(steps):
        if step % 8 == 0:
            action = 2.4 * torch.rand(rows, 2, generator=generator, dtype=torch.float64) - 1.2
        observations.append(observation)
        actions.append(action)
        observation = world.step(observation, action)
    return torch.cat(observations), torch.cat(actions)


@pytest.mark.parametrize("maze", MAZES.values(), ids=MAZES)
def test_the_torch_world_moves_as_mujoco_does(maze: Maze) -> None:
    observation, action = lived(maze)
    ours = PointMass(maze)
    difference = (ours.step(observation, action) - MujocoPointMass(maze).step(observation, action)).abs().amax(1)
    touching = ours.contact(observation)
    assert touching.sum() > 300
    assert difference[~touching].median() < 1e-6
    assert difference.max() < 1e-9


def test_mujoco_agrees_about_the_body() -> None:
    _, model, _ = MujocoPointMass(MEDIUM)._simulator
    assert model.body_mass[1] == pytest.approx(MASS)
    assert model.ngeom == 1 + int(MEDIUM.walls.sum())


def test_both_worlds_start_and_reward_alike() -> None:
    ours, theirs = PointMass(UMAZE, multi=True), MujocoPointMass(UMAZE, multi=True)
    start, other = ours.start(seeded(range(20))), theirs.start(seeded(range(20)))
    assert start.observation.equal(other.observation)
    assert start.goal.equal(other.goal)
    assert ours.reward(start.observation, start.goal).equal(theirs.reward(start.observation, start.goal))
    assert theirs.step(start.observation, torch.zeros(20, 2)).dtype == torch.float32


@pytest.mark.skipif("NOISELADDER_D4RL_ROWS" not in os.environ, reason="NOISELADDER_D4RL_ROWS names no file of rows")
@pytest.mark.parametrize("name", ["medium", "large"])
@pytest.mark.parametrize("kind", [PointMass, MujocoPointMass])
def test_recorded_rows_of_d4rl(name: str, kind: type[PointMass | MujocoPointMass]) -> None:
    with np.load(Path(os.environ["NOISELADDER_D4RL_ROWS"]), allow_pickle=False) as rows:
        observations = torch.from_numpy(rows[f"{name}_observations"]).double()
        actions = torch.from_numpy(rows[f"{name}_actions"]).double()
    world: World = kind(MAZES[name])
    difference = (world.step(observations[:-1], actions[:-1]) - observations[1:]).abs().amax(1)
    # At each new goal the last observation is written again although the body moves on, so neither that row nor the one
    # before it is one step from the next.
    again = (observations[1:] == observations[:-1]).all(1)
    assert 5 <= again.sum() <= 20
    follows = ~again
    follows[1:] &= ~again[:-1]
    touching = ~MAZES[name].inside(observations[:-1, :2], -0.002)
    assert touching.sum() > 5
    assert difference[follows & ~touching].median() < 1e-6
    assert difference[follows].max() < 2e-5  # single precision at 5 cells a second, and stiff walls
    assert difference[~follows].median() > 1e-3
