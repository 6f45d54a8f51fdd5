"""A world whose laws are known: three shapes bounce between walls, pass behind a bar, and one of them can be pushed.

Each shape has a colour channel of its own, so shapes that cross add up and none hides another; only the bar hides. The
state can be read off the pixels again (`bouncing_decoder`), and a model's dreams can be held against the laws (`laws`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch

from .segments import to_tokens

ACTIONS = ("push left", "push right", "push up", "push down")
NO_PUSH = -1
SHAPES = ("red disc", "green square", "blue disc")
PUSHED, SQUARE = 0, 1
_DIRECTIONS = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)


@dataclass(frozen=True)
class BouncingWorld:
    """Lengths in pixels, speeds in pixels a frame and axis; x to the right, y down, pixel i covers i to i + 1.

    size: of a frame's side. bar: first column of the grey bar and the first after it. radii: smallest and largest;
    half the width of a shape. speeds: smallest and largest of a start, along each axis. push: what one push adds.
    fastest: no push makes the disc faster than this. push_share: how often an idle hand pushes.
    """

    size: int = 64
    bar: tuple[int, int] = (25, 39)
    radii: tuple[float, float] = (3.5, 6.0)
    speeds: tuple[float, float] = (0.5, 2.5)
    push: float = 0.75
    fastest: float = 3.0
    push_share: float = 0.1

    def __post_init__(self) -> None:
        left, right = self.bar
        if not 0 < left < right < self.size:
            raise ValueError(f"bar is {self.bar}, expected columns inside 0 to {self.size}: first, and first after it")
        if not 2.0 <= self.radii[0] <= self.radii[1] or min(left, self.size - right) < 2 * self.radii[1] + 2:
            raise ValueError(f"radii are {self.radii}, expected 2 or more, and small enough to be seen beside the bar")
        if not 0 < self.speeds[0] <= self.speeds[1] <= self.fastest:
            raise ValueError(f"speeds are {self.speeds}, expected above 0 and at most fastest, {self.fastest}")

    @classmethod
    def alike(cls, size: int = 64) -> BouncingWorld:
        """Shapes of one size that start with one speed, which pushes change in steps.

        Where any size and speed is lawful, each small error of a dream is there to stay, and they add up; here what is
        lawful is a few values, and a dream that can tell which one was meant does not lose it.
        """
        return cls(size, radii=(5.0, 5.0), speeds=(1.5, 1.5))

    def start(self, count: int, generator: Generator) -> Shapes:
        """`count` worlds with shapes anywhere."""

        def draw(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=torch.float64)

        radius = self.radii[0] + (self.radii[1] - self.radii[0]) * draw(count, 3)
        low, high = radius[..., None], self.size - radius[..., None]
        position = low + (high - low) * draw(count, 3, 2)
        speed = self.speeds[0] + (self.speeds[1] - self.speeds[0]) * draw(count, 3, 2)
        return Shapes(position, torch.where(draw(count, 3, 2) < 0.5, speed, -speed), radius)

    def step(self, shapes: Shapes, action: Tensor) -> Shapes:
        """One frame later. action: (B,), a number of `ACTIONS`, or -1 for none. The push comes before the move."""
        velocity = shapes.velocity.clone()
        pushed = velocity[:, PUSHED] + self.push * _DIRECTIONS[action]
        velocity[:, PUSHED] = pushed.clamp(-self.fastest, self.fastest)
        position = shapes.position + velocity
        low, high = shapes.radius[..., None], self.size - shapes.radius[..., None]
        below, above = position < low, position > high
        position = torch.where(below, 2 * low - position, torch.where(above, 2 * high - position, position))
        return Shapes(position, torch.where(below | above, -velocity, velocity), shapes.radius)

    def draw_actions(self, count: int, generator: Generator) -> Tensor:
        """What an idle hand does, (B,)."""
        which = torch.randint(len(ACTIONS), (count,), generator=generator)
        idle = torch.rand(count, generator=generator) >= self.push_share
        return which.masked_fill(idle, NO_PUSH)

    def render(self, shapes: Shapes) -> Tensor:
        """Frames (B, size, size, 3) uint8; the edge of a shape is as bright as the share of the pixel it covers."""
        pixel = torch.arange(self.size) + 0.5
        position, radius = shapes.position.float()[..., None, None], shapes.radius.float()[..., None, None]
        across = (pixel - position[:, :, 0]).abs()
        down = (pixel[:, None] - position[:, :, 1]).abs()
        frames = radius - torch.hypot(across, down) + 0.5
        frames[:, SQUARE] = (radius - across + 0.5).clamp(0, 1)[:, SQUARE] * (radius - down + 0.5).clamp(0, 1)[
            :, SQUARE
        ]
        frames = (255 * frames.clamp_(0, 1)).round_()
        frames[..., self.bar[0] : self.bar[1]] = 128
        return frames.to(torch.uint8).movedim(1, -1)

    def play(self, count: int, length: int, generator: Generator) -> Played:
        """`count` worlds for `length` frames, with an idle hand."""
        shapes, action = self.start(count, generator), torch.full((count,), NO_PUSH)
        frames, states, actions = [], [], []
        for _ in range(length):
            frames.append(self.render(shapes))
            states.append(shapes)
            actions.append(action)
            action = self.draw_actions(count, generator)
            shapes = self.step(shapes, action)
        stacked = Shapes(
            *(torch.stack([getattr(s, name) for s in states], 1) for name in ("position", "velocity", "radius"))
        )
        return Played(torch.stack(frames, 1), torch.stack(actions, 1), stacked)

    def batches(self, count: int, length: int, generator: Generator) -> Iterator[Batch]:
        """Batches for training without end: tokens (B, T, 3, H, W) in [-1, 1], condition (B, T, 4) one-hot pushes."""
        while True:
            yield self.play(count, length, generator).batch()


def pushes_of(conditions: Tensor) -> Tensor:
    """What was done, (..., 4) one-hot or zeros for nothing, as numbers of `ACTIONS`, (...), -1 for none."""
    return torch.where(conditions.any(-1), conditions.argmax(-1), NO_PUSH)


@dataclass(frozen=True)
class Shapes:
    """position and velocity: (..., 3, 2), x and y; radius: (..., 3)."""

    position: Tensor
    velocity: Tensor
    radius: Tensor


@dataclass(frozen=True)
class Played:
    """frames: (B, T, size, size, 3) uint8. actions: (B, T), what led to each, -1 for no push. states: (B, T, ...)."""

    frames: Tensor
    actions: Tensor
    states: Shapes

    def batch(self) -> Batch:
        """For training."""
        tokens = to_tokens(self.frames.numpy())
        condition = torch.eye(len(ACTIONS) + 1)[self.actions][..., : len(ACTIONS)]
        return Batch(tokens, condition)
