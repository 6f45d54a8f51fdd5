"""`st_lpips_alex`: how different two frames look to a network that forgives a shift of a pixel.

The shift-tolerant perceptual metric of Ghildyal and Liu, ECCV 2022 (arXiv 2207.13686): an AlexNet whose strides are
taken after a blur, compared unit by unit at five depths as Zhang et al. 2018 (arXiv 1801.03924, equation 1) do, with
weights learned from people's judgements. It is not LPIPS, and its values are not to be held against LPIPS values.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from .installed_weights import ST_LPIPS_ALEX

SMALLEST = 32
TOGETHER = 32
"""Frames that go through the network at once."""


@torch.no_grad()
def st_lpips_alex(one: Tensor, other: Tensor) -> Tensor:
    """Distance of every frame of (..., H, W, 3) uint8 to the frame in the same place, (...); 0 for equal frames.

    ValueError for frames of unequal shapes, below 32x32 or not uint8; ImportError without the extra `perceptual`.
    """
    if one.shape != other.shape or one.ndim < 3 or one.shape[-1] != 3 or min(one.shape[-3:-1]) < SMALLEST:
        raise ValueError(
            f"frames have shapes {tuple(one.shape)} and {tuple(other.shape)}, expected the same (..., H, W, 3) with"
            f" sides of at least {SMALLEST}"
        )
    if one.dtype != torch.uint8 or other.dtype != torch.uint8:
        raise ValueError(f"frames are {one.dtype} and {other.dtype}, expected uint8")
    weights = _weights()
    pairs = zip(one.reshape(-1, *one.shape[-3:]).split(TOGETHER), other.reshape(-1, *one.shape[-3:]).split(TOGETHER))
    found = [_distance(a, b, weights) for a, b in pairs]
    return torch.cat(found).reshape(one.shape[:-3]) if found else torch.zeros(one.shape[:-3])


_weights = cache(ST_LPIPS_ALEX.read)


def _distance(one: Tensor, other: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    total = torch.zeros(len(one))
    for depth, (a, b) in enumerate(zip(depths(one, weights), depths(other, weights))):
        apart = (_unit(a) - _unit(b)).square()
        total = total + functional.conv2d(apart, weights[f"lin{depth}.model.1.weight"]).mean((1, 2, 3))
    return total


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


def depths(frames: Tensor, weights: Mapping[str, Tensor]) -> list[Tensor]:
    """Activations of frames (N, H, W, 3) uint8 after each of the five convolutions, each (N, C, h, w)."""
    signed = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
    x = (signed - weights["scaling_layer.shift"]) / weights["scaling_layer.scale"]
    first = _blurred(_convolved(x, weights, "net.slice1.0", padding=2), weights["net.slice1.1.filt"]).relu()
    x = _blurred(functional.max_pool2d(first, 3, 1), weights["net.slice2.4.filt"])
    second = _convolved(x, weights, "net.slice2.5", padding=2).relu()
    x = _blurred(functional.max_pool2d(second, 3, 1), weights["net.slice3.8.filt"])
    third = _convolved(x, weights, "net.slice3.9", padding=1).relu()
    fourth = _convolved(third, weights, "net.slice4.11", padding=1).relu()
    fifth = _convolved(fourth, weights, "net.slice5.13", padding=1).relu()
    return [first, second, third, fourth, fifth]


def _convolved(x: Tensor, weights: Mapping[str, Tensor], name: str, padding: int) -> Tensor:
    return functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding)


def _blurred(x: Tensor, kernel: Tensor) -> Tensor:
    """Every second place of a blurred picture, which is what a shift by one changes little."""
    wide = functional.pad(x, (2, 2, 2, 2), mode="reflect")
    return functional.conv2d(wide, kernel, stride=2, groups=x.shape[1])
