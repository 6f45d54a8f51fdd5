"""Sampling walks down the scheduling matrix: one denoising call and one step for each pair of rows.

The loops are generators: watch them, stop them, keep the far future noisy. Noise is an argument: the same noise
gives the same sample, and with one generator for each sequence a sequence does not depend on its batch.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat

import torch
from torch import Generator, Tensor

from .denoiser import Denoised, Denoises
from .noise import NoiseSchedule, check_levels, spread
from .scheduling_matrix import check_matrix
from .state import State


@dataclass(frozen=True)
class Previous:
    """The clean guess of the step before, for second-order steps; levels are NaN where there was none."""

    clean: Tensor
    levels: Tensor


@dataclass(frozen=True)
class Step:
    """One step formula for DDIM (eta 0), ancestral DDPM (eta 1) and anything between, for any schedule.

    eta: how much of the noise is drawn anew, in [0, 1] (Song et al., 2021, equation 16, in general form).
    generators: one for each sequence, or a single one; needed for eta > 0 and for redrawing.
    second_order: extrapolate the clean guess from this step and the one before, DPM-Solver++(2M) (Lu et al.,
        2022); meant for eta 0 and stairs whose steps are alike.
    variance: what the variance of a clean token, given the tokens before, is taken to be. DDIM's 0 keeps the clean
        guess and so, with few steps, shrinks what is uncertain: a standard normal token's variance falls to about
        exp(-(pi / 2)^2 / n) in n steps, .73 at 8. With the variance v, the step is the exact flow map of N(m, v) for
        any mean m; where the true variance is another, means stay exact and variances come closer with more steps.
    redraw_waiting: draw tokens that wait at level 1 anew in every row instead of holding them.
    """

    eta: float = 0.0
    generators: Sequence[Generator] | Generator | None = None
    second_order: bool = False
    variance: float = 0.0
    redraw_waiting: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}, expected a number in [0, 1]: 0 is DDIM, 1 is DDPM")
        if (self.eta > 0 or self.redraw_waiting) and self.generators is None:
            raise ValueError(
                "this step draws noise: pass generators=, one torch.Generator for each sequence or one for all"
            )
        if self.second_order and self.eta > 0:
            raise ValueError(f"second_order steps are deterministic, but eta is {self.eta}: use eta=0")
        if not 0 <= self.variance < math.inf:
            raise ValueError(
                f"variance is {self.variance}, expected a number, at least 0: 0 is DDIM, 1 suits unit tokens"
            )
        if self.variance > 0 and (self.eta > 0 or self.second_order):
            raise ValueError(
                f"a step with variance {self.variance} is deterministic and of first order: use eta=0 and"
                " second_order=False with it"
            )

    def draw(self, like: Tensor) -> Tensor:
        """Fresh noise shaped like (B, ...), sequence by sequence."""
        if self.generators is None:
            raise ValueError("this step has no generators to draw noise from: pass generators=")
        return draw_noise(self.generators, tuple(like.shape)).to(like)

    def __call__(
        self,
        schedule: NoiseSchedule,
        noisy: Tensor,
        denoised: Denoised,
        levels: Tensor,
        next_levels: Tensor,
        fresh: Tensor | None = None,
        previous: Previous | None = None,
    ) -> Tensor:
        """Tokens (B, T, ...) at `next_levels` (B, T); those whose level does not change are returned as they are.

        a' clean + sqrt(b'^2 - s^2) noise + s fresh, with s = eta (b'/b) sqrt(b^2 - (a/a')^2 b'^2). With a variance v
        b' becomes (sqrt((a^2 v + b^2) (a'^2 v + b'^2)) - a a' v) / b.
        """
        if self.second_order and previous is not None:
            denoised = extrapolate(schedule, noisy, denoised, levels, next_levels, previous)
        next_alpha, next_sigma = schedule.shares(next_levels, noisy)
        moved = next_alpha * denoised.clean
        if self.variance > 0:
            moved = moved + self.flow_share(schedule, noisy, levels, next_levels) * denoised.noise
        elif fresh is None:
            moved = moved + next_sigma * denoised.noise
        else:
            drawn = self.eta * self.noise_share(schedule, noisy, levels, next_levels)
            moved = moved + (next_sigma**2 - drawn**2).clamp(min=0).sqrt() * denoised.noise + drawn * fresh
        return torch.where(spread(levels == next_levels, noisy), noisy, moved)

    def flow_share(self, schedule: NoiseSchedule, noisy: Tensor, levels: Tensor, next_levels: Tensor) -> Tensor:
        """What the noise guess counts in the flow map of N(m, variance): b' where the variance is 0."""
        alpha, sigma = schedule.shares(levels, noisy)
        next_alpha, next_sigma = schedule.shares(next_levels, noisy)
        power = (alpha**2 * self.variance + sigma**2) * (next_alpha**2 * self.variance + next_sigma**2)
        return (power.sqrt() - alpha * next_alpha * self.variance) / sigma.masked_fill(sigma == 0, 1.0)

    def noise_share(self, schedule: NoiseSchedule, noisy: Tensor, levels: Tensor, next_levels: Tensor) -> Tensor:
        """Standard deviation of the noise that an ancestral step (eta 1) draws."""
        alpha, sigma = schedule.shares(levels, noisy)
        next_alpha, next_sigma = schedule.shares(next_levels, noisy)
        kept = alpha / next_alpha.masked_fill(next_alpha == 0, 1.0) * next_sigma
        return next_sigma / sigma.masked_fill(sigma == 0, 1.0) * (sigma**2 - kept**2).clamp(min=0).sqrt()


DDIM = Step(eta=0.0)


@dataclass(frozen=True)
class AngleStep(Step):
    """An Euler step of the probability flow in the angle: few steps make tokens of any variance nearly wide enough.

    With r = sqrt(a^2 + b^2) and angle = atan2(b, a): x' / r' = (x + (angle' - angle) (a noise - b clean)) / r. Exact
    for standard normal tokens of mean 0. What it pays is the mean, which n steps overshoot by up to pi / (4 n): in 8
    by 9.5 % for a token of variance 1, by 2 % for a certain one. `Step(variance=...)` has exact means instead, and the
    width of one variance.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eta > 0 or self.second_order or self.variance > 0:
            raise ValueError(
                f"an AngleStep draws nothing, is of first order and has no variance, but eta is {self.eta},"
                f" second_order {self.second_order} and variance {self.variance}: use Step for these"
            )

    def __call__(
        self,
        schedule: NoiseSchedule,
        noisy: Tensor,
        denoised: Denoised,
        levels: Tensor,
        next_levels: Tensor,
        fresh: Tensor | None = None,
        previous: Previous | None = None,
    ) -> Tensor:
        """Tokens (B, T, ...) at `next_levels` (B, T); those whose level does not change are returned as they are."""
        alpha, sigma = schedule.shares(levels, noisy)
        next_alpha, next_sigma = schedule.shares(next_levels, noisy)
        turn = torch.atan2(next_sigma, next_alpha) - torch.atan2(sigma, alpha)
        moved = noisy + turn * (alpha * denoised.noise - sigma * denoised.clean)
        # In float64, so that it is 1 to the bit for float32 tokens of a variance-preserving schedule.
        radius, next_radius = (
            torch.hypot(schedule.alpha(at), schedule.sigma(at)) for at in (levels.double(), next_levels.double())
        )
        moved = spread(next_radius / radius, noisy).to(noisy) * moved
        return torch.where(spread(levels == next_levels, noisy), noisy, moved)


def extrapolate(
    schedule: NoiseSchedule,
    noisy: Tensor,
    denoised: Denoised,
    levels: Tensor,
    next_levels: Tensor,
    previous: Previous,
) -> Denoised:
    """DPM-Solver++(2M): clean + (clean - previous clean) / (2 r), r the ratio of the steps in log-SNR.

    First order where there is no step before or where a step starts or ends at an exact end, which is infinitely
    far in log-SNR.
    """
    now, then = schedule.log_snr(levels), schedule.log_snr(next_levels)
    ratio = (now - schedule.log_snr(previous.levels)) / (then - now)
    share = torch.where(torch.isfinite(ratio) & (ratio > 0), 0.5 / ratio, 0.0)
    share = spread(share, noisy).to(noisy)
    clean = denoised.clean + torch.where(share > 0, share * (denoised.clean - previous.clean), 0.0)
    alpha, sigma = schedule.shares(levels, noisy)
    noise = torch.where(sigma > 0, (noisy - alpha * clean) / sigma.masked_fill(sigma == 0, 1.0), 0.0)
    return Denoised(clean, noise)


def sample(
    denoiser: Denoises,
    noise: Tensor,
    matrix: Tensor,
    condition: Tensor | None = None,
    state: State | None = None,
    step: Step = DDIM,
    given: Tensor | None = None,
    early_stop: bool = False,
    level: float = 0.0,
    level_noise: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield the tokens at every row of the matrix: first the noise, last the sample.

    denoiser: bare, guided or exact. noise: (B, T, ...); tokens that are `given` come at their first level instead.
    matrix: (rows, T) levels (scheduling_matrix). condition: (B, T, C). state: what came before (`observe`).
    given: (T,) bool; early_stop: allow a matrix that ends above 0. level: how noisy a finished token is shown to the
    tokens after it (stabilization: about .02, so that small errors are not taken for facts); level_noise: like
    `noise`, for that, or None to scale only. Tokens given at level 0 are facts. Raises ValueError at once for what does
    not fit. `final(sample(...))` is the sample alone.

    A bare causal denoiser runs only the tokens that a row needs: finished ones are read into the state once, waiting
    ones not at all. `scheduling_matrix.network_calls` tells the number of calls beforehand.
    """
    check_matrix(matrix, given, early_stop)
    check_noise(noise, matrix, condition)
    check_levels(torch.tensor([level]))
    if level_noise is not None and level_noise.shape != noise.shape:
        raise ValueError(
            f"level_noise has shape {tuple(level_noise.shape)}, expected that of the noise, {tuple(noise.shape)}"
        )
    state = denoiser.initial_state(len(noise)) if state is None else state
    return walk(denoiser, noise, matrix.to(noise.device), condition, state, step, level, level_noise)


def rollout(
    denoiser: Denoises,
    noise: Iterable[Tensor],
    matrix: Tensor,
    condition: Iterable[Tensor] | None = None,
    state: State | None = None,
    step: Step = DDIM,
    level: float = 0.0,
    level_noise: Iterable[Tensor] | None = None,
) -> Iterator[Tensor]:
    """Yield chunk after chunk (B, T, ...), for as long as `noise` gives chunks; the cost of each is the same.

    matrix: (rows, T), as wide as a chunk. condition: an iterable of (B, T, C) in step with the noise. level: how
    noisy a generated token is remembered, as in `sample`; level_noise: an iterable of noise for that, in step with
    the chunks, or None to scale only. Ends with whichever iterable ends first. A denoiser that remembers only the
    last tokens is a `ShortMemory`.

    What is known after a chunk is `denoiser.observe(chunk, condition, state, level, level_noise)`, the call that is
    made here too: make it yourself to keep the state, to branch it, or to read what really came instead.
    """
    check_matrix(matrix)
    check_levels(torch.tensor([level]))
    return _rollout(denoiser, noise, matrix, condition, state, step, level, level_noise)


def _rollout(
    denoiser: Denoises,
    noise: Iterable[Tensor],
    matrix: Tensor,
    condition: Iterable[Tensor] | None,
    state: State | None,
    step: Step,
    level: float,
    level_noise: Iterable[Tensor] | None,
) -> Iterator[Tensor]:
    conditions = repeat(None) if condition is None else condition
    blurs = repeat(None) if level_noise is None else level_noise
    for start, known, blur in zip(noise, conditions, blurs, strict=False):
        check_noise(start, matrix, known)
        state = denoiser.initial_state(len(start)) if state is None else state
        chunk = final(walk(denoiser, start, matrix.to(start.device), known, state, step, level, blur))
        yield chunk
        with torch.no_grad():
            state = denoiser.observe(chunk, known, state, level, blur)


def walk(
    denoiser: Denoises,
    tokens: Tensor,
    matrix: Tensor,
    condition: Tensor | None,
    state: State,
    step: Step,
    level: float = 0.0,
    level_noise: Tensor | None = None,
) -> Iterator[Tensor]:
    """`sample` without its checks."""
    causal = bool(getattr(denoiser, "causal", False))
    prepare = getattr(denoiser, "prepare", lambda state: state)
    with torch.no_grad():
        state = prepare(state)
    first = 0  # tokens before this one are in the state
    previous = Previous(torch.zeros_like(tokens), torch.full_like(matrix[:1], torch.nan))
    # Levels in half precision would fall together.
    rows, matrix = matrix.tolist(), matrix.to(torch.promote_types(tokens.dtype, torch.float32))
    remembered = (matrix[0] > 0).to(matrix) * level  # (T,): what is given at level 0 is a fact
    yield tokens
    for number, (row, next_row) in enumerate(pairwise(rows)):
        moving = [t for t, (now, then) in enumerate(zip(row, next_row, strict=True)) if now != then]
        if not moving:
            tokens = redraw(step, tokens, row, next_row)
            yield tokens
            continue
        with torch.no_grad():
            if causal:
                finished = next(t for t in range(first, len(row)) if row[t] != 0)
                if finished > first:
                    read = slice(first, finished)
                    at = remembered[read].expand(len(tokens), -1) if level > 0 else 0.0
                    blur = _cut(level_noise, read)
                    state = prepare(denoiser.observe(tokens[:, read], _cut(condition, read), state, at, blur))
                    first = finished
            window = slice(first, moving[-1] + 1) if causal else slice(0, len(row))
            here = tokens[:, window]
            levels, next_levels = matrix[number : number + 2, window].unsqueeze(1).expand(-1, len(here), -1).unbind()
            shown, at = here, levels
            if level > 0:
                shown, at = as_remembered(
                    denoiser.schedule, here, levels, remembered[window], _cut(level_noise, window)
                )
            denoised = denoiser(shown, at, _cut(condition, window), state)
            fresh = None
            if step.eta > 0:
                fresh = torch.zeros_like(here)
                places = [t - window.start for t in moving]
                fresh[:, places] = step.draw(here[:, places])
            before = None
            if step.second_order:
                before = Previous(previous.clean[:, window], previous.levels[:, window])
                previous = remember(previous, denoised, levels, next_levels, window)
            moved = step(denoiser.schedule, here, denoised, levels, next_levels, fresh, before)
            if moved.shape[1] < len(row):
                moved = torch.cat([tokens[:, : window.start], moved, tokens[:, window.stop :]], dim=1)
            tokens = moved
            tokens = redraw(step, tokens, row, next_row)
        yield tokens


def as_remembered(
    schedule: NoiseSchedule, tokens: Tensor, levels: Tensor, remembered: Tensor, noise: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What a denoiser is shown of tokens at `levels` (B, T) and at which levels: finished ones as they are remembered.

    remembered: (T,), the level of each token once it is finished.
    """
    at = torch.where(levels == 0, remembered, levels)
    blurred = schedule.mix(tokens, torch.zeros_like(tokens) if noise is None else noise, at)
    return torch.where(spread(at == levels, tokens), tokens, blurred), at


def remember(previous: Previous, denoised: Denoised, levels: Tensor, next_levels: Tensor, window: slice) -> Previous:
    """The clean guesses and levels of this step, for the tokens that moved."""
    clean, marks = previous.clean.clone(), previous.levels.clone()
    moved = levels != next_levels
    clean[:, window] = torch.where(spread(moved, clean), denoised.clean, clean[:, window])
    marks[:, window] = torch.where(moved[:1], levels[:1].to(marks), marks[:, window])
    return Previous(clean, marks)


def redraw(step: Step, tokens: Tensor, row: list[float], next_row: list[float]) -> Tensor:
    """Fresh noise for the tokens that wait at level 1, if the step asks for it."""
    if not step.redraw_waiting:
        return tokens
    waiting = [t for t, level in enumerate(next_row) if level == 1 and row[t] == 1]
    tokens = tokens.clone()
    tokens[:, waiting] = step.draw(tokens[:, waiting])
    return tokens


def final(rows: Iterator[Tensor]) -> Tensor:
    """The last tensor that a sampler yields; the rows before are not kept."""
    return deque(rows, maxlen=1).pop()


def draw_noise(generators: Sequence[Generator] | Generator, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (B, T, ...): from one generator for each sequence, or from a single one."""
    if isinstance(generators, Generator):
        return torch.randn(shape, generator=generators, device=generators.device)
    if len(generators) != shape[0]:
        raise ValueError(f"{len(generators)} generators for {shape[0]} sequences: give one for each, or one for all")
    return torch.stack([torch.randn(shape[1:], generator=g, device=g.device) for g in generators])


def check_noise(noise: Tensor, matrix: Tensor, condition: Tensor | None) -> None:
    """Raise ValueError unless noise (B, T, ...), matrix (rows, T) and condition (B, T, C) belong together."""
    if noise.ndim < 3 or not noise.is_floating_point() or noise.shape[1] != matrix.shape[1]:
        raise ValueError(
            f"noise is {noise.dtype} of shape {tuple(noise.shape)}, expected floats of shape (B, T, ...) with"
            f" T = {matrix.shape[1]}, the columns of the scheduling matrix"
        )
    if not bool(torch.isfinite(noise).all()):
        raise ValueError("the noise to start from holds NaN or infinite values")
    if condition is not None and not bool(torch.isfinite(condition).all()):
        raise ValueError("the condition holds NaN or infinite values: it must be known at every step")
    if condition is not None and condition.shape[:2] != noise.shape[:2]:
        raise ValueError(
            f"condition has shape {tuple(condition.shape)}, expected (B, T, C) with B, T = {tuple(noise.shape[:2])}"
        )


def _cut(condition: Tensor | None, window: slice) -> Tensor | None:
    return None if condition is None else condition[:, window]
