"""What a network that watches for cuts sees in a clip: the trunk of TransNetV2, convolutions in space and in time.

Soucek and Lokoc 2020 (arXiv 2008.04838): three cells, each of two layers of four (2+1)-dimensional convolutions side by
side that look 1, 2, 4 and 8 frames away, and a pool over places. Its heads, which say where a film cuts, are left out:
what stands just before them hardly tells a blurred or noisy clip from a clean one, the cells do (docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from .installed_weights import TRANSNETV2

HEIGHT, WIDTH, EPSILON = 27, 48, 1e-3
CELLS, LAYERS, DILATIONS = 3, 2, (1, 2, 4, 8)
TOGETHER = 4  # clips that go through the network at once


@torch.no_grad()
def transnetv2(clips: Tensor) -> Tensor:
    """Features of clips (B, T, H, W, 3) uint8, reduced or enlarged to 27x48: (B, 448), each a mean over T and places.

    64 are of the first cell, 128 of the second, 256 of the third. ValueError for anything but such clips; ImportError
    without the extra `perceptual`.
    """
    if clips.dtype != torch.uint8 or clips.ndim != 5 or clips.shape[-1] != 3:
        raise ValueError(f"clips are {clips.dtype} {tuple(clips.shape)}, expected uint8 (B, T, H, W, 3)")
    parts: tuple[Tensor, ...] = clips.split(TOGETHER)
    return torch.cat([_features(part, _weights()) for part in parts])


def _features(clips: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([cell.mean((2, 3, 4)) for cell in cells(reduced(clips), weights)], dim=1)


@cache
def _weights() -> Mapping[str, Tensor]:
    return TRANSNETV2.read()


def reduced(clips: Tensor) -> Tensor:
    """Clips (B, T, H, W, 3) uint8 of the size of the network, (B, 3, T, 27, 48) from 0 to 1."""
    planes = clips.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
    if planes.shape[-2:] != (HEIGHT, WIDTH):
        planes = functional.interpolate(planes, (HEIGHT, WIDTH), mode="bilinear", antialias=True)
    return planes.reshape(*clips.shape[:2], 3, HEIGHT, WIDTH).transpose(1, 2)


def cells(x: Tensor, weights: Mapping[str, Tensor]) -> list[Tensor]:
    """What each of the three cells gives for clips (B, 3, T, 27, 48), (B, C, T, h, w) with C = 64, 128, 256."""
    given = []
    for cell in range(CELLS):
        first = _layer(x, weights, f"SDDCNN.{cell}.DDCNN.0").relu()
        second = _layer(first, weights, f"SDDCNN.{cell}.DDCNN.1").relu()
        x = functional.avg_pool3d(second + first, (1, 2, 2))
        given.append(x)
    return given


def _layer(x: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    """Four convolutions side by side, first over places and then over time, and a batch norm."""
    batch, _, time, height, width = x.shape
    looking = [f"{name}.Conv3D_{dilation}.layers" for dilation in DILATIONS]
    # Pictures one by one for the first, lines of time for the second: plain convolutions are fast, solid ones are not.
    places = torch.cat([weights[f"{each}.0.weight"][:, :, 0] for each in looking])
    seen = functional.conv2d(x.transpose(1, 2).flatten(0, 1), places, padding=1)
    lines = seen.unflatten(0, (batch, time)).transpose(1, 2).reshape(batch, -1, time, height * width)
    times = [
        functional.conv2d(part, weights[f"{each}.1.weight"][..., 0], padding=(dilation, 0), dilation=(dilation, 1))
        for part, each, dilation in zip(lines.chunk(len(DILATIONS), dim=1), looking, DILATIONS)
    ]
    joined = torch.cat(times, dim=1).unflatten(-1, (height, width))
    return functional.batch_norm(
        joined,
        weights[f"{name}.bn.running_mean"],
        weights[f"{name}.bn.running_var"],
        weights[f"{name}.bn.weight"],
        weights[f"{name}.bn.bias"],
        eps=EPSILON,
    )
