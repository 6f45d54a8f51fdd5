"""A network can tell levels apart where it matters, changes smoothly with them, and knows the exact ends."""

import pytest
import torch

from noiseladder.networks.levels import LevelEmbedding


@pytest.fixture
def embed() -> LevelEmbedding:
    torch.manual_seed(0)
    return LevelEmbedding(1, 64).double()


def moved(embed: LevelEmbedding, one: float, other: float) -> float:
    levels = torch.tensor([[one, other]], dtype=torch.float64)
    first, second = embed(levels)[0]
    return (first - second).norm().item()


def test_levels_near_the_ends_are_told_apart(embed: LevelEmbedding) -> None:
    """Twice the noise of .001 is as visible as .3 against .46, which is twice the odds; so it is near 1."""
    middle = moved(embed, 0.3, 6 / 13)
    assert moved(embed, 0.001, 0.002) > 0.25 * middle
    assert moved(embed, 0.999, 0.998) > 0.25 * middle


def test_it_is_smooth(embed: LevelEmbedding) -> None:
    """Half the step, half the change; and half the step, a quarter of the bend: two derivatives."""

    def change_and_bend(points: int) -> tuple[float, float]:
        with torch.no_grad():
            values = embed(torch.linspace(5e-4, 1 - 5e-4, points, dtype=torch.float64)[None])[0]
        steps = values.diff(dim=0)
        return steps.norm(dim=-1).max().item(), steps.diff(dim=0).norm(dim=-1).max().item()

    change, bend = change_and_bend(40_001)
    half_change, half_bend = change_and_bend(80_001)
    assert change / half_change == pytest.approx(2, rel=0.1)
    assert bend / half_bend == pytest.approx(4, rel=0.1)


def test_exact_ends_are_marked_and_the_marks_start_silent(embed: LevelEmbedding) -> None:
    assert moved(embed, 0.0, 1e-9) < 1e-4
    assert moved(embed, 1.0, 1 - 1e-9) < 1e-4
    with torch.no_grad():
        embed.read.weight += 0.1
    assert moved(embed, 0.0, 1e-9) > 1e-2
    assert moved(embed, 1.0, 1 - 1e-9) > 1e-2


def test_each_part_is_told_on_its_own() -> None:
    torch.manual_seed(0)
    embed = LevelEmbedding(3, 16, parts=(2, 1))
    levels = torch.tensor([[[0.2, 0.2, 0.7], [0.7, 0.7, 0.2], [0.2, 0.2, 0.2]]])
    first, second, third = embed(levels)[0]
    assert (first - second).norm() > 0.01
    assert (first - third).norm() > 0.01
    assert torch.equal(embed(torch.tensor([[0.2]]))[0, 0], embed(torch.tensor([[[0.2, 0.2, 0.2]]]))[0, 0])
