"""A token says what is done and what comes of it, and nothing is lost on the way in and out."""

from dataclasses import replace

import pytest
import torch
from walks import known

from noiseladder.planning.plan_tokens import on_way
from noiseladder.planning.stories import Story

TOKENS = known().tokens


def story(count=6, steps=120):
    return known().stories.tell(count, steps, torch.Generator().manual_seed(3))


def read(told: Story, first: torch.Tensor, length: int = 10):
    return TOKENS.of_story(told, first, length)


def test_sizes_add_up() -> None:
    values, conditions = read(story(), torch.zeros(6, dtype=torch.long))
    assert values.shape == (6, 10, TOKENS.size)
    assert conditions.shape == (6, 10, TOKENS.condition_size)
    assert sum(TOKENS.parts) == TOKENS.size == sum(TOKENS.sizes)


def test_actions_and_positions_are_read_back_exactly() -> None:
    told, first = story(), torch.tensor([0, 3, 7, 20, 41, 60])
    values, _ = read(told, first)
    rows, steps = torch.arange(6)[:, None], torch.arange(10 * TOKENS.steps)
    when = first[:, None] + steps
    torch.testing.assert_close(TOKENS.actions(values), told.actions[rows, when], atol=1e-6, rtol=1e-6)
    start = told.observations[torch.arange(6), first, :2]
    found = TOKENS.positions(values, start)
    torch.testing.assert_close(found, told.observations[rows, when + 1, :2], atol=1e-5, rtol=1e-5)


def test_rewards_count_the_steps_near_the_goal() -> None:
    told = story(steps=300)
    first = torch.full((6,), 200)
    values, _ = read(told, first, 20)
    after = told.observations[:, 201:281, :2]
    near = (after - told.way[:, -1:]).norm(dim=-1) <= TOKENS.near
    torch.testing.assert_close(
        TOKENS.reward(values), near.float().unflatten(1, (20, TOKENS.steps)).sum(-1), atol=1e-5, rtol=0
    )
    assert near.any()


def test_values_are_of_about_unit_size() -> None:
    values, conditions = read(story(64), torch.randint(0, 70, (64,), generator=torch.Generator().manual_seed(0)))
    assert 0.1 < values.pow(2).mean().sqrt() < 2
    assert (values.abs() > 5).float().mean() < 0.01
    assert conditions.abs().max() <= 2.001


def test_positions_are_differentiable_and_causal() -> None:
    tokens = torch.randn(2, 5, TOKENS.size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(
        TOKENS.positions(tokens, torch.zeros(2, 2))[:, 2 * TOKENS.steps - 1].sum(), tokens
    )
    assert gradient[:, :2].abs().sum() > 0
    assert gradient[:, 2:].abs().sum() == 0


def test_the_first_condition_is_the_second() -> None:
    """A plan begins with an observation, whose own past road nobody knows."""
    _, conditions = read(story(), torch.zeros(6, dtype=torch.long))
    assert torch.equal(conditions[:, 0], conditions[:, 1])
    assert not torch.equal(conditions[:, 1], conditions[:, 2])


def test_a_condition_moves_and_turns_with_its_road() -> None:
    told = story()
    progress = torch.tensor([[2, 9, 30]]).expand(6, -1)
    spacing = told.spacing
    plain = TOKENS.condition(told.way, progress, spacing)
    shifted = TOKENS.condition(told.way + torch.tensor([5.0, -2.0]), progress, spacing)
    torch.testing.assert_close(plain, shifted, atol=1e-4, rtol=0)
    mirrored = TOKENS.condition(-told.way, progress, spacing)
    torch.testing.assert_close(mirrored[..., :-2], -plain[..., :-2], atol=1e-5, rtol=0)
    assert torch.equal(mirrored[..., -2:], plain[..., -2:])


def test_the_end_of_a_road_is_not_the_absence_of_one() -> None:
    """At the goal no road is left; where none is told all is zero, and a network must see which of the two it is."""
    told = story()
    last = torch.full((6, 1), told.way.shape[1] - 1)
    found = TOKENS.condition(told.way, last, told.spacing)
    assert found[..., :-1].abs().max() < 1e-6
    assert (found[..., -1] == 1).all()
    _, conditions = read(told, torch.zeros(6, dtype=torch.long))
    assert (conditions[..., -1] == 1).all()


def test_a_long_straight_road_shows_its_direction() -> None:
    line = torch.stack([0.05 * torch.arange(400), torch.zeros(400)], dim=1)[None]
    found = TOKENS.condition(line, torch.zeros(1, 1, dtype=torch.long), 0.05)[0, 0]
    points = found[:-2].unflatten(0, (-1, 2))
    torch.testing.assert_close(points[:, 0], torch.ones(len(points)), atol=0.1, rtol=0)
    assert points[:, 1].abs().max() == 0
    assert found[-2] == 2


def test_what_is_known_is_the_landing_alone() -> None:
    observation, off = torch.tensor([[1.0, 2.0, 3.0, -4.0]]), torch.tensor([[0.1, 0.0]])
    token, levels = TOKENS.known(observation, off)
    before = TOKENS.parts[0]
    assert token.shape == levels.shape == (1, 1, TOKENS.size)
    assert (levels[..., :before] == 1).all()
    assert (levels[..., before:] == 0).all()
    assert torch.equal(token[0, 0, before:], TOKENS.landing(observation, off)[0])
    moved = TOKENS.landing(observation + torch.tensor([0.0, 0.0, 1.0, 0.0]), off)
    assert not torch.equal(moved, TOKENS.landing(observation, off))


def test_the_landing_of_a_story_is_what_a_plan_from_there_knows() -> None:
    """So a plan begins with what training has shown."""
    told, first = story(), torch.zeros(6, dtype=torch.long)
    values, _ = read(told, first, 4)
    step = 4 * TOKENS.steps
    observation = told.observations[:, step]
    off = on_way(told.way, told.progress[:, step : step + 1])[:, 0] - observation[:, :2]
    known_token, _ = TOKENS.known(observation, off)
    before = TOKENS.parts[0]
    torch.testing.assert_close(values[:, 3, before:], known_token[:, 0, before:])


def test_without_inertia_a_landing_has_no_velocity() -> None:
    still = replace(TOKENS, limit=0.0)
    assert still.parts[1] == TOKENS.parts[1] - 2
    assert still.landing(torch.zeros(3, 2), torch.zeros(3, 2)).shape == (3, still.parts[1])


@pytest.mark.parametrize("tokens", [1, 2])
def test_short_sequences_have_conditions(tokens: int) -> None:
    values, conditions = read(story(), torch.zeros(6, dtype=torch.long), tokens)
    assert values.shape[1] == conditions.shape[1] == tokens


def test_without_a_road_nothing_tells_where_it_was() -> None:
    """Neither the condition nor the landings; all else, and the other rows, stay as they were."""
    values, conditions = read(story(), torch.full((6,), 9))
    rows = torch.tensor([True, False, True, False, False, False])
    without, nothing = TOKENS.untold(values, conditions, rows)
    assert (nothing[rows] == 0).all()
    assert torch.equal(nothing[~rows], conditions[~rows])
    assert torch.equal(without[~rows], values[~rows])
    blank, _ = TOKENS.known(torch.zeros(1, 4), torch.zeros(1, 2))
    marked, _ = TOKENS.known(torch.zeros(1, 4), torch.ones(1, 2))
    off = (marked != blank)[0, 0]
    assert int(off.sum()) == 2
    assert (without[rows][..., off] == 0).all()
    assert torch.equal(without[..., ~off], values[..., ~off])
    assert (values[rows][..., off] != 0).any()


def test_a_plan_can_begin_where_its_story_does() -> None:
    """The token before it stands still, and its landing is the story's own first observation."""
    told = story()
    values, _ = read(told, torch.full((6,), -TOKENS.steps), 5)
    later, _ = read(told, torch.zeros(6, dtype=torch.long), 4)
    torch.testing.assert_close(values[:, 1:], later)
    off = on_way(told.way, told.progress[:, :1])[:, 0] - told.observations[:, 0, :2]
    begin, _ = TOKENS.known(told.observations[:, 0], off)
    before = TOKENS.parts[0]
    torch.testing.assert_close(values[:, 0, before:], begin[:, 0, before:])
    assert (TOKENS.actions(values[:, :1]) == 0).all()
    start = told.observations[:, 0, :2]
    assert (TOKENS.positions(values[:, :1], start) == start[:, None]).all()


def test_tokens_begin_or_end_elsewhere() -> None:
    tokens = torch.randn(2, 3, TOKENS.size, generator=torch.Generator().manual_seed(0))
    start, shift = torch.zeros(2, 2), torch.tensor([[3.0, -1.0], [0.0, 2.0]])
    before, steps = TOKENS.positions(tokens, start), TOKENS.steps
    torch.testing.assert_close(TOKENS.positions(TOKENS.moved(tokens, shift), start), before + shift[:, None])
    after = TOKENS.positions(TOKENS.thrown(tokens, shift), start)
    torch.testing.assert_close(after[:, : 3 * steps - 1], before[:, : 3 * steps - 1])
    torch.testing.assert_close(after[:, -1], before[:, -1] + shift)


FIRST = replace(TOKENS, observation_first=True)


def test_tokens_that_begin_with_their_observation_say_the_same_of_all_else() -> None:
    """Actions, rewards and paths are where they were; the landing is that of the token before."""
    told, first = story(), torch.tensor([0, 3, 7, 20, 33, 60]).clamp(max=39)
    after, _ = TOKENS.of_story(told, first, 10)
    before, conditions = FIRST.of_story(told, first, 10)
    landing = TOKENS.parts[0]
    assert torch.equal(before[..., :landing], after[..., :landing])
    torch.testing.assert_close(before[:, 1:, landing:], after[:, :-1, landing:])
    off = on_way(told.way, told.progress[torch.arange(6), first][:, None])[:, 0]
    off = off - told.observations[torch.arange(6), first, :2]
    known_token, _ = FIRST.known(told.observations[torch.arange(6), first], off)
    torch.testing.assert_close(before[:, 0, landing:], known_token[:, 0, landing:])
    # Each token's condition is the road from its own beginning, the first one's too.
    passed = told.progress[torch.arange(6)[:, None], first[:, None] + FIRST.steps * torch.arange(10)]
    assert torch.equal(conditions, FIRST.condition(told.way, passed, told.spacing))


def test_velocities_are_read_back() -> None:
    told = story()
    values, _ = read(told, torch.zeros(6, dtype=torch.long), 5)
    torch.testing.assert_close(
        TOKENS.velocity(values), told.observations[:, TOKENS.steps : 5 * TOKENS.steps + 1 : TOKENS.steps, 2:]
    )
    still = replace(TOKENS, limit=0.0)
    assert still.velocity(torch.zeros(6, 5, still.size)).shape == (6, 5, 0)
