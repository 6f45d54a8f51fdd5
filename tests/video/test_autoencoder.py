"""Frames as vectors: each frame by itself, in one scale, and something is learned of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator

from noiseladder.diffusion.batch import Batch
from noiseladder.training.weights import save_weights
from noiseladder.video.autoencoder import FrameAutoencoder, Rebuilding, as_denoiser, load_autoencoder, variation
from noiseladder.video.bouncing import BouncingWorld
from noiseladder.video.segments import to_tokens


def autoencoder(size: int = 32, depth: int = 4) -> FrameAutoencoder:
    torch.manual_seed(0)
    return FrameAutoencoder(size, depth).eval()


def frames(count: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_a_frame_is_sixteen_places_whatever_its_size(size: int) -> None:
    codec = autoencoder(size, 3)
    vectors = codec.encode(frames(2, size))
    assert vectors.shape == (2, *codec.token_shape) == (2, 48)
    back = codec.decode(vectors)
    assert back.dtype == np.uint8
    assert back.shape == (2, size, size, 3)


def test_a_frame_does_not_depend_on_the_others() -> None:
    codec, shown = autoencoder(), frames(6)
    together = codec.encode(shown)
    for number in range(6):
        torch.testing.assert_close(codec.encode(shown[number : number + 1])[0], together[number])
    changed = shown.copy()
    changed[3] = 0
    others = [0, 1, 2, 4, 5]
    assert torch.equal(codec.encode(changed)[others], together[others])
    vectors = together.clone()
    vectors[3] = 0
    assert np.array_equal(codec.decode(vectors)[others], codec.decode(together)[others])


def test_vectors_have_one_scale() -> None:
    vectors = autoencoder().encode(frames(5))
    torch.testing.assert_close(vectors.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors.var(1, correction=0), torch.ones(5), atol=1e-3, rtol=0)


def test_the_loss_is_that_of_frames_and_its_parts_add_up() -> None:
    denoiser = as_denoiser(autoencoder())
    batch = Batch(to_tokens(frames(6))[:, None])

    def loss(objective: Rebuilding, part: slice = slice(None)) -> float:
        with torch.no_grad():
            return objective(denoiser, batch, Generator().manual_seed(1), part).item()

    rebuilt, _ = denoiser.network(batch.tokens, torch.zeros(6, 1), None, denoiser.initial_state(6))
    assert loss(Rebuilding(0.0)) == pytest.approx((rebuilt - batch.tokens).square().mean().item(), rel=1e-5)
    whole = loss(Rebuilding(0.3))
    assert whole != loss(Rebuilding(0.0))
    assert loss(Rebuilding(0.3), slice(0, 2)) + loss(Rebuilding(0.3), slice(2, 6)) == pytest.approx(whole, rel=1e-5)


def test_contrast_counts_how_much_windows_vary_and_not_where() -> None:
    denoiser = as_denoiser(autoencoder())
    batch = Batch(to_tokens(frames(6))[:, None])

    def loss(objective: Rebuilding, part: slice = slice(None)) -> float:
        with torch.no_grad():
            return objective(denoiser, batch, Generator().manual_seed(1), part).item()

    rebuilt, _ = denoiser.network(batch.tokens, torch.zeros(6, 1), None, denoiser.initial_state(6))
    lost = (variation(rebuilt) - variation(batch.tokens)).square().mean().item()
    assert loss(Rebuilding(0.0, 2.0)) - loss(Rebuilding(0.0)) == pytest.approx(2 * lost, rel=1e-4)
    whole = loss(Rebuilding(0.3, 2.0))
    parts = loss(Rebuilding(0.3, 2.0), slice(0, 2)) + loss(Rebuilding(0.3, 2.0), slice(2, 6))
    assert parts == pytest.approx(whole, rel=1e-5)

    bricks = torch.ones(1, 3, 32, 32)
    bricks[..., ::4, :] = -1
    assert torch.equal(variation(bricks[..., 4:, :]), variation(bricks[..., :-4, :]))
    expected = bricks[0, 0, :5, :5].std(correction=0)  # of the first window
    torch.testing.assert_close(variation(bricks)[0, 0, 0, 0], expected)
    assert variation(torch.ones(1, 3, 32, 32)).max() <= 0.0101
    with pytest.raises(ValueError, match=r"blur is 0.1 and contrast -1, expected 0 or more"):
        Rebuilding(contrast=-1)


def test_colours_apart_are_read_by_the_same_weights_and_do_not_mix() -> None:
    codec = FrameAutoencoder(32, 2, 8, colours_apart=True).eval()
    shown = to_tokens(frames(2))
    with torch.no_grad():
        vectors = codec.vectors(shown)
        assert vectors.shape == (2, codec.token_size) == (2, 96)
        by_colour = vectors.reshape(2, 32, 3)
        torch.testing.assert_close(codec.vectors(shown.flip(1)).reshape(2, 32, 3), by_colour.flip(2))
        changed = by_colour.clone()
        changed[:, :, 1] = 0.5
        rebuilt, other = codec.rebuild(vectors), codec.rebuild(changed.flatten(1))
    assert rebuilt.shape == shown.shape
    torch.testing.assert_close(other[:, [0, 2]], rebuilt[:, [0, 2]])
    assert not torch.allclose(other[:, 1], rebuilt[:, 1])


@pytest.mark.slow
def test_a_little_training_beats_the_mean_frame() -> None:
    torch.manual_seed(0)
    world = BouncingWorld(size=32, bar=(14, 18), radii=(3, 4))
    shown = to_tokens(world.play(72, 4, Generator().manual_seed(0)).frames.numpy())
    learned, unseen = shown[:64], shown[64:]
    denoiser = as_denoiser(FrameAutoencoder(32, 8))
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=2e-3)
    for step in range(240):
        generator = Generator().manual_seed(step)
        drawn = learned[torch.randint(64, (8,), generator=generator)]
        optimizer.zero_grad()
        Rebuilding()(denoiser, Batch(drawn), generator).backward()
        optimizer.step()
    with torch.no_grad():
        error = Rebuilding(0.0)(denoiser, Batch(unseen), Generator()).item()
    assert error < 0.6 * (unseen - learned.mean((0, 1))).square().mean().item()


def test_weights_find_their_size_again_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    codec = autoencoder()
    path = tmp_path / "autoencoder.safetensors"
    save_weights(path, as_denoiser(codec), {"recipe": "autoencoder", "size": 32, "depth": 4})
    again = load_autoencoder(path)
    assert torch.equal(again.encode(frames(2)), codec.encode(frames(2)))
    assert not again.training
    small = FrameAutoencoder(32, 4, 4, colours_apart=True).eval()
    made = {"recipe": "autoencoder", "size": 32, "depth": 4, "narrow": 4, "colours_apart": True}
    save_weights(path, as_denoiser(small), made)
    assert torch.equal(load_autoencoder(path).encode(frames(2)), small.encode(frames(2)))
    save_weights(path, as_denoiser(codec), {"recipe": "sines"})
    with pytest.raises(ValueError, match=r"weights of 'sines', expected those of an autoencoder"):
        load_autoencoder(path)


def test_what_does_not_fit_gets_one_sentence() -> None:
    for size in (48, 16, 512, 0, -32):
        with pytest.raises(ValueError, match=rf"size is {size}, expected 32, 64, 128 or 256"):
            FrameAutoencoder(size)
    with pytest.raises(ValueError, match="depth is 0"):
        FrameAutoencoder(32, 0)
    for narrow in (0, 3, 32):
        with pytest.raises(ValueError, match=f"narrow is {narrow}, expected 1, 2, 4, 8 or 16"):
            FrameAutoencoder(32, 4, narrow)
    with pytest.raises(ValueError, match=r"frames have shape \(1, 3, 64, 64\).*3, 32, 32"):
        autoencoder().encode(frames(1, 64))
