"""How far two sets of features are apart: the Frechet distance of the Gaussians that have their means and covariances.

Dowson and Landau 1982, equation 4; Heusel et al. 2017 (arXiv 1706.08500) made it a score of pictures. The value belongs
to the features and to the **number of samples**: of n independent samples in d dimensions, n well above d and equal
isotropic laws of variance v, even two sets of the same law are about v (2 d + d (d + 1) / 2) / n apart, and more
than that where n is below d. So a score means something only beside that of real samples, as many of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Moments of a set: mean (D,), and a factor (R, D) whose `factor.T @ factor` is the covariance; float64."""

    mean: Tensor
    factor: Tensor

    @property
    def covariance(self) -> Tensor:
        """(D, D)."""
        return self.factor.T @ self.factor


def fit(features: Tensor) -> Gaussian:
    """The Gaussian with the moments of features (N, D); the covariance is the unbiased one, N - 1 below.

    ValueError for fewer than two samples or features that are not finite.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features have shape {tuple(features.shape)}, expected (N, D) with at least 2 samples")
    if not bool(torch.isfinite(features).all()):
        raise ValueError("features are not all finite, expected numbers: look at the frames that they are of")
    wide = features.double()
    mean = wide.mean(0)
    factor = (wide - mean) / (len(features) - 1) ** 0.5
    if len(factor) > factor.shape[1]:
        factor = torch.linalg.qr(factor, mode="r").R  # the same covariance in fewer rows
    return Gaussian(mean, factor)


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Squared 2-Wasserstein distance |m - n|^2 + tr(A + B - 2 (A B)^(1/2)); never negative, 0 for the same law.

    The trace of the root is the sum of the singular values of (factor of A) (factor of B)^T: no root of a matrix is
    taken, so covariances of any rank will do.
    """
    if one.mean.shape != other.mean.shape:
        raise ValueError(
            f"features have {len(one.mean)} and {len(other.mean)} dimensions, expected as many: take one network"
        )
    common = torch.linalg.svdvals(one.factor @ other.factor.T).sum()
    apart = (one.mean - other.mean).square().sum()
    spread = one.factor.square().sum() + other.factor.square().sum() - 2 * common
    return float(apart + spread.clamp_min(0))
