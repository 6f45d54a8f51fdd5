"""The Diffusion Forcing objective: noise every token by its own amount, denoise all of them at once, compare."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Generator, Tensor

from .batch import Batch
from .denoiser import AnswersQueries, Denoiser, Prediction, hide_pure_noise
from .noise import NoiseSchedule, check_levels, spread
from .state import State
from .training_levels import DrawLevels, independent

Weight = Callable[[NoiseSchedule, Prediction, Tensor], Tensor]
"""(schedule, prediction, levels (B, T) or (B, T, D)) -> weight of the squared error of the output, same shape."""


def uniform(schedule: NoiseSchedule, prediction: Prediction, levels: Tensor) -> Tensor:
    """The plain squared error of the output."""
    return torch.ones_like(levels)


@dataclass(frozen=True)
class DiffusionForcing:
    """(denoiser, batch, generator) -> loss.

    draw_levels: how noisy each token is (training_levels). weight: how much its error counts.
    query_levels: if given, every token is also asked for in a second noisy version, at these levels, from the
        state before it (two streams, one pass). Then the main stream only needs to make good states:
        `draw_levels=clean, query_levels=independent, query_share=1` is teacher forcing on every token at once.
    query_share: the query stream's part of the loss.
    drop_condition: the probability that a sequence is trained with its condition zeroed (classifier-free).
    """

    draw_levels: DrawLevels = independent
    weight: Weight = uniform
    query_levels: DrawLevels | None = None
    query_share: float = 0.5
    drop_condition: float = 0.0

    def __post_init__(self) -> None:
        for name in ("query_share", "drop_condition"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a share in [0, 1]")

    def __call__(self, denoiser: Denoiser, batch: Batch, generator: Generator, part: slice = slice(None)) -> Tensor:
        """The loss, a scalar; all randomness comes from `generator`.

        part: the sequences to look at, for ranks and gradient accumulation. Levels and noise are drawn, and values
        counted, for the whole batch, so the losses of its parts add up to its loss.
        Raises ValueError when tokens that count are not finite, or when the level sampler leaves [0, 1].
        """
        clean, real = clean_tokens(batch)
        state = denoiser.initial_state(len(clean[part]))
        return self.after(denoiser, state, clean, real, batch.condition, generator, part)

    def after(
        self,
        denoiser: Denoiser,
        state: State,
        clean: Tensor,
        real: Tensor,
        condition: Tensor | None,
        generator: Generator,
        part: slice,
    ) -> Tensor:
        """The loss of tokens that follow what `state` holds of the sequences `part`; all else is the whole batch's."""
        levels, noise, noisy = self.draw(denoiser, clean, real, self.draw_levels, generator)
        condition = self.maybe_drop(condition, generator)
        condition = None if condition is None else condition[part]
        if self.query_levels is None:
            output, _ = denoiser.network(hide_pure_noise(noisy, levels)[part], levels[part], condition, state)
            return self.compare(denoiser, output, clean, noise, levels, real, part)
        if not hasattr(denoiser.network, "query"):
            name = type(denoiser.network).__name__
            raise ValueError(f"query_levels asks for two streams, but {name} has no query(...): leave query_levels out")
        asked_levels, asked_noise, asked = self.draw(denoiser, clean, real, self.query_levels, generator)
        output, answer = cast(AnswersQueries, denoiser.network).query(
            hide_pure_noise(noisy, levels)[part],
            levels[part],
            condition,
            state,
            hide_pure_noise(asked, asked_levels)[part],
            asked_levels[part],
        )
        loss = self.query_share * self.compare(denoiser, answer, clean, asked_noise, asked_levels, real, part)
        if self.query_share < 1:
            main = self.compare(denoiser, output, clean, noise, levels, real, part)
            loss = loss + (1 - self.query_share) * main
        return loss

    def draw(
        self, denoiser: Denoiser, clean: Tensor, real: Tensor, draw_levels: DrawLevels, generator: Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Levels (B, T) or (B, T, D) with what is not real at 1, noise and noisy tokens (B, T, ...)."""
        sequences, length = clean.shape[:2]
        levels = draw_levels(sequences, length, generator).to(clean)
        check_levels(levels)
        levels = torch.where(spread(real, levels), spread(levels, real), 1.0)
        noise = torch.randn(clean.shape, generator=generator, device=generator.device).to(clean)
        return levels, noise, denoiser.schedule.mix(clean, noise, levels)

    def compare(
        self,
        denoiser: Denoiser,
        output: Tensor,
        clean: Tensor,
        noise: Tensor,
        levels: Tensor,
        real: Tensor,
        part: slice,
    ) -> Tensor:
        """Weighted squared error of the sequences `part` over the number of values in the whole batch that count.

        What counts is real and not clean: a clean token needs no denoising, so it has no loss. Only the output is
        of the part alone.
        """
        counted = spread(real, levels) & (levels > 0)
        values = counted.sum() * (clean[0, 0].numel() / counted[0, 0].numel())  # a level may stand for several
        error = (output - denoiser.target(clean[part], noise[part], levels[part])) ** 2
        weight = counted[part] * self.weight(denoiser.schedule, denoiser.prediction, levels[part]).to(error)
        return (spread(weight, error) * error).sum() / values.clamp(min=1)

    def maybe_drop(self, condition: Tensor | None, generator: Generator) -> Tensor | None:
        """Zero the condition of some sequences."""
        if condition is None or self.drop_condition == 0:
            return condition
        chance = torch.rand(len(condition), 1, 1, generator=generator, device=generator.device)
        return torch.where(chance < self.drop_condition, 0.0, condition)


def clean_tokens(batch: Batch) -> tuple[Tensor, Tensor]:
    """Tokens with zeros where nothing is real, and what is real, (B, T) or (B, T, D)."""
    tokens, mask = batch.tokens, batch.mask
    if mask is None:
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    tokens = torch.where(spread(mask, tokens), tokens, 0.0)
    if not bool(torch.isfinite(tokens).all()):
        raise ValueError("the batch holds NaN or infinite tokens: set mask to False where a value is missing")
    if batch.condition is not None and not bool(torch.isfinite(batch.condition).all()):
        raise ValueError("the batch's condition holds NaN or infinite values: a condition is known at every step")
    return tokens, mask


# Weights. A squared error of the output is `error_ratio` times the squared error of the clean guess, so a weight
# wanted for clean guesses is divided by that ratio.


def over_error_ratio(schedule: NoiseSchedule, prediction: Prediction, levels: Tensor, clean_weight: Tensor) -> Tensor:
    """clean_weight / (squared error of the output per squared error of the clean guess).

    With a = alpha, b = sigma: clean 1, noise a^2 / b^2, velocity (a^2 + b^2)^2 / b^2, flow (a + b)^2 / b^2.
    At level 1 noise and flow stand for minus the clean guess, so their ratio is 1.
    """
    alpha, sigma = schedule.alpha(levels), schedule.sigma(levels)
    match prediction:
        case Prediction.CLEAN:
            return clean_weight
        case Prediction.VELOCITY:
            return clean_weight * (sigma / (alpha**2 + sigma**2)) ** 2
        case Prediction.FLOW:
            return clean_weight * (sigma / (alpha + sigma)) ** 2
        case Prediction.NOISE:
            return clean_weight * (sigma / alpha.masked_fill(alpha == 0, 1.0)) ** 2


@dataclass(frozen=True)
class MinSNR:
    """The squared error of the clean guess times min(snr, clip) (Hang et al., 2023)."""

    clip: float = 5.0

    def __call__(self, schedule: NoiseSchedule, prediction: Prediction, levels: Tensor) -> Tensor:
        return over_error_ratio(schedule, prediction, levels, schedule.snr(levels).clamp(max=self.clip))


@dataclass(frozen=True)
class FusedSNR:
    """Min-SNR in which a clean history counts as signal too (Chen et al., 2024, appendix), made consistent.

    S_t = min(snr_t, clip) / clip; M_t = g M_(t-1) + (1 - g) S_t with M_1 = S_1; F_t = 1 - (1 - S_t)(1 - g M_(t-1));
    the squared error of the clean guess counts clip * F_t. `decay` is per frame, and a token may hold several.
    """

    clip: float = 5.0
    decay: float = 0.9
    frames_per_token: int = 1

    def __call__(self, schedule: NoiseSchedule, prediction: Prediction, levels: Tensor) -> Tensor:
        snr = schedule.snr(levels)
        return over_error_ratio(schedule, prediction, levels, self.clip * self.fused(snr))

    def fused(self, snr: Tensor) -> Tensor:
        """F_t, in [0, 1], for snr (B, T, ...)."""
        own = snr.clamp(max=self.clip) / self.clip
        return 1 - (1 - own) * (1 - self.keep * self.history(own))

    @property
    def keep(self) -> float:
        """g of one token."""
        return self.decay**self.frames_per_token

    def history(self, own: Tensor) -> Tensor:
        """M_(t-1) for every t: the running mean of S over the tokens before; 0 before the first."""
        running, before = torch.zeros_like(own[:, 0]), []
        for t, now in enumerate(own.unbind(1)):
            before.append(running)
            running = now if t == 0 else self.keep * running + (1 - self.keep) * now
        return torch.stack(before, dim=1)


@dataclass(frozen=True)
class FusedSNRAsInPaper(FusedSNR):
    """The paper's formula: F_t = 1 - (1 - S_t)(1 - M_(t-1)), without the further factor g."""

    def fused(self, snr: Tensor) -> Tensor:
        own = snr.clamp(max=self.clip) / self.clip
        return 1 - (1 - own) * (1 - self.history(own))


@dataclass(frozen=True)
class FusedSNRAsPublished(FusedSNR):
    """The published code's weight, for comparison: it divides by the fused SNR, which under-weights pure noise.

    Velocity: clip F / (clip [1 - (1 - snr / clip)(1 - g M)] + 1); noise: without the + 1; snr is not clipped there.
    """

    def __call__(self, schedule: NoiseSchedule, prediction: Prediction, levels: Tensor) -> Tensor:
        snr = schedule.snr(levels)
        own = snr.clamp(max=self.clip) / self.clip
        unclipped = self.clip * (1 - (1 - snr / self.clip) * (1 - self.keep * self.history(own)))
        weight = self.clip * self.fused(snr)
        match prediction:
            case Prediction.CLEAN:
                return weight
            case Prediction.VELOCITY:
                return weight / (unclipped + 1)
            case Prediction.NOISE:
                return torch.where(unclipped > 0, weight / unclipped, 0.0)
            case Prediction.FLOW:
                raise ValueError("the published fused weight knows no flow prediction: use FusedSNR")


@dataclass(frozen=True)
class SigmoidWeight:
    """sigmoid(bias - log-SNR) on the noise error per unit of log-SNR (Kingma and Gao, 2023, equation for w)."""

    bias: float = 0.0

    def __call__(self, schedule: NoiseSchedule, prediction: Prediction, levels: Tensor) -> Tensor:
        importance = torch.sigmoid(self.bias - schedule.log_snr(levels))
        return importance * likelihood(schedule, prediction, levels)


def likelihood(schedule: NoiseSchedule, prediction: Prediction, levels: Tensor) -> Tensor:
    """The bound on -log p (Kingma et al., 2021): the noise error, uniform in log-SNR, no clipping.

    1/2 * snr * |d log-SNR / d level| on the squared error of the clean guess; 0 at the exact ends, which have
    no density.
    """
    inside = (schedule.alpha(levels) > 0) & (schedule.sigma(levels) > 0)  # also where float32 has reached an end
    safe = torch.where(inside, levels, 0.5)
    clean_weight = -0.5 * schedule.log_snr_slope(safe) * schedule.snr(safe)
    return torch.where(inside, over_error_ratio(schedule, prediction, safe, clean_weight), 0.0)
