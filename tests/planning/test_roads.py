"""Ways are as long as they are, join what crosses, and lead nowhere that was not visited."""

import pytest
import torch
from torch import Tensor
from walks import along, drawn, known

from noiseladder.planning.roads import Roads, shortest

HOOK = [(0.05, 0.05), (3.05, 0.05), (3.05, 1.55), (0.05, 1.55)]
"""Out, up, and back: the ends are 1.5 apart, the way is 7.5."""


def at(*points: tuple[float, float]) -> Tensor:
    return torch.tensor(points)


def length_of(way: Tensor) -> Tensor:
    return way.diff(dim=1).norm(dim=-1).sum(1)


def furthest_from(visited: Tensor, points: Tensor) -> float:
    return float(torch.cdist(points.flatten(0, -2), visited).amin(1).max())


def test_a_straight_way_has_its_length() -> None:
    roads = Roads.learn(drawn([(0.0, 0.0), (3.0, 0.0)]))
    torch.testing.assert_close(roads.way(at((0.0, 0.0)), at((3.0, 0.0)), 0.05)[0, [0, -1]], at((0.0, 0.0), (3.0, 0.0)))
    for start, goal, true in ((0.0, 3.0, 3.0), (2.5, 0.5, 2.0), (1.0, 1.2, 0.2)):
        found = roads.length(at((start, 0.0)), at((goal, 0.0)))
        assert float(found) == pytest.approx(true, abs=0.15)  # half a place
        assert float(length_of(roads.way(at((start, 0.0)), at((goal, 0.0)), 0.05))) == pytest.approx(true, abs=1e-4)


def test_a_way_round_corners_has_the_length_of_what_was_walked() -> None:
    roads = Roads.learn(drawn(HOOK))
    start, goal = at(HOOK[0]), at(HOOK[-1])
    assert float(roads.length(start, goal)) == pytest.approx(7.5, rel=0.05)
    way = roads.way(start, goal, 0.05)
    assert float(length_of(way)) == pytest.approx(7.5, rel=0.08)
    assert furthest_from(along(torch.tensor(HOOK), 0.05), way) < 0.25


def test_all_ways_of_a_lattice_are_city_blocks_long() -> None:
    """Three streets and three avenues, 1 apart: a way is as long as the blocks between."""
    streets = [[(0.0, float(y)), (2.0, float(y))] for y in range(3)]
    avenues = [[(float(x), 0.0), (float(x), 2.0)] for x in range(3)]
    roads = Roads.learn(drawn(*streets, *avenues))
    corners = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0))
    first, second = (part.flatten(0, 1) for part in torch.broadcast_tensors(corners[:, None], corners[None]))
    blocks = (first - second).abs().sum(1)
    found = roads.length(first, second)
    # Corners are cut within a place, 0.3 wide, so a way is a little short.
    assert ((found - blocks).abs() < 0.35).all(), (found - blocks).abs().max()
    assert found[blocks == 0].max() < 1e-6


def test_pieces_that_only_cross_are_joined() -> None:
    roads = Roads.learn(drawn([(-2.0, 0.0), (2.0, 0.0)], [(0.0, -2.0), (0.0, 2.0)]))
    start, goal = at((-2.0, 0.0)), at((0.0, 2.0))
    assert float(roads.length(start, goal)) == pytest.approx(4, abs=0.3)
    way = roads.way(start, goal, 0.05)[0]
    assert way.norm(dim=1).min() < 0.3  # through the crossing
    assert float(way[:, 1].max()) == pytest.approx(2, abs=1e-5)


def test_pieces_that_do_not_meet_are_not_joined() -> None:
    roads = Roads.learn(drawn([(0.0, 0.0), (4.0, 0.0)], [(0.0, 3.0), (3.0, 3.0)]))
    with pytest.raises(ValueError, match=r"from \[1.0, 3.0\]"):
        roads.way(at((1.0, 0.0), (1.0, 3.0)), at((3.0, 0.0), (3.0, 0.0)), 0.05)
    with pytest.raises(ValueError, match=r"to \[1.0, 3.0\]"):
        roads.way(at((1.0, 0.0)), at((1.0, 3.0)), 0.05)


def test_being_carried_away_is_no_road() -> None:
    """One trajectory in which the body jumps from one line to the other, and back."""
    recording = drawn([(0.0, 0.0), (4.0, 0.0)], [(4.0, 3.0), (1.0, 3.0)])
    recording.ends[:-1] = False
    roads = Roads.learn(recording)
    assert (roads.centres[:, 1].abs() < 0.3).all()
    with pytest.raises(ValueError, match="nothing recorded"):
        roads.way(at((1.0, 0.0)), at((3.0, 3.0)), 0.05)


def test_a_far_start_and_a_far_goal_are_refused_with_what_is_near() -> None:
    roads = Roads.learn(drawn(HOOK))
    with pytest.raises(ValueError, match=r"nothing recorded leads from \[9.0, 9.0\]"):
        roads.way(at((9.0, 9.0)), at((0.05, 0.05)), 0.05)


def test_the_gradient_points_along_the_way_not_through_what_lies_between() -> None:
    roads = Roads.learn(drawn(HOOK))
    position = at((1.0, 0.05), (2.0, 0.05), (3.05, 0.8), (1.5, 1.55), (0.2, 1.55)).requires_grad_()
    goal = at(HOOK[-1]).expand(5, 2)
    (gradient,) = torch.autograd.grad(roads.length(position, goal).sum(), position)
    away = torch.nn.functional.normalize(gradient, dim=1)
    along_way = at((-1.0, 0.0), (-1.0, 0.0), (0.0, -1.0), (1.0, 0.0), (1.0, 0.0))
    assert ((away * along_way).sum(1) > 0.95).all()
    assert (gradient.norm(dim=1) > 0.25).all()


def test_length_falls_smoothly_along_a_way() -> None:
    roads = Roads.learn(drawn(HOOK))
    walk = along(torch.tensor(HOOK), 0.05)
    lengths = roads.length(walk, at(HOOK[-1]).expand(len(walk), 2))
    assert (lengths.diff() < 0.02).all()
    assert (lengths.diff().abs() < 0.15).all()


def test_a_way_does_not_depend_on_its_batch() -> None:
    roads = Roads.learn(drawn(HOOK))
    starts, goals = at((0.05, 0.05), (1.0, 0.05), (3.05, 1.0)), at((0.05, 1.55), (2.0, 0.05), (3.05, 1.5))
    together = roads.way(starts, goals, 0.05)
    for row in range(3):
        alone = roads.way(starts[row : row + 1], goals[row : row + 1], 0.05)[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, atol=1e-6, rtol=0)
        torch.testing.assert_close(together[row, len(alone) :], goals[row].expand(together.shape[1] - len(alone), 2))


def test_points_of_a_way_are_a_step_apart_where_it_is_straight() -> None:
    roads = Roads.learn(drawn([(0.0, 0.0), (3.0, 0.0)]))
    way = roads.way(at((0.0, 0.0)), at((3.0, 0.0)), 0.05)[0]
    middle = way[12:40].diff(dim=0).norm(dim=1)
    torch.testing.assert_close(middle, torch.full_like(middle, 0.05), atol=1e-4, rtol=0)


def test_anywhere_is_near_what_was_visited() -> None:
    roads = known().roads
    points = roads.anywhere(500, torch.Generator().manual_seed(0))
    assert torch.cdist(points, roads.centres).amin(1).max() < 0.5 * roads.size
    assert len(torch.unique(roads.place(points))) > 0.5 * len(roads.centres)


def test_shortest_ways_of_a_known_graph() -> None:
    no = torch.inf
    roads = torch.tensor([[no, 1.0, 5.0, no], [no, no, 2.0, no], [no, no, no, 1.0], [no, no, no, no]])
    expected = torch.tensor([[0.0, 1.0, 3.0, 4.0], [no, 0.0, 2.0, 3.0], [no, no, 0.0, 1.0], [no, no, no, 0.0]])
    assert torch.equal(shortest(roads), expected)


def test_a_recording_that_stands_still_is_refused() -> None:
    recording = drawn([(1.0, 1.0), (1.0, 1.0)])
    with pytest.raises(ValueError, match="never change"):
        Roads.learn(recording)
    with pytest.raises(ValueError, match="give a smaller size"):
        Roads.learn(drawn(HOOK), size=50.0)


def test_a_way_does_not_go_back_to_the_nearest_place() -> None:
    """Where the nearest place's only road leads back and the next one's leads forth again, a body would stand still."""
    line = torch.tensor([0.0, -0.8, 0.9, 2.0, 3.0])
    centres = torch.stack([line, torch.zeros(5)], dim=1)
    roads = torch.full((5, 5), torch.inf)
    for first, second in ((0, 1), (1, 2), (2, 3), (3, 4), (4, 3), (3, 2), (2, 0)):
        roads[first, second] = (line[first] - line[second]).abs()
    made = Roads(centres, roads, shortest(roads), 1.0)
    position, goal = torch.tensor([[0.1, 0.0]]), torch.tensor([[3.0, 0.0]])
    assert made.place(position).item() == 0
    way = made.way(position, goal, 0.1)[0]
    assert way[:, 0].min() >= 0.1 - 1e-6
    assert (way[1:, 0] - way[:-1, 0]).min() >= -1e-6


def test_a_way_does_not_begin_behind_a_wall() -> None:
    """The goal is nearer from the place beyond the gap, but nobody was ever seen to cross it."""
    centres = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 2.0], [2.0, 1.0], [1.6, 0.0]])
    roads = torch.full((5, 5), torch.inf)
    for first, second in ((0, 1), (1, 2), (2, 3), (3, 4)):
        roads[first, second] = roads[second, first] = (centres[first] - centres[second]).norm()
    made = Roads(centres, roads, shortest(roads), 1.0)
    way = made.way(torch.tensor([[0.3, 0.0]]), torch.tensor([[1.6, 0.0]]), 0.1)[0]
    assert way[:, 1].max() > 1.2
