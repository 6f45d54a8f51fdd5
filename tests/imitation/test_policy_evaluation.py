import pytest

from noiseladder.imitation.disturbances import Blackout
from noiseladder.imitation.policy_evaluation import DoubtTheBlind, believe_all, share


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
