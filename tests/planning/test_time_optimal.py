import pytest
import torch
from torch import Tensor

from noiseladder.planning.demonstrator import Demonstrator
from noiseladder.planning.evaluation import evaluate
from noiseladder.planning.maze import UMAZE, layout
from noiseladder.planning.point_mass import PointMass
from noiseladder.planning.time_optimal import TimeOptimal, lattice, times_outside

CORRIDOR = layout("##########|#OOOOOOOG#|##########", "corridor", 250)


def arrivals(maze_steps: int, world: PointMass, observation: Tensor, goal: Tensor, planner: TimeOptimal) -> Tensor:
    """Rewards (B, steps) of the planner from here."""
    rewards = []
    while len(rewards) < maze_steps:
        for action in planner.plan(observation, goal).unbind(1):
            observation = world.step(observation, action)
            rewards.append(world.reward(observation, goal))
    return torch.stack(rewards, 1)


def test_in_a_corridor_full_force_is_the_quickest_and_the_goal_is_held() -> None:
    world, goal = PointMass(CORRIDOR), torch.tensor([[1.0, 8.0]])
    observation = torch.tensor([[1.0, 1.0, 0, 0]])
    quickest, state = 0, observation
    while not world.reward(state, goal).all():
        state, quickest = world.step(state, torch.tensor([[0.0, 1.0]])), quickest + 1
    rewards = arrivals(200, world, observation, goal, TimeOptimal(CORRIDOR))[0]
    assert quickest <= int(rewards.argmax()) + 1 <= quickest + 1
    assert rewards[quickest:].all()


def test_the_lattice_knows_the_time_of_a_straight_way() -> None:
    ours = lattice(CORRIDOR)
    times = times_outside(ours, torch.tensor([[1.0, 8.0]]))[0].view(len(ours.points), -1)[:, 24]
    away = (8.0 - ours.places[:, 1] - 0.5).clamp(min=0)
    # From rest: force 100 on 4.19 kg up to 5.23 cells a second, then on at that speed.
    force = 100 / 4.18879
    run_up = 5.23**2 / (2 * force)
    seconds = torch.where(away < run_up, (2 * away / force).sqrt(), 5.23 / force + (away - run_up) / 5.23)
    assert times[away > 0].min() > 0
    # In the disc and at its edge the lattice's time says how far it is to the middle.
    far = away > 0.5
    assert far.sum() > 1000
    assert (times - 100 * seconds)[far].abs().max() < 1
    assert times[~far].max() < 30


def test_walls_stop_what_runs_into_them() -> None:
    ours = lattice(CORRIDOR)
    speeds = 49
    assert ours.following.shape == (9, len(ours.points) * speeds)
    assert ours.following.min() >= 0
    assert ours.following.max() < len(ours.points) * speeds
    # At full speed to the right in the last place before the wall (8.2), with full force: there, at rest.
    place = int(((ours.places - torch.tensor([1.0, 8.2])).abs().sum(1)).argmin())
    state = place * speeds + 3 * 7 + 6
    assert ours.following[5, state] == place * speeds + 3 * 7 + 3
    assert ((ours.places - CORRIDOR.cells[:, None]).abs().amax(2).amin(0) <= 0.6001).all()


@pytest.mark.parametrize("multi", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_is_the_ceiling(multi: bool) -> None:
    world, seeds = PointMass(UMAZE, multi=multi), list(range(100))
    best = evaluate(world, TimeOptimal(UMAZE), seeds)
    demonstrator = evaluate(world, Demonstrator(UMAZE), seeds)
    score = UMAZE.score(best.returns).mean()
    assert 160 < score < 176
    assert score > UMAZE.score(demonstrator.returns).mean() + 8
    # Nobody is beaten by the demonstrator by more than the lattice is coarse.
    assert (best.returns - demonstrator.returns).min() > -5
    # Once there, it stays there.
    assert (best.returns == UMAZE.time_limit + 1 - best.arrival).all()


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match=r"goal \(2, 1\) is in a wall"):
        TimeOptimal(UMAZE).plan(torch.tensor([[1.0, 1, 0, 0]]), torch.tensor([[2.0, 1.0]]))
    with pytest.raises(ValueError, match="at least 1 step"):
        TimeOptimal(UMAZE, hold=(0, 4))
