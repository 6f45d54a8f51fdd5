import numpy as np
import pytest
import torch

from noiseladder.imitation.eye import Eye, clusters, some_frames

SIZE = 32


def scene(x, y, seed=0):
    """A grey room with a fixed brown corner, and a red disk at (x, y) in pixels."""
    frame = np.full((SIZE, SIZE, 3), 150, np.uint8)
    frame[24:, :10] = (120, 80, 40)
    down, across = np.mgrid[:SIZE, :SIZE]
    # Four samples a pixel each way: the edge of the disk tells where it is between pixels.
    inside = np.mean(
        [
            (across + a - x) ** 2 + (down + b - y) ** 2 < 16
            for a in (-0.375, -0.125, 0.125, 0.375)
            for b in (-0.375, -0.125, 0.125, 0.375)
        ],
        axis=0,
    )[..., None]
    return np.rint(frame * (1 - inside) + np.array([200, 30, 30]) * inside).astype(np.uint8)


@pytest.fixture(scope="module")
def scenes():
    random = np.random.default_rng(0)
    places = random.uniform(5, SIZE - 6, (120, 2))
    return places, np.stack([scene(x, y) for x, y in places])


@pytest.fixture(scope="module")
def eye(scenes):
    return Eye.learn(scenes[1][:80], torch.Generator().manual_seed(0), colours=3, background=2)


def test_places_can_be_read_off(scenes, eye):
    """A linear probe finds the disk on frames that were never seen, to a tenth of a pixel."""
    places, frames = scenes
    read = eye(torch.from_numpy(frames)).double().numpy()
    inputs = np.column_stack([read, np.ones(len(read))])
    probe = np.linalg.lstsq(inputs[:80], places[:80], rcond=None)[0]
    assert np.abs(inputs[80:] @ probe - places[80:]).mean() < 0.1


def test_what_is_seen_does_not_depend_on_its_neighbours(scenes, eye):
    frames = torch.from_numpy(scenes[1][:4])
    assert eye(frames).shape == (4, eye.values)
    torch.testing.assert_close(eye(frames)[2:3], eye(frames[2:3]))


def test_the_dark_has_no_places(eye):
    assert torch.isfinite(eye(torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8))).all()


def test_the_palette_holds_what_moves(eye):
    nearest = (eye.palette[: eye.colours] - torch.tensor([200, 30, 30]) / 255).norm(dim=1).min()
    assert nearest < 0.02


def test_a_colour_is_believed_only_where_it_was_seen(scenes):
    """Learned from disks on the right, a red thing in the far corner on the left is not looked at, one nearby is."""
    places, frames = scenes
    right = frames[places[:, 0] > 16]
    eye = Eye.learn(right[:40], torch.Generator().manual_seed(0), colours=3, background=2)
    strange, near = right[40:41].copy(), right[40:41].copy()
    strange[0, :4, :4] = (200, 30, 30)
    near[0, 14:18, 15:18] = (200, 30, 30)
    plain = eye(torch.from_numpy(right[40:41]))
    torch.testing.assert_close(eye(torch.from_numpy(strange)), plain, atol=1e-3, rtol=0)
    assert (eye(torch.from_numpy(near)) - plain).abs().max() > 0.01


@pytest.mark.parametrize("frames", [np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, SIZE, SIZE, 3), np.float32)])
def test_other_pictures_are_refused(eye, frames):
    with pytest.raises(ValueError, match=r"camera front .* expected uint8 of shape \(32, 32, 3\)"):
        eye.check(frames, "camera front")


def test_one_frame_shows_nothing_that_moves():
    with pytest.raises(ValueError, match="at least 2"):
        Eye.learn(np.zeros((1, 8, 8, 3), np.uint8), torch.Generator())


def test_clusters_find_the_groups():
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    points = (centres[:, None] + 0.1 * torch.randn(3, 40, 2, generator=generator)).flatten(0, 1)
    found = clusters(points, 3, generator)
    assert torch.cdist(centres, found).min(1).values.max() < 0.1


def test_frames_come_from_all_episodes():
    pictures = [np.full((20, 2, 2, 3), number, np.uint8) for number in range(5)]
    assert len(some_frames(pictures, 25)) == 25
    assert set(some_frames(pictures, 25)[:, 0, 0, 0]) == set(range(5))
