from itertools import pairwise

import torch

from noiseladder.diffusion.denoiser import Denoised
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.sampling import DDIM
from noiseladder.forecasting.angle_step import AngleStep


def spread_after(step, variance: float, steps: int) -> float:
    """Standard normal noise sampled into N(0, variance) with the exact denoiser; its variance."""
    schedule, tokens = Cosine(), torch.randn(20000, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    stairs = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    for level, lower in pairwise(stairs):
        levels, lower_levels = (value.expand(len(tokens), 1) for value in (level, lower))
        alpha, sigma = schedule.shares(levels, tokens)
        clean = alpha * variance / (alpha**2 * variance + sigma**2) * tokens
        noise = sigma / (alpha**2 * variance + sigma**2) * tokens
        tokens = step(schedule, tokens, Denoised(clean, noise), levels, lower_levels)
    return float(tokens.var())


def test_standard_normal_tokens_keep_their_variance_with_any_number_of_steps():
    for steps in (1, 4, 10):
        assert abs(spread_after(AngleStep(), 1.0, steps) - 1) < 0.03


def test_ddim_with_few_steps_is_too_narrow():
    assert spread_after(DDIM, 1.0, 10) < 0.85


def test_other_variances_are_reached_with_eight_steps():
    for variance in (0.5, 1.5):
        assert abs(spread_after(AngleStep(), variance, 8) / variance - 1) < 0.06


def test_held_tokens_are_held():
    tokens = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([[0.5, 1.0, 0.0]]).expand(2, -1)
    after = AngleStep()(Cosine(), tokens, Denoised(tokens * 0, tokens), levels, levels)
    assert torch.equal(after, tokens)
