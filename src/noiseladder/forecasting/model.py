"""From a panel to training windows and back: what the network of a forecaster sees, and how it is sampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from noiseladder.data.normalizer import Anchor, Normalizer
from noiseladder.data.windows import cut, draw_starts
from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.sampling import AngleStep, rollout
from noiseladder.diffusion.scheduling_matrix import full_sequence
from noiseladder.diffusion.training_levels import Mixture, clean, independent
from noiseladder.networks.recurrent import RecurrentNetwork
from noiseladder.training.experiment import Experiment

from .calendar import Calendar
from .calibration import widen
from .objective import AfterContext
from .options import ForecasterOptions
from .panel import Panel

NO_CALENDAR = Calendar(week=False, year=0)

SURE = 6.0
"""How many standard deviations above chance a calendar must explain increments to be believed."""


@dataclass(frozen=True)
class Reading:
    """How values become tokens and conditions: fixed by the training part, used at every origin."""

    normalizer: Normalizer
    calendar: Calendar
    options: ForecasterOptions

    @classmethod
    def fit(cls, panel: Panel, options: ForecasterOptions, calendar: Calendar | None = None) -> Reading:
        """Statistics of the part that is trained on; a calendar that suits the frequency where none is given."""
        training = panel.values[: len(panel) - options.held_out]
        normalizer = Normalizer.fit(
            training, options.context, options.horizon, options.prior, options.half_life, options.prior_correlation
        )
        calendar = Calendar.for_frequency(panel.frequency) if calendar is None else calendar
        if bool(normalizer.wandering.all()):
            increments = normalizer.steps(training[None])[0]
            if not keeps(calendar.features(panel.times[1 : len(training)]), increments):
                calendar = NO_CALENDAR
        return cls(normalizer, calendar, options)

    @property
    def mirrored(self) -> bool:
        """Whether every series wanders without a calendar: then a path and its mirror image are equally likely."""
        return self.options.mirror and bool(self.normalizer.wandering.all()) and self.calendar == NO_CALENDAR

    def condition(self, anchor: Anchor, features: Tensor) -> Tensor:
        """Calendar features `(B, T, C)` and what scaling took away, on every step: `(B, T, C + D)`."""
        told = self.normalizer.description(anchor).float()[:, None].expand(-1, features.shape[1], -1)
        return torch.cat([features, told], -1)

    def batch(self, values: Tensor, features: Tensor, starts: Tensor, generator: Generator | None = None) -> Batch:
        """Windows of values `(T, D)` and calendar features `(T, C)`; with a generator some are turned over."""
        context, length = self.options.context, self.options.context + self.options.horizon
        windows = cut(values, starts, length + 1)
        anchor = self.normalizer.anchor(windows[:, : context + 1])
        tokens = self.normalizer.tokens(windows, anchor).float()
        if generator is not None and self.mirrored:
            up = torch.rand(len(tokens), 1, 1, generator=generator) < 0.5
            tokens = torch.where(up, tokens, -tokens)
        condition = self.condition(anchor, cut(features, starts + 1, length))
        missing = tokens.isnan()
        return Batch(tokens, condition, ~missing if bool(missing.any()) else None)


def keeps(features: Tensor, increments: Tensor) -> bool:
    """Whether calendar features `(T, C)` explain increments `(T, D)` of any series better than chance.

    Without a calendar the share explained by k features times the number of increments is chi-squared with k degrees of
    freedom, of mean k and variance 2 k.
    """
    centered = (features - features.mean(0)).double()
    for series in increments.T:
        known = ~series.isnan()
        told, said = centered[known], series[known] - series[known].mean()
        count = int(torch.linalg.matrix_rank(told)) if told.numel() else 0
        if count == 0 or len(said) < 3 * count:
            continue
        explained = told @ torch.linalg.lstsq(told, said[:, None], driver="gelsd").solution
        share = float(explained.square().sum() / said.square().sum())
        if len(said) * share > count + SURE * (2 * count) ** 0.5:
            return True
    return False


def make_denoiser(series: int, condition: int, missing: bool, options: ForecasterOptions) -> Denoiser:
    """An untrained denoiser for tokens of `series` values; with missing values each has a level of its own."""
    network = RecurrentNetwork(
        series,
        options.width,
        options.layers,
        condition,
        parts=(1,) * series if missing else (),
    )
    return Denoiser(network, Cosine())


def make_experiment(training: Panel, reading: Reading) -> Experiment:
    """What is trained: windows anywhere before the held-out tail; the tail's windows choose the weights."""
    options = reading.options
    features = reading.calendar.features(training.times)
    values, window = training.values, options.context + options.horizon
    end = len(values) - options.held_out

    def batches(step: int, generator: Generator) -> Batch:
        starts = draw_starts(end, window + 1, options.batch, generator)
        return reading.batch(values, features, starts, generator)

    validation = None
    if options.held_out:
        starts = torch.arange(end - options.context - 1, len(values) - window, max(1, options.horizon // 8))
        validation = reading.batch(values, features, starts)
    noisy = options.noisy_history
    draw = Mixture((clean, independent), (1 - noisy, noisy)) if noisy else clean
    objective = AfterContext(draw_levels=draw, context=options.context)
    condition = features.shape[1] + values.shape[1]
    denoiser = make_denoiser(values.shape[1], condition, bool(values.isnan().any()), options)
    return Experiment(denoiser, objective, batches, validation)


@torch.no_grad()
def sample_futures(
    members: Sequence[Denoiser],
    reading: Reading,
    contexts: Tensor,
    features: Tensor,
    samples: int,
    generator: Generator,
    factor: float = 1.0,
) -> Tensor:
    """Futures `(B, samples, H, D)` of contexts `(B, context + 1, D)`, their spread multiplied by `factor`.

    features: of the calendar, in the context after its first value and in the future, `(B, context + H, C)`.
    """
    anchor = reading.normalizer.anchor(contexts)
    tokens = reading.normalizer.tokens(contexts, anchor).float()
    condition = reading.condition(anchor, features)
    shares = [len(part) for part in torch.arange(samples).tensor_split(len(members))]
    drawn = [
        _paths(member, reading, tokens, condition, share, generator) for member, share in zip(members, shares) if share
    ]
    paths = reading.normalizer.paths(torch.cat(drawn, 1), anchor)
    return reading.normalizer.values(widen(paths, factor))


def _paths(
    denoiser: Denoiser, reading: Reading, tokens: Tensor, condition: Tensor, samples: int, generator: Generator
) -> Tensor:
    """Paths of tokens `(B, samples, H, D)`; noise comes in pairs of opposite sign, which halves the sampling error."""
    options, windows, context = reading.options, len(tokens), tokens.shape[1]
    half = -(-samples // 2)
    horizon = condition.shape[1] - context
    missing = tokens.isnan()
    levels = missing.float() if has_parts(denoiser) else missing.any(-1).float()
    if reading.mirrored:
        tokens = torch.cat([tokens, -tokens])
        levels, condition = levels.repeat(2, 1, *(1,) * (levels.ndim - 2)), condition.repeat(2, 1, 1)
    state = denoiser.observe(
        tokens.masked_fill(levels.reshape(*levels.shape, *(1,) * (3 - levels.ndim)) > 0, 0.0),
        condition[:, :context],
        level=levels,
    )
    copies = half if reading.mirrored else 2 * half
    each = torch.arange(len(tokens)).repeat_interleave(copies)
    state, ahead = state[each], condition[:, context:][each]

    def noise() -> Iterator[Tensor]:
        for _ in range(horizon):
            drawn = torch.randn(windows, half, tokens.shape[-1], generator=generator)
            if reading.mirrored:
                yield drawn.repeat(2, 1, 1).flatten(0, 1)[:, None]
            else:
                yield torch.cat([drawn, -drawn], 1).flatten(0, 1)[:, None]

    matrix = full_sequence(1, options.sampling_steps)
    chunks = rollout(denoiser, noise(), matrix, iter(ahead.split(1, 1)), state, AngleStep(), options.remembered_level)
    paths = torch.cat(list(chunks), 1)
    if reading.mirrored:
        up, down = paths.unflatten(0, (2, windows, half))
        paths = torch.cat([up, -down], 1)
    else:
        paths = paths.unflatten(0, (windows, 2 * half))
    return paths[:, :samples]


def has_parts(denoiser: Denoiser) -> bool:
    """Whether values of one token may have levels of their own."""
    return isinstance(denoiser.network, RecurrentNetwork) and bool(denoiser.network.reader.embed.parts)
