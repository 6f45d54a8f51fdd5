import warnings

import numpy as np
import pytest

from noiseladder.imitation import Blackout, environment as environment_file, register
from noiseladder.imitation.fruit_swap import TIME_LIMIT

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")
pytest.importorskip("ogbench", reason="the arm's files: pip install --no-deps ogbench==1.2.2")


@pytest.fixture(scope="module")
def environment():
    try:
        made = gymnasium.make(register(), size=32, render_mode="rgb_array")
    except OSError as error:
        pytest.skip(str(error))
    yield made
    made.close()


def test_gymnasium_has_nothing_to_complain_about(environment):
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(environment.unwrapped, skip_close_check=True)


def test_registering_twice_changes_nothing_and_the_name_is_found(environment):
    specification = gymnasium.registry[register()]
    assert register() == "noiseladder/FruitSwap-v0"
    assert gymnasium.registry["noiseladder/FruitSwap-v0"] is specification


def test_an_episode_is_deterministic_from_its_seed(environment):
    def trace(seed):
        seen, info = environment.reset(seed=seed)
        frames = [seen]
        random = np.random.default_rng(0)
        for _ in range(3):
            low, high = environment.action_space.low, environment.action_space.high
            frames.append(environment.step(random.uniform(low, high).astype(np.float32))[0])
        # What follows a seeded reset is settled too.
        frames.append(environment.reset()[0])
        return frames, info

    first, info = trace(4)
    again, same = trace(4)
    other, _ = trace(5)
    assert info == same
    for one, two in zip(first, again):
        for key in one:
            np.testing.assert_array_equal(one[key], two[key])
    assert any((one["state"] != two["state"]).any() for one, two in zip(first, other))


def test_the_reward_comes_once_with_the_end(environment):
    environment.reset(seed=0)
    world = environment.unwrapped.world
    stay = np.zeros(4, np.float32)
    assert environment.step(stay)[1:4] == (0.0, False, False)
    world.rested, world.lies_swapped = 29, lambda: True
    try:
        _, reward, ended, cut, info = environment.step(stay)
    finally:
        del world.lies_swapped
    assert (reward, ended, cut, info["success"]) == (1.0, True, False, True)
    environment.reset(seed=0)
    world.steps = TIME_LIMIT - 1
    _, reward, ended, cut, info = environment.step(stay)
    assert (reward, ended, cut, info["success"]) == (0.0, False, True, False)


def test_options_choose_plates_and_disturbances(environment):
    seen, info = environment.reset(seed=1, options={"slots": (2, 1), "disturbances": [Blackout("front", 0, 3)]})
    assert info["slots"] == (2, 1)
    assert int(seen["front"].max()) == 0
    picture = environment.render()
    assert picture.shape == (32, 64, 3)
    np.testing.assert_array_equal(picture[:, 32:], seen["side"])
    assert int(environment.reset(seed=1)[0]["front"].max()) > 0


def test_a_render_mode_that_does_not_exist_is_refused_before_anything_is_built():
    with pytest.raises(ValueError, match="'human': expected 'rgb_array'"):
        environment_file.fruit_swap_environment(render_mode="human")


def test_gymnasium_that_is_not_there_is_named(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(environment_file, "import_module", absent)
    with pytest.raises(ImportError, match=r"pip install 'noiseladder\[imitation\]'"):
        register()
