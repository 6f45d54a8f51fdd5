"""The baseline: windows go in and out of tokens unharmed, ends are pinned, the controller follows its plan."""

from pathlib import Path

import pytest
import torch
from walks import pushed

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.training_levels import shared
from noiseladder.networks import TransformerNetwork
from noiseladder.planning.diffuser import BetweenEnds, DiffuserPlanner, Windows, WindowTokens
from noiseladder.training.tensors_file import write_tensors

TOKENS = WindowTokens.learn(pushed(), 64, 8)
STARTS = torch.tensor([[1.0, 1.0, 0.5, 0.0], [3.0, 1.0, 0.0, -1.0]])
GOALS = torch.tensor([[3.0, 1.0], [1.0, 1.0]])


def denoiser() -> Denoiser:
    torch.manual_seed(0)
    network = TransformerNetwork(TOKENS.size, 32, 1, 2, parts=TOKENS.parts, causal=False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return Denoiser(network, Cosine()).eval().requires_grad_(False)


def drawn(count: int = 12) -> torch.Tensor:
    windows = Windows(pushed(), TOKENS)
    return windows.draw(windows.begins, count, torch.Generator().manual_seed(0))


def test_windows_are_read_back_and_cross_no_end() -> None:
    """Within a trajectory the ball never moves further than it can in a step."""
    observations, actions = TOKENS.split(drawn(200))
    assert observations.shape == (200, 64, 4)
    assert actions.abs().max() <= 1.0001
    assert observations[..., :2].diff(dim=1).abs().max() < 0.06
    torch.testing.assert_close(TOKENS.join(observations, actions), drawn(200), atol=1e-5, rtol=0)


def test_the_ends_of_a_window_are_its_first_and_last_observation() -> None:
    tokens = drawn()
    observations, _ = TOKENS.split(tokens)
    known, where = TOKENS.ends(observations[:, 0], observations[:, -1])
    torch.testing.assert_close(known[where], tokens[where], atol=1e-5, rtol=0)
    assert where.sum() == 12 * 8


def test_training_shows_the_ends_and_hides_the_rest_at_one_level() -> None:
    levels = BetweenEnds(shared, TOKENS)(5, TOKENS.length, torch.Generator().manual_seed(0))
    where = TOKENS.pinned().expand(5, -1, -1)
    assert (levels[where] == 0).all()
    for row in range(5):
        assert len(levels[row][~where[row]].unique()) == 1
    objective = DiffusionForcing(BetweenEnds(shared, TOKENS))
    assert objective(denoiser(), Batch(drawn()), torch.Generator().manual_seed(0)).isfinite()


def test_a_plan_goes_from_start_to_rest_at_the_goal() -> None:
    observations, _ = DiffuserPlanner(denoiser(), TOKENS, steps=3).whole(STARTS, GOALS)
    torch.testing.assert_close(observations[:, 0], STARTS, atol=1e-4, rtol=0)
    torch.testing.assert_close(observations[:, -1, :2], GOALS, atol=1e-4, rtol=0)
    assert observations[:, -1, 2:].abs().max() < 1e-4


def test_an_episode_does_not_depend_on_its_batch() -> None:
    together, alone = DiffuserPlanner(denoiser(), TOKENS, steps=3), DiffuserPlanner(denoiser(), TOKENS, steps=3)
    together.reset(2)
    both = together.whole(STARTS, GOALS)[0]
    for row in range(2):
        alone.reset(1)
        single = alone.whole(STARTS[row : row + 1], GOALS[row : row + 1])[0]
        torch.testing.assert_close(both[row : row + 1], single, atol=1e-4, rtol=0)


def test_the_controller_follows_one_plan_and_then_holds_the_goal() -> None:
    planner = DiffuserPlanner(denoiser(), TOKENS, steps=3)
    planner.reset(2)
    first = planner.plan(STARTS, GOALS)
    planned = planner.planned
    assert planned is not None
    error = planned[:, 1] - STARTS
    torch.testing.assert_close(first[:, 0], (error[:, :2] + error[:, 2:]).clamp(-1, 1))
    for _ in range(TOKENS.horizon + 5):
        last = planner.plan(STARTS, GOALS)
    assert planner.planned is planned
    torch.testing.assert_close(last[:, 0], (GOALS - STARTS[:, :2] - STARTS[:, 2:]).clamp(-1, 1), atol=1e-4, rtol=0)


def test_its_own_actions_are_those_of_the_plan() -> None:
    planner = DiffuserPlanner(denoiser(), TOKENS, steps=3, own_actions=True)
    again = DiffuserPlanner(denoiser(), TOKENS, steps=3)
    torch.testing.assert_close(planner.plan(STARTS, GOALS), again.whole(STARTS, GOALS)[1])


def test_the_layout_survives_its_file_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    TOKENS.save(tmp_path)
    assert WindowTokens.load(tmp_path) == TOKENS
    write_tensors(tmp_path / "windows.safetensors", {}, {"kind": "other"})
    with pytest.raises(ValueError, match="train the diffuser recipe again"):
        WindowTokens.load(tmp_path)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="whole tokens"):
        WindowTokens.learn(pushed(), 60, 8)
    with pytest.raises(ValueError, match="shorter horizon"):
        Windows(pushed(), WindowTokens.learn(pushed(), 4000, 8))
    with pytest.raises(ValueError, match="a goal for each"):
        DiffuserPlanner(denoiser(), TOKENS).plan(STARTS, GOALS[:1])
