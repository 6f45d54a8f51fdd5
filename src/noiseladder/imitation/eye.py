"""An eye learns the colours of what moves, and says of each where it is: how much, its middle and its extent.

A place in a picture is a number here, not a pattern, so that a policy which has to reach a fruit within a
centimetre learns it from a hundred episodes. The palette is k-means on the pixels that change. What has a colour that
is none of them, or one of them where that colour never was, is not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn.functional import max_pool2d

VALUES = 5  # of a colour: amount, middle (2), extent (2)
SHARPNESS = 0.05  # in units of a colour's full range: pixels closer to a colour than this belong to it
STRANGE = 0.15  # further than this from every colour of the palette it is none of them: something never seen before
NEAR = 4  # pixels: so far from where a colour was seen while learning it is still believed
FEW = 0.001  # of the picture: a colour that covers less has no place


@dataclass(frozen=True)
class Eye:
    """palette: (n, 3) in [0, 1]; the places of the first `colours` of them are reported, the others are background.

    size: height and width of the pictures. where: (colours, H W) bool, the pixels in which each colour is believed, or
    None for all of them.
    """

    palette: Tensor
    colours: int
    size: tuple[int, int]
    where: Tensor | None = None

    @property
    def values(self) -> int:
        """Numbers that it says of a picture."""
        return VALUES * self.colours

    @classmethod
    def learn(cls, frames: NDArray[np.uint8], generator: Generator, colours: int = 10, background: int = 6) -> Eye:
        """Learn a palette from frames (N, H, W, 3), drawn from many episodes."""
        if len(frames) < 2:
            raise ValueError(f"{len(frames)} frames: expected at least 2, to see what moves")
        pixels = torch.from_numpy(frames).float() / 255
        change = (pixels - pixels.median(0).values).abs().sum(-1).flatten()
        flat = pixels.flatten(0, 2)
        moving = flat[torch.multinomial(change[: 2**24] + 1e-6, 8192, replacement=True, generator=generator)]
        still = flat[torch.randint(len(flat), (8192,), generator=generator)]
        palette = torch.cat([clusters(moving, colours, generator), clusters(still, background, generator)])
        everywhere = cls(palette, colours, (frames.shape[1], frames.shape[2]))
        seen = torch.stack([everywhere.belongs(piece).amax(0) for piece in torch.from_numpy(frames).split(64)]).amax(0)
        seen = seen.T.unflatten(1, everywhere.size)[:, None]
        near = max_pool2d((seen > 0.5).float(), 2 * NEAR + 1, stride=1, padding=NEAR)
        return replace(everywhere, where=near.flatten(1) > 0)

    def check(self, frames: NDArray[np.uint8], name: str) -> None:
        """Raise ValueError unless frames (N, H, W, 3) are uint8 pictures of the size that was learned."""
        if frames.dtype != np.uint8 or frames.shape[1:] != (*self.size, 3):
            raise ValueError(
                f"{name} has a picture of {frames.dtype} and shape {frames.shape[1:]}, expected uint8 of shape"
                f" {(*self.size, 3)}: resize pictures to what the policy was trained on"
            )

    def belongs(self, frames: Tensor) -> Tensor:
        """Frames (N, H, W, 3) uint8 -> (N, H W, colours): how far each pixel is of each colour."""
        pixels = frames.flatten(1, 2).float() / 255
        distance = (self.palette**2).sum(-1) - 2 * pixels @ self.palette.T + (pixels**2).sum(-1, keepdim=True)
        strange = torch.full_like(distance[..., :1], STRANGE**2)
        logits = -torch.cat([distance, strange], dim=-1) / (2 * SHARPNESS**2)
        found = logits.softmax(-1)[..., : self.colours]
        return found if self.where is None else found * self.where.T

    def __call__(self, frames: Tensor) -> Tensor:
        """Frames (N, H, W, 3) uint8 -> (N, values): of each colour its amount, and its middle and extent in [-1, 1]."""
        height, width = self.size
        belongs = self.belongs(frames)
        down, across = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
        y, x = (part.flatten() for part in torch.meshgrid(down, across, indexing="ij"))
        moments = belongs.mT @ torch.stack([torch.ones_like(x), x, y, x**2, y**2], dim=1) / (height * width)
        amount = moments[..., :1]
        mean = moments[..., 1:] / amount.clamp(min=1e-9)
        extent = (mean[..., 2:] - mean[..., :2] ** 2).clamp(min=0).sqrt()
        there = amount / (amount + FEW)
        return torch.cat([amount.sqrt(), there * mean[..., :2], there * extent], dim=-1).flatten(1)


def clusters(points: Tensor, count: int, generator: Generator, rounds: int = 20) -> Tensor:
    """The centres (count, C) of k-means on points (N, C), begun far apart (Arthur and Vassilvitskii, 2007)."""
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < count:
        far = torch.cdist(points, centres).min(1).values ** 2
        centres = torch.cat([centres, points[torch.multinomial(far + 1e-12, 1, generator=generator)]])
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(1)
        for number in range(count):
            if bool((nearest == number).any()):
                centres[number] = points[nearest == number].mean(0)
    return centres


def some_frames(pictures: Sequence[NDArray[np.uint8]], count: int) -> NDArray[np.uint8]:
    """About `count` frames, evenly from the pictures (T, H, W, 3) of many episodes."""
    every = max(1, sum(len(frames) for frames in pictures) // count)
    return np.concatenate([frames[::every] for frames in pictures])
