import numpy as np

from noiseladder.data.episodes import Episode
from noiseladder.imitation.spoiling import GRAIN, spoiled


def episode():
    grey = np.full((5, 16, 16, 3), 120, np.uint8)
    return Episode("shown", {"front": grey, "side": grey}, np.ones((5, 2), np.float32), np.ones((5, 2), np.float32))


def test_only_pictures_are_spoiled_and_by_their_seed():
    original, worse = episode(), spoiled(episode(), 3)
    np.testing.assert_array_equal(worse.actions, original.actions)
    np.testing.assert_array_equal(worse.state, original.state)
    assert original.pictures["front"].min() == original.pictures["front"].max() == 120
    np.testing.assert_array_equal(worse.pictures["front"], spoiled(episode(), 3).pictures["front"])
    assert (worse.pictures["front"] != spoiled(episode(), 4).pictures["front"]).mean() > 0.5
    assert (worse.pictures["front"] != worse.pictures["side"]).mean() > 0.5


def test_brightness_lasts_for_an_episode_and_grain_for_a_frame():
    means, grains = [], []
    for seed in range(40):
        frames = spoiled(episode(), seed).pictures["front"].astype(float)
        assert np.ptp(frames.mean((1, 2)), axis=0).max() < 6
        means.append(frames.mean())
        grains.append(frames[0].std((0, 1)).mean())
    assert 85 < min(means) < max(means) < 155
    assert max(grains) < GRAIN + 2
    assert min(grains) < 2
