"""The Frechet distance against its closed forms, its invariances, and how few samples deceive it."""

import pytest
import torch
from torch import Generator, Tensor

from noiseladder.video.frechet import Gaussian, fit, frechet_distance


def drawn(count: int, dimensions: int, seed: int) -> Tensor:
    return torch.randn(count, dimensions, generator=Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(mean: list[float], covariance: list[list[float]]) -> Gaussian:
    return Gaussian(torch.tensor(mean).double(), torch.linalg.cholesky(torch.tensor(covariance).double(), upper=True))


def test_a_fit_has_the_moments_of_its_samples_however_many_there_are() -> None:
    for count in (2, 3, 4, 5, 200):
        features = drawn(count, 4, count) @ drawn(4, 4, 9) + 3
        found = fit(features)
        assert torch.allclose(found.mean, features.mean(0))
        assert torch.allclose(found.covariance, features.T.cov())
        assert len(found.factor) <= max(4, count if count <= 4 else 4)


def test_gaussians_along_the_axes_have_their_closed_form() -> None:
    """Sum of (m - n)^2 + (a - b)^2 over dimensions of deviations a and b."""
    one = gaussian([1, 2, 3], [[4, 0, 0], [0, 9, 0], [0, 0, 0.25]])
    other = gaussian([0, 2, 5], [[1, 0, 0], [0, 16, 0], [0, 0, 0.25]])
    assert frechet_distance(one, other) == pytest.approx(1 + 0 + 4 + 1 + 1 + 0)


def test_in_two_dimensions_the_trace_of_the_root_is_known() -> None:
    """tr (A B)^(1/2) = (tr(A B) + 2 (det A det B)^(1/2))^(1/2), by Cayley and Hamilton; neither commutes here."""
    one, other = gaussian([0, 0], [[2.0, 1.2], [1.2, 1.0]]), gaussian([0, 0], [[1.0, -0.4], [-0.4, 3.0]])
    product = one.covariance @ other.covariance
    assert not torch.allclose(product, product.T, atol=0.1)
    root = (product.trace() + 2 * product.det().sqrt()).sqrt()
    expected = one.covariance.trace() + other.covariance.trace() - 2 * root
    assert frechet_distance(one, other) == pytest.approx(expected.item(), abs=1e-12)


def test_it_is_that_of_the_root_of_the_product_of_covariances() -> None:
    """Oracle: eigenvalues of A B are real and not negative, and their roots sum up to the trace."""
    one, other = fit(drawn(50, 7, 1) @ drawn(7, 7, 2)), fit(drawn(40, 7, 3) @ drawn(7, 7, 4) + 1)
    roots = torch.linalg.eigvals(one.covariance @ other.covariance).real.clamp_min(0).sqrt().sum()
    expected = (one.mean - other.mean).square().sum() + one.covariance.trace() + other.covariance.trace() - 2 * roots
    assert frechet_distance(one, other) == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("count", [6, 60])  # fewer samples than dimensions, and more
def test_equal_sets_are_no_way_apart_and_order_tells_nothing(count: int) -> None:
    features, shuffled = drawn(count, 10, 1), torch.randperm(count, generator=Generator().manual_seed(2))
    assert frechet_distance(fit(features), fit(features)) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(fit(features), fit(features[shuffled])) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(fit(features), fit(features + 2)) == pytest.approx(40)


@pytest.mark.parametrize("count", [6, 60])
def test_it_is_symmetric_and_knows_no_axes_no_origin_and_no_unit(count: int) -> None:
    one, other = drawn(count, 10, 1), 2 * drawn(count, 10, 2) + 1
    turn = torch.linalg.qr(drawn(10, 10, 3)).Q
    distance = frechet_distance(fit(one), fit(other))
    assert distance > 10
    assert frechet_distance(fit(other), fit(one)) == pytest.approx(distance)
    assert frechet_distance(fit(one @ turn - 5), fit(other @ turn - 5)) == pytest.approx(distance)
    assert frechet_distance(fit(3 * one), fit(3 * other)) == pytest.approx(9 * distance)


def test_samples_of_two_laws_come_near_the_distance_of_the_laws() -> None:
    law, other = gaussian([0, 0], [[2.0, 1.2], [1.2, 1.0]]), gaussian([1, 0], [[1.0, -0.4], [-0.4, 3.0]])
    sets = [drawn(20_000, 2, seed) @ each.factor + each.mean for seed, each in enumerate((law, other))]
    assert frechet_distance(fit(sets[0]), fit(sets[1])) == pytest.approx(frechet_distance(law, other), rel=0.03)


@pytest.mark.parametrize("count", [500, 1000])
def test_sets_of_one_law_are_apart_by_what_the_document_says(count: int) -> None:
    """To first order (2 d + d (d + 1) / 2) / n for variance 1: 2 d / n of the means, the rest of the covariances."""
    size, pairs = 8, 40
    found = [
        frechet_distance(fit(drawn(count, size, 2 * pair)), fit(drawn(count, size, 2 * pair + 1)))
        for pair in range(pairs)
    ]
    assert sum(found) / pairs == pytest.approx((2 * size + size * (size + 1) / 2) / count, rel=0.1)


def test_fewer_samples_of_one_law_look_further_apart() -> None:
    found = [frechet_distance(fit(drawn(count, 30, 1)), fit(drawn(count, 30, 2))) for count in (10, 40, 160, 640)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 20  # of 60, the sum of both variances: ten samples say almost nothing
    assert found[-1] < 1


def test_what_cannot_be_fitted_is_said() -> None:
    with pytest.raises(ValueError, match=r"features have shape \(1, 3\), expected \(N, D\) with at least 2"):
        fit(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="not all finite"):
        fit(torch.tensor([[0.0, torch.nan], [1.0, 2.0]]))
    with pytest.raises(ValueError, match="3 and 4 dimensions"):
        frechet_distance(fit(drawn(5, 3, 1)), fit(drawn(5, 4, 1)))
