"""Search over plans: conditions of new tokens, trees that are kept, and detours taken only where they pay."""

import numpy as np
import pytest
import torch
from courtyard import Walker, courtyard, random_denoiser

from noiseladder.diffusion.sampling import final, sample
from noiseladder.diffusion.scheduling_matrix import full_sequence
from noiseladder.planning.diffusion_tree import CHUNK, DiffusionTree
from noiseladder.planning.energies import Arrival, Gold, ToGoal, Total, outlook
from noiseladder.planning.keyed_noise import normal
from noiseladder.planning.planner import Context
from noiseladder.planning.search import SearchOptions, plant, search
from noiseladder.planning.shooting import Shooting
from noiseladder.planning.tasks import Once, Task, Until, blocked_tasks, gold_tasks, judged, way_tasks, without
from noiseladder.planning.tree_planner import TreePlanner

KNOWLEDGE = courtyard()
START, GOAL = torch.tensor([[0.2, 1.5], [0.3, 0.3]]), torch.tensor([[2.8, 1.5], [2.7, 2.6]])


def test_new_tokens_are_sampled_and_remembered_under_their_condition():
    """Every node equals one sequence sampled alone from the root, with the conditions that its path was given."""
    tokens, generator = KNOWLEDGE.tokens, torch.Generator().manual_seed(0)
    denoiser = random_denoiser(tokens)
    table = torch.randn(3, 2, tokens.condition_size, generator=generator)
    problem = DiffusionTree(
        denoiser, (2, tokens.size), lambda x: x[:, :, 0].sum(1), full_sequence(2, 2),
        condition=lambda leaves: table[torch.from_numpy(leaves.slots % 3)],
    )  # fmt: skip
    past = torch.randn(1, 2, tokens.size, generator=generator)
    memory = denoiser.observe(past, table[:1])
    tree = plant(problem.root(memory))
    for _ in search(problem, tree, SearchOptions(batch=8, depth=3), 24):
        pass
    assert tree.depth[: len(tree)].max() >= 2
    for node in range(1, len(tree), 3):
        path = [node]
        while tree.parent[path[0]] > 0:
            path.insert(0, int(tree.parent[path[0]]))
        state = memory
        for step in path:
            condition = table[tree.slot[step] % 3][None]
            noise = normal(tree.key[step : step + 1], problem.shape, CHUNK)
            chunk = final(sample(denoiser, noise, problem.matrix, condition, state))
            state = denoiser.observe(chunk, condition, state)
        torch.testing.assert_close(tree.state(np.array([node])).tokens, chunk, atol=2e-5, rtol=1e-4)
    wrong = DiffusionTree(denoiser, (2, tokens.size), problem.reward, problem.matrix, condition=lambda _: table)
    with pytest.raises(ValueError, match=r"condition gave shape \(3, 2, 10\), expected \(1, 2, C\)"):
        next(search(wrong, plant(wrong.root(memory)), SearchOptions(batch=1), 1))


def random_planner(**options):
    return TreePlanner(random_denoiser(KNOWLEDGE.tokens), KNOWLEDGE, ToGoal(roads=False), **({"budget": 24} | options))


def test_plans_have_their_shapes_and_do_not_depend_on_their_batch():
    plan = random_planner(chunk=2, execute=1).plan(START, GOAL)
    assert plan.actions.shape == (2, 8, 2)
    assert plan.tokens.shape[1] % 2 == 0
    assert plan.positions.shape == (2, 4 * plan.tokens.shape[1], 2)
    alone = random_planner(chunk=2, execute=1).plan(START[:1], GOAL[:1])
    torch.testing.assert_close(alone.actions, plan.actions[:1])
    other = random_planner(chunk=2, execute=1, seed=1).plan(START, GOAL)
    assert not torch.allclose(other.actions, plan.actions)


def test_a_tree_is_kept_where_the_body_went_as_planned_and_not_elsewhere():
    planner = random_planner(budget=60)
    planner.reset(2)
    plan = planner.plan(START, GOAL)
    arrived = plan.positions[:, 3].clone()
    arrived[1] += 0.3
    tree = planner.grown[0].tree
    below = [node for node in range(len(tree)) if planner.grown[0].node in ancestors(tree, node)]
    again = planner.plan(arrived, GOAL)
    assert planner.kept == len(below) - 1 > 0
    assert again.actions.shape == plan.actions.shape
    planner.plan(again.positions[:, 3], GOAL.flip(0))
    assert planner.kept == len(below) - 1  # another goal is another tree


def test_a_tree_that_is_kept_stays_where_the_body_is():
    """Small errors add up: after several of them the tree is where the body is not, and is planted anew."""
    planner = random_planner(budget=60, tolerance=0.25)
    planner.reset(1)
    plan = planner.plan(START[:1], GOAL[:1])
    step, moved = 0.15 * KNOWLEDGE.tokens.stride, []
    for _ in range(4):
        position = plan.positions[:, 3] + torch.tensor([[step, 0.0]])
        known = planner.kept
        plan = planner.plan(position, GOAL[:1])
        moved.append(planner.kept - known)
    assert moved[0] > 0
    assert 0 in moved


def test_each_place_is_proposed_once_and_a_way_to_anywhere_is_gone_on_with():
    planner = random_planner(places=torch.tensor([[2.8, 2.8]]))
    proposals, tree = planner.root(0, START[:1], GOAL[:1], planner.keys.next(1))
    assert proposals.turn(np.arange(6)).tolist() == [0, 1, 2, 2, 2, 2]
    for _ in search(proposals, tree, SearchOptions(batch=8, depth=4), 200):
        pass
    nodes = np.arange(1, len(tree))
    target = np.concatenate([tree.state(np.array([node])).target.numpy() for node in np.arange(len(tree))])
    wanders = nodes[(target[nodes] >= 2) & (target[tree.parent[nodes]] >= 2)]
    kept = target[wanders] == target[tree.parent[wanders]]
    assert len(wanders) > 30
    assert 0.3 < kept.mean() < 0.7
    assert (target[nodes[tree.slot[nodes] == 0]] == 0).all()
    assert (target[nodes[tree.slot[nodes] == 1]] == 1).all()
    alone = random_planner(wander=False, places=torch.tensor([[2.8, 2.8]]))
    assert alone.root(0, START[:1], GOAL[:1], planner.keys.next(1))[0].turn(np.arange(4)).tolist() == [0, 1, 0, 1]


def ancestors(tree, node):
    found = [node]
    while tree.parent[found[-1]] >= 0:
        found.append(int(tree.parent[found[-1]]))
    return found


@pytest.mark.parametrize(("worth", "taken"), [(60.0, True), (6.0, False)])
def test_a_detour_is_taken_exactly_where_it_pays(worth, taken):
    """With an exact model: gold above the block, the goal below it."""
    place, start, goal = (1.4, 2.6), torch.tensor([[0.4, 0.4]]), torch.tensor([[2.6, 0.4]])
    energy = Total(((1.0, Arrival(pace=0.8)), (1.0, Gold(place, worth, 0.3))))
    planner = TreePlanner(
        Walker(KNOWLEDGE.tokens), KNOWLEDGE, energy, budget=400, execute=None, places=torch.tensor([place]),
        wander=False, steps=1, chunk=2,
    )  # fmt: skip
    positions = planner.plan(start, goal).positions[0]
    arrival = int(((positions - goal[0]).norm(dim=1) <= KNOWLEDGE.tokens.near).int().argmax())
    assert bool((positions[:arrival] - torch.tensor(place)).norm(dim=1).min() < 0.3) is taken
    assert arrival > 0


def test_what_cannot_be_searched_is_told():
    with pytest.raises(ValueError, match="nothing would be proposed"):
        random_planner(roads=False, wander=False)
    with pytest.raises(ValueError, match="nothing would be proposed"):
        random_planner(roads=False, wander=False, places=torch.zeros(0, 2))
    with pytest.raises(ValueError, match="places hold NaN or infinite values"):
        random_planner(places=torch.full((1, 2), torch.nan))
    with pytest.raises(ValueError, match="at least 1 of each"):
        random_planner(budget=0)
    with pytest.raises(ValueError, match=r"places have shape \(2,\)"):
        random_planner(places=torch.zeros(2))
    with pytest.raises(ValueError, match="expected \\(B, 2\\)"):
        random_planner().plan(torch.zeros(1, 5), GOAL[:1])


def test_tasks_are_what_they_say():
    roads = KNOWLEDGE.roads
    gold = gold_tasks(KNOWLEDGE, 4)
    assert [task.pays for task in gold] == [True, False, True, False]
    assert all(torch.equal(one.start, two.start) for one, two in zip(gold, gold_tasks(KNOWLEDGE, 4), strict=True))
    for task in gold:
        start, goal, place = task.start[None], task.goal[None], task.gold[None]
        detour = (roads.length(start, place) + roads.length(place, goal) - roads.length(start, goal)).item() / 0.07
        assert (task.worth > detour) is task.pays
    for task in blocked_tasks(KNOWLEDGE, 2, radius=0.6):
        around = without(roads, task.block, 0.8).length(task.start[None], task.goal[None])
        assert around > roads.length(task.start[None], task.goal[None]) + 0.5
        assert bool(around.isfinite())
    assert len(way_tasks(KNOWLEDGE, 3)) == 3
    with pytest.raises(ValueError, match="only 0 of 1"):
        blocked_tasks(KNOWLEDGE, 1, radius=5.0)


def test_a_task_is_judged_by_what_was_lived():
    zero = torch.zeros(2)
    task = Task("gold", zero, zero, ToGoal(), steps=10, near=0.3, gold=torch.tensor([1.0, 0.0]), worth=7.0)
    walk = torch.tensor([[0.0, 0.0], [1.2, 0.0], [3.0, 0.0]])
    assert judged(task, walk, torch.tensor([False, False, True])).score == 7 - 3
    assert judged(task, walk, torch.tensor([True, False, True])).score == -1  # the episode ended before the gold
    assert judged(task, walk, torch.tensor([False, False, False])).score == 7 - 10
    block = Task("blocked", zero, zero, ToGoal(), 10, 0.0, block=torch.tensor([1.0, 0.0]), radius=0.5)
    assert judged(block, walk, torch.tensor([False, False, True])).score == -10
    assert judged(block, walk[[0, 2]], torch.tensor([False, True])).score == -2


def test_a_planner_that_may_plan_once_does_nothing_afterwards():
    once = Once(random_planner(execute=None))
    once.reset(1)
    assert once.plan(START[:1], GOAL[:1]).actions.abs().max() > 0
    assert torch.equal(once.plan(START[:1], GOAL[:1]), torch.zeros(1, 1, 2))
    once.reset(1)
    assert once.plan(START[:1], GOAL[:1]).actions.abs().max() > 0


def test_gold_is_not_promised_twice():
    """Until it is taken one planner plans, from then on the other; the hook is what `live` calls."""

    class Says:
        def __init__(self, word):
            self.word = word

        def plan(self, observation, goal):
            return torch.full((1, 1, 2), self.word)

    until = Until(Says(1.0), Says(2.0), torch.tensor([1.0, 0.0]), near=0.3)
    zero = torch.zeros(1, 2)
    until.record(zero, zero, torch.tensor([[[0.5, 0.0, 9.0, 9.0]]]))
    assert until.plan(zero, zero).max() == 1
    until.record(zero, zero, torch.tensor([[[0.8, 0.0, 9.0, 9.0], [2.0, 0.0, 9.0, 9.0]]]))
    assert until.plan(zero, zero).max() == 2
    until.reset(1)
    assert until.plan(zero, zero).max() == 1


def test_shooting_grows_plans_as_the_tree_does_and_takes_the_best() -> None:
    """With as many nodes; a beginning counts as a plan too, so more plans are never worse."""
    energy = Total(((1.0, Arrival(pace=0.8)), (1.0, Gold((1.4, 2.6), 60.0, 0.3))))
    start, goal = torch.tensor([[0.4, 0.4]]), torch.tensor([[2.6, 0.4]])

    def shot(count, depth):
        walker = Walker(KNOWLEDGE.tokens)
        tree = TreePlanner(
            walker, KNOWLEDGE, energy, places=torch.tensor([[1.4, 2.6]]), wander=False, steps=1, chunk=2, execute=None
        )  # fmt: skip
        found = Shooting(tree, count, depth).plan(start, goal)
        context = Context(start, goal, KNOWLEDGE)
        return found, float(energy(outlook(found.tokens, context))), walker.rows

    one, few, many = shot(1, 12), shot(8, 12), shot(64, 12)
    assert one[2] == 12
    assert few[2] == 8 * 12
    assert many[1] <= few[1] <= one[1]
    assert one[0].actions.shape[1] == one[0].tokens.shape[1] * KNOWLEDGE.tokens.steps
    again = shot(8, 12)
    assert torch.equal(again[0].tokens, few[0].tokens)
    with pytest.raises(ValueError, match="at least 1 of each"):
        shot(0, 3)
