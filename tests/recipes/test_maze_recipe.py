"""The maze recipe: from somebody's own recording to a run folder that holds all that planning takes."""

import json
import sys
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "planning"))

from walks import known, pushed

from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.planning.knowledge import Knowledge
from noiseladder.planning.planner import Planner
from noiseladder.planning.recordings import arrays
from noiseladder.recipes.maze import FromObservation, LandingsKnown, Maze, cut, experiment, network, often_hidden, tell
from noiseladder.recipes.trained_maze import load
from noiseladder.training import generator_for
from noiseladder.training.run import run

SMALL = {
    "steps": 2, "batch": 8, "tokens": 4, "steps_per_token": 4, "stories": 32, "story_steps": 60, "width": 16,
    "layers": 1, "warmup": 0, "threads": 1,
}  # fmt: skip


def options(path: Path, **changed) -> Maze:
    np.savez(path / "mine.npz", **arrays(pushed()))
    return Maze(maze=str(path / "mine.npz"), **(SMALL | changed))


@pytest.mark.parametrize("changed", [{}, {"recurrent": True}, {"observation_first": True}])
def test_a_run_holds_all_that_planning_takes(tmp_path: Path, changed: dict[str, bool]) -> None:
    chosen, folder = options(tmp_path, **changed), tmp_path / "run"
    run(lambda: experiment(chosen), chosen, folder, "maze")
    knowledge = Knowledge.load(folder)
    # Least squares rounds otherwise on another number of threads.
    for mine, theirs in zip(astuple(knowledge.body), astuple(known().body)):
        assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-6)
    assert json.loads((folder / "recipe.json").read_text())["recipe"] == "maze"
    trained = load(folder)
    assert trained.recipe == chosen
    assert trained.knowledge.tokens.observation_first is chosen.observation_first
    goal = torch.tensor([[3.0, 1.0]])
    found = Planner(trained.denoiser, trained.knowledge).plan(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), goal)
    assert found.tokens.isfinite().all()


def test_half_of_a_begun_sequence_is_known() -> None:
    tokens = known().tokens
    levels = FromObservation(often_hidden, tokens, begin=1.0)(50, 6, torch.Generator().manual_seed(0))
    before = tokens.parts[0]
    assert levels.shape == (50, 6, tokens.size)
    assert (levels[:, 0, :before] == 1).all()
    assert (levels[:, 0, before:] == 0).all()
    assert (levels[:, 1:] == levels[:, 1:, :1]).all()
    other = FromObservation(often_hidden, tokens, begin=0.0)(50, 6, torch.Generator().manual_seed(0))
    assert (other == other[..., :1]).all()
    assert torch.equal(other[:, 1:], levels[:, 1:])


def test_what_is_done_first_is_learned_where_tokens_begin_with_their_observation() -> None:
    tokens = replace(known().tokens, observation_first=True)
    levels = FromObservation(often_hidden, tokens, begin=1.0)(50, 6, torch.Generator().manual_seed(0))
    plain = FromObservation(often_hidden, tokens, begin=0.0)(50, 6, torch.Generator().manual_seed(0))
    before = tokens.parts[0]
    assert (levels[:, 0, before:] == 0).all()
    assert torch.equal(levels[:, 0, :before], plain[:, 0, :before])
    assert torch.equal(levels[:, 1:], plain[:, 1:])


def test_what_to_do_is_asked_of_known_observations() -> None:
    tokens = replace(known().tokens, observation_first=True)
    levels = LandingsKnown(often_hidden, tokens)(200, 6, torch.Generator().manual_seed(0))
    before, landing = levels[..., : tokens.parts[0]], levels[..., tokens.parts[0] :]
    assert (before == before[..., :1]).all()
    shown = (landing == 0).all(-1)
    assert (landing[~shown] == before[..., :1][~shown]).all()
    assert 0.6 < shown.float().mean() < 0.8


def test_a_third_is_hidden() -> None:
    levels = often_hidden(300, 20, torch.Generator().manual_seed(0))
    assert 0.28 < (levels == 1).float().mean() < 0.38
    assert 0 <= levels.min() < levels[levels < 1].max() < 1


def test_sequences_are_cut_from_stories_and_belong_to_their_seed() -> None:
    chosen = Maze(**SMALL)
    told = tell(known(), pushed(), chosen, 0)
    first, again, other = (cut(known().tokens, told, chosen, 16, generator_for(seed, "cuts")) for seed in (0, 0, 1))
    assert first.tokens.shape == (16, 4, known().tokens.size)
    assert torch.equal(first.tokens, again.tokens)
    assert not torch.equal(first.tokens, other.tokens)
    assert first.tokens.isfinite().all()


def test_parts_of_stories_have_nothing_in_common() -> None:
    chosen = Maze(**SMALL)
    first, second, held_out = (tell(known(), pushed(), chosen, part).observations[:, 0] for part in (0, 1, -1))
    assert not torch.equal(first, second)
    assert not torch.equal(first, held_out)
    assert torch.equal(first, tell(known(), pushed(), chosen, 0).observations[:, 0])


def test_a_token_sees_as_many_others_as_in_training() -> None:
    """Whatever the length of the plan: an output does not depend on tokens that training never showed together."""
    chosen, tokens = Maze(**SMALL), known().tokens
    torch.manual_seed(0)
    denoiser = Denoiser(network(chosen, tokens), Cosine()).eval()
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    noisy, condition = torch.randn(1, 9, tokens.size), torch.randn(1, 9, tokens.condition_size)
    levels = torch.full((1, 9), 0.5)
    moved = noisy.clone()
    moved[:, 2] += 1.0
    with torch.no_grad():
        first, second = (denoiser(each, levels, condition).clean for each in (noisy, moved))
    differs = (first != second).any(-1)[0].tolist()
    assert differs[2]
    assert not any(differs[:2])
    # Three layers would carry it further; this network has one, and its token sees itself, the first and two before.
    assert not any(differs[2 + chosen.tokens :])


def test_the_network_is_causal() -> None:
    for recurrent in (False, True):
        assert network(Maze(**SMALL, recurrent=recurrent), known().tokens).causal


@pytest.mark.parametrize(
    ("options", "says"), [(Maze(maze="medim"), "did you mean medium"), (Maze(tokens=99), "as long as a sequence")]
)
def test_what_cannot_be_made_leaves_no_run_behind(options: Maze, says: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for _ in range(2):  # the second time the folder is still free
        with pytest.raises(ValueError, match=says):
            run(lambda: experiment(options), options, folder, "maze")
    assert not folder.exists()
