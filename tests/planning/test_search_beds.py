"""Search on problems with a known answer: it finds 99 % of the exact value, and beats best-of-n where search pays."""

from dataclasses import replace

import numpy as np
import pytest
from beds import Gamble, Grid, LinearQuadratic, compare, first_action

from noiseladder.planning.search import By, SearchOptions, Widening, choose, plant, search
from noiseladder.planning.search_picture import draw_tree, draw_value_against_budget

LQ = SearchOptions(batch=16, exploration=0.1, keep_estimates=True, decisions=Widening(2, 0.5))
GRID = SearchOptions(batch=16, exploration=1.5, decisions=Widening(4, 0, 4), outcomes=Widening(1, 0.5))
GAMBLE = SearchOptions(batch=16, exploration=3.0, outcomes=Widening(1, 0.85))


def grown(problem, options, budget, seed=0):
    tree = plant(problem.start, seed, value=problem.floor)
    for _ in search(problem, tree, options, budget):
        pass
    return tree


@pytest.mark.parametrize("levels", [1, 3])
def test_the_safe_pay_is_chosen_over_the_gamble(levels):
    """By expected reward, at every level; whole plans of best-of-n are a gambler's choice."""
    problem = Gamble(levels)
    trees = [grown(problem, GAMBLE, 1500, seed) for seed in range(6)]
    assert all(first_action(tree, choose(tree, by=By.VISITS)) == -1 for tree in trees)
    assert np.mean([tree.value() for tree in trees]) == pytest.approx(problem.value, rel=0.02)


def test_the_first_action_is_riccatis():
    problem = LinearQuadratic(3)
    trees = [grown(problem, LQ, 1500, seed) for seed in range(4)]
    worth = np.array([problem.worth(first_action(tree, choose(tree))) for tree in trees])
    assert ((worth - problem.idle) / (problem.value - problem.idle)).mean() > 0.99
    assert np.mean([first_action(tree, choose(tree)) for tree in trees]) == pytest.approx(problem.action, abs=0.15)
    assert all(tree.value() <= problem.value + 1e-9 for tree in trees)  # no plan is better than the best


def test_the_exact_values_are_exact():
    """Worth of the best first action is the value, of others less; with chance, simulation agrees."""
    for problem in (LinearQuadratic(3), LinearQuadratic(3, noise=0.3)):
        assert problem.worth(problem.action) == pytest.approx(problem.value)
        assert problem.worth(problem.action + 0.3) < problem.value
    grid = Grid()
    assert max(grid.worth(move) for move in range(4)) == grid.value
    assert (grid.random <= grid.table.amax(-1) + 1e-12).all()


def test_the_grid_is_solved():
    problem = Grid()
    trees = [grown(problem, GRID, 2000, seed) for seed in range(3)]
    worth = [problem.worth(first_action(tree, choose(tree, by=By.VISITS))) for tree in trees]
    assert np.mean(worth) > 0.99 * problem.value
    assert np.mean([tree.value() for tree in trees]) == pytest.approx(problem.value, rel=0.15)


def test_a_gambler_is_caught():
    """Were outcomes chosen like decisions, the value would be a gambler's: the test bed sees the difference."""

    class Gambler(Gamble):
        def __call__(self, leaves):
            children = super().__call__(replace(leaves, chance=leaves.depth % 2 == 1))
            return replace(children, chance=children.chance & False)

    tree = grown(Gambler(1), GAMBLE, 500)
    assert tree.value() == 1.0
    assert first_action(tree, choose(tree)) == 1


@pytest.mark.slow
def test_search_beats_best_of_n_where_outcomes_are_chance(tmp_path):
    """At equal expansions, and in the picture also against seconds; the picture is made of the same numbers."""
    results = [
        compare("gamble, 3 levels", Gamble(3), GAMBLE, (64, 256, 1024), range(8), By.VISITS),
        compare("linear-quadratic", LinearQuadratic(3), LQ, (64, 256, 1024), range(8), By.BEST),
        compare("stochastic grid", Grid(), GRID, (64, 256, 1024, 2000), range(6), By.VISITS),
    ]
    for result in results:
        assert result.share(result.tree)[-1].mean() > 0.97
        equal = len(result.tree.calls) - 1
        assert result.share(result.tree)[-1].mean() > result.share(result.best_of_n)[equal].mean()
    figure = draw_value_against_budget(results, tmp_path / "value.png")
    assert len(figure.axes) == 6
    assert (tmp_path / "value.png").stat().st_size > 10_000


def test_a_tree_is_drawn():
    tree = grown(LinearQuadratic(3), LQ, 200)
    positions = tree.state(np.arange(len(tree))).values.numpy()
    axes = draw_tree(tree, positions, [0, choose(tree)])
    assert len(axes.collections[0].get_segments()) == len(tree) - 1
    with pytest.raises(ValueError, match="positions"):
        draw_tree(tree, positions[:5])
