import numpy as np
import pytest
import torch

from noiseladder.imitation.two_routes import Helm, TwoRoutes, sail


def path(episode):
    """Positions, the last one included, (1, T + 1, 2)."""
    last = episode.state[-1:] + episode.actions[-1:]
    return torch.from_numpy(np.concatenate([episode.state, last])).unsqueeze(0)


@pytest.fixture(scope="module")
def passages():
    return [Helm(TwoRoutes()).demonstration(seed) for seed in range(100)]


def test_every_passage_arrives_on_one_side_or_the_other(passages):
    for episode in passages:
        crashed, arrived = sail(TwoRoutes(), path(episode))
        assert not bool(crashed)
        assert bool(arrived)
        beside = episode.state[np.abs(episode.state[:, 0]).argmin(), 1]
        assert np.sign(beside) == episode.notes["side"]
    assert 30 <= sum(episode.notes["side"] > 0 for episode in passages) <= 70  # four deviations of a fair coin


def test_the_average_of_two_good_moves_runs_aground(passages):
    """At every place the mean of what is done there and of its mirror image leads straight on, into the island."""
    course = TwoRoutes()
    ahead = [float(episode.actions[:5, 0].mean()) for episode in passages]
    positions = [course.start([torch.Generator().manual_seed(0)])]
    for _ in range(60):
        positions.append(course.step(positions[-1], torch.tensor([[float(np.mean(ahead)), 0.0]])))
    crashed, arrived = sail(course, torch.stack(positions, dim=1))
    assert bool(crashed)
    assert not bool(arrived)


def test_the_first_move_has_two_modes_and_little_between(passages):
    """What makes it a test of a policy: the mean first move is one that nobody makes."""
    first = np.stack([episode.actions[:4].mean(0) for episode in passages])
    angles = np.degrees(np.arctan2(first[:, 1], first[:, 0]))
    assert abs(angles.mean()) < 10
    assert (np.abs(angles) < 12).mean() < 0.02


def test_a_seed_is_a_passage():
    helm = Helm(TwoRoutes())
    again, other = helm.demonstration(3), helm.demonstration(4)
    np.testing.assert_array_equal(helm.demonstration(3).actions, again.actions)
    assert len(again) != len(other) or not np.array_equal(again.actions, other.actions)


def test_the_state_is_where_the_moves_have_led(passages):
    for episode in passages[:20]:
        np.testing.assert_allclose(np.diff(episode.state, axis=0), episode.actions[:-1], atol=1e-6)
        assert np.linalg.norm(episode.actions, axis=1).max() <= TwoRoutes().longest_move + 1e-6


def test_a_step_through_the_island_crashes_even_when_both_ends_are_water():
    course = TwoRoutes()
    before, after = torch.tensor([[-0.39, 0.1], [-0.39, 0.3]]), torch.tensor([[-0.39, -0.1], [-0.31, 0.38]])
    assert float(before.norm(dim=1).min()) > course.radius
    assert float(after.norm(dim=1).min()) > course.radius
    assert course.crashed(before, after).tolist() == [True, False]
    assert course.crashed(torch.tensor([[0.0, 0.89]]), torch.tensor([[0.0, 0.91]])).tolist() == [True]


def test_long_moves_are_shortened_and_short_ones_are_not():
    course = TwoRoutes()
    moved = course.step(torch.zeros(3, 2), torch.tensor([[3.0, 4.0], [0.0, 0.02], [0.0, 0.0]]))
    torch.testing.assert_close(moved, torch.tensor([[0.048, 0.064], [0.0, 0.02], [0.0, 0.0]]))


def test_what_happens_after_the_arrival_does_not_count():
    course = TwoRoutes()
    home = torch.tensor([[0.0, 0.6], [1.0, 0.0], [0.0, 0.0]])
    crashed, arrived = sail(course, torch.stack([home, home.flip(0)]))
    assert crashed.tolist() == [False, True]
    assert arrived.tolist() == [True, False]


@pytest.mark.parametrize(("options", "said"), [({"radius": 1.0}, "no route"), ({"longest_move": 0.5}, "steps of 0.5")])
def test_a_course_without_a_route_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        TwoRoutes(**options)
