import pytest
import torch

from noiseladder.diffusion.denoiser import Prediction
from noiseladder.diffusion.noise import Cosine
from noiseladder.imitation.policy_levels import Asked, Means, Remembered, SensesCount
from noiseladder.imitation.policy_tokens import PolicyTokens

TOKENS = PolicyTokens(("front", "side", "state"), (3, 3, 2), 2, 2, torch.zeros(13), torch.ones(13))


def drawn(levels, count=4000, length=6):
    return levels(count, length, torch.Generator().manual_seed(0))


def by_part(levels):
    return levels[..., [0, 3, 6, 8]]


@pytest.mark.parametrize("levels", [Remembered(TOKENS), Asked(TOKENS), Means(TOKENS)])
def test_a_part_has_one_level(levels):
    found = drawn(levels)
    assert found.shape == (4000, 6, 13)
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(TOKENS.spread(by_part(found)), found)
    assert torch.equal(found, drawn(levels))


def test_the_past_is_mostly_exactly_known_and_sometimes_forgotten():
    found = by_part(drawn(Remembered(TOKENS)))
    clean = (found[..., :3] == 0).flatten(1).all(1)
    assert 0.3 < clean.float().mean() < 0.75
    unknown = (found[..., 3] == 1).all(1)
    assert 0.4 < unknown.float().mean() < 0.65
    # A forgotten prefix: wholly at level 1 up to some token, and not after it.
    first, last = (found[:, 0] == 1).all(1), (found[:, -1, :3] == 0).all(1)
    assert 0.04 < (first & last).float().mean() < 0.2


def test_never_forgetting_is_possible():
    always = Remembered(TOKENS, noisy=0, forgotten=0, blind=0, unaware=0)
    assert drawn(always).max() == 0
    blind = by_part(drawn(Remembered(TOKENS, noisy=0, forgotten=0, blind=1, unaware=0)))
    assert blind[..., 3].max() == 0
    assert ((blind[..., :3] > 0).any(1).sum(-1) == 1).all()  # one sense, for a while


def test_in_the_dark_no_camera_sees_anything_from_some_token_on():
    found = by_part(drawn(Remembered(TOKENS, noisy=0, forgotten=0, blind=0, dark=0.5, unaware=0)))
    assert found[..., 2:].max() == 0  # the hand is felt, and what is done is known
    dark = (found[..., :2] == 1).all(-1)
    assert torch.equal(dark, (found[..., :2] > 0).any(-1))
    assert 0.45 < dark.any(1).float().mean() < 0.55
    assert (dark[:, 1:] >= dark[:, :-1]).all()  # it does not end
    asked = by_part(drawn(Asked(TOKENS, imagined=0, blind=0, dark=0.25)))
    assert asked[..., 2].max() == 0
    assert 0.22 < (asked[..., :2] == 1).all(-1).float().mean() < 0.28


def test_actions_are_asked_for_after_senses_that_are_known():
    found = by_part(drawn(Asked(TOKENS)))
    assert 0.5 < (found[..., :3] == 0).all(-1).float().mean() < 0.65
    assert 0.3 < (found[..., 3] == 1).float().mean() < 0.37
    only = by_part(drawn(Asked(TOKENS, imagined=0, blind=0)))
    assert only[..., :3].max() == 0
    assert only[..., 3].min() >= 0


def test_cloning_asks_for_the_average():
    assert by_part(drawn(Means(TOKENS))).unique(dim=0).unique(dim=1)[0, 0].tolist() == [0, 0, 0, 1]


def test_senses_count_less_and_clean_guesses_are_compared():
    """Weight times the squared error of a velocity is `share` or 1 times that of the clean guess it stands for."""
    levels = drawn(Asked(TOKENS), 8)
    weight = SensesCount(TOKENS, 0.25)(Cosine(), Prediction.VELOCITY, levels)
    sigma = Cosine().sigma(levels)
    share = torch.tensor([0.25] * 8 + [1.0] * 5)
    torch.testing.assert_close(weight, share * sigma**2)
    assert SensesCount(TOKENS)(Cosine(), Prediction.VELOCITY, torch.ones(2, 3)).tolist() == [[1] * 3] * 2


def test_a_waypoint_is_asked_for_with_the_actions_and_never_remembered():
    tokens = PolicyTokens(
        ("front", "side", "state"), (3, 3, 2), 2, 2, torch.zeros(15), torch.ones(15), moves=2, waypoint=True
    )
    parts = [0, 3, 6, 8, 13]
    remembered = drawn(Remembered(tokens))[..., parts]
    assert remembered[..., 4].min() == 1
    known = drawn(Remembered(tokens, noisy=0, forgotten=0, blind=0, unaware=0))[..., parts]
    assert known[..., :4].max() == 0
    asked = drawn(Asked(tokens, dark=0.3))[..., parts]
    assert torch.equal(asked[..., 4], asked[..., 3])
    assert asked[..., 4].unique().numel() > 1000
    weight = SensesCount(tokens, 0.25, waypoint=3.0)(Cosine(), Prediction.CLEAN, torch.full((1, 1, 15), 0.5))
    torch.testing.assert_close(weight / weight[..., 8:9], torch.tensor([0.25] * 8 + [1.0] * 5 + [3.0] * 2)[None, None])
