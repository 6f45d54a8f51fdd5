"""Learned scores of dreams, named after the networks behind them, and each Frechet score only beside its floor.

`st_lpips_alex`, `fd_effnet_lite0` and `fvd_transnetv2` are not the published LPIPS, FID and FVD: the networks are other
ones, and no value may be held against published ones. A Frechet score depends on the number of samples too, so it is
given together with its floor: what real frames get in the place of the dream, as many, against the same other ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .clip_features import transnetv2
from .evaluation import Foretold
from .frechet import fit, frechet_distance
from .metrics import copy_last
from .picture_features import effnet_lite0
from .shift_tolerant_distance import st_lpips_alex


@dataclass(frozen=True)
class Perceived:
    """Mean `st_lpips_alex` to the true frames at each of some steps, (steps,).

    dream: of the dream; copied: of the last known frame; rebuilt: of the true frames as the codec has them.
    """

    dream: Tensor
    copied: Tensor
    rebuilt: Tensor


def perceived(foretold: Foretold, steps: Sequence[int]) -> Perceived:
    """At the steps given, counted from 1, the first frame after what is known."""
    horizon = foretold.truth.shape[1]
    wrong = [step for step in steps if not 1 <= step <= horizon]
    if wrong:
        raise ValueError(f"steps are {list(steps)}, expected 1 to {horizon}, the frames that were foretold")
    at = torch.tensor([step - 1 for step in steps], dtype=torch.long)
    truth = foretold.truth[:, at]
    return Perceived(
        st_lpips_alex(foretold.dream[:, at], truth).mean(0),
        st_lpips_alex(copy_last(foretold.known, len(at)), truth).mean(0),
        st_lpips_alex(foretold.rebuilt[:, at], truth).mean(0),
    )


@dataclass(frozen=True)
class FrechetScore:
    """score: of a dream; floor: of real samples in its place; samples: how many each of the sets has."""

    score: float
    floor: float
    samples: int


def fd_effnet_lite0(dreams: Sequence[Tensor], real: Tensor, other: Tensor) -> list[FrechetScore]:
    """Frechet distance of each dream's frames to `other` real frames in the features of EfficientNet-lite0.

    dreams, each, and real: (..., H, W, 3) uint8 of one shape, `real` being what truly came in their place; other:
    frames of other walks, as many. ValueError for unequal numbers; ImportError without the extra `perceptual`.
    """
    return _beside(lambda frames: effnet_lite0(frames).flatten(0, -2), dreams, real, other)


def fvd_transnetv2(dreams: Sequence[Tensor], real: Tensor, other: Tensor) -> list[FrechetScore]:
    """Frechet distance of each dream's clips to `other` real clips in the features of TransNetV2's trunk.

    dreams, each, and real: (B, T, H, W, 3) uint8 of one shape, `real` being what truly came in their place; other:
    clips of other walks, as many. ValueError for unequal numbers; ImportError without the extra `perceptual`.
    """
    return _beside(transnetv2, dreams, real, other)


def _beside(
    features: Callable[[Tensor], Tensor], dreams: Sequence[Tensor], real: Tensor, other: Tensor
) -> list[FrechetScore]:
    if any(frames.shape != real.shape for frames in (*dreams, other)):
        raise ValueError(
            f"real frames have shape {tuple(real.shape)}, others {[tuple(f.shape) for f in (*dreams, other)]}, expected"
            " one shape: a Frechet distance depends on how many samples it is of"
        )
    ours, theirs = features(real), fit(features(other))
    floor = frechet_distance(fit(ours), theirs)
    return [FrechetScore(frechet_distance(fit(features(dream)), theirs), floor, len(ours)) for dream in dreams]
