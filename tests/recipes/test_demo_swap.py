from pathlib import Path

import pytest

from noiseladder.recipes import demo as demo_file, trained_swap
from noiseladder.recipes.demo import Demo, present_swap


def test_a_policy_ships():
    assert "swap" in trained_swap.shipped()
    total = sum(path.stat().st_size for path in trained_swap.SHIPPED.rglob("*") if path.is_file())
    assert total < 4_000_000


def test_without_the_extra_the_demo_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(demo_file, "find_spec", lambda name: None)
    present_swap(Demo())
    assert "left out: mujoco and ogbench missing; pip install 'noiseladder[imitation]'" in capsys.readouterr().out


def test_without_opengl_the_demo_goes_on(monkeypatch, capsys):
    def imitate(run, options):
        raise OSError("pictures need OpenGL without a display")

    monkeypatch.setattr(demo_file, "find_spec", lambda name: object())
    monkeypatch.setattr(demo_file, "imitate", imitate)
    present_swap(Demo())
    assert "left out: pictures need OpenGL" in capsys.readouterr().out


def test_without_weights_nothing_is_said(monkeypatch, capsys):
    monkeypatch.setattr(trained_swap, "shipped", dict)
    present_swap(Demo())
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_the_demo_shows_a_swap(tmp_path: Path, capsys):
    pytest.importorskip("mujoco")
    pytest.importorskip("ogbench")
    present_swap(Demo(output=tmp_path))
    said = capsys.readouterr().out
    if "left out" in said:
        pytest.skip(said)
    assert "1 of 1 succeeded" in said
    assert (tmp_path / "swap.gif").stat().st_size > 10_000


@pytest.mark.slow
def test_what_ships_swaps_most_fruits_with_memory_and_none_without():
    """See docs/imitation.md for how many do; ten are enough to notice that it broke."""
    pytest.importorskip("mujoco")
    pytest.importorskip("ogbench")
    from noiseladder.imitation.fruit_swap import FruitSwap
    from noiseladder.imitation.policy_evaluation import live_with

    try:
        world = FruitSwap(64)
    except OSError as error:
        pytest.skip(str(error))
    policy = trained_swap.load_policy("swap")
    try:
        assert sum(live_with(world, policy, seed).success for seed in range(100_000, 100_010)) >= 6
        assert sum(live_with(world, policy, seed, memory=0).success for seed in range(100_000, 100_004)) <= 1
    finally:
        world.close()
