"""Three ways to train one network, three ways to sample it, ten times longer than it was trained: where each breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import repeat
from pathlib import Path

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.sampling import rollout
from noiseladder.diffusion.scheduling_matrix import autoregressive, causal_delay, full_sequence, pyramid
from noiseladder.diffusion.training_levels import WithExactEnds, clean, independent, shared
from noiseladder.networks import RecurrentNetwork
from noiseladder.training import Experiment, TrainingOptions, generator_for

LENGTH, GIVEN, TOTAL = 32, 8, 320
"""Tokens in a training window, tokens given before a roll-out, and tokens rolled out."""
WALL, SPEED, KICK = 1.7, 0.4, 0.1
"""The ball flies between -WALL and WALL, SPEED a step; each step turns its direction by KICK radians (std.)."""
FLIGHT = 8
"""Steps over which the mean step length of a flight is looked at."""
LEVELS = (0.0, 0.02, 0.1)
"""Levels at which generated tokens are remembered in the report: 0 takes them for facts."""
SHOWN = 5
"""Balls drawn in each panel of the figure."""


class Regime(Enum):
    """How noisy each token is in training; nothing else differs."""

    INDEPENDENT = "independent"
    TEACHER_FORCED = "teacher-forced"
    SHARED = "shared"


@dataclass(frozen=True, kw_only=True)
class Regimes(TrainingOptions):
    """A ball in a box: what training on 32 steps is worth on 320, by training regime and by way of sampling."""

    steps: int = 600
    learning_rate: float = 6e-3
    average: float = 0.99
    validate_every: int = 500
    checkpoint_every: int = 500
    batch: int = 32
    """Windows in a batch."""
    width: int = 48
    """Width of the recurrent network."""
    regime: Regime = Regime.INDEPENDENT
    """How noisy each token is in training."""
    samples: int = 48
    """Balls that are rolled out when training is done."""
    sampling_steps: int = 10
    """Sampling steps from noise to a clean token."""


def experiment(options: Regimes) -> Experiment:
    """One network and one budget for all regimes: only the objective's levels differ."""

    def batches(step: int, generator: Generator) -> Batch:
        return Batch(flights(options.batch, LENGTH, generator))

    return Experiment(
        denoiser=Denoiser(RecurrentNetwork(2, options.width), Cosine()),
        objective=objective_of(options.regime),
        batches=batches,
        validation=Batch(flights(256, LENGTH, generator_for(options.seed, "validation flights"))),
        picture=lambda denoiser, path: print(report({options.regime.value: denoiser}, options, path)),
    )


def variants(options: Regimes) -> dict[str, Regimes]:
    """What `noiseladder compare regimes` trains."""
    return {regime.value: replace(options, regime=regime) for regime in Regime}


def objective_of(regime: Regime) -> DiffusionForcing:
    """Levels in training.

    Teacher forcing uses the query stream: a clean history and, for every token, a noisy version of it that is asked
    for. So it practises each next token in each window, where one stream would practise only the last.
    """
    match regime:
        case Regime.INDEPENDENT:
            return DiffusionForcing(WithExactEnds())
        case Regime.TEACHER_FORCED:
            return DiffusionForcing(clean, query_levels=WithExactEnds(independent, 0.0, 0.1), query_share=1.0)
        case Regime.SHARED:
            return DiffusionForcing(shared)


def flights(sequences: int, length: int, generator: Generator) -> Tensor:
    """Balls of constant speed that bounce off the walls and are kicked a little off course, (B, T, 2)."""
    start = WALL * (2 * torch.rand(sequences, 1, 2, generator=generator) - 1)
    course = 2 * torch.pi * torch.rand(sequences, 1, generator=generator)
    turns = KICK * torch.randn(sequences, length, generator=generator)
    course = course + turns.cumsum(dim=1)
    moves = SPEED * torch.stack([course.cos(), course.sin()], dim=-1)
    return fold(start + moves.cumsum(dim=1))


def fold(free: Tensor) -> Tensor:
    """Where a ball is that would be at `free` without walls: each wall is a mirror."""
    lap = torch.remainder(free + WALL, 4 * WALL)
    return WALL - (lap - 2 * WALL).abs()


def ways_of_sampling(steps: int) -> dict[str, Tensor]:
    """The scheduling matrix of a chunk for each way of sampling; its width is the chunk's.

    The pyramid's delay is the shortest with which a causal network is not biased (`causal_delay`).
    """
    return {
        "horizon 1": autoregressive(1, steps),
        "pyramid": pyramid(LENGTH, steps, causal_delay(Cosine(), steps)),
        "whole sequence": full_sequence(LENGTH, steps),
    }


def roll_out(
    denoiser: Denoiser, given: Tensor, matrix: Tensor, generator: Generator, level: float = 0.0, total: int = TOTAL
) -> Tensor:
    """Go on from given tokens (B, t, 2) for `total` tokens, a chunk after the other: (B, total, 2).

    level: how noisy a finished chunk is remembered; its noise is drawn once.
    """
    chunk = matrix.shape[1]

    def noise() -> Iterator[Tensor]:
        for _ in range(-(-total // chunk)):
            yield torch.randn(len(given), chunk, 2, generator=generator)

    blur = noise() if level > 0 else repeat(torch.zeros(len(given), chunk, 2))
    chunks = rollout(denoiser, noise(), matrix, state=denoiser.observe(given), level=level, level_noise=blur)
    return torch.cat(list(chunks), dim=1)[:, :total]


def breaks_at(tracks: Tensor) -> Tensor:
    """The first step at which each flight (B, T, 2) is no longer one, T + 1 if it always is: (B,), from 1.

    A flight breaks where the ball is more than a step outside the box, or where its mean step length over the last
    FLIGHT steps is off by more than half, or where it has stayed in one spot, a quarter of the box wide and high, for
    2 FLIGHT steps. No true flight does any of these.
    """
    length = tracks.shape[1]
    outside = ~(tracks.abs().amax(dim=-1) <= WALL + SPEED)  # NaN is outside
    pace = tracks.diff(dim=1).norm(dim=-1).unfold(1, FLIGHT, 1).mean(dim=-1)
    lost = torch.zeros_like(outside)
    lost[:, FLIGHT:] = ~((pace - SPEED).abs() <= SPEED / 2)
    recent = tracks.unfold(1, 2 * FLIGHT, 1)
    stuck = torch.zeros_like(outside)
    stuck[:, 2 * FLIGHT - 1 :] = ((recent.amax(dim=-1) - recent.amin(dim=-1)) < WALL / 2).all(dim=-1)
    broken = outside | lost | stuck
    first = broken.int().argmax(dim=1) + 1
    return torch.where(broken.any(dim=1), first, length + 1)


def energy_distance(ours: Tensor, truth: Tensor) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| between two sets of points (N, D), without bias; 0 for equal laws."""

    def within(points: Tensor) -> Tensor:
        return torch.cdist(points, points).sum() / (len(points) * (len(points) - 1))

    return float(2 * torch.cdist(ours, truth).mean() - within(ours) - within(truth))


def moments(tracks: Tensor) -> Tensor:
    """Where the ball is, and its next two moves, once every FLIGHT steps (so that points hardly depend): (N, 6)."""
    moves = tracks.diff(dim=1)
    points = torch.cat([tracks[:, :-2], moves[:, :-1], moves[:, 1:]], dim=-1)
    return points[:, ::FLIGHT].flatten(0, 1)


@dataclass(frozen=True)
class Trial:
    """What became of roll-outs (B, T, 2).

    ends: the step at which each breaks (`breaks_at`), (B,). whole: share that never broke. median: step at which
    half have broken, or None. distance: energy distance to true flights, in the first and in the last LENGTH steps.
    variance: of the position, and pace: mean step length, both in the last LENGTH steps.
    """

    tracks: Tensor
    ends: Tensor
    whole: float
    median: int | None
    distance: tuple[float, float]
    variance: float
    pace: float


def judge(tracks: Tensor, truth: Tensor) -> Trial:
    """Compare roll-outs (B, T, 2) with fresh true flights (B', T, 2) that start alike."""
    ends = breaks_at(tracks)
    median = int(ends.sort().values[(len(ends) - 1) // 2])
    first, last = slice(0, LENGTH), slice(tracks.shape[1] - LENGTH, None)
    distance = tuple(energy_distance(moments(tracks[:, part]), moments(truth[:, part])) for part in (first, last))
    return Trial(
        tracks=tracks,
        ends=ends,
        whole=float((ends > tracks.shape[1]).float().mean()),
        median=median if median <= tracks.shape[1] else None,
        distance=(distance[0], distance[1]),
        variance=float(tracks[:, last].var(dim=(0, 1)).mean()),
        pace=float(tracks[:, last].diff(dim=1).norm(dim=-1).mean()),
    )


def trials(
    denoiser: Denoiser, options: Regimes, truth: Tensor, levels: tuple[float, ...] = LEVELS
) -> dict[tuple[str, float], Trial]:
    """(way of sampling, stabilization level) -> what became of it, from the same fresh starts each time.

    A chunk is remembered when it is finished, so stabilization is tried at horizon 1, where each token is a chunk.
    truth: fresh true flights (B', TOTAL, 2).
    """
    given = flights(options.samples, GIVEN, generator_for(options.seed, "fresh flights"))
    found = {}
    for way, matrix in ways_of_sampling(options.sampling_steps).items():
        for level in levels if matrix.shape[1] == 1 else (0.0,):
            tracks = roll_out(denoiser, given, matrix, generator_for(options.seed, f"noise {way}"), level)
            found[way, level] = judge(tracks, truth)
    return found


def report(models: Mapping[str, Denoiser], options: Regimes, path: Path) -> str:
    """Roll out every model in every way, draw where each breaks to `path`, and say it in a table."""
    generator = generator_for(options.seed, "true flights")
    truth = flights(1024, GIVEN + TOTAL, generator)[:, GIVEN:]
    other = judge(flights(options.samples, GIVEN + TOTAL, generator)[:, GIVEN:], truth)
    rows = {("the truth", "", 0.0): other}
    for name, denoiser in models.items():
        rows |= {(name, way, level): trial for (way, level), trial in trials(denoiser, options, truth).items()}
    draw_breaks({key: trial for key, trial in rows.items() if key[0] in models}, path)
    lines = [
        f"{options.samples} balls, {TOTAL} steps each, trained on windows of {LENGTH}",
        f"{'trained':16}{'sampled':16}{'remembered':>10}{'whole':>8}{'half break':>11}"
        f"{'distance':>9}{'':>3}{'':>6}{'variance':>9}{'pace':>7}",
        f"{'':16}{'':16}{'at level':>10}{'at end':>8}{'at step':>11}{'first':>9}{'last':>9}{'last':>9}{'last':>7}",
    ]
    for (name, way, level), trial in rows.items():
        median = "never" if trial.median is None else str(trial.median)
        lines.append(
            f"{name:16}{way:16}{level:10.2f}{trial.whole:8.0%}{median:>11}"
            f"{trial.distance[0]:9.3f}{trial.distance[1]:9.3f}{trial.variance:9.2f}{trial.pace:7.3f}"
        )
    return "\n".join([*lines, f"first, last: {LENGTH} steps; distance: energy distance to true flights, 0 if alike"])


def draw_breaks(rows: Mapping[tuple[str, str, float], Trial], path: Path) -> None:
    """A panel for each training regime (down) and way of sampling (across): some balls, and where they break."""
    from matplotlib.figure import Figure

    plain = {(name, way): trial for (name, way, level), trial in rows.items() if level == 0}
    names, ways = list(dict.fromkeys(name for name, _ in plain)), list(dict.fromkeys(way for _, way in plain))
    figure = Figure(figsize=(11, 1.3 + 1.9 * len(names)), layout="constrained")
    grid = figure.subplots(len(names), len(ways), sharex=True, sharey=True, squeeze=False)
    step = torch.arange(1, TOTAL + 1)
    for row, name in enumerate(names):
        for column, way in enumerate(ways):
            axes, trial = grid[row, column], plain[name, way]
            for track, end in list(zip(trial.tracks[:, :, 0].clamp(-9, 9), trial.ends.tolist()))[:SHOWN]:
                axes.plot(step[:end], track[:end], color="tab:blue", linewidth=0.6, alpha=0.7)
                if end <= TOTAL:
                    axes.plot(step[end - 1 :], track[end - 1 :], color="tab:red", linewidth=0.5, alpha=0.3)
                    axes.plot(end, track[end - 1], "x", color="tab:red", markersize=6, markeredgewidth=1.8)
            for wall in (-WALL, WALL):
                axes.axhline(wall, color="black", linewidth=0.8)
            axes.axvline(LENGTH, color="black", linestyle=":", linewidth=1)
            when = "fewer than half break" if trial.median is None else f"half break by step {trial.median}"
            axes.set_title(f"{trial.whole:.0%} last to the end; {when}", fontsize="small")
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_ylim(-1.8 * WALL, 1.8 * WALL)
    for axes, way in zip(grid[0], ways):
        axes.annotate(
            f"sampled: {way}", (0.5, 1.25), xycoords="axes fraction", ha="center", fontsize="large", weight="bold"
        )
    for axes, name in zip(grid[:, 0], names):
        axes.set_ylabel(f"trained: {name}\n\nball, x")
    for axes in grid[-1]:
        axes.set_xlabel("step of the roll-out (dotted: as long as training)")
    figure.savefig(path, dpi=120, format="png")
