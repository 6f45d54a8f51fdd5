"""Measures of video: perfect predictions are perfect, formulas are those of the papers, inputs stay as they were."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from noiseladder.video.metrics import (
    BlockStatistics,
    Revisits,
    block_statistics,
    copy_last,
    divergence,
    drift,
    pooled,
    psnr,
    psnr_gain,
    revisits,
    ssim,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=Generator().manual_seed(seed))


def smooth(frames: int, size: int = 24, seed: int = 0) -> Tensor:
    """A coarse picture that changes slowly."""
    coarse = torch.rand(1, 3, 4, 4, generator=Generator().manual_seed(seed))
    picture = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    fading = torch.linspace(0.6, 1, frames)[:, None, None, None]
    return ((picture * fading).movedim(1, -1) * 255).to(torch.uint8)


def test_psnr_by_hand() -> None:
    truth = torch.zeros(2, 4, 4, 3)
    prediction = truth.clone()
    prediction[0] += 0.1
    prediction[1, 0, 0, 0] = 1.0
    expected = [20.0, -10 * math.log10(1 / 48)]
    assert psnr(prediction, truth).tolist() == pytest.approx(expected)
    assert psnr(truth, truth).tolist() == [math.inf, math.inf]
    assert psnr(noise(5, 7, 8, 8, 3), noise(5, 7, 8, 8, 3, seed=1)).shape == (5, 7)
    assert psnr(noise(2, 8, 8, 3), noise(2, 8, 8, 3).float() / 255).tolist() == [math.inf] * 2, "either scale"


def ssim_by_the_formula(one: Tensor, other: Tensor) -> float:
    """Equation 13 of Wang et al. 2004, window by window."""
    window = [[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)]
    weight = torch.tensor(window, dtype=torch.float64)
    weight /= weight.sum()
    x, y = one.double() / 255, other.double() / 255
    found = []
    for channel in range(3):
        for top in range(x.shape[0] - 10):
            for left in range(x.shape[1] - 10):
                a = x[top : top + 11, left : left + 11, channel]
                b = y[top : top + 11, left : left + 11, channel]
                mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
                variance_a, variance_b = (weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum()
                covariance = (weight * (a - mean_a) * (b - mean_b)).sum()
                found.append(
                    (2 * mean_a * mean_b + 0.01**2) * (2 * covariance + 0.03**2)
                    / ((mean_a**2 + mean_b**2 + 0.01**2) * (variance_a + variance_b + 0.03**2))
                )  # fmt: skip
    return float(torch.stack(found).mean())


@pytest.mark.parametrize("other", [noise(14, 15, 3, seed=1), noise(14, 15, 3) // 2, 255 - noise(14, 15, 3)])
def test_ssim_is_the_formula(other: Tensor) -> None:
    one = noise(14, 15, 3)
    assert ssim(one, other).item() == pytest.approx(ssim_by_the_formula(one, other), abs=2e-5)


def test_ssim_of_equal_frames_is_one_and_of_others_less() -> None:
    frames = smooth(3)
    assert ssim(frames, frames).tolist() == pytest.approx([1, 1, 1])
    assert (ssim(frames, frames // 2) < 0.95).all()
    assert (ssim(frames, noise(3, 24, 24, 3)) < 0.2).all()
    assert ssim(noise(2, 3, 12, 12, 3), noise(2, 3, 12, 12, 3)).shape == (2, 3)


def test_copying_the_last_frame_gains_nothing_over_itself() -> None:
    context, truth = smooth(12)[None, :6], smooth(12)[None, 6:]
    copied = copy_last(context, 6)
    assert copied.shape == truth.shape
    assert torch.equal(copied[:, 3], context[:, -1])
    assert psnr_gain(copied, truth, context).abs().max() < 1e-4
    perfect = psnr_gain(truth, truth, context)
    assert torch.isposinf(perfect).all()
    halfway = ((copied.float() + truth.float()) / 510).clamp(0, 1)
    assert psnr_gain(halfway, truth, context).tolist() == pytest.approx([20 * math.log10(2)] * 6, abs=0.01)


# Drift


def test_divergence_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    assert divergence(p, q, 0).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert divergence(p, p).item() == 0
    assert divergence(torch.tensor([1.0, 0]), torch.tensor([0, 1.0])).isfinite()
    assert divergence(torch.rand(5, 4) + 0.1, torch.rand(5, 4) + 0.1).shape == (5,)


def test_block_statistics_count_colours_and_changes() -> None:
    frames = torch.zeros(7, 2, 2, 3, dtype=torch.uint8)
    frames[3:6] = torch.tensor([255, 0, 0], dtype=torch.uint8)
    found = block_statistics(frames, 3)
    assert len(found) == 2, "one frame is left over"
    assert found.colour.shape == (2, 512)
    assert found.colour[0, 0] == 1
    assert found.colour[1, 7 * 64] == 1
    assert found.brightness.tolist() == pytest.approx([0, 1 / 3])
    assert found.motion[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    blinking = block_statistics(frames[2:4], 2)
    assert blinking.motion[0].tolist() == [0, 0, 0, 0, 0, 0, 0, 1], "a third of full brightness"


def test_a_dream_like_the_real_has_drift_about_one_and_a_fading_one_more_and_more() -> None:
    def film(seed: int, frames: int = 320) -> Tensor:
        return torch.cat([smooth(40, seed=seed + number) for number in range(frames // 40)])

    real = block_statistics(film(0, 800), 80)
    same = drift(block_statistics(film(1000), 80), real)
    assert 0.2 < same.colour.mean() < 3
    fading = film(2000).float() * torch.linspace(1, 0.05, 320)[:, None, None, None]
    faded = drift(block_statistics(fading.to(torch.uint8), 80), real)
    assert faded.colour[-1] > 3 * same.colour.max()
    assert faded.colour[-1] > faded.colour[0]
    frozen = drift(block_statistics(film(0)[:1].expand(160, -1, -1, -1), 80), real)
    assert frozen.worst > 3
    with pytest.raises(ValueError, match="at least 3"):
        drift(real, block_statistics(film(0, 160), 80))


def test_drift_is_in_units_of_how_far_a_real_block_is_from_the_others() -> None:
    """By hand: three real blocks of two colours, each left out in turn; one kind of motion in units of its own."""

    def blocks(colour: list[float], motion: list[float]) -> BlockStatistics:
        rows = (torch.tensor([[share, 1 - share] for share in shares]) for shares in (colour, motion))
        return BlockStatistics(*rows, torch.zeros(len(colour)), torch.zeros(len(colour)))

    def nats(share: float, other: float) -> float:
        return share * math.log(share / other) + (1 - share) * math.log((1 - share) / (1 - other))

    real = blocks([0.25, 0.5, 0.75], [0.4, 0.5, 0.6])
    found = drift(blocks([0.5, 0.25, 0.9], [0.5, 0.9, 0.4]), real)
    colour = (nats(0.25, 0.625) + nats(0.5, 0.5) + nats(0.75, 0.375)) / 3
    motion = (nats(0.4, 0.55) + nats(0.5, 0.5) + nats(0.6, 0.45)) / 3
    expected = [0, nats(0.25, 0.5) / colour, nats(0.9, 0.5) / colour]
    assert found.colour.tolist() == pytest.approx(expected, rel=2e-3, abs=1e-6)
    assert found.motion.tolist() == pytest.approx(
        [0, nats(0.9, 0.5) / motion, nats(0.4, 0.5) / motion], rel=2e-3, abs=1e-6
    )
    assert found.worst == found.motion[1].item()


# Places


def walk(frames: int = 120) -> tuple[Tensor, Tensor]:
    """Turn on the spot in steps of 10 degrees, and see a panorama through a window of 12 columns."""
    panorama = noise(12, 36, 3)
    heading = torch.arange(frames) % 36
    seen = torch.stack([panorama.roll(-int(turn), 1)[:, :12] for turn in heading])
    return seen, torch.stack([torch.zeros(frames), torch.zeros(frames), 10.0 * heading], 1)


def test_a_world_that_stays_looks_the_same_again() -> None:
    frames, poses = walk()
    found = revisits(frames, poses, Generator().manual_seed(0))
    assert found.again == 0
    assert found.ratio == 0
    assert found.pairs == (120 - 36) + (120 - 72) + (120 - 108)
    assert found.other > 0.2
    forgotten = revisits(noise(120, 12, 12, 3), poses, Generator().manual_seed(0))
    assert forgotten.ratio == pytest.approx(1, abs=0.05)


def test_who_stays_has_not_come_back() -> None:
    frames, poses = walk(60)
    with pytest.raises(ValueError, match="never comes back"):
        revisits(frames, torch.zeros_like(poses), Generator())
    with pytest.raises(ValueError, match="never comes back"):
        revisits(frames[:30], poses[:30], Generator())
    assert revisits(frames, poses, Generator(), most=5).pairs == 5


def test_a_revisit_is_a_gap_later() -> None:
    frames, poses = walk()
    assert revisits(frames, poses, Generator(), gap=36).pairs == (120 - 36) + (120 - 72) + (120 - 108)
    assert revisits(frames, poses, Generator(), gap=37).pairs == (120 - 72) + (120 - 108)


def test_a_heading_of_359_degrees_is_2_from_one_of_1() -> None:
    poses = torch.zeros(5, 3)
    poses[:, 2] = torch.tensor([359.0, 90, 180, 270, 1])
    assert revisits(noise(5, 4, 4, 3), poses, Generator(), gap=4).pairs == 1
    poses[:, 2] = torch.tensor([-1.0, 90, 180, 270, 361])
    assert revisits(noise(5, 4, 4, 3), poses, Generator(), gap=4).pairs == 1


def test_frames_of_other_poses_are_of_other_poses() -> None:
    """A black place and a white one: every two frames of different places differ by all there is."""
    here = torch.arange(60) // 10 % 2
    frames = (255 * here).to(torch.uint8)[:, None, None, None].expand(60, 4, 4, 3)
    found = revisits(frames, torch.stack([100.0 * here, 0.0 * here, 0.0 * here], 1), Generator().manual_seed(0), gap=5)
    assert (found.again, found.other) == (0, 1)


def test_walks_are_pooled_by_their_pairs() -> None:
    found = pooled([Revisits(0.1, 0.2, 30), Revisits(0.5, 0.6, 10)])
    assert (found.again, found.other, found.pairs) == (pytest.approx(0.2), pytest.approx(0.3), 40)
    assert found.ratio == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no revisits to pool"):
        pooled([])


# All


TAKES_TWO: list[Callable[[Tensor, Tensor], object]] = [psnr, ssim]


@pytest.mark.parametrize("measure", TAKES_TWO)
def test_inputs_stay_as_they_were_and_must_fit(measure: Callable[[Tensor, Tensor], object]) -> None:
    for one, other in (
        (noise(2, 16, 16, 3), noise(2, 16, 16, 3, seed=1)),
        (torch.rand(2, 16, 16, 3), torch.rand(2, 16, 16, 3)),
    ):
        kept = one.clone(), other.clone()
        measure(one, other)
        assert torch.equal(one, kept[0])
        assert torch.equal(other, kept[1])
    with pytest.raises(ValueError, match="the same shape"):
        measure(noise(2, 16, 16, 3), noise(3, 16, 16, 3))
    with pytest.raises(ValueError, match="the same shape"):
        measure(noise(3, 16, 16), noise(3, 16, 16))
    with pytest.raises(ValueError, match="without NaN"):
        measure(torch.full((16, 16, 3), torch.nan), torch.zeros(16, 16, 3))
    with pytest.raises(ValueError, match="from 0 to 1"):
        measure(2 * torch.ones(16, 16, 3), torch.zeros(16, 16, 3))


def test_block_statistics_and_revisits_leave_their_inputs_alone() -> None:
    frames, poses = walk()
    kept = frames.clone(), poses.clone()
    block_statistics(frames, 10)
    revisits(frames, poses, Generator())
    assert torch.equal(frames, kept[0])
    assert torch.equal(poses, kept[1])


def test_mistakes_are_said() -> None:
    with pytest.raises(ValueError, match="11x11"):
        ssim(noise(8, 8, 3), noise(8, 8, 3))
    with pytest.raises(ValueError, match="block is 1"):
        block_statistics(noise(4, 2, 2, 3), 1)
    with pytest.raises(ValueError, match="block is 9"):
        block_statistics(noise(4, 2, 2, 3), 9)
    with pytest.raises(ValueError, match="poses have shape"):
        revisits(noise(4, 2, 2, 3), torch.zeros(3, 3), Generator())
    with pytest.raises(ValueError, match="horizon is 0"):
        copy_last(noise(1, 4, 2, 2, 3), 0)
