"""A diffusion model as a search problem: cached expansion, plain sampling, the gamble, chance within a token."""

import math

import numpy as np
import pytest
import torch

from exact import KalmanDenoiser, gamble
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.sampling import Step, final, sample
from noiseladder.diffusion.scheduling_matrix import full_sequence, pyramid
from noiseladder.networks import MinGRUNetwork, TransformerNetwork
from noiseladder.planning.diffusion_tree import CHUNK, MEMORY, DiffusionTree, expansions_per_second, plan
from noiseladder.planning.keyed_noise import child_keys, normal
from noiseladder.planning.search import SearchOptions, Widening, choice_law, plant, principal_path, search
from noiseladder.recipes import linear_gaussian


def random_denoiser(kind):
    torch.manual_seed(0)
    network = (
        MinGRUNetwork(3, width=16, layers=2) if kind == "recurrent" else TransformerNetwork(3, 16, layers=2, heads=2)
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return Denoiser(network.double(), Cosine()).eval().requires_grad_(False)


def problem_of(kind, **change):
    options = {
        "shape": (2, 3), "reward": lambda x: x[:, :, 0].sum(1), "matrix": pyramid(2, 3, 1), "level": 0.02,
        "dtype": torch.float64,
    }  # fmt: skip
    return DiffusionTree(random_denoiser(kind), **(options | change))


def grown(problem, memory, options, budget, seed=0):
    tree = plant(problem.root(memory), seed)
    for _ in search(problem, tree, options, budget):
        pass
    return tree


@pytest.mark.parametrize("kind", ["recurrent", "transformer"])
def test_cached_expansion_equals_recomputation_from_the_root(kind):
    """Every node, from gathered states in batches, equals one sequence sampled alone from the root."""
    problem = problem_of(kind)
    denoiser = problem.denoiser
    past = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tree = grown(problem, denoiser.observe(past), SearchOptions(batch=16, depth=4), 120)
    assert tree.depth[: len(tree)].max() >= 3
    for node in range(1, len(tree), 7):
        path = [node]
        while tree.parent[path[0]] > 0:
            path.insert(0, int(tree.parent[path[0]]))
        read, levels = past, [torch.zeros(1, 4, dtype=torch.float64)]
        for step in path:
            key = tree.key[step : step + 1]
            state = denoiser.observe(read, level=torch.cat(levels, dim=1))
            tokens = final(sample(denoiser, normal(key, (2, 3), CHUNK, torch.float64), problem.matrix, state=state))
            held = tree.state(np.array([step])).tokens
            assert torch.allclose(held, tokens, atol=1e-9)
            assert tree.reward[step] == pytest.approx(tokens[0, :, 0].sum().item(), abs=1e-9)
            # `observe` scales by alpha and adds noise; to read it whole again, put the noise in beforehand.
            alpha = denoiser.schedule.alpha(torch.tensor(0.02).double())
            blur = denoiser.schedule.sigma(torch.tensor(0.02).double()) / alpha
            seen = tokens + blur * normal(key, (2, 3), MEMORY, torch.float64)
            read = torch.cat([read, seen], dim=1)
            levels.append(torch.full((1, 2), 0.02, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["recurrent", "transformer"])
def test_one_child_and_one_iteration_equal_plain_sampling(kind):
    problem = problem_of(kind)
    tree = grown(problem, problem.denoiser.initial_state(1), SearchOptions(batch=1), 1, seed=4)
    key = child_keys(tree.key[:1], np.zeros(1, dtype=np.int64))
    tokens = final(sample(problem.denoiser, normal(key, (2, 3), dtype=torch.float64), problem.matrix))
    assert torch.equal(tree.state(np.array([1])).tokens, tokens)
    assert torch.equal(plan(tree, principal_path(tree)), tokens[0])


def test_one_call_for_all_leaves_of_a_recurrent_network():
    problem = problem_of("recurrent")
    tree = plant(problem.root(problem.denoiser.initial_state(1)))
    batches = sum(1 for _ in search(problem, tree, SearchOptions(batch=32), 300))
    assert tree.calls == batches
    deep = grown(
        problem_of("transformer"), random_denoiser("transformer").initial_state(1), SearchOptions(batch=32), 300
    )
    assert len(deep.states) == deep.depth[: len(deep)].max() + 1  # one batch for each length of the cache


def test_looking_ahead_follows_the_chunk():
    """The value sees the chunk and the noisy tokens after it, which belong to the node's key and memory."""
    seen = []

    def value(tokens):
        seen.append(tokens)
        return tokens[:, -1, 1]

    problem = problem_of("recurrent", value=value, ahead=full_sequence(3, 6)[:3])
    tree = grown(problem, problem.denoiser.initial_state(1), SearchOptions(batch=4), 4)
    assert seen[0].shape[1:] == (5, 3)
    node = np.array([1])
    noise = normal(tree.key[1:2], (3, 3), 1, torch.float64)
    memory = tree.state(node).memory
    ahead = final(sample(problem.denoiser, noise, problem.ahead, state=memory, early_stop=True))
    assert tree.estimate[1] == pytest.approx(ahead[0, -1, 1].item())


def gamble_problem():
    """First a decision, -1 safe or 1 gamble, then its pay; the exact denoiser of exact-tests.md section 6."""
    return DiffusionTree(
        gamble(Cosine()),
        shape=(1, 1),
        reward=lambda x: x[:, 0, 0],
        matrix=full_sequence(1, 16),
        alternate=True,
        label=lambda x: (100 + 10 * x[:, 0, 0]).round().long(),
        dtype=torch.float64,
    )


def test_the_gamble_is_chosen_by_expected_reward():
    """P(gamble) under exp(strength * E[pay]): .378 and .119; tilting by the pay itself gives .788 and .999."""
    problem = gamble_problem()
    options = SearchOptions(batch=256, exploration=50.0, depth=2, decisions=Widening(4, 0.6))
    shares = []
    for seed in range(100, 108):
        tree = grown(problem, problem.denoiser.initial_state(1), options, 3000, seed)
        gambles = (tree.state(tree.children(0)).tokens[:, 0, 0] > 0).numpy()
        shares.append([choice_law(tree, strength)[gambles].sum() for strength in (5.0, 20.0)])
    # A tree's own estimate has a standard error of .016 in the pay; eight of them leave .013 in the second number.
    assert np.mean(shares, axis=0) == pytest.approx([1 / (1 + math.exp(0.1 * s)) for s in (5, 20)], abs=0.03)


def test_a_decision_is_held_while_chance_draws_the_rest():
    """`decided`: the outcomes of a chance node share its action, differ in the rest, and only they are remembered."""
    decided = torch.tensor([[True, False, False], [True, False, False]])
    problem = problem_of("recurrent", decided=decided, matrix=pyramid(2, 8, 2), level=0.0)
    tree = grown(problem, problem.denoiser.initial_state(1), SearchOptions(batch=16, depth=6), 300)
    assert tree.chance[tree.children(0)].all()
    checked = 0
    for node in np.flatnonzero(tree.chance[: len(tree)] & (tree.count[: len(tree)] > 1)):
        proposal = tree.state(np.array([node]))
        outcomes = tree.state(tree.children(int(node)))
        assert not tree.chance[tree.children(int(node))].any()
        assert torch.allclose(outcomes.tokens[:, decided], proposal.tokens[:, decided].expand(len(outcomes.tokens), 2))
        assert outcomes.tokens[:, ~decided].std(dim=0).min() > 1e-3
        parent = tree.state(tree.parent[node : node + 1])
        assert torch.equal(parent.memory.hidden, proposal.memory.hidden)
        again = problem.denoiser.observe(outcomes.tokens, state=proposal.memory[[0] * len(outcomes.tokens)])
        assert torch.allclose(again.hidden, outcomes.memory.hidden)
        assert tree.reward[node] == 0
        checked += 1
    assert checked > 5


def test_search_finds_higher_return_than_one_sample():
    """On the exact linear-Gaussian model: the best of a searched tree beats what plain samples get."""
    denoiser = KalmanDenoiser(linear_gaussian.example(), Cosine())
    problem = DiffusionTree(denoiser, (1, 1), lambda x: x[:, 0, 0], full_sequence(1, 4), dtype=torch.float64)
    returns = {}
    for budget in (4, 400):
        trees = [
            grown(problem, denoiser.initial_state(1), SearchOptions(batch=16, depth=4, discount=1.0), budget, seed)
            for seed in range(4)
        ]
        returns[budget] = np.mean([tree.value() for tree in trees])
    assert returns[400] > returns[4] + 1


def test_speed_is_measured():
    problem = problem_of("recurrent")
    speed = expansions_per_second(problem, problem.denoiser.initial_state(1), batch=32, seconds=0.1)
    assert speed.nodes > 0  # how many in a tenth of a second depends on who else is busy
    assert speed.per_second > 0


def test_wrong_problems_are_named():
    with pytest.raises(ValueError, match="draws noise"):
        problem_of("recurrent", step=Step(1.0, torch.Generator()))
    with pytest.raises(ValueError, match="decided"):
        problem_of("recurrent", decided=torch.ones(3))
    with pytest.raises(ValueError, match="two ways"):
        problem_of("recurrent", decided=torch.ones(2, 3, dtype=torch.bool), alternate=True)
    with pytest.raises(ValueError, match="value"):
        problem_of("recurrent", ahead=full_sequence(3, 6)[:3])
    tree = plant(problem_of("recurrent").root(random_denoiser("recurrent").initial_state(1)))
    with pytest.raises(ValueError, match="no tokens"):
        plan(tree, [0])
