"""How good a dream is: held against real walks with the same actions, and against how real walks differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from noiseladder.diffusion.denoiser import Denoises
from noiseladder.diffusion.sampling import DDIM, Step, draw_noise, final, sample

from .clip import Clip
from .metrics import BlockStatistics, drift, psnr, psnr_gain, ssim
from .past_guided import PastGuided
from .world_model import Codec, Dreaming


@dataclass(frozen=True)
class Dreamer:
    """Dreams several walks side by side: what `WorldModel` does for one, for a batch."""

    denoiser: Denoises
    codec: Codec
    dreaming: Dreaming
    step_formula: Step = DDIM

    @torch.no_grad()
    def dreams(self, frames: Tensor, led: Tensor, conditions: Tensor, seed: int) -> Iterator[Tensor]:
        """Yield frame after frame, (B, H, W, 3) uint8.

        frames: (B, T, H, W, 3) uint8, real. led: (B, T, C), the conditions that led to them; conditions: (B, S, C),
        those of the frames to dream. Sequence i draws its noise from a generator of its own, seeded with seed + i.
        """
        batch, context = frames.shape[:2]
        tokens = self.codec.encode(frames.flatten(0, 1).numpy()).unflatten(0, (batch, context))
        state = self.denoiser.observe(tokens, led)
        how = self.dreaming
        denoiser = self.denoiser if how.history == 1 else PastGuided(self.denoiser, how.history)
        generators = [Generator().manual_seed(seed + number) for number in range(batch)]
        matrix, shape = how.matrix, (batch, 1, *self.codec.token_shape)
        for condition in conditions.split(1, dim=1):
            noise = draw_noise(generators, shape)
            token = final(sample(denoiser, noise, matrix, condition, state, self.step_formula))
            blur = draw_noise(generators, shape) if how.stabilization > 0 else None
            state = self.denoiser.observe(token, condition, state, how.stabilization, blur)
            yield torch.from_numpy(self.codec.decode(token[:, 0]))


@dataclass(frozen=True)
class Prediction:
    """The next frames with the true actions, each (horizon,).

    gain: decibels over copying the last frame. ceiling: the same for the true frames as the codec rebuilds them, which
    no model of its tokens can pass by more than chance. psnr, ssim: means over walks; sharpness: mean gradient of the
    dream over that of the real frames.
    """

    gain: Tensor
    ceiling: Tensor
    psnr: Tensor
    ssim: Tensor
    sharpness: Tensor


@dataclass(frozen=True)
class Foretold:
    """What was foretold and what came, uint8: known (B, context, H, W, 3), the others (B, horizon, H, W, 3).

    rebuilt: the true frames as the codec has them.
    """

    known: Tensor
    truth: Tensor
    dream: Tensor
    rebuilt: Tensor


def foretell(dreamer: Dreamer, walks: Sequence[Clip], context: int, horizon: int, seed: int = 0) -> Foretold:
    """Dream `horizon` frames after `context` real ones, once for each walk, with the actions that were really done."""
    short = [walk for walk in walks if len(walk) < context + horizon]
    if short or not walks:
        raise ValueError(
            f"walks have {min(map(len, walks), default=0)} frames, expected {context + horizon}: context and horizon"
        )
    frames, conditions = stacked([walk[: context + horizon] for walk in walks])
    dream = torch.stack(
        list(dreamer.dreams(frames[:, :context], conditions[:, :context], conditions[:, context:], seed)), dim=1
    )
    truth = frames[:, context:]
    rebuilt = dreamer.codec.decode(dreamer.codec.encode(truth.flatten(0, 1).numpy()))
    return Foretold(frames[:, :context], truth, dream, torch.from_numpy(rebuilt).reshape(truth.shape))


def predict(dreamer: Dreamer, walks: Sequence[Clip], context: int, horizon: int, seed: int = 0) -> Prediction:
    """Foretell the next frames of every walk and measure how close they came."""
    return closeness(foretell(dreamer, walks, context, horizon, seed))


def closeness(foretold: Foretold) -> Prediction:
    """How close dreamt frames came to the true ones."""
    dream, truth, known = foretold.dream, foretold.truth, foretold.known
    return Prediction(
        psnr_gain(dream, truth, known),
        psnr_gain(foretold.rebuilt, truth, known),
        psnr(dream, truth).mean(0),
        ssim(dream, truth).mean(0),
        sharpness(dream).mean(0) / sharpness(truth).mean(0),
    )


def long_dream(dreamer: Dreamer, walk: Clip, context: int, seed: int = 0) -> Tensor:
    """The dream that the actions of a walk lead to after `context` of its frames, (T - context, H, W, 3) uint8."""
    frames, conditions = stacked([walk])
    return torch.cat(list(dreamer.dreams(frames[:, :context], conditions[:, :context], conditions[:, context:], seed)))


def sharpness(frames: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels of frames (..., H, W, 3) uint8, (...)."""
    unit = frames.float() / 255
    down, across = unit.diff(dim=-3).abs().mean((-3, -2, -1)), unit.diff(dim=-2).abs().mean((-3, -2, -1))
    return (down + across) / 2


def pieces(walks: Sequence[Clip], length: int, count: int) -> list[Clip]:
    """`count` pieces of `length` frames at even distances over the walks that are long enough."""
    starts = [
        (number, start) for number, walk in enumerate(walks) for start in range(0, len(walk) - length + 1, length // 2)
    ]
    if not starts:
        raise ValueError(f"no walk has {length} frames: record longer ones")
    chosen = np.linspace(0, len(starts) - 1, min(count, len(starts))).round().astype(int)
    return [walks[starts[place][0]][starts[place][1] : starts[place][1] + length] for place in chosen]


def stacked(walks: Sequence[Clip]) -> tuple[Tensor, Tensor]:
    """Walks of equal length: frames (B, T, H, W, 3) and conditions (B, T, A)."""
    rows = [np.asarray(walk.actions, np.float32) for walk in walks if walk.actions is not None]
    if len(rows) != len(walks):
        raise ValueError("some walks have no actions, expected one for every frame: a dream follows them")
    return torch.from_numpy(np.stack([walk.frames for walk in walks])), torch.from_numpy(np.stack(rows))


@dataclass(frozen=True)
class Endurance:
    """A long dream in blocks, each (K,): divergence of its colours and motion from real ones in units of the spread.

    colour, motion: about 1 without drift. real_colour, real_motion: the same of real blocks of a walk that the measure
    does not know, which is the floor.
    """

    colour: Tensor
    motion: Tensor
    real_colour: Tensor
    real_motion: Tensor

    @property
    def drift(self) -> float:
        """Mean over the last quarter of the blocks, the larger of colour and motion."""
        last = max(1, len(self.colour) // 4)
        return max(self.colour[-last:].mean().item(), self.motion[-last:].mean().item())

    @property
    def floor(self) -> float:
        """The same measure of all real blocks: what no drift at all looks like."""
        return max(self.real_colour.mean().item(), self.real_motion.mean().item())


def endurance(dream: BlockStatistics, walk: BlockStatistics, known: BlockStatistics) -> Endurance:
    """Hold the blocks of a dream, and those of the real walk whose actions it followed, against other real blocks."""
    dreamt, real = drift(dream, known), drift(walk, known)
    return Endurance(dreamt.colour, dreamt.motion, real.colour, real.motion)
