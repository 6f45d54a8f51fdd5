"""The tree search by itself: what every tree must satisfy, whatever it searches."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from beds import Gamble, Grid, LinearQuadratic, Place

from noiseladder.planning.keyed_noise import bits, child_keys, normal, root_key, uniform
from noiseladder.planning.search import (
    By,
    Children,
    SearchOptions,
    Tree,
    Widening,
    choice_law,
    choose,
    highest,
    plant,
    principal_path,
    reroot,
    search,
)


def grown(problem, options, budget, seed=0, **root) -> Tree:
    tree = plant(problem.start, seed, **root)
    for _ in search(problem, tree, options, budget):
        pass
    return tree


# Noise named by keys.


def test_keyed_noise_is_standard_normal():
    keys = child_keys(np.repeat(root_key(3), 4000), np.arange(4000))
    noise = normal(keys, (50,), dtype=torch.float64)
    count = noise.numel()
    assert abs(noise.mean()) < 4 / count**0.5
    assert abs(noise.var() - 1) < 4 * (2 / count) ** 0.5
    assert abs((noise**3).mean()) < 4 * (15 / count) ** 0.5
    assert abs((noise**4).mean() - 3) < 4 * (96 / count) ** 0.5
    inside = (noise.abs() < 1).double().mean()
    assert abs(inside - 0.682689) < 4 * (0.2166 / count) ** 0.5


def test_keyed_noise_of_neighbours_is_independent():
    """Siblings, parent and child, positions of one key, and streams: no correlation beyond chance."""
    parents = child_keys(np.repeat(root_key(0), 20000), np.arange(20000))
    first, second = child_keys(parents, np.zeros(20000, int)), child_keys(parents, np.ones(20000, int))
    drawn = [normal(keys, (4,), stream, torch.float64) for keys in (parents, first, second) for stream in (0, 1)]
    table = torch.cat(drawn, dim=1)
    correlation = torch.corrcoef(table.T) - torch.eye(table.shape[1]).double()
    assert correlation.abs().max() < 5 / 20000**0.5
    squares = torch.corrcoef((table**2).T) - torch.eye(table.shape[1]).double()
    assert squares.abs().max() < 5 / 20000**0.5
    neighbours = torch.corrcoef(torch.stack([table[:-1, 0], table[1:, 0]]))[0, 1]
    assert abs(neighbours) < 5 / 20000**0.5


def test_keyed_noise_belongs_to_the_key_alone():
    keys = child_keys(np.repeat(root_key(1), 9), np.arange(9))
    assert torch.equal(normal(keys, (3, 2))[4:6], normal(keys[4:6], (3, 2)))
    assert torch.equal(normal(keys, (7,))[:, :3], normal(keys, (7,))[:, :3])
    assert len(np.unique(bits(keys, 0, 1000))) == 9000
    assert 0 <= uniform(keys, 1000).min() < uniform(keys, 1000).max() < 1


# What every tree satisfies.


BEDS = {
    "gamble": (Gamble(2), SearchOptions(batch=13)),
    "linear-quadratic": (LinearQuadratic(3), SearchOptions(batch=32, keep_estimates=True, discount=0.9)),
    "noisy": (LinearQuadratic(3, noise=0.2), SearchOptions(batch=8, by=By.MEAN, trust=0.3)),
    "grid": (Grid(), SearchOptions(batch=16, decisions=Widening(4, 0, 4))),
}


@pytest.mark.parametrize("name", BEDS)
def test_the_books_balance(name):
    """Visits, totals and best values equal what a slow recursion makes of the nodes."""
    problem, options = BEDS[name]
    tree = grown(problem, options, 700)
    size = len(tree)
    children = [tree.children(node) for node in range(size)]
    assert sorted(child for family in children for child in family) == list(range(1, size))
    best = tree.estimate[:size].copy()
    for node in reversed(range(size)):
        kids = children[node]
        assert (tree.parent[kids] == node).all()
        assert (tree.depth[kids] == tree.depth[node] + 1).all()
        assert tree.visits[node] >= 1 + tree.visits[kids].sum()
        if not len(kids):
            continue
        worth = tree.reward[kids] + tree.discount[kids] * best[kids]
        if tree.chance[node]:
            best[node] = np.average(worth, weights=tree.weight[kids])
        else:
            trusted = tree.visits[kids] >= options.trust * tree.visits[kids].max()
            best[node] = worth[trusted].max()
            if options.keep_estimates:
                best[node] = max(best[node], tree.estimate[node])
    np.testing.assert_allclose(tree.best[:size], best, atol=1e-12)
    assert tree.visits[0] == 1 + tree.walks == 701
    assert tree.draws[:size].sum() <= tree.walks
    assert not tree.new_visits.any()
    assert not tree.new_total.any()


def test_a_total_is_the_sum_of_returns():
    """Without merged draws: own estimate, and rewards and totals of the children; ended nodes repeat their estimate."""
    problem = LinearQuadratic(3)
    tree = grown(problem, SearchOptions(batch=32, discount=0.9), 500)
    for node in range(len(tree)):
        kids = tree.children(node)
        below = (tree.reward[kids] * tree.visits[kids] + tree.discount[kids] * tree.total[kids]).sum()
        own = (tree.visits[node] - tree.visits[kids].sum()) * tree.estimate[node]
        assert tree.total[node] == pytest.approx(own + below)


def test_one_batch_selects_different_leaves():
    seen = []

    def watched(leaves):
        seen.append(len(np.unique(leaves.keys)) == len(leaves))
        return LinearQuadratic(4)(leaves)

    tree = plant(LinearQuadratic(4).start)
    for _ in search(watched, tree, SearchOptions(batch=64), 2000):
        pass
    assert all(seen)
    assert tree.calls < 60
    assert len(set(tree.parent[1 : len(tree)])) > 100


def test_walks_spread_as_if_one_went_after_the_other():
    """The spread without a loop equals PUCT walker by walker, visits counted at once."""
    from noiseladder.planning.search import spread

    problem = LinearQuadratic(1, spread=2.0)
    options = SearchOptions(batch=1, exploration=0.3)
    tree = grown(problem, options, 60)
    tree.ended[: len(tree)] = False
    walkers = 37
    kids, sent = spread(tree, options, np.array([0]), np.array([walkers]))
    children = tree.children(0)
    worth = (tree.worth(children) - tree.low) / (tree.high - tree.low)
    share = tree.weight[children] / tree.weight[children].sum()
    visits = tree.visits[children].astype(float)
    start = visits.copy()
    for _ in range(walkers):
        bonus = options.exploration * np.sqrt((tree.visits[0] + walkers) * len(children)) * share / (1 + visits)
        visits[(worth + bonus).argmax()] += 1
    assert dict(zip(kids, sent)) == {child: n for child, n in zip(children, visits - start) if n}


def test_batches_do_not_shift_noise():
    """The same path has the same key, state and reward, whatever the batch and the order of the search."""
    problem = LinearQuadratic(3)
    one, many = (grown(problem, SearchOptions(batch=batch), 400) for batch in (1, 64))
    shared = set(one.key[: len(one)].tolist()) & set(many.key[: len(many)].tolist())
    assert len(shared) > 100
    places = [{key: node for node, key in enumerate(tree.key[: len(tree)].tolist())} for tree in (one, many)]
    for key in shared:
        a, b = places[0][key], places[1][key]
        assert one.reward[a] == many.reward[b]
        assert torch.equal(one.state(np.array([a])).values, many.state(np.array([b])).values)


def test_value_does_not_fall_with_budget():
    problem = LinearQuadratic(3)
    tree = plant(problem.start, 5, value=problem.idle)
    values = [t.value() for t in search(problem, tree, SearchOptions(batch=8, keep_estimates=True), 2000)]
    assert (np.diff(values) >= 0).all()
    assert values[-1] > values[0] > problem.idle - 1e-9


def test_a_rerooted_tree_is_the_fresh_one():
    """With batches of 1 and values not scaled over the tree, what happened below a node depends on nothing above it."""
    problem = LinearQuadratic(4)
    options = SearchOptions(batch=1, normalise=False, exploration=0.3)
    tree = grown(problem, options, 400)
    child = choose(tree, by=By.VISITS)
    kept = reroot(tree, child)
    fresh = plant(tree.state(np.array([child])), value=float(tree.estimate[child]), key=tree.key[child : child + 1])
    for _ in search(problem, fresh, options, int(tree.visits[child]) - 1):
        pass
    assert len(kept) == len(fresh) > 60
    for more in (0, 20):
        if more:
            for one in (kept, fresh):
                for _ in search(problem, one, options, more):
                    pass
        size = len(kept)
        for name in ("key", "parent", "depth", "visits", "total", "best", "reward", "count", "draws", "over", "ended"):
            here, there = getattr(kept, name)[:size].copy(), getattr(fresh, name)[:size]
            np.testing.assert_array_equal(here, there, err_msg=name)
        nodes = np.arange(size)
        assert torch.equal(kept.state(nodes).values, fresh.state(nodes).values)


def test_rerooting_takes_the_posterior():
    problem = LinearQuadratic(3)
    tree = grown(problem, SearchOptions(), 300)
    child = choose(tree)
    posterior = Place(torch.tensor([[9.0, 9.0]]).double(), torch.ones(1), torch.zeros(1).double())
    kept = reroot(tree, child, posterior)
    assert kept.state(np.array([0])).values.tolist() == [[9.0, 9.0]]
    assert kept.best[0] == tree.best[child]
    asked = []

    def watched(leaves):
        asked.append(leaves.states.values)
        return problem(leaves)

    for _ in search(watched, kept, SearchOptions(decisions=Widening(50, 0.5)), 20):
        pass
    assert (asked[0] == 9).all()


def test_widening_holds():
    tree = grown(LinearQuadratic(4), SearchOptions(batch=16, decisions=Widening(1.5, 0.5, 12)), 1500)
    inner = np.flatnonzero(tree.count[: len(tree)] > 0)
    assert (tree.count[inner] <= np.minimum(np.ceil(1.5 * tree.visits[inner] ** 0.5) + tree.over[inner], 12)).all()
    assert tree.count[0] == 12


def test_outcomes_that_ended_take_no_room():
    """Visits of a chance node whose outcomes all end draw anew: a value must not rest on few of them."""
    tree = grown(Gamble(1), SearchOptions(batch=16, exploration=3.0), 1000)
    for node in tree.children(0):
        proposals = tree.weight[node]  # visits that only proposed this decision once more
        assert tree.draws[node] == tree.over[node]
        assert tree.draws[node] > 0.9 * (tree.visits[node] - proposals)
        assert tree.weight[tree.children(int(node))].sum() == tree.draws[node]


def test_depth_and_stopping():
    tree = grown(Grid(), SearchOptions(depth=3), 500)
    assert tree.depth[: len(tree)].max() == 3
    stopped = plant(Grid().start)
    for _ in search(Grid(), stopped, SearchOptions(batch=4)):
        if len(stopped) > 50:
            break
    assert 50 < len(stopped) < 60


def test_paths_and_choices():
    tree = grown(Grid(), SearchOptions(decisions=Widening(4, 0, 4)), 800)
    path = principal_path(tree)
    assert path[0] == 0
    assert all(tree.parent[b] == a for a, b in pairwise(path))
    law = choice_law(tree, 5.0)
    assert law.sum() == pytest.approx(1)
    assert law.argmax() == (tree.weight[tree.children(0)] * np.exp(5 * tree.worth(tree.children(0)))).argmax()
    with pytest.raises(ValueError, match="no children"):
        choose(plant(Grid().start))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: Children(c.states, c.rewards[:, None], c.values), "rewards of shape"),
        (lambda c: Children(c.states, c.rewards * torch.nan, c.values), "NaN"),
        (lambda c: Children(c.states[:1], c.rewards, c.values), "states of batch"),
        (lambda c: Children(c.states, c.rewards, c.values, weights=c.values * 0), "weights"),
    ],
)
def test_wrong_expansions_are_named(change, message):
    problem = LinearQuadratic(2)
    with pytest.raises(ValueError, match=message):
        grown(type("Wrong", (), {"start": problem.start, "__call__": lambda _, x: change(problem(x))})(),
              SearchOptions(decisions=Widening(8)), 64)  # fmt: skip


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="exploration"):
        SearchOptions(exploration=-1)
    with pytest.raises(ValueError, match="VISITS"):
        SearchOptions(by=By.VISITS)
    with pytest.raises(ValueError, match="power"):
        Widening(1, 2)
    with pytest.raises(ValueError, match="budget"):
        search(Grid(), plant(Grid().start), budget=0)
    with pytest.raises(ValueError, match="expected 1"):
        plant(Grid().start[[0, 0]])


def test_the_highest_are_those_of_a_stable_sort() -> None:
    """Ties included: among equals the first."""
    random = np.random.default_rng(0)
    for _ in range(50):
        table = random.integers(0, 6, (5, 12)).astype(float)
        table[random.random((5, 12)) < 0.2] = -np.inf
        counts = random.integers(1, 13, 5)
        order, wanted = np.argsort(-table, axis=1, kind="stable"), np.zeros(table.shape, dtype=bool)
        for row, count in enumerate(counts):
            wanted[row, order[row, :count]] = True
        assert (highest(table, counts) == wanted).all()
