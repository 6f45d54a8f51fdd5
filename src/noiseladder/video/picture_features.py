"""What a classifier of photographs sees in a frame: the 1280 features of EfficientNet-lite0.

Tan and Le 2019 (arXiv 1905.11946), in the form for phones of the TensorFlow team (2020): no squeeze-and-excitation,
rectifiers that end at 6, a stem and a head that are never scaled; trained on ImageNet at 224x224.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from .installed_weights import EFFNET_LITE0

SIDE, FEATURES, EPSILON = 224, 1280, 1e-3
TOGETHER = 2  # more at once leaves the cache of the processor and is slower
STAGES = ((1, 3, 1), (2, 3, 2), (2, 5, 2), (3, 3, 2), (3, 5, 1), (4, 5, 2), (1, 3, 1))
"""Of each stage: how many blocks, the side of their kernel, and the stride of the first."""


@torch.no_grad()
def effnet_lite0(frames: Tensor) -> Tensor:
    """Features of frames (..., H, W, 3) uint8, enlarged or reduced to 224x224: (..., 1280) before the classifier.

    ValueError for anything but such frames; ImportError without the extra `perceptual`.
    """
    if frames.dtype != torch.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
        raise ValueError(f"frames are {frames.dtype} {tuple(frames.shape)}, expected uint8 (..., H, W, 3)")
    weights = _weights()
    parts = frames.reshape(-1, *frames.shape[-3:]).split(TOGETHER)
    return torch.cat([_features(part, weights) for part in parts]).reshape(*frames.shape[:-3], FEATURES)


@cache
def _weights() -> Mapping[str, Tensor]:
    return EFFNET_LITE0.read()


def _features(frames: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Of (N, H, W, 3) uint8, (N, 1280)."""
    return activations(enlarged(frames), weights).mean((2, 3))


def enlarged(frames: Tensor) -> Tensor:
    """Frames (N, H, W, 3) uint8 as the network was trained on them: (N, 3, 224, 224), about -1 to 1."""
    planes = (frames.permute(0, 3, 1, 2).float() - 127) / 128
    return functional.interpolate(planes, (SIDE, SIDE), mode="bilinear", antialias=True)


def activations(x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """The last layer before the mean over places: (N, 3, 224, 224) -> (N, 1280, 7, 7)."""
    x = _convolved(x, weights, "_conv_stem", "_bn0", stride=2).clamp(0, 6)
    block = 0
    for repeats, _kernel, stride in STAGES:
        for number in range(repeats):
            x = _block(x, weights, f"_blocks.{block}.", stride if number == 0 else 1)
            block += 1
    return _convolved(x, weights, "_conv_head", "_bn1").clamp(0, 6)


def _block(x: Tensor, weights: Mapping[str, Tensor], name: str, stride: int) -> Tensor:
    """An inverted residual: widen, filter each channel by itself, narrow, and add what came in where it fits."""
    inside = x
    if f"{name}_expand_conv.weight" in weights:
        inside = _convolved(inside, weights, f"{name}_expand_conv", f"{name}_bn0").clamp(0, 6)
    inside = _convolved(inside, weights, f"{name}_depthwise_conv", f"{name}_bn1", stride, inside.shape[1]).clamp(0, 6)
    inside = _convolved(inside, weights, f"{name}_project_conv", f"{name}_bn2")
    return inside + x if inside.shape == x.shape else inside


def _convolved(
    x: Tensor, weights: Mapping[str, Tensor], convolution: str, norm: str, stride: int = 1, groups: int = 1
) -> Tensor:
    """A convolution and its batch norm as one: the norm of a trained network is a scale and a shift."""
    scale = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + EPSILON).sqrt()
    kernel = weights[f"{convolution}.weight"] * scale[:, None, None, None]
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    return functional.conv2d(_padded(x, kernel.shape[-1], stride), kernel, bias, stride, groups=groups)


def _padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's SAME: as many zeros as the last window lacks, the odd one below and to the right."""
    down, across = (max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in x.shape[-2:])
    return functional.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
