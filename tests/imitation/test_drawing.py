import numpy as np
import pytest
import torch

from noiseladder.data.episodes import Episode
from noiseladder.imitation.drawing import Drawing, can_draw, learn_to_draw
from noiseladder.imitation.policy_tokens import PolicyTokens, Trace

SIZE = 16


def shown(count=160):
    """A white square on grey, whose place is what the eye says."""
    random = np.random.default_rng(0)
    places = random.integers(0, SIZE - 4, (count, 2))
    frames = np.full((count, SIZE, SIZE, 3), 90, np.uint8)
    for frame, (down, across) in zip(frames, places):
        frame[down : down + 4, across : across + 4] = 250
    actions = np.zeros((count, 1), np.float32)
    trace = Trace({"front": torch.from_numpy(places).float()}, torch.from_numpy(actions))
    return Episode("squares", {"front": frames}, np.zeros((count, 0), np.float32), actions), trace


def test_it_draws_what_was_read(tmp_path):
    episode, trace = shown()
    tokens = PolicyTokens.fit([trace], 1)
    drawing = Drawing(2, ("front",), SIZE, width=16)
    losses = list(learn_to_draw(drawing, tokens, [trace], [episode], 150, torch.Generator().manual_seed(0)))
    assert np.mean(losses[-10:]) < 0.6 * losses[0]
    seen = {"front": torch.tensor([[2.0, 2.0], [10.0, 9.0]])}
    drawn = drawing.pictures(tokens, seen)["front"]
    assert drawn.shape == (2, SIZE, SIZE, 3)
    assert drawn.dtype == np.uint8
    assert drawn[0, 3:5, 3:5].mean() > drawn[0, 11:13, 10:12].mean() + 40
    assert drawn[1, 11:13, 10:12].mean() > drawn[1, 3:5, 3:5].mean() + 40
    drawing.save(tmp_path)
    again = Drawing.load(tmp_path).pictures(tokens, seen)["front"]
    np.testing.assert_array_equal(again, drawn)


def test_it_learns_the_same_from_the_same_seed():
    episode, trace = shown(40)
    tokens = PolicyTokens.fit([trace], 1)

    def losses(seed):
        drawing = Drawing(2, ("front",), SIZE, width=16)
        return list(learn_to_draw(drawing, tokens, [trace], [episode], 3, torch.Generator().manual_seed(seed)))

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_pictures_of_another_kind_are_refused(tmp_path):
    with pytest.raises(ValueError, match="pictures of 48 pixels: expected a power of two"):
        Drawing(2, ("front",), 48)
    assert can_draw([(16, 16), (16, 16)])
    for sizes in ([(48, 48)], [(16, 32)], [(4, 4)], [(16, 16), (32, 32)]):
        assert not can_draw(sizes)
    with pytest.raises(FileNotFoundError):
        Drawing.load(tmp_path)
