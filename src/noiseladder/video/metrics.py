"""Measures of a dream that need no learnt network: closeness, drift, and whether a place looks the same again.

Frames are uint8 (..., H, W, 3) or floats in [0, 1] of the same shape; nothing that is passed in is changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
COLOUR_BINS = 8  # along each of red, green and blue: 512 in all
MOTION_EDGES = (0.0, 0.004, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 1.0)  # mean change of a frame, of full brightness


def psnr(prediction: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each frame in decibels, (...); infinite where they are equal."""
    one, other = _same(prediction, truth)
    error = (one - other).square().mean((-3, -2, -1))
    return -10 * error.log10()


def ssim(prediction: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each frame, (...), at most 1, which equal frames have.

    Wang, Bovik, Sheikh and Simoncelli 2004, equation 13: a Gaussian window of 11 x 11, sigma 1.5, where it lies wholly
    inside; the mean over window places and colours.
    """
    one, other = _same(prediction, truth)
    height, width = one.shape[-3:-1]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(f"frames are {height}x{width}, expected at least {SSIM_WINDOW}x{SSIM_WINDOW} for SSIM")
    leading = one.shape[:-3]
    x, y = (
        frames.reshape(-1, height, width, 3).permute(0, 3, 1, 2).reshape(-1, 1, height, width)
        for frames in (one, other)
    )
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return similarity.mean((-2, -1)).reshape(-1, 3).mean(-1).reshape(leading)


def copy_last(context: Tensor, horizon: int) -> Tensor:
    """The simplest prediction: the last frame of `context` (B, T, H, W, 3), `horizon` times, (B, horizon, H, W, 3)."""
    if horizon < 1:
        raise ValueError(f"horizon is {horizon}, expected at least 1")
    return context[:, -1:].expand(-1, horizon, *context.shape[2:])


def psnr_gain(prediction: Tensor, truth: Tensor, context: Tensor) -> Tensor:
    """Decibels gained over copying the last frame of the context, at each of the T predicted steps, (T,).

    prediction, truth: (B, T, H, W, 3). The mean squared errors are averaged over sequences before the logarithm, so
    that a frame in which nothing moves does not count for infinitely much.
    """
    one, other = _same(prediction, truth)
    copied = copy_last(unit(context), other.shape[1])
    errors = [(guess - other).square().mean((0, 2, 3, 4)) for guess in (copied, one)]
    return 10 * (errors[0].log10() - errors[1].log10())


# Drift


@dataclass(frozen=True)
class BlockStatistics:
    """What K blocks of frames look like: shares, each row with sum 1.

    colour: (K, 512), how often each colour occurs. motion: (K, 8), how often a frame changes so much from the one
    before. brightness, contrast: (K,), mean and standard deviation of the pixels.
    """

    colour: Tensor
    motion: Tensor
    brightness: Tensor
    contrast: Tensor

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.colour)


def block_statistics(frames: Tensor, block: int) -> BlockStatistics:
    """Of frames (T, H, W, 3), block by block of `block` frames; what is left over at the end is left out."""
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"frames have shape {tuple(frames.shape)}, expected (T, H, W, 3)")
    if not 2 <= block <= len(frames):
        raise ValueError(f"block is {block}, expected 2 to {len(frames)}, the number of frames")
    edges = torch.tensor(MOTION_EDGES[1:-1])
    rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for piece in frames[: len(frames) // block * block].split(block):
        shown = unit(piece)
        level = (shown * COLOUR_BINS).long().clamp(0, COLOUR_BINS - 1)
        colour = torch.bincount(
            ((level[..., 0] * COLOUR_BINS + level[..., 1]) * COLOUR_BINS + level[..., 2]).flatten(),
            minlength=COLOUR_BINS**3,
        )
        change = (shown[1:] - shown[:-1]).abs().mean((-3, -2, -1))
        motion = torch.bincount(torch.bucketize(change, edges), minlength=len(MOTION_EDGES) - 1)
        rows.append((colour / colour.sum(), motion / motion.sum(), shown.mean(), shown.std()))
    return BlockStatistics(*(torch.stack(column) for column in zip(*rows)))


def divergence(one: Tensor, other: Tensor, smoothing: float = 1e-4) -> Tensor:
    """Kullback-Leibler divergence of histograms (..., n) in nats, (...); 0 for equal ones, never negative.

    `smoothing` of each histogram is spread evenly, so that a colour that was never seen costs much but not infinitely.
    """
    p, q = (
        (1 - smoothing) * histogram.double() / histogram.double().sum(-1, keepdim=True)
        + smoothing / histogram.shape[-1]
        for histogram in (one, other)
    )
    return (p * (p.log() - q.log())).sum(-1).clamp_min(0)


@dataclass(frozen=True)
class Drift:
    """How far blocks of a dream are from real ones, against how far real ones are from each other.

    colour, motion: (K,), divergence of each dream block from the mean real block, in units of the mean divergence of
    a real block from the mean of the other real blocks: about 1 for a dream without drift.
    """

    colour: Tensor
    motion: Tensor

    @property
    def worst(self) -> float:
        """The largest over all blocks and both kinds."""
        return max(self.colour.max().item(), self.motion.max().item())


def drift(dream: BlockStatistics, real: BlockStatistics) -> Drift:
    """Compare blocks of the same number of frames; at least 3 real ones are needed to know their spread."""
    if len(real) < 3:
        raise ValueError(f"there are {len(real)} real blocks, expected at least 3: their spread is the measure")
    found = {}
    for kind in ("colour", "motion"):
        mine, theirs = getattr(dream, kind), getattr(real, kind)
        others = (theirs.sum(0) - theirs) / (len(theirs) - 1)
        spread = divergence(theirs, others).mean()
        found[kind] = divergence(mine, theirs.mean(0).expand_as(mine)) / spread.clamp_min(1e-6)
    return Drift(found["colour"], found["motion"])


# Places


@dataclass(frozen=True)
class Revisits:
    """again: mean absolute difference, in [0, 1], of frames seen from the same pose at different times; other: of
    frames from poses drawn at random; pairs: how many were compared."""

    again: float
    other: float
    pairs: int

    @property
    def ratio(self) -> float:
        """0 for a world that looks the same again, about 1 for one that has forgotten."""
        return self.again / self.other if self.other > 0 else math.nan


def pooled(found: Sequence[Revisits]) -> Revisits:
    """Those of several walks as one: means over their pairs. ValueError without any."""
    pairs = sum(one.pairs for one in found)
    if pairs == 0:
        raise ValueError("there are no revisits to pool, expected those of one walk at least")
    return Revisits(
        sum(one.again * one.pairs for one in found) / pairs, sum(one.other * one.pairs for one in found) / pairs, pairs
    )


def revisits(
    frames: Tensor,
    poses: Tensor,
    generator: Generator,
    gap: int = 20,
    distance: float = 4.0,
    degrees: float = 4.0,
    most: int = 4096,
) -> Revisits:
    """Compare frames (T, H, W, 3) from the same place: poses (T, 3) are x, y and heading in degrees.

    Poses are the same within `distance` and `degrees`; a revisit is at least `gap` frames later and has left the place
    in between. At most `most` pairs are compared, drawn by the generator. ValueError without any revisit.
    """
    if poses.shape != (len(frames), 3):
        raise ValueError(f"poses have shape {tuple(poses.shape)}, expected ({len(frames)}, 3): x, y, heading")
    early, late = returns(poses.double(), gap, distance, degrees)
    if len(early) == 0:
        raise ValueError(f"the walk of {len(frames)} frames never comes back to a pose after {gap} frames: walk longer")
    if len(early) > most:
        kept = torch.randperm(len(early), generator=generator)[:most]
        early, late = early[kept], late[kept]
    one, other = (torch.randint(len(frames), (most,), generator=generator) for _ in range(2))
    apart = ~_near(poses[one].double(), poses[other].double(), distance, degrees)
    return Revisits(_difference(frames, early, late), _difference(frames, one[apart], other[apart]), len(early))


def returns(poses: Tensor, gap: int = 20, distance: float = 4.0, degrees: float = 4.0) -> tuple[Tensor, Tensor]:
    """All pairs of times, earlier and later, (N,) each, at which a walk of poses (T, 3) is at the same one.

    The later is at least `gap` frames after the earlier, and the place was left in between. Other arguments as in
    `revisits`.
    """
    early, late = [], []
    for time in range(len(poses) - gap):
        here = _near(poses[time], poses[time:], distance, degrees)
        left = (~here).cumsum(0) > 0  # from its first absence on
        later = torch.nonzero(here & left).flatten()
        later = later[later >= gap]
        early.append(torch.full_like(later, time))
        late.append(later + time)
    return (torch.cat(early), torch.cat(late)) if early else (torch.empty(0).long(), torch.empty(0).long())


def apart(poses: Tensor, time: int, distance: float = 4.0, degrees: float = 4.0) -> Tensor:
    """Which of the poses (T, 3) are other ones than that at `time`, (T,) bool; arguments as in `revisits`."""
    return ~_near(poses[time], poses, distance, degrees)


def _near(one: Tensor, other: Tensor, distance: float, degrees: float) -> Tensor:
    turned = (one[..., 2] - other[..., 2] + 180) % 360 - 180
    return (torch.hypot(one[..., 0] - other[..., 0], one[..., 1] - other[..., 1]) <= distance) & (
        turned.abs() <= degrees
    )


def _difference(frames: Tensor, one: Tensor, other: Tensor) -> float:
    total = 0.0
    for a, b in zip(one.split(256), other.split(256)):
        total += (unit(frames[a]) - unit(frames[b])).abs().mean((-3, -2, -1)).sum().item()
    return total / max(1, len(one))


# Frames


def unit(frames: Tensor) -> Tensor:
    """Frames, uint8 or floats, as floats in [0, 1]. Raises ValueError for other numbers."""
    if frames.dtype == torch.uint8:
        return frames.float() / 255
    if not frames.is_floating_point() or not bool(((frames >= 0) & (frames <= 1)).all()):
        raise ValueError(f"frames are {frames.dtype}, expected uint8, or floats from 0 to 1 without NaN")
    return frames


def _same(prediction: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    if prediction.shape != truth.shape or prediction.ndim < 3 or prediction.shape[-1] != 3:
        raise ValueError(
            f"prediction has shape {tuple(prediction.shape)} and truth {tuple(truth.shape)}, expected the same shape"
            " (..., H, W, 3)"
        )
    return unit(prediction), unit(truth)


def _blur(images: Tensor) -> Tensor:
    """A Gaussian mean over every window that lies inside, (n, 1, H, W)."""
    place = torch.arange(SSIM_WINDOW, dtype=images.dtype) - SSIM_WINDOW // 2
    weight = torch.exp(-(place**2) / (2 * SSIM_SIGMA**2))
    weight /= weight.sum()
    rows = functional.conv2d(images, weight[None, None, :, None])
    return functional.conv2d(rows, weight[None, None, None, :])
