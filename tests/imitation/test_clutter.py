import numpy as np
import torch

from noiseladder.imitation.clutter import clutter, cluttered
from noiseladder.imitation.eye import VALUES, Eye

SIZE = 32
COLOURS = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.55, 0.55, 0.55]])


def scene(*things):
    """A grey room with things: (colour, left, top, right, bottom) in pixels."""
    frame = np.full((SIZE, SIZE, 3), COLOURS[2].mul(255).round().numpy(), np.uint8)
    for colour, left, top, right, bottom in things:
        frame[top:bottom, left:right] = COLOURS[colour].mul(255).round().numpy()
    return torch.from_numpy(frame)[None]


def test_one_more_thing_is_read_as_if_it_stood_there():
    """The moments of a picture with two things are those that are reckoned from the picture with one."""
    eye = Eye(COLOURS, 2, (SIZE, SIZE))
    alone, both = eye(scene((0, 4, 20, 9, 26))), eye(scene((0, 4, 20, 9, 26), (0, 18, 6, 26, 12)))
    coordinate = torch.linspace(-1, 1, SIZE)
    across, down = coordinate[18:26], coordinate[6:12]
    found = cluttered(
        alone[:, :VALUES],
        eye(scene((0, 18, 6, 26, 12)))[:, 0] ** 2,
        torch.stack([across.mean(), down.mean()])[None],
        torch.stack([across.std(correction=0), down.std(correction=0)])[None],
    )
    torch.testing.assert_close(found, both[:, :VALUES], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(alone[:, VALUES:], both[:, VALUES:], atol=2e-3, rtol=0)


def test_nothing_more_changes_nothing():
    read = Eye(COLOURS, 2, (SIZE, SIZE))(scene((0, 4, 20, 9, 26)))[:, :VALUES]
    none = torch.zeros(1)
    torch.testing.assert_close(cluttered(read, none, torch.ones(1, 2), torch.ones(1, 2)), read, atol=1e-5, rtol=1e-4)


def test_a_share_of_the_sequences_sees_one_colour_more_from_beginning_to_end():
    eye = Eye(COLOURS, 2, (SIZE, SIZE))
    read = eye(scene((0, 4, 20, 9, 26))).expand(400, 5, -1)
    found = clutter(read, 0.25, torch.Generator().manual_seed(0))
    changed = (found != read).unflatten(-1, (2, VALUES)).any(-1)
    assert torch.equal(changed.any(1), changed.all(1))  # it stays
    assert int(changed[:, 0].sum(-1).max()) == 1
    assert 0.18 < float(changed[:, 0].any(-1).float().mean()) < 0.32
    assert torch.equal(clutter(read, 0.0, torch.Generator().manual_seed(0)), read)


def test_a_colour_that_was_never_seen_is_none_of_the_palette():
    eye = Eye(COLOURS, 2, (SIZE, SIZE))
    plain = scene((0, 4, 20, 9, 26))
    strange = plain.clone()
    strange[0, 6:12, 18:26] = torch.tensor([40, 60, 230], dtype=torch.uint8)
    torch.testing.assert_close(eye(strange), eye(plain), atol=1e-3, rtol=0)
