"""How far a learned denoiser is from an exact one: the numbers that tests bound and benchmarks/exact.py prints.

Everything is measured on fresh sequences, with the same noise for both denoisers. The exact guess is the conditional
mean, so what separates a learned guess from it is the learned one's whole excess error: no difference of two large
noisy losses is needed, except to look for losses below the floor, which would be a leak.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from statistics import NormalDist

import torch
from torch import Generator, Tensor

from exact import HiddenMarkovDenoiser, KalmanDenoiser
from noiseladder.diffusion.denoiser import Denoised, Denoiser, Denoises
from noiseladder.diffusion.likelihood import stratified
from noiseladder.diffusion.noise import LogSNR
from noiseladder.diffusion.sampling import Step, rollout
from noiseladder.diffusion.scheduling_matrix import autoregressive
from noiseladder.recipes import hidden_markov, linear_gaussian
from noiseladder.training import load_weights

WEIGHTS = Path(__file__).parent / "weights"
RECIPES = {
    "linear_gaussian": (linear_gaussian.experiment, linear_gaussian.LinearGaussianOptions),
    "hidden_markov": (hidden_markov.experiment, hidden_markov.HiddenMarkovOptions),
}


def trained(name: str, folder: Path | None = None) -> Denoiser:
    """The denoiser of a recipe with the weights in `folder`, by default those kept beside the tests."""
    folder = WEIGHTS / name if folder is None else folder
    experiment, options = RECIPES[name]
    saved = json.loads((folder / "recipe.json").read_text())
    denoiser = experiment(options(**{k: v for k, v in saved.items() if k != "recipe"})).denoiser.eval()
    load_weights(folder / "weights.safetensors", denoiser)
    return denoiser.requires_grad_(False)


def velocity(denoiser: Denoises, guess: Denoised, levels: Tensor) -> Tensor:
    """alpha * noise - sigma * clean, in float64."""
    alpha, sigma = denoiser.schedule.shares(levels.double(), guess.clean.double())
    return alpha * guess.noise.double() - sigma * guess.clean.double()


@dataclass(frozen=True)
class Excess:
    """Excess velocity loss over the Bayes floor by (time, log-SNR) bin.

    loss: mean squared distance to the exact velocity, (times, bins). below: how many standard errors the loss itself
    lies below the exact denoiser's on the same noise, (times, bins); a leak shows as a large number.
    """

    loss: Tensor
    below: Tensor
    edges: list[float]

    @property
    def below_limit(self) -> float:
        """What `below` exceeds in one of these bins once in a hundred runs, by chance alone (Bonferroni)."""
        return NormalDist().inv_cdf(1 - 0.01 / self.below.numel())


def excess_loss(denoiser: Denoiser, exact: KalmanDenoiser, sequences: int, length: int, generator: Generator) -> Excess:
    """Independent levels, every token in the bin of its time and log-SNR; seven bins of four nats over +-14."""
    edges = [-14.0 + 4 * i for i in range(8)]
    clean = exact.process.draw(sequences, length, generator)
    levels = torch.rand(sequences, length, generator=generator).double()
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    noisy = exact.schedule.mix(clean, noise, levels)
    learned = velocity(denoiser, denoiser(noisy.float(), levels.float()), levels)[..., 0]
    best = velocity(exact, exact(noisy, levels), levels)[..., 0]
    alpha, sigma = exact.schedule.shares(levels, clean)
    true = (alpha * noise - sigma * clean)[..., 0]
    distance, difference = (learned - best) ** 2, (learned - true) ** 2 - (best - true) ** 2
    log_snr = exact.schedule.log_snr(levels)
    loss, below = [], []
    for low, high in pairwise(edges):
        inside = ((log_snr >= low) & (log_snr < high)).double()
        count = inside.sum(0)
        mean = (difference * inside).sum(0) / count
        variance = ((difference - mean) ** 2 * inside).sum(0) / (count - 1)
        loss.append((distance * inside).sum(0) / count)
        below.append(-mean / (variance / count).sqrt())
    return Excess(torch.stack(loss, dim=1), torch.stack(below, dim=1), edges)


def rising(sequences: int, length: int, generator: Generator) -> Tensor:
    """Monotone: independent levels in rising order."""
    return torch.rand(sequences, length, generator=generator).sort(dim=1).values


def falling(sequences: int, length: int, generator: Generator) -> Tensor:
    """Monotone: independent levels in falling order."""
    return rising(sequences, length, generator).flip(1)


def all_equal(sequences: int, length: int, generator: Generator) -> Tensor:
    """One level for all tokens of a sequence."""
    return torch.rand(sequences, 1, generator=generator).repeat(1, length)


def one_clean(sequences: int, length: int, generator: Generator) -> Tensor:
    """One clean token, all others hidden."""
    place = torch.randint(length, (sequences, 1), generator=generator)
    return torch.ones(sequences, length).scatter(1, place, 0.0)


UNSEEN: dict[str, Callable[[int, int, Generator], Tensor]] = {
    "rising": rising,
    "falling": falling,
    "all equal": all_equal,
    "one clean": one_clean,
}
"""Patterns of levels that the recipes never draw in training."""


def error_on_pattern(
    denoiser: Denoiser,
    exact: KalmanDenoiser,
    pattern: Callable[[int, int, Generator], Tensor],
    sequences: int,
    length: int,
    generator: Generator,
) -> float:
    """Root mean squared distance of clean guesses to the exact ones, in standard deviations of a token (which is 1)."""
    clean = exact.process.draw(sequences, length, generator)
    levels = pattern(sequences, length, generator)
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    noisy = exact.schedule.mix(clean, noise, levels.double())
    distance = denoiser(noisy.float(), levels).clean.double() - exact(noisy, levels.double()).clean
    return float(distance.square().mean().sqrt())


def nats_lost(
    denoiser: Denoiser, exact: KalmanDenoiser, clean: Tensor, levels: Tensor, generator: Generator, points: int = 48
) -> float:
    """How many nats the learned bound on the last token of `clean` (B, T, 1) is above the exact one, in expectation.

    levels: (T - 1,), how noisy the history is. Half the integral over the SNR of the squared distance of the clean
    guesses: the rest of the difference of the two bounds has mean 0, because the exact guess is a conditional mean.
    """
    sequences, history = len(clean), clean[:, :-1]
    at = levels.double().expand(sequences, -1)
    blur = torch.randn(history.shape, generator=generator, dtype=torch.float64)
    learned_state = denoiser.initial_state(sequences)
    exact_state = exact.initial_state(sequences)
    if history.shape[1] > 0:
        learned_state = denoiser.observe(history.float(), None, None, at.float(), blur.float())
        exact_state = exact.observe(history, None, None, at, blur)
    where = stratified(points, generator)
    query = exact.schedule.level_of_log_snr(where.log_snr)
    each = torch.arange(sequences).repeat_interleave(points)
    asked = query.repeat(sequences)[:, None]
    noise = torch.randn(len(each), 1, 1, generator=generator, dtype=torch.float64)
    noisy = exact.schedule.mix(clean[each, -1:], noise, asked)
    learned = denoiser(noisy.float(), asked.float(), None, learned_state[each]).clean.double()
    best = exact(noisy, asked, None, exact_state[each]).clean
    distance = (learned - best).square().reshape(sequences, points).mean(0)
    return float(0.5 * (distance * where.log_snr.exp() * where.weight).sum())


def subset_gaps(
    denoiser: Denoiser, exact: KalmanDenoiser, tokens: int, sequences: int, generator: Generator
) -> dict[tuple[tuple[bool, ...], tuple[bool, ...]], float]:
    """Nats lost on log p(x_B | x_A) for all disjoint subsets A and B of `tokens` tokens, B not empty."""
    clean = exact.process.draw(sequences, tokens, generator)
    lost = {
        seen: nats_lost(denoiser, exact, clean[:, : t + 1], 1.0 - torch.tensor(seen, dtype=torch.float64), generator)
        for t in range(tokens)
        for seen in product((False, True), repeat=t)
    }

    def joint(subset: tuple[bool, ...]) -> float:
        return sum(lost[subset[:t]] for t in range(tokens) if subset[t])

    gaps = {}
    for roles in product((0, 1, 2), repeat=tokens):
        given, asked = tuple(r == 1 for r in roles), tuple(r == 2 for r in roles)
        if any(asked):
            both = tuple(g or a for g, a in zip(given, asked, strict=True))
            gaps[given, asked] = joint(both) - joint(given)
    return gaps


LADDER = (12.0, 6.0, 4.0, 2.0, 0.0, -2.0, -4.0, -6.0, -12.0)


def exact_ladder(exact: KalmanDenoiser, log_snr: float) -> float:
    """Expected nats of a token whose whole long history was seen at `log_snr`."""
    level = exact.schedule.level_of_log_snr(torch.tensor(log_snr, dtype=torch.float64))
    zeros = torch.zeros(1, 65, 1, dtype=torch.float64)
    levels = torch.cat([level.expand(1, 64), torch.ones(1, 1).double()], dim=1)
    return float(0.5 * (2 * math.pi * math.e * exact.predictions(zeros, levels).variance[0, -1]).log())


def ladder_gaps(
    denoiser: Denoiser, exact: KalmanDenoiser, sequences: int, history: int, generator: Generator
) -> dict[float, float]:
    """Nats lost on the token after `history` tokens at each log-SNR of the ladder."""
    gaps = {}
    for log_snr in LADDER:
        level = exact.schedule.level_of_log_snr(torch.tensor(log_snr, dtype=torch.float64))
        clean = exact.process.draw(sequences, history + 1, generator)
        gaps[log_snr] = nats_lost(denoiser, exact, clean, level.expand(history), generator)
    return gaps


# Roll-outs.


def telling_stairs(steps: int, low: float, high: float) -> Tensor:
    """From 1 to 0 in `steps`, evenly in log-SNR between `low` and `high`, where a sample is decided: (steps + 1,)."""
    ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
    between = LogSNR().level_of_log_snr(torch.linspace(low, high, steps - 1, dtype=torch.float64))
    return torch.cat([ends[:1], between, ends[1:]])


def roll_out(
    denoiser: Denoises,
    sequences: int,
    length: int,
    stairs: Tensor,
    generator: Generator,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Tokens one after the other for ever, by second-order steps and remembered as they are: (B, length), float64."""

    def noise() -> Iterator[Tensor]:
        for _ in range(length):
            yield torch.randn(sequences, 1, 1, generator=generator, dtype=dtype)

    matrix = autoregressive(1, len(stairs) - 1, stairs)
    chunks = rollout(denoiser, noise(), matrix, step=Step(second_order=True))
    return torch.cat([chunk[:, 0] for chunk in chunks], dim=1).double()


@dataclass(frozen=True)
class Trend:
    """How a number changes along a roll-out: its mean, its slope per roll-out, and the slope's standard errors."""

    mean: float
    slope: float
    standard_errors: float


def trend(values: Tensor) -> Trend:
    """The slope over time of values (B, T), by least squares for each sequence; sequences are independent."""
    time = torch.linspace(-0.5, 0.5, values.shape[1], dtype=torch.float64)
    slopes = (values * time).sum(1) / (time**2).sum()
    return Trend(float(values.mean()), float(slopes.mean()), float(slopes.mean() / (slopes.std() / len(slopes) ** 0.5)))


def trends(tokens: Tensor, exact: KalmanDenoiser, burn: int = 50) -> dict[str, Trend]:
    """Variance, covariance at lags 1 and 4, and the true process's nats per step, along roll-outs (B, T)."""
    nats = exact.negative_log_likelihood(tokens[..., None])
    return {
        "variance": trend(tokens[:, burn:] ** 2),
        "covariance at lag 1": trend(tokens[:, burn:-1] * tokens[:, burn + 1 :]),
        "covariance at lag 4": trend(tokens[:, burn:-4] * tokens[:, burn + 4 :]),
        "nats of the true process": trend(nats[:, burn:]),
    }


@dataclass(frozen=True)
class ChainFit:
    """How a roll-out of a learned hidden chain differs from the chain, in standard errors over independent roll-outs.

    mass: (K,), transition and posterior: (K, K). `mass` and `transition` are those of the modes that tokens are
    nearest to; `posterior` asks whether the true filter, run over the learned tokens, foretells their next modes:
    for each pair (j, z), whether mode j comes too often where the filter gives mode z its probability.
    between: share of tokens farther than five spreads from every mode.
    """

    mass: Tensor
    transition: Tensor
    posterior: Tensor
    found_mass: Tensor
    found_transition: Tensor
    between: float

    @property
    def worst(self) -> float:
        """The largest of all in size."""
        return max(float(part.abs().max()) for part in (self.mass, self.transition, self.posterior))

    @property
    def limit(self) -> float:
        """What the largest exceeds once in a hundred roll-outs of the true chain, at most (Bonferroni)."""
        count = sum(part.numel() for part in (self.mass, self.transition, self.posterior))
        return NormalDist().inv_cdf(1 - 0.01 / (2 * count))


def chain_fit(tokens: Tensor, exact: HiddenMarkovDenoiser) -> ChainFit:
    """Compare roll-outs (B, T) with the chain that they should be."""
    process, size = exact.process, len(exact.process.means)
    distance = (tokens[..., None] - process.means).abs()
    modes = torch.nn.functional.one_hot(distance.argmin(-1), size).double()  # (B, T, K)
    # A token is sometimes nearest to another mode than its own: what is seen has a law of its own.
    borders = (process.means[1:] + process.means[:-1]) / 2
    reach = torch.special.ndtr((borders - process.means[:, None]) / process.spread)
    seen_as = torch.diff(reach, dim=1, prepend=torch.zeros(size, 1).double(), append=torch.ones(size, 1).double())
    share = process.stationary[:, None] * seen_as  # (mode, seen as)
    mass = share.sum(0)
    transition = (share.T / mass[:, None]) @ process.transition @ seen_as
    hidden = torch.zeros(tokens.shape).double()
    posterior = exact.mode_posterior(tokens[..., None], hidden)[:, :-1]
    expected = posterior @ process.transition  # (B, T - 1, K)
    before, after = modes[:, :-1], modes[:, 1:]

    def errors(residual: Tensor) -> Tensor:
        """Mean over time of (B, T, ...), then its standard errors over sequences."""
        each = residual.mean(1)
        return each.mean(0) / (each.std(0) / len(each) ** 0.5)

    return ChainFit(
        mass=errors(modes - mass),
        transition=errors(before[..., :, None] * (after[..., None, :] - transition)),
        posterior=errors(expected[..., None, :] * (after - expected @ seen_as)[..., :, None]),
        found_mass=modes.mean((0, 1)),
        found_transition=(before.mT @ after).sum(0) / before.sum((0, 1))[:, None],
        between=float((distance.amin(-1) > 5 * process.spread).double().mean()),
    )
