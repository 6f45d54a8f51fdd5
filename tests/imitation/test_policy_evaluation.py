import numpy as np
import pytest

from noiseladder.imitation import FruitSwap, demonstrate
from noiseladder.imitation.disturbances import Blackout
from noiseladder.imitation.policy_evaluation import DoubtTheBlind, believe_all, live_with, share


def test_a_share_has_an_interval():
    assert share(0, 20) == (0.0, 0.0, pytest.approx(0.161, abs=1e-3))
    found, low, high = share(50, 100)
    assert found == 0.5
    assert (low, high) == (pytest.approx(0.404, abs=1e-3), pytest.approx(0.596, abs=1e-3))
    assert share(20, 20)[2] == 1.0
    with pytest.raises(ValueError, match="at least 1"):
        share(0, 0)


def test_the_blind_camera_is_doubted_while_it_is_blind():
    believe = DoubtTheBlind(Blackout("side", 10, 5))
    assert [believe(step) for step in (9, 10, 14, 15)] == [0.0, {"side": 1.0}, {"side": 1.0}, 0.0]
    assert DoubtTheBlind(Blackout("front", 0, 1), 0.5)(0) == {"front": 0.5}
    assert believe_all(3) == 0.0


class Hurried:
    """Acts as the demonstrator does, and says that it is done as soon as the fruits lie swapped."""

    def __init__(self, world):
        self.world = world

    def reset(self):
        self.actions = demonstrate(self.world, self.world.seed)

    @property
    def finished(self):
        return self.world.lies_swapped()

    def act(self, observation, level, memory):
        return np.stack([next(self.actions)])


def test_fruits_have_to_rest_also_after_the_policys_own_end():
    pytest.importorskip("mujoco")
    pytest.importorskip("ogbench", reason="the arm's files: pip install --no-deps ogbench==1.2.2")
    world = FruitSwap(64, pictures=False)
    episode = live_with(world, Hurried(world), 3)
    assert episode.ended
    assert episode.success
    assert world.rested >= 30
    hasty = Hurried(world)
    type(hasty).finished = property(lambda self: self.world.steps > 20)
    assert not live_with(world, hasty, 3).success
