import pytest
import torch

from noiseladder.planning.maze import LARGE, MAZES, MEDIUM, UMAZE, Maze, Norms, layout


def test_the_body_is_free_where_d4rl_lets_it_stand() -> None:
    # Cell (1, 1) of umaze has walls left, above and below; to (1, 2) it is open.
    edge = torch.tensor(
        [[0.401, 1.0], [0.399, 1.0], [1.199, 1.0], [1.201, 1.0], [1.0, 0.401], [1.0, 0.399], [1.0, 1.5]]
    )
    assert UMAZE.inside(edge).tolist() == [True, False, True, False, True, False, True]
    assert UMAZE.clearance(torch.tensor([0.8, 2.0])).item() == pytest.approx(0.4)


def test_a_corner_is_round_for_a_round_body() -> None:
    # The wall (2, 2) of umaze ends at (2.3, 2.3) and (3, 3) is free beyond it.
    corner, diagonal = torch.tensor([2.3, 2.3]), torch.tensor([1.0, 1.0]) / 2**0.5
    assert UMAZE.clearance(corner + 0.15 * diagonal).item() == pytest.approx(0.05, abs=1e-6)
    assert UMAZE.clearance(corner + 0.05 * diagonal).item() == pytest.approx(-0.05, abs=1e-6)


def test_the_clearance_is_the_distance_to_the_nearest_of_all_walls() -> None:
    generator = torch.Generator().manual_seed(0)
    place = LARGE.cells[torch.randint(len(LARGE.cells), (500,), generator=generator)] - 0.2
    place = place + torch.rand(500, 2, generator=generator) - 0.5
    apart = ((place[:, None] - (LARGE.walls.nonzero() - 0.2)).abs() - 0.5).clamp(min=0).norm(dim=-1).amin(1)
    torch.testing.assert_close(LARGE.clearance(place), apart - 0.1)


@pytest.mark.parametrize("maze", MAZES.values(), ids=MAZES)
def test_the_stock_layouts(maze: Maze) -> None:
    assert maze.size == {"umaze": (5, 5), "medium": (8, 8), "large": (9, 12)}[maze.name]
    assert len(maze.cells) == {"umaze": 7, "medium": 26, "large": 46}[maze.name]
    assert maze.goal == {"umaze": (1, 1), "medium": (6, 6), "large": (7, 9)}[maze.name]
    assert tuple(maze.cells[-1].tolist()) == maze.goal
    assert maze.inside(maze.cells.float()).all()
    assert not maze.inside(maze.walls.nonzero().float()).any()


def test_scores() -> None:
    assert MEDIUM.score(torch.tensor([13.13, 277.39])).tolist() == pytest.approx([0, 100], abs=1e-4)
    with pytest.raises(ValueError, match="no norms"):
        layout("###|#O#|###").score(torch.zeros(1))
    assert layout("###|#O#|###", norms=Norms(0, 50)).score(torch.tensor(25.0)) == 50


def test_your_own_layout() -> None:
    maze = layout("""
        1111
        10.1
        1111
    """)
    assert maze.goal == (1, 1)
    assert maze.cells.tolist() == [[1, 2], [1, 1]]
    assert layout("####|#OG#|####").goal == (1, 2)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("###|#O#|####", "rows of 3 and of 4"),
        ("###|#X#|###", "the sign 'X'"),
        ("####|#GG#|####", "2 goals"),
        ("###|###", "no free cell"),
        ("###|OO#|###", r"open at cell \(1, 0\)"),
        ("#####|#O#O#|#####", r"from cell \(1, 1\) to cell \(1, 3\)"),
    ],
)
def test_a_layout_that_cannot_be(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        layout(text)


@pytest.mark.parametrize(
    ("position", "why"),
    [
        ([2.0, 1.0], r"start \(2, 1\) is in a wall of maze 'umaze'.*nearest one is \(3, 1\)"),
        ([9.0, 1.0], r"\(9, 1\) is outside the 5 x 5 cells"),
        ([1e30, 1.0], r"is outside the 5 x 5 cells"),  # no cell has such a number
        ([float("nan"), 1.0], "is not a place"),
        ([float("inf"), 1.0], "is not a place"),
        ([1.0], r"so \(..., 2\)"),
    ],
)
def test_an_impossible_start_is_named(position: list[float], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        UMAZE.check_inside(torch.tensor(position))


def test_the_first_impossible_goal_of_many_is_named() -> None:
    with pytest.raises(ValueError, match=r"goal \(2, 2\)"):
        UMAZE.check_inside(torch.tensor([[1.0, 1.0], [2.0, 2.0], [0.0, 0.0]]), "goal")
    UMAZE.check_inside(torch.tensor([[1.0, 1.0], [0.38, 1.0]]))  # pressed in a little, as bodies at a wall are
