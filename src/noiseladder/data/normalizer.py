"""From values to tokens of about unit size and back: increments of what wanders, levels of what does not.

A window is scaled by its own context, so that a model meets the same kind of token in calm and in wild years; the
statistics that stay fixed come from the training part alone. Nothing after the context is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

WANDERING = 0.5
DRIFTING = 4.0
SMALLEST_SCALE = 1e-8
SMALLEST_EIGENVALUE = 1e-3


@dataclass(frozen=True)
class Anchor:
    """What the context says of a window: `last` known values, `center` and `scale` of tokens, each `(B, D)`.

    mixing, unmixing: `(B, D, D)`, roots of the correlation of increments and of its inverse.
    """

    last: Tensor
    center: Tensor
    scale: Tensor
    mixing: Tensor
    unmixing: Tensor


@dataclass(frozen=True)
class Normalizer:
    """Fixed statistics of the training part, one entry a series `(D,)`; NaN is a missing value throughout.

    logarithmic: the series is read as its logarithm. wandering: its tokens are increments. relative: its context
    is divided by its mean (a level that never falls below zero), else by the usual spread. usual: usual volatility
    (wandering), level (relative) or spread of a context. middle: the usual level. shift, spread: mean and deviation of
    what is left; increments have the mean 0 unless theirs is over DRIFTING standard errors from it. correlation:
    `(D, D)`, of increments that wander together; the identity elsewhere and where values are missing. Tokens are made
    uncorrelated by it, so that a random walk is white noise and only what differs from one has to be learned.
    prior, prior_correlation: how much of a context's variance and correlation is the usual one.
    half_life: steps after which a context's increment counts half for its volatility, 0 for never.
    """

    logarithmic: Tensor
    wandering: Tensor
    relative: Tensor
    usual: Tensor
    middle: Tensor
    shift: Tensor
    spread: Tensor
    correlation: Tensor
    prior: float = 0.0
    half_life: float = 0.0
    prior_correlation: float = 1.0

    @classmethod
    def fit(
        cls,
        values: Tensor,
        context: int,
        horizon: int,
        prior: float = 0.05,
        half_life: float = 0.0,
        prior_correlation: float = 1.0,
    ) -> Normalizer:
        """Read `(T, D)` of the training part. Raises ValueError for a series that never changes."""
        values = values.double()
        wandering = variance_ratio(values) > WANDERING
        positive = torch.where(values.isnan(), 1.0, values).min(0).values > 0
        never_negative = torch.where(values.isnan(), 0.0, values).min(0).values >= 0
        logarithmic = wandering & positive
        nothing = torch.zeros(values.shape[1], dtype=torch.float64)
        relative, alone = never_negative & ~wandering, torch.eye(values.shape[1], dtype=torch.float64)
        draft = cls(
            logarithmic,
            wandering,
            relative,
            nothing + 1,
            nothing,
            nothing,
            nothing + 1,
            alone,
            prior,
            half_life,
            prior_correlation,
        )
        steps = draft.steps(values[None])[0]
        usual = _deviation(steps, _mean(steps, 0), 0)
        level = _mean(steps, 0)
        usual = torch.where(draft.relative, level.clamp(min=SMALLEST_SCALE), usual)
        draft = draft.replace(usual=usual, middle=torch.where(wandering, 0.0, level))
        length = context + horizon
        starts = torch.arange(0, len(steps) - length, max(1, horizon // 4))
        windows = values[starts[:, None] + torch.arange(length + 1)]
        future = draft.tokens(windows, draft.anchor(windows[:, : context + 1]))[:, context:].flatten(0, 1)
        shift = torch.where(wandering & ~drifting(values, steps), 0.0, _mean(future, 0))
        spread = _deviation(future, shift, 0).clamp(min=SMALLEST_SCALE)
        together = future / spread
        if not bool(together.isnan().any()):
            both = wandering[:, None] & wandering
            alone = torch.where(both & ~alone.bool(), together.T @ together / len(together), alone)
        return draft.replace(shift=shift, spread=spread, correlation=alone)

    def replace(self, **changes: Tensor) -> Normalizer:
        """The same normalizer with some fields changed."""
        return type(self)(**({field.name: getattr(self, field.name) for field in fields(self)} | changes))

    def readable(self, values: Tensor) -> Tensor:
        """Values in the scale they are read in: logarithms where these are used."""
        return torch.where(self.logarithmic, torch.where(self.logarithmic, values, 1.0).log(), values)

    def steps(self, values: Tensor) -> Tensor:
        """`(B, L + 1, D)` -> `(B, L, D)`: the increment since the last known value, or the value itself."""
        read = self.readable(values.double())
        return torch.where(self.wandering, read[:, 1:] - last_known(read)[:, :-1], read[:, 1:])

    def anchor(self, context: Tensor) -> Anchor:
        """Read a context `(B, C + 1, D)`, the first entry only as the value before; its last entry is the present."""
        steps = self.steps(context)
        age = torch.arange(steps.shape[1] - 1, -1, -1, dtype=steps.dtype)
        weight = 0.5 ** (age / self.half_life) if self.half_life else torch.ones_like(age)
        square = _mean(steps**2, 1, weight)
        volatility = ((1 - self.prior) * square + self.prior * self.usual**2).nan_to_num(0.0)
        volatility = torch.where(volatility > 0, volatility, self.usual**2).sqrt()
        mean = _mean(steps, 1)
        mean = torch.where(mean.isnan(), self.middle, mean)
        # A station that was closed through the context must not be divided by nothing.
        relative = torch.maximum(mean, 0.2 * self.usual)
        center = torch.where(self.wandering, 0.0, mean)
        scale = torch.where(self.wandering, volatility, torch.where(self.relative, relative, self.usual))
        last = last_known(self.readable(context.double()))[:, -1]
        scale = scale.clamp(min=SMALLEST_SCALE)
        return Anchor(last, center, scale, *self._roots(steps / scale[:, None], weight))

    def tokens(self, values: Tensor, anchor: Anchor) -> Tensor:
        """`(B, L + 1, D)` -> `(B, L, D)` tokens; the first value is only what the first increment starts from."""
        scaled = (self.steps(values) - anchor.center[:, None]) / anchor.scale[:, None]
        return _mix((scaled - self.shift) / self.spread, anchor.unmixing)

    def paths(self, tokens: Tensor, anchor: Anchor) -> Tensor:
        """Tokens `(B, S, H, D)` that follow the context -> values as they are read (`readable`)."""
        scaled = tokens.double() @ anchor.mixing[:, None] * self.spread + self.shift
        steps = scaled * anchor.scale[:, None, None] + anchor.center[:, None, None]
        return torch.where(self.wandering, anchor.last[:, None, None] + steps.cumsum(2), steps)

    def values(self, paths: Tensor) -> Tensor:
        """Values from values as they are read: the inverse of `readable`, never below zero for a relative series."""
        values = torch.where(self.logarithmic, torch.where(self.logarithmic, paths, 0.0).exp(), paths)
        return torch.where(self.relative, values.clamp(min=0), values)

    def _roots(self, scaled: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Roots of the correlation of a context's increments `(B, C, D)`, drawn towards the usual one.

        They are symmetric, so a token stays near the series it stands for.
        """
        usual = self.correlation.expand(len(scaled), -1, -1)
        mixed = ~torch.eye(usual.shape[-1], dtype=torch.bool) & (self.correlation != 0)
        if self.prior_correlation < 1 and bool(mixed.any()):
            known = scaled.nan_to_num(0.0)
            context = torch.einsum("t,bti,btj->bij", weight, known, known)
            diagonal = context.diagonal(dim1=1, dim2=2).clamp(min=SMALLEST_SCALE).rsqrt()
            context = context * diagonal[:, :, None] * diagonal[:, None]
            blend = self.prior_correlation * usual + (1 - self.prior_correlation) * context
            usual = torch.where(mixed, blend, usual)
        if not bool(mixed.any()):
            return usual, usual  # the identity
        values, vectors = torch.linalg.eigh(usual)
        values = values.clamp(min=SMALLEST_EIGENVALUE)[:, None]
        return (vectors * values**0.5) @ vectors.mT, (vectors * values**-0.5) @ vectors.mT

    def description(self, anchor: Anchor) -> Tensor:
        """How unusual a context is, `(B, D)`: what scaling has taken away, told to the model as a condition."""
        told = torch.where(
            self.wandering,
            (anchor.scale / self.usual).log(),
            (anchor.center - self.middle) / torch.where(self.relative, self.usual.abs(), self.usual),
        )
        return told.clamp(-3, 3)


def variance_ratio(values: Tensor, lag: int = 20) -> Tensor:
    """Variance of `lag`-step differences over `lag` times that of one-step differences, `(D,)`: 1 for a random walk.

    It falls like 1 / lag for a series that returns to a level (Lo and MacKinlay, 1988).
    """
    lag = max(2, min(lag, len(values) // 12))  # long lags of short series say little
    one, many = values.diff(dim=0), values[lag:] - values[:-lag]
    below = lag * _deviation(one, _mean(one, 0), 0) ** 2
    return torch.where(below > 0, _deviation(many, _mean(many, 0), 0) ** 2 / below, 0.0)


def drifting(values: Tensor, steps: Tensor) -> Tensor:
    """Whether the mean of increments `(T - 1, D)` of values `(T, D)` is surely not 0, `(D,)`."""
    mean = _mean(steps, 0)
    # Increments that hang together say less about their mean than as many independent ones.
    error = _deviation(steps, mean, 0) * (variance_ratio(values).clamp(min=1) / (~steps.isnan()).sum(0)).sqrt()
    return mean.abs() > DRIFTING * error


def last_known(values: Tensor) -> Tensor:
    """Every missing value of `(B, L, D)` replaced by the last known one before it; NaN where there is none."""
    place = torch.arange(values.shape[1])[:, None].expand_as(values)
    known = torch.where(values.isnan(), -1, place).cummax(1).values
    return values.gather(1, known.clamp(min=0))


def _mean(values: Tensor, dim: int, weight: Tensor | None = None) -> Tensor:
    if weight is None:
        return values.nanmean(dim)
    shares = torch.where(values.isnan(), 0.0, weight[:, None])
    return (values.nan_to_num(0.0) * shares).sum(dim) / shares.sum(dim)


def _mix(values: Tensor, matrix: Tensor) -> Tensor:
    """`values @ matrix`, missing only where a missing value counts: 0 times NaN is NaN for a matrix product."""
    missing = values.isnan()
    mixed = values.masked_fill(missing, 0.0) @ matrix
    return mixed.masked_fill(missing.to(matrix) @ (matrix != 0).to(matrix) > 0, torch.nan)


def _deviation(values: Tensor, mean: Tensor, dim: int) -> Tensor:
    return _mean((values - mean) ** 2, dim).sqrt()
