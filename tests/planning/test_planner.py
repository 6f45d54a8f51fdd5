"""A plan belongs to its seed and its episode; it begins where the body is; nonsense is refused in one sentence."""

from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch import Tensor
from walks import known

from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.scheduling_matrix import pyramid
from noiseladder.networks import TransformerNetwork
from noiseladder.planning.choosing import BestOf, ParticlePlanner
from noiseladder.planning.energies import ToGoal
from noiseladder.planning.guides import ByEnergy, MonteCarlo
from noiseladder.planning.planner import Planner, expected_progress, road_ahead
from noiseladder.planning.tree_planner import TreePlanner

STARTS = torch.tensor([[1.0, 1.0, 0.5, 0.0], [3.0, 1.0, 0.0, -1.0], [1.0, 2.0, 0.0, 0.0]])
GOALS = torch.tensor([[3.0, 1.0], [3.0, 2.0], [1.0, 1.0]])


@cache
def denoiser() -> Denoiser:
    """Untrained, but it listens to everything."""
    tokens = known().tokens
    torch.manual_seed(0)
    network = TransformerNetwork(tokens.size, 32, 2, 2, tokens.condition_size, tokens.parts, cache=64)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return Denoiser(network, Cosine()).eval().requires_grad_(False)


def planner(**options) -> Planner:
    return Planner(denoiser(), known(), **options)


def tokens_of(found, rows: int | None = None) -> Tensor:
    return found.tokens if rows is None else found.tokens[:rows]


def close(first: Tensor, second: Tensor) -> bool:
    length = min(first.shape[1], second.shape[1])
    return torch.allclose(first[:, :length], second[:, :length], atol=1e-4)


def test_the_same_seed_plans_the_same() -> None:
    first, again, other = planner(), planner(), planner(seed=1)
    for _ in range(2):
        mine, same = first.plan(STARTS, GOALS), again.plan(STARTS, GOALS)
        assert torch.equal(mine.tokens, same.tokens)
    assert not close(mine.tokens, other.plan(STARTS, GOALS).tokens)


def test_every_plan_has_noise_of_its_own() -> None:
    one = planner()
    first = one.plan(STARTS[[0, 0]], GOALS[[0, 0]]).tokens
    assert not close(first[:1], first[1:])
    assert not close(first, one.plan(STARTS[[0, 0]], GOALS[[0, 0]]).tokens)


def test_an_episode_does_not_depend_on_its_batch() -> None:
    """Episodes are numbered as they begin, so the third in a batch is the third alone; plans differ in length."""
    together, alone = planner(), planner()
    together.reset(3)
    batch = [together.plan(STARTS, GOALS).tokens for _ in range(2)]
    for row in range(3):
        alone.reset(1)
        for call in range(2):
            single = alone.plan(STARTS[row : row + 1], GOALS[row : row + 1]).tokens
            assert close(batch[call][row : row + 1], single), (row, call)


def test_a_plan_begins_where_the_body_is_and_does_what_it_says() -> None:
    found = planner(execute=2).plan(STARTS, GOALS)
    tokens = known().tokens
    torch.testing.assert_close(found.positions, tokens.positions(found.tokens, STARTS[:, :2]))
    assert found.actions.shape == (3, 2 * tokens.steps, 2)
    torch.testing.assert_close(found.actions, tokens.actions(found.tokens)[:, : 2 * tokens.steps])
    torch.testing.assert_close(found.way[:, 0], STARTS[:, :2])
    torch.testing.assert_close(found.way[:, -1], GOALS)


def test_the_horizon_is_as_long_as_the_way_or_as_asked() -> None:
    long = planner().plan(STARTS[:1], GOALS[:1]).tokens.shape[1]
    short = planner().plan(STARTS[2:], GOALS[2:]).tokens.shape[1]
    assert long > short + 3
    assert long * known().tokens.stride > 4
    for horizon in (1, 40):
        assert planner(horizon=horizon).plan(STARTS, GOALS).tokens.shape[1] == horizon


def test_the_plan_depends_on_road_and_observation() -> None:
    plain = planner(horizon=4).plan(STARTS[:1], GOALS[:1]).tokens
    assert not close(plain, planner(horizon=4).plan(STARTS[:1], GOALS[2:]).tokens)
    assert not close(plain, planner(horizon=4, road=False).plan(STARTS[:1], GOALS[:1]).tokens)
    faster = STARTS[:1] + torch.tensor([0.0, 0.0, 2.0, 0.0])
    assert not close(plain, planner(horizon=4).plan(faster, GOALS[:1]).tokens)
    # Without the road nothing is known of the goal.
    blind = [planner(horizon=4, road=False).plan(STARTS[:1], goal).tokens for goal in (GOALS[:1], GOALS[2:])]
    assert torch.equal(*blind)


def test_warm_from_pure_noise_is_cold() -> None:
    warm, cold = planner(warm=1.0), planner()
    for _ in range(3):
        torch.testing.assert_close(
            warm.plan(STARTS, GOALS).tokens, cold.plan(STARTS, GOALS).tokens, atol=1e-5, rtol=1e-5
        )


def test_a_warm_start_keeps_more_of_the_last_plan_the_cleaner_it_begins() -> None:
    def changed(warm: float | None) -> float:
        one = planner(warm=warm, horizon=8)
        kept = one.plan(STARTS, GOALS).tokens[:, 1:]
        return float((one.plan(STARTS, GOALS).tokens[:, :7] - kept).abs().mean())

    assert changed(0.05) < 0.5 * changed(0.5) < 0.5 * changed(None)


def test_a_warm_start_keeps_its_matrix() -> None:
    """Also a pyramid's: the last token is still waiting when the first is done."""
    one = planner(warm=0.5, horizon=4, steps=2, matrix=lambda tokens, steps: pyramid(tokens, steps, 1))
    first = list(one.watch(STARTS, GOALS))
    again = list(one.watch(STARTS, GOALS))
    assert len(first) == len(again) == 2 + 3 + 1
    levels = torch.stack([row for row, _ in again])
    assert levels[0].tolist() == [0.5, 0.5, 0.5, 1.0]
    assert levels[2].tolist() == [0.0, 0.25, 0.5, 1.0]


def test_reset_forgets_the_last_plan() -> None:
    one = planner(warm=0.3)
    one.plan(STARTS, GOALS)
    assert one.last is not None
    one.reset(3)
    assert one.last is None


def test_a_guide_wraps_the_denoiser_and_is_told_the_context() -> None:
    told = []

    def guide(inner, context):
        told.append(context)
        return inner

    guided = planner(guide=guide).plan(STARTS, GOALS)
    assert torch.equal(told[0].observation, STARTS)
    assert torch.equal(told[0].goal, GOALS)
    torch.testing.assert_close(told[0].positions(guided.tokens), guided.positions)
    twice = told[0].positions(guided.tokens.repeat_interleave(2, dim=0))
    torch.testing.assert_close(twice[1::2], guided.positions)
    torch.testing.assert_close(guided.tokens, planner().plan(STARTS, GOALS).tokens)


def test_a_way_is_reckoned_as_fast_as_the_body_can() -> None:
    """At full speed a token goes one stride along an axis, and as much on both when it goes diagonally; from rest the
    body law itself says how far it gets at full force."""
    knowledge = known()
    body, tokens, spacing = knowledge.body, knowledge.tokens, knowledge.stories.spacing
    line = spacing * torch.arange(400.0)
    straight, slanted = (torch.stack([line, share * line], dim=1)[None] for share in (0.0, 1.0))
    fast = torch.tensor([[0.0, 0.0, body.limit, 0.0]])
    stride = tokens.stride / spacing
    found = expected_progress(knowledge, straight, fast, 6)[0]
    torch.testing.assert_close(found.float(), stride * torch.arange(6.0), atol=1.0, rtol=0)
    both = torch.tensor([[0.0, 0.0, body.limit, body.limit]])
    assert torch.equal(expected_progress(knowledge, slanted, both, 6)[0], found)
    slow = expected_progress(knowledge, straight, torch.zeros(1, 4), 8)[0]
    observation = torch.zeros(1, 4)
    for token in range(8):
        assert abs(float(slow[token]) - float(observation[0, 0]) / spacing) < 3
        for _ in range(tokens.steps):
            observation = body.step(observation, torch.tensor([[1.0, 0.0]]))
    assert slow[7] < found[5] + 2 * stride
    short = expected_progress(knowledge, straight[:, :5], fast, 6)[0]
    assert short.max() == 4  # a way that has ended goes no further


def test_nonsense_is_refused() -> None:
    for wrong, sentence in (
        ((STARTS[:, :3], GOALS), r"observation has shape \(3, 3\), expected \(B, 4\).*a ball pushed at random"),
        ((STARTS, GOALS[:, :1]), r"goal has shape \(3, 1\)"),
        ((STARTS[0], GOALS[0]), r"observation has shape \(4,\)"),
        ((STARTS * torch.nan, GOALS), "observation holds NaN"),
        ((STARTS, GOALS / 0), "goal holds NaN or infinite"),
        ((STARTS, GOALS[:2]), "3 observations and 2 goals"),
        ((STARTS + 30, GOALS), "nothing recorded leads from"),
    ):
        with pytest.raises(ValueError, match=sentence):
            planner().plan(*wrong)


@pytest.mark.parametrize(
    "options", [{"execute": 0}, {"steps": 0}, {"horizon": 1, "execute": 2}, {"warm": 0.0}, {"warm": 1.5}]
)
def test_options_that_cannot_be_are_refused(options) -> None:
    with pytest.raises(ValueError, match="expected"):
        planner(**options)


def observing_first(**options) -> Planner:
    known_first = replace(known(), tokens=replace(known().tokens, observation_first=True))
    return Planner(denoiser(), known_first, **options)


@pytest.mark.parametrize("guide", [None, ByEnergy(ToGoal(None), 1.0), MonteCarlo(ToGoal(None), 1.0, 2, 2)])
def test_tokens_that_begin_with_their_observation_begin_with_the_known_one(guide) -> None:
    """The first token's landing is what is known, exactly; all else listens to it; the laws of plans hold."""
    matrix = partial(pyramid, delay=1)
    found = observing_first(guide=guide, matrix=matrix, horizon=4).plan(STARTS, GOALS)
    tokens, landing = known().tokens, known().tokens.parts[0]
    way = known().roads.way(STARTS[:, :2], GOALS, known().stories.spacing)
    _, off = road_ahead(known(), way, STARTS, 4)
    torch.testing.assert_close(found.tokens[:, 0, landing:], tokens.known(STARTS, off)[0][:, 0, landing:])
    moved = STARTS + torch.tensor([0.0, 0.0, 1.0, 0.0])
    other = observing_first(guide=guide, matrix=matrix, horizon=4).plan(moved, GOALS)
    assert not torch.allclose(other.actions, found.actions, atol=1e-3)
    assert torch.equal(observing_first(guide=guide, matrix=matrix, horizon=4).plan(STARTS, GOALS).tokens, found.tokens)
    alone = observing_first(guide=guide, matrix=matrix, horizon=4).plan(STARTS[:1], GOALS[:1])
    assert close(alone.tokens, found.tokens[:1])


def test_choosing_works_with_tokens_that_begin_with_their_observation_and_a_tree_says_that_it_does_not() -> None:
    one = observing_first(horizon=3)
    assert BestOf(one, ToGoal(), 3).plan(STARTS, GOALS).tokens.shape == (3, 3, known().tokens.size)
    particles = ParticlePlanner(denoiser(), one.knowledge, ToGoal(), 2, horizon=3).plan(STARTS, GOALS)
    assert torch.equal(
        particles.tokens[:, 0, known().tokens.parts[0] :],
        one.plan(STARTS, GOALS).tokens[:, 0, known().tokens.parts[0] :],
    )
    with pytest.raises(ValueError, match="a tree needs tokens that end with it"):
        TreePlanner(denoiser(), one.knowledge, ToGoal())
