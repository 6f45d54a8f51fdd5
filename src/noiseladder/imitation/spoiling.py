"""Pictures as worse cameras would have taken them: darker, tinted, grainy; learned from beside the good ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from noiseladder.data.episodes import Episode

GRAIN = 16.0  # grey levels
GAIN, TINT = 0.15, 0.08  # of the whole picture, and of each colour beside it


def spoiled(episode: Episode, seed: int) -> Episode:
    """The same episode, its pictures spoiled alike from the first to the last; the same for a seed."""
    random = np.random.default_rng((seed, 4))
    pictures: Mapping[str, NDArray[np.uint8]] = {
        camera: spoil(frames, random) for camera, frames in episode.pictures.items()
    }
    return replace(episode, name=f"{episode.name}, spoiled", pictures=pictures)


def spoil(frames: NDArray[np.uint8], random: Generator) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) with one brightness, one tint and one strength of grain."""
    gain = random.uniform(1 - GAIN, 1 + GAIN) * random.uniform(1 - TINT, 1 + TINT, 3).astype(np.float32)
    grain = random.uniform(0, GRAIN)
    noise = random.standard_normal(frames.shape, dtype=np.float32)
    worse: NDArray[np.uint8] = np.clip(np.rint(frames * gain.astype(np.float32) + grain * noise), 0, 255).astype(
        np.uint8
    )
    return worse
