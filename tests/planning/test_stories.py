"""Stories: what the body could do, at its own full speed, to rest at the end of the road."""

import torch
from walks import jumped, known

from noiseladder.planning.body import Body
from noiseladder.planning.roads import Roads
from noiseladder.planning.stories import Stories, end_of, nearest_ahead

START, GOAL = torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 1.0]])
"""The two ends of the smallest maze: out, across and back."""


def told(count=64, steps=300, seed=0):
    return known().stories.tell(count, steps, torch.Generator().manual_seed(seed))


def followed(off=0.0, steps=250):
    stories = known().stories
    way = stories.roads.way(START, GOAL, stories.spacing)
    return stories.follow(way, stories.body.at_rest(START + off), steps)


def test_a_story_ends_at_rest_at_its_goal() -> None:
    end = followed().observations[:, -1]
    assert (end[:, :2] - GOAL).norm() < 0.05
    assert end[:, 2:].abs().max() < 0.1


def test_told_stories_end_at_rest_at_their_goals_in_spite_of_wobble_and_kicks() -> None:
    story = told(steps=400)
    missed = (story.observations[:, -1, :2] - story.way[:, -1]).norm(dim=1)
    assert missed.median() < 0.1
    assert (missed < 0.5).float().mean() > 0.9


def test_a_story_is_nearly_as_fast_as_the_body_can_be() -> None:
    """The way is 5 or 6 cells with two turns; at full speed along an axis a step is .05."""
    story, stories = followed(), known().stories
    length = float(end_of(story.way, story.spacing)[0]) * story.spacing
    there = (story.observations[0, :, :2] - GOAL).norm(dim=1) < 0.5
    arrival = int(there.int().argmax())
    assert there.any()
    assert arrival < 2.0 * length / stories.top_speed
    assert story.observations[0, :, 2:].abs().max() > 0.8 * stories.body.limit
    # No body is faster than its limit allows, even on a diagonal.
    assert arrival > 0.6 * (length - 0.5) / stories.top_speed


def test_progress_never_goes_back_and_comes_to_the_end() -> None:
    for story in (followed(), told()):
        assert (story.progress.diff(dim=1) >= 0).all()
    story = followed()
    assert int(story.progress[0, -1]) >= int(end_of(story.way, story.spacing)[0]) - 1


def test_a_start_off_the_road_comes_back_to_it() -> None:
    stories = known().stories
    way = stories.roads.way(START, GOAL, stories.spacing)
    off = stories.follow(way, stories.body.at_rest(START + torch.tensor([[0.0, -0.3]])), 250)
    apart = torch.cdist(off.observations[..., :2], off.way)[0].amin(1)
    assert apart[0] > 0.25
    assert apart[60:].max() < 0.15
    assert (off.observations[0, -1, :2] - GOAL).norm() < 0.05


def test_actions_are_allowed_and_lead_to_what_follows() -> None:
    story, body = told(), known().body
    assert story.actions.abs().max() <= 1
    plain = followed()
    after = body.step(plain.observations[:, :-1].flatten(0, 1), plain.actions.flatten(0, 1))
    torch.testing.assert_close(after, plain.observations[:, 1:].flatten(0, 1), atol=1e-5, rtol=0)


def test_the_same_seed_tells_the_same_stories() -> None:
    first, again, other = told(8, 50), told(8, 50), told(8, 50, seed=1)
    assert torch.equal(first.observations, again.observations)
    assert not torch.equal(first.observations[:, 0], other.observations[:, 0])


def test_a_body_without_velocity_has_stories_too() -> None:
    recording = jumped()
    body = Body.learn(recording)
    roads = Roads.learn(recording, body.axes)
    story = Stories(roads, body).tell(32, 300, torch.Generator().manual_seed(0))
    missed = (story.observations[:, -1] - story.way[:, -1]).norm(dim=1)
    assert missed.max() < 1.0
    assert story.actions.abs().max() <= 1


def test_nearest_ahead_does_not_jump_to_where_the_way_comes_by_again() -> None:
    """Out and back on one line: the nearest point of all is on the way back, the nearest ahead is not."""
    out = torch.linspace(0, 5, 101)
    way = torch.stack([torch.cat([out, out.flip(0)]), torch.zeros(202)], dim=1)[None]
    found = nearest_ahead(way, torch.tensor([10]), torch.tensor([[0.75, 0.0]]))
    assert found.tolist() == [15]
    assert nearest_ahead(way, torch.tensor([20]), torch.tensor([[0.75, 0.0]])).tolist() == [20]


def test_the_end_of_a_way_is_where_copies_of_the_goal_begin() -> None:
    line = torch.linspace(0, 1, 21)
    way = torch.stack([torch.cat([line, torch.ones(10)]), torch.zeros(31)], dim=1)[None]
    assert end_of(way, 0.05).tolist() == [20]
    assert end_of(torch.ones(1, 5, 2), 0.05).tolist() == [0]
