"""Coming back: a dream that begins where a walk leaves a pose, looked at when the walk is there again.

It is the strict question about places that a walk can ask: the pose was seen as it truly is, everything since then is
dreamt, and only who remembers, or knows the world, shows the same again. `metrics.revisits` compares dreamt frames with
dreamt frames, as far into a dream as one likes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator

from .clip import Clip
from .evaluation import Dreamer, stacked
from .metrics import apart, returns, unit


@dataclass(frozen=True)
class Return:
    """A walk leaves a pose at frame `left` of itself and is there again at frame `back`."""

    walk: Clip
    left: int
    back: int


@dataclass(frozen=True)
class CameBack:
    """Mean absolute difference, in [0, 1], from the true frame that was seen before the place was left.

    dream: of the frame dreamt on coming back. real: of the true frame then, the floor. other: of a true frame of the
    same walk from another pose, drawn at random. count: how many returns.
    """

    dream: float
    real: float
    other: float
    count: int

    @property
    def ratio(self) -> float:
        """0 for who finds the place as it was, about 1 for who finds any other."""
        return self.dream / self.other if self.other > 0 else math.nan

    @property
    def floor(self) -> float:
        """The ratio of real frames."""
        return self.real / self.other if self.other > 0 else math.nan


def returns_of(walks: Sequence[Clip], context: int, most: int, gap: int = 20, longest: int = 60) -> list[Return]:
    """Up to `most` returns after `gap` to `longest` frames, evenly over all there are, each with a context before it.

    Raises ValueError where no walk has poses, or none comes back in that time.
    """
    if all(walk.poses is None for walk in walks):
        raise ValueError("no walk has poses, expected one for every frame: who comes back is read off them")
    found = []
    for walk in walks:
        if walk.poses is None:
            continue
        left, back = returns(torch.from_numpy(np.asarray(walk.poses)).double(), gap)
        kept = (left >= context - 1) & (back - left <= longest)
        found += [Return(walk, *pair) for pair in zip(left[kept].tolist(), back[kept].tolist())]
    if not found:
        raise ValueError(f"no walk comes back to a pose after {gap} to {longest} frames: record longer ones")
    chosen = np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int)
    return [found[number] for number in chosen]


def come_back(dreamer: Dreamer, found: Sequence[Return], context: int, seed: int = 0) -> CameBack:
    """Dream every return after `context` real frames, the last of which is the one from the pose that is left.

    Return i draws its noise from seed + i, and with the seed the frames from other poses are drawn.
    """
    generator = Generator().manual_seed(seed)
    dream = real = other = 0.0
    for number, each in enumerate(found):
        walk, truth = each.walk, torch.from_numpy(each.walk.frames)
        first = unit(truth[each.left])
        frames, conditions = stacked([walk[each.left + 1 - context : each.back + 1]])
        dreamt = list(
            dreamer.dreams(frames[:, :context], conditions[:, :context], conditions[:, context:], seed + number)
        )
        dream += (unit(dreamt[-1][0]) - first).abs().mean().item()
        real += (unit(truth[each.back]) - first).abs().mean().item()
        elsewhere = torch.nonzero(apart(torch.from_numpy(np.asarray(walk.poses)).double(), each.left)).flatten()
        drawn = elsewhere[torch.randint(len(elsewhere), (), generator=generator)]
        other += (unit(truth[drawn]) - first).abs().mean().item()
    return CameBack(dream / len(found), real / len(found), other / len(found), len(found))
