"""The state of the bouncing world, read off its pixels: how many pieces of each colour, where, how large.

On the world's own frames a shape in full view is found to PRECISION: its centre is the centre of mass of its channel,
its radius follows from its mass. Frames that a model dreamt are read in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .bouncing import SQUARE, BouncingWorld

PRECISION = 0.03  # pixels, of place and radius
LIT = 0.25  # of full brightness: what is darker is not taken for a piece of a shape
DIM = 0.15  # what is darker does not hold two pieces together
TOUCHING = 0.1  # what is brighter beside the bar may go on behind it
AT_ONCE = 512  # frames


@dataclass(frozen=True)
class Decoded:
    """What is seen in T frames of each of the three colours.

    position: (T, 3, 2) and radius: (T, 3), right where `whole`. pieces: (T, 3), separate pieces less their holes.
    whole: (T, 3), one piece that does not touch the bar. hidden: (T, 3), nothing to be seen of it.
    bar_error: (T,), how far the bar is from its grey, on average over its pixels, of 255.
    """

    position: Tensor
    radius: Tensor
    pieces: Tensor
    whole: Tensor
    hidden: Tensor
    bar_error: Tensor


def decode(frames: Tensor, world: BouncingWorld) -> Decoded:
    """Read frames (T, size, size, 3) uint8; ValueError for another size."""
    if frames.ndim != 4 or frames.shape[1:] != (world.size, world.size, 3) or frames.dtype != torch.uint8:
        raise ValueError(
            f"frames are {frames.dtype} of shape {tuple(frames.shape)}, expected uint8 of shape"
            f" (T, {world.size}, {world.size}, 3)"
        )
    parts = [_decode(piece, world) for piece in frames.split(AT_ONCE)]
    names = ("position", "radius", "pieces", "whole", "hidden", "bar_error")
    return Decoded(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def _decode(frames: Tensor, world: BouncingWorld) -> Decoded:
    left, right = world.bar
    light = frames.movedim(-1, 1).float() / 255
    bar_error = (frames[:, :, left:right].float() - 128).abs().mean((1, 2, 3))
    light[..., left:right] = 0
    lit = light > LIT
    # What lies further from a lit pixel than an edge is wide is a stain, not a part of the shape.
    mass = light * functional.max_pool2d(lit.float(), 5, stride=1, padding=2)
    total = mass.sum((-2, -1))
    pixel = torch.arange(world.size) + 0.5
    some = total.clamp_min(1e-9)
    position = torch.stack([(mass.sum(-2) @ pixel) / some, (mass.sum(-1) @ pixel) / some], -1)
    # Of radius 1, a disc has area pi and a square 4.
    radius = (total / torch.tensor([4.0 if shape == SQUARE else math.pi for shape in range(3)])).sqrt()
    beside = torch.cat([mass[..., left - 1 : left], mass[..., right : right + 1]], -1)
    touching = (beside > TOUCHING).any(-1).any(-1)
    # Where the edge of a square covers about a quarter of its pixels, the last bit of each says whether it is lit, and
    # a whole square falls into pieces. They are one if what lies between them is nearly as bright.
    pieces, joined = count_pieces(lit), count_pieces(light > DIM)
    pieces = torch.where(joined == 1, pieces.clamp(max=1), pieces)
    return Decoded(position, radius, pieces, (pieces == 1) & ~touching, ~lit.any(-1).any(-1), bar_error)


def count_pieces(lit: Tensor) -> Tensor:
    """Pieces less holes of (..., H, W) bool, where pixels that share a corner hang together.

    The Euler number of the lit squares: corners less edges plus squares.
    """
    around = functional.pad(lit, (1, 1, 1, 1))
    rows = around[..., 1:, :] | around[..., :-1, :]
    columns = around[..., :, 1:] | around[..., :, :-1]
    corners = rows[..., 1:] | rows[..., :-1]
    edges = rows[..., 1:-1].sum((-2, -1)) + columns[..., 1:-1, :].sum((-2, -1))
    return corners.sum((-2, -1)) - edges + lit.sum((-2, -1))
