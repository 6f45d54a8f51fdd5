"""Frames as short vectors and back: a small convolutional autoencoder that looks at every frame by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser, Prediction
from noiseladder.diffusion.noise import Flow
from noiseladder.diffusion.state import State
from noiseladder.training.weights import load_weights, read_recipe

from .clip import Frames
from .segments import to_frames, to_tokens

PATCH = 4  # pixels along the side of the first patches
CHANNELS = (64, 128, 192, 192, 192)
LEFT = 4  # places along the side of what is left of a frame
PLACES = LEFT * LEFT
COLOURS = 3
NARROWEST = 16
AT_ONCE = 256  # frames
CONTRAST_WINDOW = 5  # pixels along a side: about a brick
SMALLEST_VARIANCE = 1e-4  # of a window: a hundredth of the range is even


@dataclass(frozen=True)
class NoState(State):
    """An autoencoder remembers nothing."""


class FrameAutoencoder(nn.Module):
    """Frames (..., 3, size, size) in [-1, 1] to vectors (..., D) of mean 0 and variance 1, and back.

    It is a sequence network without memory, every frame by itself, so the training loop trains it like any other. Norms
    are taken within a frame: nothing of a frame depends on another.

    size: of a frame's side, 16 times a power of two. depth: values at each of the 4 x 4 places that are left of it, so
    that D, `token_size`, is 16 * depth. narrow: every layer has one narrow-th of the channels. colours_apart: whether
    each colour is a grey picture of its own, read and written by the same weights; then D is 3 * 16 * depth, and value
    d of colour c is number d * 3 + c, so that a network of places may take the colours for its places.
    """

    causal = True

    def __init__(self, size: int = 64, depth: int = 24, narrow: int = 1, colours_apart: bool = False) -> None:
        super().__init__()
        halvings = math.log2(size / (PATCH * LEFT)) if size > 0 else 0.5
        if halvings != int(halvings) or not 0 < halvings < len(CHANNELS):
            raise ValueError(f"size is {size}, expected 32, 64, 128 or 256: pixels along the side of a frame")
        if depth < 1:
            raise ValueError(f"depth is {depth}, expected at least 1")
        if not 1 <= narrow <= NARROWEST or NARROWEST % narrow:
            raise ValueError(f"narrow is {narrow}, expected 1, 2, 4, 8 or 16: what the channels are divided by")
        self.size, self.depth, self.colours = size, depth, COLOURS if colours_apart else 1
        self.token_size = self.colours * PLACES * depth
        seen = COLOURS // self.colours  # colours that a layer sees together
        wide = tuple(channels // narrow for channels in CHANNELS[: int(halvings) + 1])
        shrink: list[nn.Module] = [nn.PixelUnshuffle(PATCH), nn.Conv2d(seen * PATCH**2, wide[0], 3, padding=1)]
        for before, after in pairwise(wide):
            shrink += [nn.SiLU(), nn.Conv2d(before, after, 3, stride=2, padding=1), Residual(after)]
        shrink += [nn.SiLU(), nn.Conv2d(wide[-1], depth, 1)]
        self.shrink = nn.Sequential(*shrink)
        grow: list[nn.Module] = [nn.Conv2d(depth, wide[-1], 3, padding=1), Residual(wide[-1]), Residual(wide[-1])]
        for before, after in pairwise(wide[::-1]):
            # Twice the resolution from the channels, a 1 x 1 product: a 3 x 3 one would cost nine times as much.
            grow += [nn.Conv2d(before, 4 * after, 1), nn.PixelShuffle(2), Residual(after)]
            if after != wide[0]:
                grow.append(Residual(after))
        grow += [nn.SiLU(), nn.Conv2d(wide[0], 64, 3, padding=1), nn.PixelShuffle(2)]
        grow += [nn.SiLU(), nn.Conv2d(16, 4 * seen, 3, padding=1), nn.PixelShuffle(2)]
        self.grow = nn.Sequential(*grow)
        for parameter in self.parameters():
            if parameter.ndim == 4:  # the layout in which convolutions are twice as fast on a processor
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    @property
    def token_shape(self) -> tuple[int, ...]:
        """Of one frame's vector."""
        return (self.token_size,)

    def initial_state(self, batch: int) -> NoState:
        """Nothing."""
        return NoState()

    def forward(self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Frames (B, T, 3, size, size) -> the frames that are left after shrinking and growing, and no state."""
        return self.rebuild(self.vectors(tokens)), state

    def vectors(self, frames: Tensor) -> Tensor:
        """Frames (..., 3, size, size) in [-1, 1] -> (..., D)."""
        if frames.shape[-3:] != (3, self.size, self.size):
            raise ValueError(
                f"frames have shape {tuple(frames.shape)}, expected (..., 3, {self.size}, {self.size}): this"
                " autoencoder was built for frames of that size"
            )
        flat = frames.reshape(-1, COLOURS // self.colours, self.size, self.size)
        left: Tensor = self.shrink(flat.contiguous(memory_format=torch.channels_last)).flatten(1).float()
        normed = F.layer_norm(left, left.shape[1:], eps=1e-8)
        by_value = normed.reshape(-1, self.colours, PLACES * self.depth).transpose(1, 2)
        return by_value.reshape(*frames.shape[:-3], self.token_size)

    def rebuild(self, vectors: Tensor) -> Tensor:
        """Vectors (..., D) -> frames (..., 3, size, size), about in [-1, 1]."""
        by_colour = vectors.reshape(-1, PLACES * self.depth, self.colours).transpose(1, 2)
        left = by_colour.reshape(-1, self.depth, LEFT, LEFT).contiguous(memory_format=torch.channels_last)
        frames: Tensor = self.grow(left).float()
        return frames.reshape(*vectors.shape[:-1], 3, self.size, self.size)

    @torch.no_grad()
    def encode(self, frames: Frames) -> Tensor:
        """Frames (T, size, size, 3) uint8 -> vectors (T, D)."""
        parts = [self.vectors(to_tokens(frames[at : at + AT_ONCE])) for at in range(0, len(frames), AT_ONCE)]
        return torch.cat(parts)

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Frames:
        """Vectors (T, D) -> frames (T, size, size, 3) uint8."""
        return to_frames(torch.cat([self.rebuild(part) for part in tokens.split(AT_ONCE)]))


class Residual(nn.Module):
    """x + a 3 x 3 and a 1 x 1 convolution of norm(x); the norm is over all of one frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.around = nn.Conv2d(channels, channels, 3, padding=1)
        self.here = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        mixed: Tensor = self.here(F.silu(self.around(self.norm(features))))
        return features + mixed


@dataclass(frozen=True)
class Rebuilding:
    """(denoiser, batch, generator) -> loss of an autoencoder: the squared error of frames rebuilt from blurred vectors.

    blur: standard deviation of the noise on the vectors, whose variance is 1. What is told apart in spite of it is
    worth telling apart, and what a model of the vectors gets slightly wrong is still a frame. contrast: how much it
    counts that a small window varies as much as in the real frame. The squared error alone would rather have a grey
    wall than bricks a pixel away from their places; a texture that is known but for its place, of variance v, is drawn
    with contrast / (1 + contrast) of its amplitude.
    """

    blur: float = 0.1
    contrast: float = 0.0

    def __post_init__(self) -> None:
        if not (self.blur >= 0 and self.contrast >= 0):
            raise ValueError(f"blur is {self.blur} and contrast {self.contrast}, expected 0 or more")

    def __call__(self, denoiser: Denoiser, batch: Batch, generator: Generator, part: slice = slice(None)) -> Tensor:
        """Mean squared error over the frames `part`, of all in the batch."""
        autoencoder = cast(FrameAutoencoder, denoiser.network)
        shape = (*batch.tokens.shape[:2], autoencoder.token_size)
        noise = torch.randn(shape, generator=generator, device=generator.device)
        vectors = autoencoder.vectors(batch.tokens[part])
        rebuilt = autoencoder.rebuild(vectors + self.blur * noise[part].to(vectors))
        loss = (rebuilt - batch.tokens[part]).square().sum() / batch.tokens.numel()
        if self.contrast > 0:
            mine, real = variation(rebuilt), variation(batch.tokens[part])
            share = len(batch.tokens[part]) / len(batch.tokens)
            loss = loss + self.contrast * share * (mine - real).square().mean()
        return loss


def variation(frames: Tensor) -> Tensor:
    """Standard deviation of each colour in every second window of frames (..., 3, H, W), in the units of the pixels."""
    flat = frames.flatten(0, -4)
    mean, power = (F.avg_pool2d(x, CONTRAST_WINDOW, 2) for x in (flat, flat.square()))
    return (power - mean.square()).clamp_min(SMALLEST_VARIANCE).sqrt()


def as_denoiser(autoencoder: FrameAutoencoder) -> Denoiser:
    """What the training loop takes; an autoencoder gives clean frames."""
    return Denoiser(autoencoder, Flow(), Prediction.CLEAN)


def load_autoencoder(path: Path) -> FrameAutoencoder:
    """The trained autoencoder in a file of weights. Raises ValueError for a damaged or foreign one."""
    recipe = read_recipe(path)
    if "depth" not in recipe or "size" not in recipe:
        raise ValueError(f"{path} holds the weights of {recipe.get('recipe')!r}, expected those of an autoencoder")
    made = (recipe["size"], recipe["depth"], recipe.get("narrow", 1), recipe.get("colours_apart", False))
    autoencoder = FrameAutoencoder(*made)
    load_weights(path, as_denoiser(autoencoder))
    return autoencoder.eval()
