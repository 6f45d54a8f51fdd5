"""A question to a planner: from here to there. An impossible one gets one sentence, a possible one can be lived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from .knowledge import Knowledge
from .ogbench import PointMaze, cell_of
from .point_mass import PointMass
from .roads import FAR
from .world import Start, World


@dataclass(frozen=True)
class Question:
    """A world in which every episode begins with this observation (O,) and is asked for this goal (G,).

    steps: in an episode; None for as many as the world gives.
    """

    world: World
    observation: Tensor
    goal: Tensor
    steps: int | None = None

    @property
    def time_limit(self) -> int:
        """Steps in an episode."""
        return self.world.time_limit if self.steps is None else self.steps

    @property
    def observation_size(self) -> int:
        """Values of an observation."""
        return self.world.observation_size

    @property
    def action_size(self) -> int:
        """Values of an action."""
        return self.world.action_size

    @property
    def goal_size(self) -> int:
        """Values of a goal."""
        return self.world.goal_size

    def start(self, generators: Sequence[Generator]) -> Start:
        """The same start and goal for each generator."""
        count = len(generators)
        return Start(self.observation.expand(count, -1).clone(), self.goal.expand(count, -1).clone())

    def step(self, observation: Tensor, action: Tensor, generators: Sequence[Generator] | None = None) -> Tensor:
        """The world's own step."""
        return self.world.step(observation, action, generators)

    def reward(self, observation: Tensor, goal: Tensor) -> Tensor:
        """The world's own reward."""
        return self.world.reward(observation, goal)

    def __getattr__(self, name: str) -> Any:
        """What only some worlds offer: contact, reached, action_bounds, ends_at_success."""
        return getattr(object.__getattribute__(self, "world"), name)


def check_place(place: Tensor, what: str, knowledge: Knowledge, world: World | None = None) -> Tensor:
    """The place (P,), or a ValueError where it is no start or goal for this model.

    In a known maze: in a wall or outside. Where no maze is known: far from every place of the recording.
    """
    axes = knowledge.tokens.axes
    if place.shape != (axes,):
        count = f"{place.numel()} number{'' if place.numel() == 1 else 's'}"
        raise ValueError(f"the {what} has {count}, expected {axes}, as the model's positions have")
    if not bool(place.isfinite().all()):
        raise ValueError(f"the {what} {told(place)} holds NaN or infinity: give a place")
    if isinstance(world, PointMass):
        return world.maze.check_inside(place, what)
    if isinstance(world, PointMaze):
        cell = cell_of(place[None])[0]
        rows, columns = world.layout.walls.shape
        if not (0 <= cell[0] < rows and 0 <= cell[1] < columns):
            raise ValueError(
                f"the {what} {told(place)} is outside the maze {world.layout.name!r}; {nearest(place, knowledge)}"
            )
        if bool(world.layout.walls[cell[0], cell[1]]):
            raise ValueError(
                f"the {what} {told(place)} is in a wall of {world.layout.name!r}; {nearest(place, knowledge)}"
            )
        return place
    distance = knowledge.roads.apart(place).item()
    if distance > FAR * knowledge.roads.size:
        raise ValueError(
            f"the {what} {told(place)} is {distance:.3g} away from every place of the recording;"
            f" {nearest(place, knowledge)}"
        )
    return place


def told(place: Tensor) -> str:
    """A place in brackets."""
    return f"({', '.join(f'{number:g}' for number in place.tolist())})"


def nearest(place: Tensor, knowledge: Knowledge) -> str:
    """Half a sentence with the nearest place that was recorded."""
    centres = knowledge.roads.centres
    found = centres[(centres - place.nan_to_num()).norm(dim=1).argmin()]
    return f"the nearest recorded place is {told((100 * found).round() / 100)}"


def random_place(knowledge: Knowledge, generator: Generator) -> Tensor:
    """The middle of a random recorded place, (P,)."""
    centres = knowledge.roads.centres
    return centres[int(torch.randint(len(centres), (), generator=generator))]
