"""Small tasks in a maze where looking ahead should pay: gold beside the road, a wall that no road knows, one plan only.

A task is a start, a goal, an energy that a planner is told, and a judge of what was really lived. Tasks are found on
the recorded roads by a seed, so that they differ in nothing but where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .energies import Arrival, Blocked, Energy, Gold, Total
from .evaluation import HasActions, Planner, live
from .knowledge import Knowledge
from .question import Question
from .roads import Roads, shortest
from .world import World

TRIES = 4000


@dataclass(frozen=True)
class Task:
    """One episode: start and goal (P,), what is wanted of a plan, and places (n, P) worth a look.

    gold: (P,) and its worth in steps, taken within `near`; block: (P,) and its radius, not to be entered.
    """

    name: str
    start: Tensor
    goal: Tensor
    energy: Energy
    steps: int
    near: float
    gold: Tensor | None = None
    worth: float = 0.0
    pays: bool = False
    block: Tensor | None = None
    radius: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What came of a task: its score (high is good), whether the goal was reached and when, gold taken, block entered.

    score: minus the steps until the goal (all steps where it was missed), plus the worth of gold taken; an episode
    that enters a block never arrives.
    """

    score: float
    arrived: bool
    step: int
    took: bool
    entered: bool


def gold_tasks(
    knowledge: Knowledge, count: int, seed: int = 0, steps: int = 300, near: float = 0.3, pace: float = 0.7
) -> list[Task]:
    """Gold that lies off the road, worth .5 or 2 times what the detour costs, in turn: half of the detours pay.

    pace: the share of full speed that detours are reckoned with.
    """
    roads, generator = knowledge.roads, Generator().manual_seed(seed)
    found: list[Task] = []
    for start, goal, gold in draw(roads, generator, 3):
        if len(found) == count:
            return found
        direct = roads.length(start, goal).item()
        around = (roads.length(start, gold) + roads.length(gold, goal)).item() - direct
        if not 2.0 < direct < 7.0 or not 1.0 < around < 4.0:
            continue
        pays = len(found) % 2 == 0
        worth = (2.0 if pays else 0.5) * around / (pace * knowledge.tokens.speed)
        place = tuple(gold[0].tolist())
        energy = Total(((1.0, Arrival(pace=pace)), (1.0, Gold(place, worth, near))))
        found.append(Task("gold", start[0], goal[0], energy, steps, near, gold[0], worth, pays))
    raise ValueError(f"only {len(found)} of {count} tasks with gold were found: the recorded roads are too short")


def blocked_tasks(
    knowledge: Knowledge, count: int, seed: int = 0, steps: int = 400, radius: float = 0.45, margin: float = 0.08
) -> list[Task]:
    """A block in the middle of the recorded road, where a longer way exists that the roads' lengths do not tell.

    margin: how much wider than it is a planner is told that it is, for bodies that do not go quite as planned.
    """
    roads, generator = knowledge.roads, Generator().manual_seed(seed)
    found: list[Task] = []
    for start, goal in draw(roads, generator, 2):
        if len(found) == count:
            return found
        direct = roads.length(start, goal).item()
        if not 2.0 < direct < 6.0:
            continue
        way = roads.way(start, goal, 0.05)[0]
        block = way[min(round(0.5 * direct / 0.05), len(way) - 1)]
        if min((start[0] - block).norm().item(), (goal[0] - block).norm().item()) < 2 * radius:
            continue
        around = without(roads, block, radius + 0.2).length(start, goal).item()
        if not 1.0 < around - direct < 4.0:
            continue
        # As it is judged: who enters never arrives, however quickly.
        energy = Total(((1.0, Arrival()), (1.0, Blocked(tuple(block.tolist()), radius + margin, float(steps)))))
        found.append(Task("blocked", start[0], goal[0], energy, steps, 0.0, block=block, radius=radius))
    raise ValueError(f"only {len(found)} of {count} blocked ways with a way around were found: the maze has few loops")


def way_tasks(knowledge: Knowledge, count: int, seed: int = 0, steps: int = 200) -> list[Task]:
    """From here to there, nothing else: for planners that may plan only once."""
    roads, generator = knowledge.roads, Generator().manual_seed(seed)
    found: list[Task] = []
    for start, goal in draw(roads, generator, 2):
        if len(found) == count:
            return found
        if 2.0 < roads.length(start, goal).item() < 6.0:
            found.append(Task("way", start[0], goal[0], Arrival(), steps, 0.0))
    raise ValueError(f"only {len(found)} of {count} ways were found: the recorded roads are too short")


def draw(roads: Roads, generator: Generator, points: int) -> Sequence[tuple[Tensor, ...]]:
    """Many random tuples of points (1, P) on the roads."""
    drawn = roads.anywhere(TRIES * points, generator).unflatten(0, (TRIES, points))
    return [tuple(point[None] for point in row) for row in drawn]


def without(roads: Roads, centre: Tensor, radius: float) -> Roads:
    """The same places, with no road into a circle: what a person who sees the block would know."""
    inside = (roads.centres - centre).norm(dim=1) < radius
    middles = (roads.centres[:, None] + roads.centres[None]) / 2
    closed = inside[:, None] | inside[None] | ((middles - centre).norm(dim=-1) < radius)
    left = roads.roads.masked_fill(closed, torch.inf)
    return Roads(roads.centres, left, shortest(left), roads.size)


class Once:
    """A planner that may plan only once for each episode: it does its whole first plan, then nothing.

    planner: one that does all it plans, with `execute` as long as its horizon (None for a TreePlanner).
    """

    def __init__(self, planner: Planner) -> None:
        self.planner, self.planned = planner, False

    def reset(self, episodes: int) -> None:
        """New episodes begin: plan again."""
        self.planned = False
        reset = getattr(self.planner, "reset", None)
        if reset is not None:
            reset(episodes)

    def plan(self, observation: Tensor, goal: Tensor) -> Tensor | HasActions:
        """The plan, or from then on actions of zeros."""
        if self.planned:
            return torch.zeros(len(observation), 1, goal.shape[1])
        self.planned = True
        return self.planner.plan(observation, goal)


class Until:
    """Plans with `first` until the body has been within `near` of a place (P,), and from then on with `then`.

    Gold lies there once: a planner that went on being promised it would turn back to it for ever. One episode only.
    """

    def __init__(self, first: Planner, then: Planner, place: Tensor, near: float) -> None:
        self.first, self.then, self.place, self.near, self.been = first, then, place, near, False

    def reset(self, episodes: int) -> None:
        """A new episode begins."""
        self.been = False
        for planner in (self.first, self.then):
            reset = getattr(planner, "reset", None)
            if reset is not None:
                reset(episodes)

    def plan(self, observation: Tensor, goal: Tensor) -> Tensor | HasActions:
        """The plan of whichever it is."""
        return (self.then if self.been else self.first).plan(observation, goal)

    def record(self, actions: Tensor, rewards: Tensor, observations: Tensor) -> None:
        """What was lived: observations (1, h, O)."""
        apart = (observations[0, :, : len(self.place)] - self.place).norm(dim=1)
        self.been = self.been or bool((apart <= self.near).any())


def attempt(task: Task, planner: Planner, world: World, knowledge: Knowledge) -> Outcome:
    """Live a task and judge it; the planner has been told the task's energy."""
    asked = Question(world, knowledge.body.at_rest(task.start), task.goal, task.steps)
    blocks = list(live(asked, planner, [0], ends_at_success=True))
    positions = torch.cat([block.observations for block in blocks], dim=1)[0, :, : knowledge.tokens.axes]
    reached = torch.cat([block.reached for block in blocks], dim=1)[0]
    return judged(task, positions, reached)


def judged(task: Task, positions: Tensor, reached: Tensor) -> Outcome:
    """What positions (S, P) are worth, where the goal is reached at steps `reached` (S,) bool."""
    entered = task.block is not None and bool(((positions - task.block).norm(dim=1) < task.radius).any())
    arrived = bool(reached.any()) and not entered
    step = int(reached.int().argmax()) + 1 if arrived else task.steps
    until = positions[:step]
    took = task.gold is not None and bool(((until - task.gold).norm(dim=1) <= task.near).any())
    return Outcome((task.worth if took else 0.0) - step, arrived, step, took, entered)
