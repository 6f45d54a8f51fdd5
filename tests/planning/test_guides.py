"""Energies by hand, guides by finite differences, and choosing among plans, all with networks that never learned."""

import pytest
import torch
from courtyard import courtyard, random_denoiser

from noiseladder.diffusion.scheduling_matrix import pyramid
from noiseladder.planning.choosing import BestOf, ParticlePlanner
from noiseladder.planning.energies import (
    Arrival,
    Away,
    Blocked,
    Gold,
    Obstacle,
    Onward,
    Outlook,
    ToGoal,
    Total,
    Value,
    WayPoints,
    outlook,
)
from noiseladder.planning.guides import Both, ByEnergy, Levelled, MonteCarlo
from noiseladder.planning.planner import Context, Planner

KNOWLEDGE = courtyard()
START, GOAL = torch.tensor([[0.2, 1.5], [0.3, 0.3]]), torch.tensor([[2.8, 1.5], [2.7, 2.6]])


def looked(positions, goal=(2.8, 1.5), rewards=None):
    positions = torch.tensor(positions, dtype=torch.float32)[None]
    rewards = torch.zeros(1, positions.shape[1] // 4) if rewards is None else torch.tensor([rewards])
    return Outlook(positions, rewards, torch.tensor([goal]), KNOWLEDGE)


def standing(where, steps=8):
    return [where] * steps


def test_the_way_to_the_goal_goes_around_the_block():
    plan = looked(standing((0.2, 1.5)))
    assert ToGoal(roads=False)(plan).item() == pytest.approx(2.6 / 0.4)
    around = ToGoal()(plan).item() * 0.4
    assert 3.5 < around < 4.1  # past a corner of the block, along it, past the next: 3.73 and .1 at either end
    moved = looked([*standing((0.2, 1.5), 4), *standing((2.2, 1.5), 4)])
    assert ToGoal(roads=False)(moved).item() == pytest.approx(0.6 / 0.4)
    assert ToGoal(start=0, stop=1, roads=False)(moved).item() == pytest.approx(2.6 / 0.4)
    assert ToGoal(start=None, roads=False)(moved).item() == pytest.approx(1.6 / 0.4)


def test_value_over_one_token_a_window_and_the_rest():
    plan = looked(standing((1.0, 2.0), 12), rewards=[1.0, 2.0, 4.0])
    assert Value()(plan).item() == -7
    assert Value(1, 2)(plan).item() == -2
    assert Value(1)(plan).item() == -6
    assert Value(1, 3, reward=lambda positions: positions.sum(-1))(plan).item() == pytest.approx(-8 * 3)
    with pytest.raises(ValueError, match=r"window \[3:None\] holds none of the plan's 3 tokens"):
        Value(3)(plan)
    with pytest.raises(ValueError, match="one number for each plan and step"):
        Value(reward=lambda positions: positions)(plan)


def test_arrival_counts_steps_and_then_the_road_left():
    sharp = Arrival(softness=0.001, pace=0.5, roads=False)
    arrives = looked([*standing((1.0, 1.5), 5), *standing((2.8, 1.5), 3)])
    assert sharp(arrives).item() == pytest.approx(5)
    never = looked(standing((1.8, 1.5)))
    assert sharp(never).item() == pytest.approx(8 + (1.0 - 0.2) / 0.05)


def test_who_is_to_stay_pays_for_every_step_away():
    """Before it arrives as `Arrival` does, and after it has left as well; who stays pays no more."""
    arrival, away = Arrival(0.001, 0.5, roads=False), Away(0.001, 0.5, roads=False)
    passes = looked([*standing((1.0, 1.5), 5), (2.8, 1.5), *standing((1.8, 1.5), 2)])
    assert arrival(passes).item() == pytest.approx(5)
    assert away(passes).item() == pytest.approx(7 + (1.0 - 0.2) / 0.05)
    stays = looked([*standing((1.0, 1.5), 5), *standing((2.8, 1.5), 7)])
    assert away(stays).item() == pytest.approx(5)
    never = looked(standing((1.8, 1.5)))
    assert away(never).item() == pytest.approx(arrival(never).item())


def test_a_wall_costs_once_however_deep_and_long():
    wall = Blocked((1.0, 1.0), 0.5, cost=100.0)
    assert wall(looked([*standing((2.0, 1.0), 7), (1.4, 1.0)])).item() == pytest.approx(100, abs=1)
    assert wall(looked(standing((1.0, 1.0)))).item() == pytest.approx(100)
    assert wall(looked(standing((1.7, 1.0)))).item() < 0.01


def test_what_lies_ahead_on_the_road_is_seen_before_it_is_reached():
    """The road from beside the block leads through the wall, that from past it does not; nothing else is added."""
    start, past = (0.4, 1.0), (1.5, 2.8)
    way = KNOWLEDGE.roads.way(torch.tensor([start]), GOAL[:1], 0.1)[0]
    wall = Blocked(tuple(way[len(way) // 2].tolist()), 0.3, cost=100.0)  # in the middle of the way around the block
    assert wall(looked(standing(start))).item() < 0.01
    assert Onward(wall)(looked(standing(start))).item() == pytest.approx(100, abs=1)
    assert Onward(wall)(looked(standing(past))).item() < 0.01
    ahead = KNOWLEDGE.roads.length(torch.tensor([past]), GOAL[:1]).item()
    there = Onward(Arrival(0.001), pace=0.5)(looked(standing(past))).item()
    assert there == pytest.approx(8 + (ahead - KNOWLEDGE.tokens.near) / 0.05, abs=3)
    assert Onward(Arrival(0.001))(looked(standing((2.8, 1.5)))).item() == pytest.approx(0, abs=0.01)
    seen = []
    Onward(lambda one: seen.append(one) or one.positions[:, -1, 0])(looked([*standing(past, 4)]))
    assert seen[0].positions.shape[1] == 4 * seen[0].rewards.shape[1]
    assert seen[0].rewards[0, -1] == 4


def test_from_where_no_road_leads_on_a_plan_stays():
    """Alone, and beside one that does go on."""
    lost = torch.tensor([9.0, 9.0]).expand(1, 4, 2)
    energy = Onward(lambda one: one.positions[:, -1].sum(dim=1))
    alone = Outlook(lost, torch.zeros(1, 1), GOAL[:1], KNOWLEDGE)
    assert energy(alone).item() == pytest.approx(18)
    beside = torch.cat([lost, START[:1, None].expand(1, 4, 2)])
    both = Outlook(beside, torch.zeros(2, 1), GOAL[:1].expand(2, -1), KNOWLEDGE)
    assert energy(both).tolist() == pytest.approx([18, 2.8 + 1.5])


def test_obstacle_way_points_gold_and_their_sum():
    inside = looked([(1.0, 1.0), (1.25, 1.0), *standing((3.0, 3.0), 6)])
    block = Obstacle((1.0, 1.0), radius=0.5)
    assert block(inside).item() == pytest.approx(1.5)
    assert Obstacle((1.0, 1.0), 0.2)(looked(standing((1.3, 1.0)))).item() == 0
    assert Obstacle((1.0, 1.0), 0.2, margin=0.2)(looked(standing((1.3, 1.0), 4))).item() == pytest.approx(4 * 0.5)
    points = WayPoints(((1.0, 1.0), (3.0, 2.6)), near=0.2)
    assert points(inside).item() == pytest.approx((0.4 - 0.2) / 0.4)
    gold = Gold((1.0, 1.0), worth=10.0, near=0.3)
    assert gold(inside).item() < -9.9
    assert gold(looked(standing((2.0, 1.0)))).item() == pytest.approx(0, abs=1e-4)
    late = looked([*standing((2.8, 1.5), 4), *standing((1.0, 1.0), 4)])
    assert gold(late).item() == 0
    assert Gold((1.0, 1.0), 10.0, 0.3, after=True)(late).item() < -9.9
    assert Total(((2.0, block), (3.0, points)))(inside).item() == pytest.approx(3 + 1.5)
    with pytest.raises(ValueError, match="3 coordinates, expected 2"):
        Obstacle((1.0, 1.0, 1.0), 0.5)(inside)
    with pytest.raises(ValueError, match="radius above 0"):
        Obstacle((1.0, 1.0), 0.0)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Arrival(pace=0), "pace is 0, expected a number above 0"),
        (lambda: Arrival(softness=0), "softness is 0, expected a number above 0"),
        (lambda: Away(pace=-1), "pace is -1, expected a number above 0"),
        (lambda: Away(softness=float("nan")), "softness is nan, expected a number above 0"),
        (lambda: Onward(Arrival(), pace=float("inf")), "pace is inf, expected a number above 0"),
        (lambda: Blocked((1.0, 1.0), -1.0, 5.0), r"radius is -1\.0, expected a number above 0"),
        (lambda: Blocked((1.0, 1.0), 0.5, 5.0, softness=0), "softness is 0, expected a number above 0"),
        (lambda: Gold((1.0, 1.0), 5.0, 0.3, softness=0), "softness is 0, expected a number above 0"),
        (lambda: Gold((1.0, 1.0), 5.0, -1.0), r"near is -1\.0, expected a number above 0"),
        (lambda: Obstacle((1.0, 1.0), 0.5, float("nan")), "margin nan: expected a radius above 0, a margin >= 0"),
        (lambda: WayPoints(((1.0, 1.0),), near=-1), "near is -1, expected 0 or more"),
        (lambda: Total(()), "no energies were given"),
        (lambda: ByEnergy(ToGoal(), float("nan")), "scale is nan, expected a finite number"),
        (lambda: Levelled(ToGoal(), float("inf")), "scale is inf, expected a finite number"),
        (lambda: Levelled(ToGoal(), steps=0), "steps is 0, expected at least 1"),
        (lambda: MonteCarlo(ToGoal(), float("nan")), "scale is nan, expected a finite number"),
        (lambda: particle_planner(float("nan")), "scale is nan, expected a finite number"),
    ],
)
def test_energies_and_guides_that_cannot_be_are_refused_when_they_are_made(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize(
    "energy", [ToGoal(), ToGoal(None), Arrival(), Away(), WayPoints(((2.0, 0.4),)), Gold((0.4, 2.0), 5, 0.3)]
)
def test_a_guide_moves_the_noise_by_the_energy_s_gradient(energy):
    """Finite differences through tokens, roads and the causal state."""
    knowledge = courtyard(torch.float64)
    denoiser = random_denoiser(knowledge.tokens, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    context = Context(START[:1].double(), GOAL[:1].double(), knowledge)
    noisy, condition = random(1, 3, knowledge.tokens.size), random(1, 3, knowledge.tokens.condition_size)
    levels = torch.tensor([[0.3, 0.5, 0.8]], dtype=torch.float64)
    state = denoiser.observe(random(1, 1, knowledge.tokens.size), condition[:, :1])
    guided = ByEnergy(energy, 0.7)(denoiser, context)(noisy, levels, condition, state)
    push = guided.noise - denoiser(noisy, levels, condition, state).noise
    _, sigma = denoiser.schedule.shares(levels, noisy)

    def worth(at):
        return energy(outlook(denoiser(at, levels, condition, state).clean, context))

    for _ in range(3):
        direction, step = random(*noisy.shape), 1e-5
        slope = (worth(noisy + step * direction) - worth(noisy - step * direction)) / (2 * step)
        assert (push / sigma * direction).sum().item() == pytest.approx(0.7 * slope.item(), rel=1e-4, abs=1e-7)
    assert push[:, 0].abs().max() > 0


GUIDES = [
    ByEnergy(ToGoal(roads=False), 3.0),
    Levelled(ToGoal(roads=False), 3.0),
    MonteCarlo(ToGoal(roads=False), 3.0, futures=3, steps=2),
    MonteCarlo(ToGoal(roads=False), 3.0, futures=2, matrix=lambda tokens, steps: pyramid(tokens, steps, 1)),
    Both((ByEnergy(ToGoal(roads=False), 1.5), ByEnergy(Obstacle((1.5, 1.5), 0.8), 1.0))),
]


def planner_with(guide, seed=0):
    denoiser = random_denoiser(KNOWLEDGE.tokens)
    return Planner(
        denoiser, KNOWLEDGE, horizon=4, steps=3, matrix=lambda t, s: pyramid(t, s, 1), guide=guide, seed=seed
    )


@pytest.mark.parametrize("guide", GUIDES)
def test_guided_plans_come_nearer_to_the_goal_whatever_their_batch(guide):
    free, guided = planner_with(None).plan(START, GOAL), planner_with(guide).plan(START, GOAL)
    assert guided.actions.shape == (2, 4, 2)
    assert guided.positions.shape == (2, 16, 2)
    gained = (free.positions[:, -1] - GOAL).norm(dim=1) - (guided.positions[:, -1] - GOAL).norm(dim=1)
    assert gained.min() > 0.01
    torch.testing.assert_close(planner_with(guide).plan(START[:1], GOAL[:1]).positions, guided.positions[:1])


BAD = {
    "one number for each": lambda plan: plan.positions[:, -1].norm(dim=-1).mean(),
    "does not depend on the plan": lambda plan: plan.goal.norm(dim=-1),
    "NaN or infinite": lambda plan: plan.positions[:, -1, 0] / 0,
}


@pytest.mark.parametrize("guide", [ByEnergy, Levelled, MonteCarlo])
@pytest.mark.parametrize("sentence", BAD)
def test_an_energy_that_cannot_guide_is_told_why(guide, sentence):
    with pytest.raises(ValueError, match=sentence):
        planner_with(guide(BAD[sentence])).plan(START, GOAL)
    with pytest.raises(TypeError, match="returned float, expected a tensor"):
        planner_with(guide(lambda plan: 1.0)).plan(START, GOAL)


def test_more_futures_than_none_are_needed():
    with pytest.raises(ValueError, match="at least one of each"):
        MonteCarlo(ToGoal(), futures=0)


def test_best_of_takes_the_lowest_energy_of_its_own_plans():
    energy = ToGoal(roads=False)
    every = planner_with(None).plan(START.repeat_interleave(5, 0), GOAL.repeat_interleave(5, 0))
    best = BestOf(planner_with(None), energy, 5).plan(START, GOAL)
    apart = (every.positions[:, -1] - GOAL.repeat_interleave(5, 0)).norm(dim=1).view(2, 5)
    assert (apart.amax(1) - apart.amin(1)).min() > 0.01
    chosen = apart.argmin(1) + torch.tensor([0, 5])
    assert torch.equal(best.positions, every.positions[chosen])
    assert torch.equal(best.actions, every.actions[chosen])
    single = BestOf(planner_with(None), energy, 1).plan(START, GOAL)
    assert torch.equal(single.tokens, planner_with(None).plan(START, GOAL).tokens)
    with pytest.raises(ValueError, match="best of 0 plans"):
        BestOf(planner_with(None), energy, 0)
    with pytest.raises(ValueError, match="one number for each"):
        BestOf(planner_with(None), BAD["one number for each"], 3).plan(START, GOAL)
    with pytest.raises(ValueError, match="NaN or infinite values: a plan begins"):
        BestOf(planner_with(None), energy, 3).plan(START * torch.nan, GOAL)


def test_best_of_begins_the_next_plans_from_what_is_done():
    planner = planner_with(None)
    planner.warm = 0.5
    chooser = BestOf(planner, ToGoal(roads=False), 4)
    chooser.reset(2)
    best = chooser.plan(START, GOAL)
    assert planner.last is not None
    assert torch.equal(planner.last.tokens, best.tokens.repeat_interleave(4, 0))


def particle_planner(scale, seed=0, count=12):
    denoiser = random_denoiser(KNOWLEDGE.tokens)
    energy = ToGoal(roads=False)
    return ParticlePlanner(denoiser, KNOWLEDGE, energy, count, scale, horizon=3, steps=3, seed=seed)


def test_particles_are_tilted_towards_low_energy():
    def apart(scale):
        start, goal = START[:1].expand(12, -1), GOAL[:1].expand(12, -1)
        plan = particle_planner(scale).plan(start, goal)
        assert plan.tokens.shape == (12, 3, KNOWLEDGE.tokens.size)
        return (plan.positions[:, -1] - goal).norm(dim=1).mean().item()

    assert apart(30.0) < apart(1e-6) - 0.05
    assert torch.equal(particle_planner(1.0).plan(START, GOAL).tokens, particle_planner(1.0).plan(START, GOAL).tokens)
    with pytest.raises(ValueError, match="at least 2"):
        particle_planner(1.0, count=1)
