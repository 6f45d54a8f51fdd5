"""The judge counts what happened: checked by hand on a line where the goal is some steps to the right."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from torch import Generator, Tensor

from noiseladder.planning import evaluation as judging
from noiseladder.planning.evaluation import HEADER, Evaluation, bootstrap, decision_times, evaluate, live
from noiseladder.planning.maze import Norms
from noiseladder.planning.world import Start


@dataclass(frozen=True)
class Line:
    """Walk from 0 to a goal 3 to 6 units away; a step goes at most 1; touching is being right of the goal."""

    time_limit: int = 10
    observation_size: int = 1
    action_size: int = 1
    goal_size: int = 1
    ends_at_success: bool = False

    def start(self, generators: Sequence[Generator]) -> Start:
        goal = torch.stack([torch.randint(3, 7, (1,), generator=each).double() for each in generators])
        return Start(torch.zeros_like(goal), goal)

    def step(self, observation: Tensor, action: Tensor, generators: Sequence[Generator] | None = None) -> Tensor:
        return observation + action.clamp(-1, 1)

    def reward(self, observation: Tensor, goal: Tensor) -> Tensor:
        return ((observation - goal).abs() < 0.25)[:, 0].double()

    def contact(self, observation: Tensor) -> Tensor:
        return observation[:, 0] > 4.5


class Straight:
    """Goes to the goal and stays, in plans of `length` steps."""

    def __init__(self, length: int = 4, speed: float = 1.0) -> None:
        self.length, self.speed, self.resets, self.recorded = length, speed, [], []

    def reset(self, episodes: int) -> None:
        self.resets.append(episodes)

    def plan(self, observation: Tensor, goal: Tensor) -> Tensor:
        actions = []
        for _ in range(self.length):
            actions.append((goal - observation).clamp(-self.speed, self.speed))
            observation = observation + actions[-1]
        return torch.stack(actions, 1)

    def record(self, actions: Tensor, rewards: Tensor, observations: Tensor) -> None:
        self.recorded.append((actions, rewards, observations))


def still(observation: Tensor, goal: Tensor) -> Tensor:
    return torch.zeros(len(observation), 3, 1)


SEEDS = range(20)
GOALS = Line().start([torch.Generator().manual_seed(seed) for seed in SEEDS]).goal[:, 0]


def test_a_perfect_planner_scores_perfectly() -> None:
    """It arrives after as many steps as the goal is far, and every later step pays."""
    found = evaluate(Line(), Straight(), SEEDS)
    assert torch.equal(found.arrival, GOALS)
    assert torch.equal(found.returns, 11 - GOALS)
    assert torch.equal(found.latched, found.returns)
    assert found.success.all()
    assert torch.equal(found.collisions, torch.where(GOALS > 4.5, 11 - 5, 0).double())  # from step 5 on, to the right
    assert torch.equal(found.scores(Norms(0.0, 8.0)), 100 * (11 - GOALS) / 8)


def test_doing_nothing_scores_nothing() -> None:
    found = evaluate(Line(), SimpleNamespace(plan=still), SEEDS)
    assert not found.returns.any()
    assert not found.success.any()
    assert found.arrival.isnan().all()
    assert not found.latched.any()
    assert math.isnan(found.mean_arrival().mean)
    assert "never" in found.row("still")
    assert found.to_json()["arrival"]["mean"] is None


def test_passing_through_is_latched_but_not_paid() -> None:
    """Running past the goal pays once, yet counts as arrived to the end in the latched return."""
    found = evaluate(Line(), SimpleNamespace(plan=lambda observation, goal: torch.ones(len(observation), 1, 1)), SEEDS)
    assert torch.equal(found.returns, torch.ones(len(GOALS)).double())
    assert torch.equal(found.latched, 11 - GOALS)


@pytest.mark.parametrize("length", [1, 3, 4, 10, 100])
def test_the_length_of_plans_does_not_matter_to_a_planner_that_knows(length: int) -> None:
    planner = Straight(length)
    assert torch.equal(evaluate(Line(), planner, SEEDS).returns, 11 - GOALS)
    assert sum(actions.shape[1] for actions, _, _ in planner.recorded) == 10  # the last plan is cut


def test_a_world_may_end_at_success() -> None:
    for found in (
        evaluate(Line(ends_at_success=True), Straight(), SEEDS),
        evaluate(Line(), Straight(), SEEDS, ends_at_success=True),
    ):
        assert torch.equal(found.returns, torch.ones(len(GOALS)).double())
        assert torch.equal(found.arrival, GOALS)
    *_, last = live(Line(ends_at_success=True), Straight(1), SEEDS)
    assert last.end == GOALS.max()  # nobody is left to act for


def test_an_ended_episode_stands_still() -> None:
    world, right = Line(ends_at_success=True), SimpleNamespace(plan=lambda o, g: torch.ones(len(o), 1, 1))
    *_, last = live(world, right, SEEDS)
    assert torch.equal(last.observations[:, -1, 0], GOALS)


@pytest.mark.parametrize("batch", [1, 3, 20, 50])
def test_an_episode_does_not_depend_on_its_batch(batch: int) -> None:
    planner = Straight(speed=0.7)
    together, apart = evaluate(Line(), planner, SEEDS), evaluate(Line(), planner, SEEDS, batch=batch)
    assert torch.equal(together.returns, apart.returns)
    assert torch.equal(together.arrival.nan_to_num(-1), apart.arrival.nan_to_num(-1))
    assert torch.equal(together.collisions, apart.collisions)
    assert planner.resets[0] == 20
    assert planner.resets[1] == min(batch, 20)
    assert sum(planner.resets) == 40


def test_the_planner_is_told_what_happened() -> None:
    """Actions as the world took them (clipped), the observation after each, its reward."""
    planner = Straight(4, speed=9.0)
    blocks = list(live(Line(), planner, SEEDS))
    before = blocks[0].before
    for block, (actions, rewards, observations) in zip(blocks, planner.recorded):
        assert actions.abs().max() <= 1
        assert torch.equal(torch.cumsum(actions, 1) + before[:, None], observations)
        assert torch.equal(rewards[:, -1], Line().reward(observations[:, -1], block.goal))
        before = observations[:, -1]


def test_a_plan_may_be_an_object() -> None:
    planner = SimpleNamespace(plan=lambda o, g: SimpleNamespace(actions=Straight().plan(o, g), value=3))
    assert torch.equal(evaluate(Line(), planner, SEEDS).returns, 11 - GOALS)


def nan_in_row_2(observation: Tensor, goal: Tensor) -> Tensor:
    actions = torch.zeros(len(observation), 2, 1)
    actions[2] = math.nan
    return actions


@pytest.mark.parametrize(
    ("plan", "error", "words"),
    [
        (nan_in_row_2, ValueError, r"not finite \(row 2\)"),
        (lambda o, g: torch.zeros(len(o), 1), ValueError, r"shape \(20, 1\), expected \(20, h, 1\)"),
        (lambda o, g: torch.zeros(1, 4, 1), ValueError, r"shape \(1, 4, 1\), expected \(20, h, 1\)"),
        (lambda o, g: torch.zeros(len(o), 4, 2), ValueError, "the world's action size"),
        (lambda o, g: torch.zeros(len(o), 0, 1), ValueError, "one or more steps"),
        (lambda o, g: [[0.0]], TypeError, "returned list, expected a tensor"),
        (lambda o, g: None, TypeError, "returned NoneType"),
    ],
)
def test_a_broken_plan_is_one_sentence(plan: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        evaluate(Line(), SimpleNamespace(plan=plan), SEEDS)


def test_a_world_that_breaks_is_named() -> None:
    class Broken(Line):
        def step(self, observation: Tensor, action: Tensor, generators: Sequence[Generator] | None = None) -> Tensor:
            return observation / 0

    with pytest.raises(ValueError, match="the world gave an observation that is not finite at step 1"):
        evaluate(Broken(), Straight(), SEEDS)


def test_impossible_requests() -> None:
    with pytest.raises(ValueError, match="no seeds"):
        evaluate(Line(), Straight(), [])
    with pytest.raises(ValueError, match="batch is 0"):
        evaluate(Line(), Straight(), SEEDS, batch=0)
    with pytest.raises(ValueError, match="high must be larger"):
        evaluate(Line(), Straight(), SEEDS).score(Norms(1.0, 1.0))


def test_bootstrap_intervals_cover() -> None:
    """Of 400 samples whose mean is 2, about 95 % give an interval that holds 2 (two-sided binomial at 4 sigma)."""
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for seed in range(400):
        sample = 2 + torch.randn(60, generator=generator)
        interval = bootstrap(sample, draws=500, seed=seed)
        assert interval.low < interval.mean < interval.high
        covered += interval.low <= 2 <= interval.high
    assert abs(covered / 400 - 0.94) < 0.045


def test_the_interval_is_as_wide_as_theory_says() -> None:
    sample = torch.randn(400, generator=torch.Generator().manual_seed(1)).double()
    interval, theory = bootstrap(sample), 2 * 1.96 * float(sample.std(correction=0)) / 20
    assert abs((interval.high - interval.low) / theory - 1) < 0.06
    assert bootstrap(sample) == interval
    assert bootstrap(sample, seed=1) != interval


def test_pairing_removes_what_is_hard_for_both() -> None:
    """Half a step lost in every episode: the returns' intervals overlap, their difference is exactly .5."""
    fast = evaluate(Line(), Straight(), SEEDS)
    slow = replace(fast, returns=fast.returns - 0.5)
    assert slow.mean_return().high > fast.mean_return().low
    assert (fast.against(slow).low, fast.against(slow).high) == (0.5, 0.5)
    assert fast.against(slow, Norms(0.0, 50.0)).mean == pytest.approx(1.0)
    with pytest.raises(ValueError, match="same seeds"):
        fast.against(evaluate(Line(), Straight(), range(1, 21)))


def test_a_paired_difference_of_equals_is_nothing_sure() -> None:
    """Two noises of equal mean: the interval holds 0; shifted by 1 it does not."""
    generator = torch.Generator().manual_seed(3)
    ours, theirs = torch.randn(2, 100, generator=generator)
    nothing, something = judging.paired_difference(ours, theirs), judging.paired_difference(ours + 1, theirs)
    assert nothing.low < 0 < nothing.high
    assert something.low > 0


def test_decision_times_are_those_of_one_row() -> None:
    rows = []

    def plan(observation: Tensor, goal: Tensor) -> Tensor:
        rows.append(len(observation))
        return torch.zeros(len(observation), 5, 1)

    seconds = decision_times(Line(), SimpleNamespace(plan=plan), [0, 1], calls=7, warmup=2)
    assert seconds.shape == (7,)
    assert rows == [1] * 9
    assert (seconds > 0).all()


def test_thinking_is_timed_and_the_world_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(judging.time, "perf_counter", lambda: clock[0])

    class Slow(Line):
        def step(self, observation: Tensor, action: Tensor, generators: Sequence[Generator] | None = None) -> Tensor:
            clock[0] += 7.0
            return super().step(observation, action)

    def plan(observation: Tensor, goal: Tensor) -> Tensor:
        clock[0] += 0.25
        return torch.zeros(len(observation), 4, 1)

    found = evaluate(Slow(), SimpleNamespace(plan=plan), SEEDS)
    assert found.seconds.tolist() == [0.25] * 3
    assert found.milliseconds() == (250.0, 250.0)


def test_the_table_and_the_json_say_the_same() -> None:
    found: Evaluation = evaluate(Line(), Straight(), SEEDS)
    plain = json.loads(json.dumps(found.to_json(Norms(0.0, 8.0)), allow_nan=False))
    assert plain["return"]["mean"] == pytest.approx(float((11 - GOALS).mean()))
    assert plain["score"]["mean"] == pytest.approx(float((11 - GOALS).mean()) / 0.08)
    assert plain["returns"] == (11 - GOALS).tolist()
    row = found.row("straight", Norms(0.0, 8.0))
    assert f"{plain['score']['mean']:.1f} [" in row
    assert len(row) == len(HEADER)


def test_watching_changes_nothing() -> None:
    steps = []
    found = evaluate(Line(), Straight(), SEEDS, watch=lambda block: steps.append((block.step, block.end)))
    assert steps == [(0, 4), (4, 8), (8, 10)]
    assert torch.equal(found.returns, evaluate(Line(), Straight(), SEEDS).returns)
