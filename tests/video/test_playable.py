"""Openings, the true bouncing world as something to play, and any such world as a Gymnasium environment."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator

from noiseladder.video.bouncing import NO_PUSH, BouncingWorld
from noiseladder.video.clip import Clip, one_hot
from noiseladder.video.playable import Opening, PlayableWorld, action_numbers, idle_action
from noiseladder.video.true_bouncing import TrueBouncing
from noiseladder.video.world_environment import WorldModelEnv
from video.test_world_model import FRAMES, PLAN, world as dream

ACTIONS = np.array([-1, 0, 2, 1, 2])


def opening(seed: int | None = None) -> Opening:
    return Opening(FRAMES, ACTIONS, seed=seed)


def test_both_worlds_can_be_played() -> None:
    worlds: list[PlayableWorld] = [dream(), TrueBouncing()]  # mypy holds this; here they are used
    for world, start in zip(worlds, (opening(), TrueBouncing().opening(4))):
        first = world.reset(start.frames, start.actions, 4)
        np.testing.assert_array_equal(first, start.frames[-1])
        moment = world.snapshot()
        frames = [world.step(action) for action in PLAN]
        world.restore(moment)
        for action, frame in zip(PLAN, frames):
            np.testing.assert_array_equal(world.step(action), frame)


# Openings


def test_an_opening_is_cut_from_a_clip() -> None:
    clip = Clip(FRAMES, one_hot(ACTIONS, 3))
    cut = Opening.of_clip(clip, 2)
    assert cut.later is not None
    assert cut.later_actions is not None
    assert (len(cut.frames), len(cut.later)) == (2, 3)
    assert [*cut.actions, *cut.later_actions] == [*ACTIONS]
    whole = Opening.of_clip(clip, 5)
    assert whole.later is None
    with pytest.raises(ValueError, match="6 frames does not fit"):
        Opening.of_clip(clip, 6)


def test_actions_that_are_not_numbered_are_no_walk_to_follow() -> None:
    assert action_numbers(Clip(FRAMES)).tolist() == [-1] * 5
    with pytest.raises(ValueError, match="not one-hot"):
        action_numbers(Clip(FRAMES, np.full((5, 2), 0.5)))
    with pytest.raises(ValueError, match="not one-hot"):
        action_numbers(Clip(FRAMES, np.ones((5, 2))))


@pytest.mark.parametrize(
    "change",
    [
        {"actions": ACTIONS[:3]},
        {"later": FRAMES},
        {"later": FRAMES[:, :2], "later_actions": ACTIONS},
        {"later": FRAMES, "later_actions": ACTIONS[:2]},
        {"frames": FRAMES.astype(float)},
    ],
)
def test_an_opening_of_pieces_that_do_not_fit(change: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"expected|belong together"):
        replace(opening(), **change)


def test_the_action_that_does_nothing_is_known_by_its_name() -> None:
    assert idle_action(TrueBouncing.actions) == 4
    assert idle_action(("turn left", "forward")) is None


# The true bouncing world


def test_it_is_the_bouncing_world() -> None:
    plain, played = BouncingWorld(), TrueBouncing()
    shapes = plain.start(1, Generator().manual_seed(7))
    played.reset(FRAMES, ACTIONS, 7)
    for action in (0, 1, 4, 2, 3, 4):
        shapes = plain.step(shapes, torch.tensor([action if action < 4 else NO_PUSH]))
        np.testing.assert_array_equal(played.step(action), plain.render(shapes)[0].numpy())


def test_mistakes_are_one_sentence() -> None:
    world = TrueBouncing()
    with pytest.raises(ValueError, match="not begun"):
        world.step(0)
    world.reset(FRAMES, ACTIONS, 0)
    for action in (5, -1, True, 1.0, "1", None, float("nan")):
        with pytest.raises(ValueError, match=r"unknown action .*, expected 0 to 4: push left"):
            world.step(action)  # type: ignore[arg-type]
    for seed in (-1, None, 2**31, 1.5):
        with pytest.raises(ValueError, match=r"seed is .*, expected a whole number"):
            world.reset(FRAMES, ACTIONS, seed)  # type: ignore[arg-type]


# A Gymnasium environment


def test_gymnasium_has_nothing_to_complain_about() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    from gymnasium.utils.env_checker import check_env

    def a_dream(**options):
        return WorldModelEnv(dream(), [opening(), opening(3)], **options)

    def the_truth(**options):
        return WorldModelEnv(TrueBouncing(), [TrueBouncing().opening(1)], **options)

    for name, make in (("Dream", a_dream), ("Truth", the_truth)):
        gymnasium.register(id=f"noiseladder-tests/{name}-v0", entry_point=make)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            environment = gymnasium.make(f"noiseladder-tests/{name}-v0", render_mode="rgb_array")
            check_env(environment.unwrapped, skip_close_check=True)


def test_an_episode_in_a_dream() -> None:
    pytest.importorskip("gymnasium")
    environment = WorldModelEnv(
        dream(), [opening()], judge=lambda frame: (float(frame[0, 0, 0]), False), time_limit=3, render_mode="rgb_array"
    )
    with pytest.raises(ValueError, match="call reset first"):
        environment.step(0)
    seen, info = environment.reset(seed=5)
    np.testing.assert_array_equal(seen, FRAMES[-1])
    assert info == {"opening": 0}
    lived = [environment.step(action) for action in PLAN[:3]]
    assert [truncated for _, _, _, truncated, _ in lived] == [False, False, True]
    assert [reward for _, reward, _, _, _ in lived] == [float(frame[0, 0, 0]) for frame, *_ in lived]
    np.testing.assert_array_equal(environment.render(), lived[-1][0])
    environment.reset(seed=5)
    np.testing.assert_array_equal(environment.step(PLAN[0])[0], lived[0][0])
    environment.reset(seed=6)
    assert (environment.step(PLAN[0])[0] != lived[0][0]).any(), "another seed, another dream"
    for chosen in (9, -1, 0.0, "0", None, False):
        with pytest.raises(ValueError, match=f"no opening {chosen!r}: they are numbered 0 to 0"):
            environment.reset(options={"opening": chosen})
    environment.reset(options={"opening": np.int64(0)})
    for action in (1.7, "1", None, True, 3, -1):
        with pytest.raises(ValueError, match=r"unknown action .*, expected 0 to 2: left, right, go"):
            environment.step(action)
    environment.step(np.int64(1))


def test_environments_that_share_a_world_do_not_mix() -> None:
    pytest.importorskip("gymnasium")
    for make, start in ((dream, opening()), (TrueBouncing, TrueBouncing().opening(1))):
        alone = []
        for seed in (0, 1):
            environment = WorldModelEnv(make(), [replace(start, seed=seed)])
            environment.reset(seed=0)
            alone.append([environment.step(action)[0] for action in PLAN])
        world = make()
        both = [WorldModelEnv(world, [replace(start, seed=seed)]) for seed in (0, 1)]
        for environment in both:
            environment.reset(seed=0)
        for step, action in enumerate(PLAN):
            for environment, expected in zip(both, alone):
                np.testing.assert_array_equal(environment.step(action)[0], expected[step])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"openings": []}, "no openings"),
        ({"openings": [opening(), TrueBouncing().opening(0)]}, "one size"),
        ({"time_limit": 0}, "time_limit is 0"),
        ({"render_mode": "human"}, "expected 'rgb_array'"),
    ],
)
def test_an_environment_that_cannot_be(change, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        WorldModelEnv(**{"world": dream(), "openings": [opening()], **change})
