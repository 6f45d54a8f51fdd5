"""One judge for every planner: live the same episodes, act block by block, and count what really happened."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Protocol

import torch
from torch import Tensor

from .maze import Norms
from .world import Start, World, seeded

HEADER = (
    f"{'planner':<24} {'return':>22} {'score':>22} {'success %':>20} {'arrival step':>22}"
    f" {'latched':>22} {'collisions':>11} {'ms/batch':>9} {'p99':>9}"
)


class HasActions(Protocol):
    """A plan that carries more than its actions."""

    @property
    def actions(self) -> Tensor:
        """The next actions, `(B, h, A)`."""
        ...


class Planner(Protocol):
    """Anything that says what to do next.

    Two more methods are called where a planner has them: `reset(episodes)` before a batch of episodes begins, and
    `record(actions, rewards, observations)`, `(B, h, A)`, `(B, h)` and `(B, h, O)`, with what the executed block really
    did. Actions recorded are those the world took: clipped to its bounds.
    """

    def plan(self, observation: Tensor, goal: Tensor) -> Tensor | HasActions:
        """observation (B, O), goal (B, G) -> the next actions (B, h, A), h of its own choice, or an object that holds
        them as `.actions`. A plan longer than the time left is cut."""
        ...


@dataclass(frozen=True)
class Block:
    """What came of one decision: B episodes, h executed steps.

    Where a world ends at success, an episode that has ended stands still and its rewards are 0.
    """

    first_episode: int
    step: int  # steps executed before this block
    time_limit: int
    before: Tensor  # (B, O)
    goal: Tensor  # (B, G)
    actions: Tensor  # (B, h, A), as executed
    rewards: Tensor  # (B, h)
    observations: Tensor  # (B, h, O), after each action
    reached: Tensor  # (B, h), bool
    contact: Tensor | None  # (B, h), bool; None where the world does not tell
    seconds: float  # that the planner thought

    @property
    def end(self) -> int:
        """Steps executed after this block."""
        return self.step + self.actions.shape[1]


def live(
    world: World,
    planner: Planner,
    seeds: Sequence[int],
    batch: int | None = None,
    ends_at_success: bool | None = None,
) -> Iterator[Block]:
    """Live one episode for each seed, `batch` at a time (all by default), and yield every executed block.

    An episode's chance comes from its own seed, so it does not depend on its batch. An episode lasts
    `world.time_limit` steps whatever happens, as in D4RL, unless `ends_at_success` is true (by default what
    `world.ends_at_success` says, if anything).

    A world may also offer `reached(observation, goal)` (B,) bool (otherwise: a reward of 1), `contact(observation)`
    (B,) bool, and `action_bounds`, two tensors or numbers (otherwise -1 and 1).

    Raises ValueError when a plan is not finite or has the wrong shape, and TypeError when it is no tensor.
    """
    if not seeds:
        raise ValueError("no seeds were given, so there is no episode to live: give one seed for each episode")
    if batch is not None and batch < 1:
        raise ValueError(f"batch is {batch}; it is the number of episodes lived at once: give 1 or more")
    ends = bool(getattr(world, "ends_at_success", False)) if ends_at_success is None else ends_at_success
    size = len(seeds) if batch is None else batch
    for first in range(0, len(seeds), size):
        yield from _live_batch(world, planner, seeds[first : first + size], first, ends)


def evaluate(
    world: World,
    planner: Planner,
    seeds: Sequence[int],
    batch: int | None = None,
    ends_at_success: bool | None = None,
    watch: Callable[[Block], None] | None = None,
) -> Evaluation:
    """Live one episode for each seed and judge the planner; arguments as in `live`.

    `watch` sees each block as it happens: for a progress line, or a picture.
    """
    blocks = []
    for block in live(world, planner, seeds, batch, ends_at_success):
        blocks.append(block)
        if watch is not None:
            watch(block)
    return judge(blocks, seeds)


def judge(blocks: Sequence[Block], seeds: Sequence[int]) -> Evaluation:
    """What the blocks of `live` add up to."""
    rows: dict[int, list[Block]] = {}
    for block in blocks:
        rows.setdefault(block.first_episode, []).append(block)
    limit = blocks[0].time_limit
    returns, arrival, latched, collisions = [], [], [], []
    for batch in rows.values():
        rewards = torch.cat([block.rewards for block in batch], dim=1).double()
        reached = torch.cat([block.reached for block in batch], dim=1)
        # Counting from 1: a goal reached by the first action has arrival step 1.
        first = reached.double().argmax(1) + 1.0
        first[~reached.any(1)] = math.nan
        returns.append(rewards.sum(1))
        arrival.append(first)
        latched.append((limit + 1 - first).nan_to_num(0.0))
        touched = [block.contact for block in batch if block.contact is not None]
        if touched:
            collisions.append(torch.cat(touched, dim=1).double().sum(1))
    return Evaluation(
        seeds=tuple(seeds),
        time_limit=limit,
        returns=torch.cat(returns),
        arrival=torch.cat(arrival),
        latched=torch.cat(latched),
        collisions=torch.cat(collisions) if collisions else None,
        seconds=torch.tensor([block.seconds for block in blocks], dtype=torch.float64),
    )


@dataclass(frozen=True)
class Evaluation:
    """What a planner reached, one number for each of the E episodes."""

    seeds: tuple[int, ...]
    time_limit: int
    returns: Tensor  # (E,), the sum of rewards
    arrival: Tensor  # (E,), the first step at the goal, counted from 1; NaN if never
    latched: Tensor  # (E,), the return if reward stayed 1 from the first arrival on: another metric than D4RL's
    collisions: Tensor | None  # (E,), steps in contact; None where the world does not tell
    seconds: Tensor  # (calls,), of each call of plan(), for all rows together: see `decision_times` for one row

    @property
    def success(self) -> Tensor:
        """(E,) bool: the goal was reached at some step."""
        return ~self.arrival.isnan()

    def scores(self, norms: Norms) -> Tensor:
        """(E,), D4RL's 100 (return - low) / (high - low)."""
        return norms.score(self.returns)

    def mean_return(self) -> Interval:
        """The mean return."""
        return bootstrap(self.returns)

    def score(self, norms: Norms) -> Interval:
        """The normalised score."""
        return bootstrap(self.scores(norms))

    def latched_score(self, norms: Norms) -> Interval:
        """The normalised score of the latched return."""
        return bootstrap(norms.score(self.latched))

    def success_rate(self) -> Interval:
        """The part of the episodes that reached the goal, 0 to 1."""
        return bootstrap(self.success.double())

    def mean_arrival(self) -> Interval:
        """The mean arrival step of the episodes that arrived; NaN if none did."""
        return bootstrap(self.arrival[self.success])

    def mean_collisions(self) -> Interval | None:
        """The mean number of steps in contact; None where the world does not tell."""
        return None if self.collisions is None else bootstrap(self.collisions)

    def against(self, other: Evaluation, norms: Norms | None = None) -> Interval:
        """How much more this planner returned than `other` in the same episodes, in scores where norms are given.

        Pairing removes what is hard or easy about an episode for both. Raises ValueError when the seeds differ.
        """
        if self.seeds != other.seeds:
            raise ValueError(
                "the two planners lived different episodes, so nothing can be paired: evaluate both with the same seeds"
            )
        if norms is None:
            return paired_difference(self.returns, other.returns)
        return paired_difference(self.scores(norms), other.scores(norms))

    def milliseconds(self) -> tuple[float, float]:
        """Median and 99th percentile of a call of plan(), milliseconds."""
        return quantiles(self.seconds)

    def row(self, name: str, norms: Norms | None = None) -> str:
        """One line of a table under `HEADER`."""
        success = self.success_rate()
        percent = Interval(100 * success.mean, 100 * success.low, 100 * success.high)
        score = "" if norms is None else f"{self.score(norms):.1f}"
        latched = f"{bootstrap(self.latched):.1f}" if norms is None else f"{self.latched_score(norms):.1f}"
        touched = "" if self.collisions is None else f"{float(self.collisions.mean()):.1f}"
        median, slow = self.milliseconds()
        return (
            f"{name:<24} {f'{self.mean_return():.1f}':>22} {score:>22} {f'{percent:.1f}':>20}"
            f" {f'{self.mean_arrival():.1f}':>22} {latched:>22} {touched:>11} {median:>9.2f} {slow:>9.2f}"
        )

    def to_json(self, norms: Norms | None = None) -> dict[str, Any]:
        """Everything as plain numbers and lists, for `json.dumps`; what is unknown is None."""
        touched = self.mean_collisions()
        median, slow = self.milliseconds()
        found: dict[str, Any] = {
            "episodes": len(self.seeds),
            "time_limit": self.time_limit,
            "return": self.mean_return().to_json(),
            "success": self.success_rate().to_json(),
            "arrival": self.mean_arrival().to_json(),
            "latched": bootstrap(self.latched).to_json(),
            "collisions": None if touched is None else touched.to_json(),
            "plan_ms_median": median,
            "plan_ms_p99": slow,
            "seeds": list(self.seeds),
            "returns": self.returns.tolist(),
            "arrivals": [_known(step) for step in self.arrival.tolist()],
        }
        if norms is not None:
            found["score"] = self.score(norms).to_json()
            found["latched_score"] = self.latched_score(norms).to_json()
        return found


@dataclass(frozen=True)
class Interval:
    """A mean and the interval that holds it."""

    mean: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        if math.isnan(self.mean):
            return "never"
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self, ".3g")

    def to_json(self) -> dict[str, float | None]:
        """Plain numbers; NaN is None."""
        return {"mean": _known(self.mean), "low": _known(self.low), "high": _known(self.high)}


def bootstrap(values: Tensor, draws: int = 4000, level: float = 0.95, seed: int = 0) -> Interval:
    """The mean of `values` (E,) and its percentile interval over resampled episodes (Efron, 1979).

    Without values everything is NaN. Where all values agree the interval is a point, however few they are.
    """
    values = values.double()
    if not len(values):
        return Interval(math.nan, math.nan, math.nan)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(values), (draws, len(values)), generator=generator)
    tails = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64)
    low, high = torch.quantile(values.cpu()[drawn].mean(1), tails).tolist()
    return Interval(float(values.mean()), low, high)


def paired_difference(ours: Tensor, theirs: Tensor, draws: int = 4000, level: float = 0.95, seed: int = 0) -> Interval:
    """The mean of `ours - theirs`, (E,) each, episode by episode, with its bootstrap interval."""
    if ours.shape != theirs.shape:
        raise ValueError(
            f"{len(ours)} and {len(theirs)} episodes cannot be paired: evaluate both planners with the same seeds"
        )
    return bootstrap(ours.double() - theirs.double(), draws, level, seed)


def decision_times(world: World, planner: Planner, seeds: Sequence[int], calls: int = 100, warmup: int = 1) -> Tensor:
    """Seconds of `calls` calls of plan() with one row, (calls,), along episodes that are really lived.

    Episodes run one after another, and from the first seed again when the seeds are used up; the first `warmup` calls
    are not counted, for what happens once in a process. A batch's time is not a single decision's: measure it here.
    """
    if not seeds or calls < 1:
        raise ValueError(f"got {len(seeds)} seeds and {calls} calls: give at least one of each")
    seconds: list[float] = []
    for seed in cycle(seeds):
        for block in live(world, planner, [seed]):
            seconds.append(block.seconds)
            if len(seconds) == warmup + calls:
                return torch.tensor(seconds[warmup:], dtype=torch.float64)
    raise AssertionError("a cycle has no end")


def quantiles(seconds: Tensor) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds."""
    median, slow = torch.quantile(1e3 * seconds.double(), torch.tensor([0.5, 0.99], dtype=torch.float64)).tolist()
    return median, slow


def _live_batch(world: World, planner: Planner, seeds: Sequence[int], first: int, ends: bool) -> Iterator[Block]:
    generators = seeded(seeds)
    start: Start = world.start(generators)
    observation, goal = start.observation, start.goal
    over = torch.zeros(len(seeds), dtype=torch.bool, device=observation.device)
    reset, record = getattr(planner, "reset", None), getattr(planner, "record", None)
    low, high = (torch.as_tensor(bound).to(observation) for bound in getattr(world, "action_bounds", (-1.0, 1.0)))
    if reset is not None:
        reset(len(seeds))
    done = 0
    while done < world.time_limit and not bool(over.all()):
        began = time.perf_counter()
        plan = planner.plan(observation, goal)
        seconds = time.perf_counter() - began
        actions = _actions(plan, len(seeds), world.action_size)[:, : world.time_limit - done]
        actions = actions.to(observation).clamp(low, high)
        before = observation
        rewards: list[Tensor] = []
        observations: list[Tensor] = []
        reached: list[Tensor] = []
        contact: list[Tensor] = []
        for action in actions.unbind(1):
            following = world.step(observation, action, generators)
            if not bool(following.isfinite().all()):
                raise ValueError(f"the world gave an observation that is not finite at step {done + len(rewards) + 1}")
            observation = torch.where(over[:, None], observation, following)
            reward = world.reward(observation, goal) * ~over
            arrived = _reached(world, observation, goal, reward) & ~over
            rewards.append(reward)
            observations.append(observation)
            reached.append(arrived)
            if hasattr(world, "contact"):
                contact.append(world.contact(observation) & ~over)
            if ends:
                over = over | arrived
        block = Block(
            first,
            done,
            world.time_limit,
            before,
            goal,
            actions,
            torch.stack(rewards, 1),
            torch.stack(observations, 1),
            torch.stack(reached, 1),
            torch.stack(contact, 1) if contact else None,
            seconds,
        )
        if record is not None:
            record(block.actions, block.rewards, block.observations)
        yield block
        done = block.end


def _reached(world: World, observation: Tensor, goal: Tensor, reward: Tensor) -> Tensor:
    if hasattr(world, "reached"):
        found: Tensor = world.reached(observation, goal)
        return found
    return reward >= 1


def _actions(plan: Tensor | HasActions, rows: int, size: int) -> Tensor:
    actions = plan if isinstance(plan, Tensor) else getattr(plan, "actions", None)
    if not isinstance(actions, Tensor):
        raise TypeError(
            f"plan() returned {type(plan).__name__}, expected a tensor of actions (B, h, A) or an object that holds one"
            " as .actions; torch.as_tensor makes one of an array"
        )
    shape = tuple(actions.shape)
    if len(shape) != 3 or shape[0] != rows or shape[1] < 1 or shape[2] != size:
        raise ValueError(
            f"plan() returned actions of shape {shape}, expected ({rows}, h, {size}): a row for each episode, one or"
            " more steps, and the world's action size"
        )
    actions = actions.detach()
    if not bool(actions.isfinite().all()):
        row = int((~actions.isfinite()).flatten(1).any(1).nonzero()[0])
        raise ValueError(
            f"plan() returned an action that is not finite (row {row}): guidance that is too strong and a model fed"
            " with unnormalised observations are the usual reasons"
        )
    return actions


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number
