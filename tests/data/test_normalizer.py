import pytest
import torch

from noiseladder.data.normalizer import Normalizer, last_known, variance_ratio

CONTEXT, HORIZON = 20, 10


def walks(steps: int = 600) -> torch.Tensor:
    """Two prices that wander together."""
    generator = torch.Generator().manual_seed(0)
    moves = torch.randn(steps, 2, generator=generator, dtype=torch.float64) * 0.01
    moves[:, 1] += moves[:, 0]
    return 3 * moves.cumsum(0).exp()


def levels(steps: int = 600) -> torch.Tensor:
    """Two series that return to a level: one of them goes below zero."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(steps, 2, generator=generator, dtype=torch.float64)
    return torch.tensor([50.0, 0.0], dtype=torch.float64) + noise


def windows(values: torch.Tensor) -> torch.Tensor:
    return values.unfold(0, CONTEXT + HORIZON + 1, 50).transpose(1, 2)


@pytest.mark.parametrize("make", [walks, levels])
@pytest.mark.parametrize("prior_correlation", [0.5, 1.0])
def test_paths_undo_tokens(make, prior_correlation):
    values = make()
    normalizer = Normalizer.fit(values, CONTEXT, HORIZON, prior_correlation=prior_correlation)
    window = windows(values)
    anchor = normalizer.anchor(window[:, : CONTEXT + 1])
    tokens = normalizer.tokens(window, anchor)[:, CONTEXT:]
    back = normalizer.values(normalizer.paths(tokens[:, None], anchor))[:, 0]
    torch.testing.assert_close(back, window[:, CONTEXT + 1 :])


def test_what_wanders_is_told_from_what_returns():
    both = torch.cat([walks(), levels()], 1)
    normalizer = Normalizer.fit(both, CONTEXT, HORIZON)
    assert normalizer.wandering.tolist() == [True, True, False, False]
    assert normalizer.logarithmic.tolist() == [True, True, False, False]
    assert normalizer.relative.tolist() == [False, False, True, False]


def test_tokens_of_a_random_walk_are_white():
    values = walks(4000)
    normalizer = Normalizer.fit(values, CONTEXT, HORIZON)
    window = windows(values)
    tokens = normalizer.tokens(window, normalizer.anchor(window[:, : CONTEXT + 1]))[:, CONTEXT:].flatten(0, 1)
    torch.testing.assert_close(tokens.T.cov(), torch.eye(2, dtype=torch.float64), atol=0.12, rtol=0)


def test_the_future_does_not_reach_the_anchor_or_earlier_tokens():
    values = walks()
    normalizer = Normalizer.fit(values, CONTEXT, HORIZON)
    window = windows(values)
    changed = window.clone()
    changed[:, CONTEXT + 1 :] *= 7
    before = normalizer.tokens(window, normalizer.anchor(window[:, : CONTEXT + 1]))
    after = normalizer.tokens(changed, normalizer.anchor(changed[:, : CONTEXT + 1]))
    assert torch.equal(before[:, :CONTEXT], after[:, :CONTEXT])
    assert not torch.equal(before[:, CONTEXT:], after[:, CONTEXT:])


def test_a_calm_and_a_wild_context_give_tokens_of_the_same_size():
    values = walks()
    normalizer = Normalizer.fit(values, CONTEXT, HORIZON, prior=0.0)
    window = values[:31].log()[None]
    wild = window[:, :1] + 5 * (window - window[:, :1])
    tokens = [normalizer.tokens(w.exp(), normalizer.anchor(w.exp()[:, : CONTEXT + 1])) for w in (window, wild)]
    torch.testing.assert_close(*tokens)


def test_missing_values_stay_missing_and_touch_nothing_else():
    values = levels()
    window = windows(values)
    gap = window.clone()
    gap[:, 5, 0] = torch.nan
    normalizer = Normalizer.fit(values, CONTEXT, HORIZON)
    tokens = normalizer.tokens(gap, normalizer.anchor(gap[:, : CONTEXT + 1]))
    assert tokens[:, 4, 0].isnan().all()
    assert tokens.isnan().sum() == len(tokens)


def test_an_increment_after_a_gap_starts_at_the_last_known_value():
    values = walks()
    normalizer = Normalizer.fit(values, CONTEXT, HORIZON)
    gap = values[None, :5].clone()
    gap[:, 2] = torch.nan
    steps = normalizer.steps(gap)
    torch.testing.assert_close(steps[0, 2], (values[3] / values[1]).log())


def test_last_known():
    nan = float("nan")
    given = torch.tensor([[[nan], [1.0], [nan], [nan], [2.0]]])
    assert last_known(given)[0, 1:, 0].tolist() == [1, 1, 1, 2]
    assert last_known(given)[0, 0, 0].isnan()


def test_variance_ratio():
    walk, level = variance_ratio(torch.cat([walks(5000).log()[:, :1], levels(5000)[:, :1]], 1))
    assert 0.7 < walk < 1.3
    assert level < 0.1
