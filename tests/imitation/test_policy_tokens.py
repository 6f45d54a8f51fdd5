from dataclasses import replace

import pytest
import torch

from noiseladder.imitation.policy_tokens import AFTER, PolicyTokens, Trace

CHUNK = 3


def trace(length, seed):
    generator = torch.Generator().manual_seed(seed)
    seen = {
        "front": torch.randn(length, 5, generator=generator),
        "state": 3 + torch.randn(length, 2, generator=generator),
    }
    return Trace(seen, 0.1 * torch.randn(length, 2, generator=generator))


@pytest.fixture
def traces():
    return [trace(11, 0), trace(14, 1)]


@pytest.fixture
def tokens(traces):
    return PolicyTokens.fit(traces, CHUNK)


def test_a_sequence_says_what_was_seen_and_done(traces, tokens):
    batch = tokens.table(traces).cut(torch.tensor([1, 0]), torch.tensor([0, 4]), 2)
    assert batch.tokens.shape == (2, 2, tokens.size)
    for row, (episode, first) in enumerate([(1, 0), (0, 4)]):
        for number in range(2):
            step = first + number * CHUNK
            seen = tokens.seen(batch.tokens[row, number])
            for name, values in traces[episode].seen.items():
                torch.testing.assert_close(seen[name], values[step])
            torch.testing.assert_close(
                tokens.actions(batch.tokens[row, number]), traces[episode].actions[step : step + CHUNK]
            )
    assert float(tokens.over(batch.tokens).max()) == 0
    assert batch.condition[:, :, 0].tolist() == [[1, 0], [0, 0]]


def test_nothing_is_done_before_the_beginning_and_after_the_end(traces, tokens):
    batch = tokens.table(traces).cut(torch.tensor([0, 0]), torch.tensor([-2, 9]), 4)
    before, late = tokens.actions(batch.tokens[0, 0]), tokens.actions(batch.tokens[1])
    assert before[:2].abs().max() == 0
    torch.testing.assert_close(before[2], traces[0].actions[0])
    torch.testing.assert_close(late[0, :2], traces[0].actions[9:11])
    assert late[0, 2:].abs().max() == 0
    torch.testing.assert_close(tokens.over(batch.tokens[1]), torch.tensor([1 / 3, 1, 1, 1]))
    assert batch.condition[0, 0] == pytest.approx(1 / 3)  # of its first token, that share lies in the episode
    assert batch.condition[1, 0] == 0
    # Eleven steps, so steps 9 and 12 count and so does one more token; then nothing is real.
    assert batch.mask[1, :, -1].tolist() == [True, True, False, False]
    assert batch.mask[1, :, 0].tolist() == [True, False, False, False]  # nobody looked after the end
    assert AFTER == 2


def test_answers_to_what_nobody_saw_are_not_learned_from(traces, tokens):
    """A jolt in step 4 moves the hand after that step was looked at: actions 5 and on answer to it."""
    table = tokens.table([replace(traces[0], jolts=(4,))])
    for first, counts in ((1, True), (2, True), (3, False), (4, False), (5, True)):
        mask = table.cut(torch.tensor([0]), torch.tensor([first]), 1).mask[0, 0]
        assert mask[:7].all()
        assert mask[7:].tolist() == [counts] * 7, first


def test_values_are_of_unit_size(traces, tokens):
    table = tokens.table(traces)
    real = torch.cat([torch.arange(int(s), int(s) + int(n)) for s, n in zip(table.starts, table.lengths)])
    torch.testing.assert_close(table.seen[real].std(0), torch.ones(7))
    torch.testing.assert_close(table.actions[real], torch.cat([one.actions for one in traces]))
    written = tokens.deeds(table.actions[real][:24].reshape(8, CHUNK, 2))
    assert 0.7 < float(written.std()) < 1.4
    torch.testing.assert_close(
        tokens.actions(torch.cat([torch.zeros(8, 7), written, torch.zeros(8, 1)], dim=1)),
        table.actions[real][:24].reshape(8, CHUNK, 2),
    )


def test_moves_are_written_as_where_they_have_led(traces):
    tokens = PolicyTokens.fit(traces, CHUNK, moves=1)
    actions = traces[0].actions[:CHUNK]
    written = tokens.deeds(actions).reshape(CHUNK, 2) * tokens.scale[7:-1].reshape(CHUNK, 2)
    torch.testing.assert_close(written[:, 0], actions[:, 0].cumsum(0))
    torch.testing.assert_close(written[:, 1], actions[:, 1])
    assert tokens.scale[7:-1].reshape(CHUNK, 2)[:, 0].unique().numel() == 1
    token = tokens.table(traces).cut(torch.tensor([0]), torch.tensor([3]), 1).tokens
    torch.testing.assert_close(tokens.actions(token)[0, 0], traces[0].actions[3:6])
    with pytest.raises(ValueError, match="3 moves in an action of 2 values"):
        PolicyTokens.fit(traces, CHUNK, moves=3)


def test_a_sense_that_hardly_changes_is_not_blown_up():
    flat = Trace({"state": torch.stack([torch.randn(50), torch.full((50,), 2.0)], dim=1)}, torch.randn(50, 1))
    table = PolicyTokens.fit([flat], CHUNK).table([flat])
    assert table.seen[:, 1].abs().max() < 1e-3


def test_what_is_missing_is_at_level_one(tokens):
    token, levels = tokens.known({"front": None, "state": torch.zeros(4, 2)})
    assert token.shape == (4, 1, tokens.size)
    assert levels[0, 0].tolist() == [1, 0, 1]
    assert tokens.spread(levels)[0, 0].tolist() == [1] * 5 + [0] * 2 + [1] * 7


def test_random_sequences_begin_where_they_are_asked_to(traces, tokens):
    table = tokens.table(traces)
    generator = torch.Generator().manual_seed(0)
    begins = table.draw(400, 3, 1.0, generator).condition[:, 0]
    assert begins.min() > 0
    assert 0.6 < (begins == 1).float().mean() < 0.75  # half of them, and a third of the others
    assert table.draw(200, 3, 0.0, generator).condition[:, 0].max() == 0
    assert 0.35 < (table.draw(400, 3, 0.5, generator).condition[:, 0] > 0).float().mean() < 0.65


@pytest.mark.parametrize(("count", "chunk"), [(0, 3), (1, 0)])
def test_nothing_to_fit(traces, count, chunk):
    with pytest.raises(ValueError, match="expected at least 1"):
        PolicyTokens.fit(traces[:count], chunk)


def grabbing(length=12):
    """Moves of .1 to the right; the gripper closes in step 4 and opens in step 9."""
    actions = torch.zeros(length, 3)
    actions[:, 0] = 0.1
    actions[4:9, 2] = 1.0
    return Trace({"state": torch.randn(length, 2, generator=torch.Generator().manual_seed(0))}, actions)


def waypoints(table, tokens, steps):
    batch = table.cut(torch.zeros(len(steps), dtype=torch.long), torch.tensor(steps), 1)
    return batch.tokens[:, 0, tokens.ending + 1 :] * tokens.scale[tokens.ending + 1 :], batch.mask[:, 0, -1]


def test_a_waypoint_is_where_the_gripper_changes_next_and_then_the_end():
    tokens = PolicyTokens.fit([grabbing()], CHUNK, moves=2, waypoint=True)
    assert tokens.parts == (2, 3 * CHUNK + 1, 2)
    assert tokens.size == 2 + 3 * CHUNK + 1 + 2
    way, counts = waypoints(tokens.table([grabbing()]), tokens, [0, 3, 4, 5, 9, 10])
    torch.testing.assert_close(way[:, 0], torch.tensor([0.4, 0.1, 0.0, 0.4, 0.0, 0.2]))
    assert way[:, 1].abs().max() == 0
    assert counts.all()


def test_a_value_changes_at_the_middle_of_its_range_and_not_where_it_trembles():
    wide = replace(grabbing(), actions=grabbing().actions + torch.tensor([0.0, 0.0, 2.0]))
    tokens = PolicyTokens.fit([wide], CHUNK, moves=2, waypoint=True)
    way, _ = waypoints(tokens.table([wide]), tokens, [0, 3, 4])
    torch.testing.assert_close(way[:, 0], torch.tensor([0.4, 0.1, 0.0]))
    shaking = wide.actions.clone()
    shaking[:, 2] = 3 + 1e-3 * torch.randn(12, generator=torch.Generator().manual_seed(0))
    way, _ = waypoints(tokens.table([replace(wide, actions=shaking)]), tokens, [0, 3, 10])
    torch.testing.assert_close(way[:, 0], torch.tensor([1.2, 0.9, 0.2]))


def test_waypoints_are_of_unit_size_and_reach_before_the_beginning():
    tokens = PolicyTokens.fit([grabbing()], CHUNK, moves=2, waypoint=True)
    table = tokens.table([replace(grabbing(), jolts=(1,))])
    assert float(table.ways[2:14, 0].std(correction=0)) == pytest.approx(1)
    way, counts = waypoints(table, tokens, [-2, -1, 2])
    torch.testing.assert_close(way[:, 0], torch.tensor([0.4, 0.4, 0.2]))
    assert counts.tolist() == [False, False, True]


def test_a_waypoint_does_not_count_where_the_hand_was_moved_on_the_way():
    tokens = PolicyTokens.fit([grabbing()], CHUNK, moves=2, waypoint=True)
    table = tokens.table([replace(grabbing(), jolts=(7,))])
    for step, counts in ((0, True), (4, True), (5, False), (7, False), (8, True), (10, True)):
        assert bool(waypoints(table, tokens, [step])[1]) is counts, step


def test_tokens_with_a_waypoint_are_read_like_others():
    tokens = PolicyTokens.fit([grabbing()], CHUNK, moves=2, waypoint=True)
    token = tokens.table([grabbing()]).cut(torch.tensor([0]), torch.tensor([3]), 4).tokens
    torch.testing.assert_close(tokens.actions(token[:, 0])[0], grabbing().actions[3:6])
    torch.testing.assert_close(tokens.over(token), torch.tensor([[0.0, 0.0, 0.0, 1.0]]))
    written = tokens.written(token[:, :1], tokens.actions(token[:, :1])[:, 0])
    torch.testing.assert_close(written[..., : tokens.ending + 1], token[:, :1, : tokens.ending + 1])
    unknown, levels = tokens.known({"state": torch.zeros(1, 2)})
    assert unknown.shape == (1, 1, tokens.size)
    assert levels.tolist() == [[[0.0, 1.0, 1.0]]]
