"""Noise named by keys: whoever has a key draws the same numbers, in any order, in any batch, on any machine.

A generator for each of many thousand nodes would cost more than the nodes. Here a key is one 64-bit number and noise is
a hash of (key, stream, counter): SplitMix64's finalizer (Steele, Lea and Flood, 2014) and the Box-Muller transform.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Keys = NDArray[np.uint64]

# The odd number nearest to 2^64 divided by the golden ratio: multiples of it are spread evenly.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(numbers: Keys) -> Keys:
    """A bijection of 64-bit numbers in which every bit of the input moves half of the output's bits."""
    numbers = numbers ^ (numbers >> np.uint64(30))
    numbers = numbers * np.uint64(0xBF58476D1CE4E5B9)
    numbers = numbers ^ (numbers >> np.uint64(27))
    numbers = numbers * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def root_key(seed: int) -> Keys:
    """The key of a seed, (1,)."""
    return mix(np.array([seed % 2**64], dtype=np.uint64) + GOLDEN)


def child_keys(keys: Keys, slots: NDArray[np.integer]) -> Keys:
    """Keys of children: parents' keys (n,) and which child each is (n,) -> (n,)."""
    return mix(mix(keys) + (slots.astype(np.uint64) + np.uint64(1)) * GOLDEN)


def bits(keys: Keys, stream: int, count: int) -> Keys:
    """`count` 64-bit numbers for each key: (n, count). Different streams of a key have nothing in common."""
    start = mix(mix(keys) ^ mix(np.array([stream], dtype=np.uint64) + GOLDEN))
    return mix(start[:, None] + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN)


def uniform(keys: Keys, count: int = 1, stream: int = 0) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1): (n, count)."""
    return (bits(keys, stream, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(keys: Keys, shape: tuple[int, ...], stream: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal noise: (n, *shape), the row of a key is the same whatever the other keys are."""
    count = math.prod(shape)
    pairs = (count + 1) // 2
    drawn = bits(keys, stream, pairs)
    kind = np.float64 if dtype == torch.float64 else np.float32
    # Half a step off zero: the logarithm is finite, the largest value is 6.8.
    radius = np.sqrt(-2 * np.log(((drawn >> np.uint64(32)) + 0.5) * 2.0**-32)).astype(kind)
    angle = ((drawn & np.uint64(0xFFFFFFFF)) * (2.0**-32 * 2 * np.pi)).astype(kind)
    both = np.empty((len(keys), 2 * pairs), dtype=kind)
    np.multiply(radius, np.cos(angle), out=both[:, :pairs])
    np.multiply(radius, np.sin(angle), out=both[:, pairs:])
    return torch.from_numpy(both[:, :count].reshape(len(keys), *shape)).to(dtype)


class EpisodeKeys:
    """Keys for what a planner draws: of an episode and the number of its plan, whatever the batch.

    seed: of all. Episodes are numbered on over all batches, so that no two of them draw the same.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.first, self.episodes, self.plans = 0, 0, 0  # number of the batch's first episode, how many, plans made

    def reset(self, episodes: int) -> None:
        """A batch of new episodes begins."""
        self.first, self.episodes, self.plans = self.first + self.episodes, episodes, 0

    def next(self, count: int) -> Keys:
        """Keys (count,) of the next plans, one for each episode."""
        keys = child_keys(root_key(self.seed).repeat(count), self.first + np.arange(count))
        self.plans += 1
        return child_keys(keys, np.full(count, self.plans - 1))
