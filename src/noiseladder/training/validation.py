"""How good the averaged weights are on sequences never trained on: one number, and one for each noise level."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.objective import DiffusionForcing, uniform
from noiseladder.diffusion.training_levels import Constant

from .experiment import Objective

LEVELS = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)
"""Where validation looks; at 1 nothing is seen of a token."""

DRAWS = 4
"""Times the validation sequences are noised for the one number; always with the same noise, so steps compare."""

CHUNK = 256
"""Sequences at a time: validation needs no gradients, but memory all the same."""


@dataclass(frozen=True)
class Validation:
    """What one validation found.

    loss: the training objective on validation sequences; the best weights are those where it is lowest.
    by_level: (level, mean squared error of the network's output with tokens at that level), weight 1.
    """

    loss: float
    by_level: tuple[tuple[float, float], ...]
    best: bool


def at_level(objective: Objective, level: float) -> Objective:
    """The plain squared error with every token at one level; after a clean history where it is trained that way.

    An objective that is not DiffusionForcing may offer `at_level(level) -> Objective` itself.
    """
    if callable(own := getattr(objective, "at_level", None)):
        return cast(Objective, own(level))
    if isinstance(objective, DiffusionForcing) and objective.query_levels is not None:
        return replace(objective, weight=uniform, query_levels=Constant(level), query_share=1.0, drop_condition=0.0)
    return DiffusionForcing(Constant(level))


def chunks(batch: Batch) -> list[slice]:
    """The batch in pieces that fit into memory."""
    return [slice(start, start + CHUNK) for start in range(0, len(batch), CHUNK)]
