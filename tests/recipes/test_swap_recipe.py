import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from noiseladder.data.episodes import Episode
from noiseladder.data.npz_episodes import write_npz_episode
from noiseladder.imitation import Observation
from noiseladder.imitation.policy_knowledge import PolicyKnowledge
from noiseladder.imitation.policy_tokens import PolicyTokens
from noiseladder.recipes import swap
from noiseladder.recipes.imitate import Imitate, imitate, load_policy
from noiseladder.training.run import run

OPTIONS = swap.Swap(
    steps=2,
    episodes=4,
    held_out=1,
    chunk=4,
    tokens=4,
    batch=2,
    width=16,
    layers=1,
    threads=1,
    validate_every=2,
    drawing_steps=3,
)


def episode(seed):
    random = np.random.default_rng(seed)
    pictures = {camera: random.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8) for camera in ("front", "side")}
    state = random.normal(size=(24, 4)).astype(np.float32)
    return Episode(f"episode {seed}", pictures, state, random.uniform(-1, 1, (24, 4)).astype(np.float32))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(swap, "recorded", lambda options: [episode(seed) for seed in range(options.episodes)])
    monkeypatch.setenv("NOISELADDER_CACHE", str(tmp_path / "cache"))
    run(lambda: swap.experiment(OPTIONS), OPTIONS, tmp_path / "run", "swap")
    return tmp_path / "run"


def test_a_run_folder_holds_all_that_acting_needs(folder):
    policy, again = load_policy(folder), load_policy(folder)
    shown = episode(7)
    seen = Observation({camera: frames[0] for camera, frames in shown.pictures.items()}, shown.state[0])
    actions = policy.act(seen)
    assert actions.shape == (4, 4)
    np.testing.assert_array_equal(actions, again.act(seen))
    assert np.isfinite(policy.act(Observation({"front": None, "side": None}, seen.state))).all()


@pytest.mark.parametrize("waypoint", [False, True])
@pytest.mark.parametrize("lesson", list(swap.Lesson))
def test_every_lesson_asks_for_actions_and_only_ours_for_a_noisy_past(lesson, waypoint):
    size = 12 + 2 * waypoint
    tokens = PolicyTokens(("front", "state"), (5, 2), 2, 2, torch.zeros(size), torch.ones(size), 2, waypoint)
    made = swap.objective(replace(OPTIONS, lesson=lesson), tokens)
    past = made.draw_levels(64, 6, torch.Generator().manual_seed(0))
    asked = past if made.query_levels is None else made.query_levels(64, 6, torch.Generator().manual_seed(1))
    assert asked.shape == (64, 6, size)
    if waypoint:  # it has the level of the actions where it is asked for, and is not remembered
        assert torch.equal(asked[..., 12:], asked[..., 11:12].expand(-1, -1, 2))
        assert lesson is swap.Lesson.MEMORYLESS or float(past[..., 12:].min()) == 1
        past = past[..., :12]
    assert (asked[..., -1] == 1).float().mean() > 0.4  # half or all of 384
    if lesson in (swap.Lesson.CLONING, swap.Lesson.TEACHER_FORCED):
        assert float(past.max()) == 0
    noisy = (asked[..., -1] > 0) & (asked[..., -1] < 1)
    assert bool(noisy.any()) == (lesson is not swap.Lesson.CLONING)


def test_a_baseline_is_trained_like_ours_and_acts(tmp_path, monkeypatch):
    monkeypatch.setattr(swap, "recorded", lambda options: [episode(seed) for seed in range(options.episodes)])
    monkeypatch.setenv("NOISELADDER_CACHE", str(tmp_path / "cache"))
    options = replace(OPTIONS, lesson=swap.Lesson.MEMORYLESS, drawing_steps=0)
    run(lambda: swap.experiment(options), options, tmp_path / "run", "swap")
    policy, shown = load_policy(tmp_path / "run"), episode(7)
    seen = Observation({camera: frames[0] for camera, frames in shown.pictures.items()}, shown.state[0])
    assert np.isfinite(policy.act(seen, memory=0)).all()


def test_somebody_elses_demonstrations_are_learned_from(tmp_path, monkeypatch):
    """Another camera, pictures that are not square, three values in an action, no robot state."""
    monkeypatch.setenv("NOISELADDER_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    (tmp_path / "mine").mkdir()
    for number in range(3):
        pictures = {"wrist": random.integers(0, 256, (20, 12, 20, 3), dtype=np.uint8)}
        actions = random.normal(size=(20, 3)).astype(np.float32)
        write_npz_episode(
            tmp_path / "mine" / f"{number}.npz",
            Episode("mine", pictures, np.zeros((20, 0), np.float32), actions),
        )
    options = replace(OPTIONS, demonstrations=tmp_path / "mine", moves=0)
    run(lambda: swap.experiment(options), options, tmp_path / "run", "swap")
    policy = load_policy(tmp_path / "run")
    assert policy.act(Observation({"wrist": pictures["wrist"][0]}, np.zeros(0, np.float32))).shape == (4, 3)
    with pytest.raises(ValueError, match="holds 3 episodes and --held-out is 3"):
        swap.experiment(replace(options, held_out=3))


def test_a_run_goes_on(folder, monkeypatch):
    longer = replace(OPTIONS, steps=3)
    run(lambda: swap.experiment(longer), longer, folder, "swap", resume=True)
    assert load_policy(folder).act_on is not None
    assert (folder / "metrics.csv").read_text().count("\n") >= 2


def test_training_may_begin_with_the_weights_of_another_run(folder, tmp_path, monkeypatch):
    first = load_policy(folder).denoiser.state_dict()
    begun = swap.experiment(replace(OPTIONS, start=folder)).denoiser.state_dict()
    assert all(torch.equal(begun[name], values) for name, values in first.items())
    other = swap.experiment(OPTIONS).denoiser.state_dict()
    assert not all(torch.equal(other[name], values) for name, values in first.items())
    with pytest.raises(ValueError, match="was trained with --width 16, expected 32"):
        swap.experiment(replace(OPTIONS, start=folder, width=32))
    with pytest.raises(ValueError, match="was trained with --moves 3, expected 0"):
        swap.experiment(replace(OPTIONS, start=folder, moves=0))
    monkeypatch.setattr(swap, "recorded", None)  # nothing is recorded before it is known whether there is such a run
    with pytest.raises(ValueError, match="nowhere"):
        swap.experiment(replace(OPTIONS, start=tmp_path / "nowhere"))
    for name in ("senses", "tremble"):
        with pytest.raises(ValueError, match=f"{name} is -1, expected a number from 0 on"):
            swap.experiment(replace(OPTIONS, **{name: -1.0}))
    with pytest.raises(ValueError, match="dark is 2, expected a share"):
        swap.experiment(replace(OPTIONS, dark=2.0))


def test_another_recipe_is_no_policy(folder):
    recipe = swap.Swap(steps=2)
    assert recipe.episodes == 150
    with pytest.raises(ValueError):
        load_policy(folder / "nowhere")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (Imitate(memory="much"), "--memory is 'much', expected all, none or a number"),
        (Imitate(occlude="back"), "--occlude is 'back', expected front or side"),
        (Imitate(episodes=0), "--episodes is 0"),
        (Imitate(trust="half"), "--trust is 'half', expected surprise or a level from 0"),
        (Imitate(trust="1.5"), "--trust is '1.5'"),
        (Imitate(dream=True, memory="none"), "--dream looks once and remembers all"),
        (Imitate(dream=True, trust="surprise"), "leave --memory, --occlude and --trust out"),
        (Imitate(trust="0.5"), "say which with --occlude"),
    ],
)
def test_bad_options_are_said_before_anything_is_loaded(tmp_path, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        imitate(tmp_path, options)


def test_held_out_leaves_something_to_learn_from():
    with pytest.raises(ValueError, match="held_out is 4, expected 1 to 3"):
        swap.experiment(replace(OPTIONS, held_out=4))


def test_a_waypoint_is_the_default_and_a_start_has_to_agree_about_it(folder):
    assert PolicyKnowledge.load(folder).tokens.waypoint
    with pytest.raises(ValueError, match="was trained with --waypoint: give the same"):
        swap.begin_with(folder, replace(OPTIONS, waypoint=False))
    assert swap.begin_with(folder, OPTIONS).tokens.waypoint


def test_a_run_from_before_the_waypoint_can_be_gone_on_from_without_one(folder, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    known = PolicyKnowledge.load(old)
    PolicyKnowledge(replace(known.tokens, waypoint=False), known.eyes).save(old)
    recipe = json.loads((old / "recipe.json").read_text())
    del recipe["waypoint"]
    (old / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(ValueError, match="was trained with --no-waypoint: give the same"):
        swap.begin_with(old, OPTIONS)
    assert not swap.begin_with(old, replace(OPTIONS, waypoint=False)).tokens.waypoint
