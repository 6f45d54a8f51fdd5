"""Forecasts of real series: ours and its peers on the same rolling windows, in one run.

Claim: on `ecb` nothing beats a random walk by much and we are as good as the best peer; on `chicago` we are the best;
and the 80 % bands of both hold what they promise. Everything before the first window is training; every setting was
chosen on the 20 windows before the test windows (docs/experiments.md).

    .venv/bin/python benchmarks/forecasting.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from peers.deepar import DeepAR
from peers.exponential_smoothing import AutoETS, RankCopula
from peers.naive import BootstrapRandomWalk, SeasonalNaive
from peers.peer import Peer
from peers.vector_autoregression import VectorAutoregression

from noiseladder.forecasting.calendar import Calendar, us_special_days
from noiseladder.forecasting.datasets import Windows, chicago, ecb
from noiseladder.forecasting.forecaster import Forecaster
from noiseladder.forecasting.metrics import Ratio, block_bootstrap, coverage, crps, crps_sum, energy_score
from noiseladder.forecasting.options import ForecasterOptions
from noiseladder.forecasting.settings import CHICAGO, ECB

SAMPLES = 100
OURS = "noiseladder"


@dataclass(frozen=True)
class Result:
    """One method on one set."""

    name: str
    crps_sum: Ratio
    crps: Ratio
    energy: Ratio
    coverage: Ratio
    fit_seconds: float
    sample_seconds: float


@dataclass(frozen=True)
class Contest:
    """One set, its calendar, our settings and the peers."""

    name: str
    windows: Windows
    calendar: Calendar | None
    options: ForecasterOptions
    peers: tuple[Peer, ...]


def contests(quick: bool) -> tuple[Contest, Contest]:
    """Both sets; quick: five windows, little training, and only the peers that fit in seconds."""
    count = 5 if quick else 20
    days = Calendar(special_days=us_special_days())
    walks = (BootstrapRandomWalk(lengths=(1_000_000,)), BootstrapRandomWalk("random walk, tuned past"))
    plain_ecb: tuple[Peer, ...] = (SeasonalNaive(5), *walks, VectorAutoregression(returns=True))
    plain_chicago: tuple[Peer, ...] = (SeasonalNaive(7), *walks, VectorAutoregression(returns=False))
    if not quick:
        for returns, season in ((True, 1), (False, 7)):
            separate = AutoETS(season, logarithmic=returns)
            slow: tuple[Peer, ...] = (separate, RankCopula(separate), DeepAR(returns=returns))
            if returns:
                plain_ecb += slow
            else:
                plain_chicago += slow
    short = {"steps": 150, "members": 1, "validate_every": 150} if quick else {}
    return (
        Contest("ecb", Windows(ecb(), count=count), None, replace(ECB, **short), plain_ecb),
        Contest("chicago", Windows(chicago(), count=count), days, replace(CHICAGO, **short), plain_chicago),
    )


def judge(name: str, samples: Tensor, contest: Contest, fit_seconds: float, sample_seconds: float) -> Result:
    """Score joint samples (W, S, H, D) on the windows."""
    truth = contest.windows.truth
    scale = contest.windows.training.values.diff(dim=0).std(0)
    return Result(
        name, crps_sum(samples, truth), crps(samples, truth), energy_score(samples, truth, scale),
        coverage(samples, truth), fit_seconds, sample_seconds,
    )  # fmt: skip


def run_peer(peer: Peer, contest: Contest) -> Result:
    """Fit once before the first window, sample after every origin."""
    start = time.perf_counter()
    peer.fit(contest.windows.training, contest.calendar, contest.windows.horizon)
    fitted = time.perf_counter()
    generator = torch.Generator().manual_seed(0)
    samples = torch.stack([peer.sample(past, SAMPLES, generator) for past in contest.windows])
    return judge(peer.name, samples, contest, fitted - start, time.perf_counter() - fitted)


def run_ours(contest: Contest) -> Result:
    """Fit once before the first window, sample after all origins at once."""
    start = time.perf_counter()
    forecaster = Forecaster.fit(contest.windows.training, contest.options, contest.calendar)
    fitted = time.perf_counter()
    samples = forecaster.sample(list(contest.windows), contest.windows.horizon, SAMPLES)
    seconds = time.perf_counter() - fitted
    print(f"  spread of our paths times {forecaster.factor:.3f}, from windows before the test windows", flush=True)
    return judge(OURS, samples, contest, fitted - start, seconds)


def show(result: Result, ours: Result | None) -> None:
    """One row of the table."""
    low, high = block_bootstrap(result.crps_sum)
    row = (
        f"  {result.name:<24} {result.crps_sum.value:.5f} [{low:.5f}, {high:.5f}]  {result.crps.value:.4f}"
        f"  {result.energy.value:7.3f}  {result.coverage.value:5.1%}  {result.fit_seconds:7.1f}"
        f"  {result.sample_seconds:7.2f}"
    )
    if ours is not None and result is not ours:
        low, high = block_bootstrap(ours.crps_sum, result.crps_sum)
        row += f"  [{low:+.5f}, {high:+.5f}]"
    print(row, flush=True)


def run(contest: Contest) -> dict[str, float | str]:
    """All methods on one set; the figures for the last line."""
    windows = contest.windows
    print(
        f"\n{contest.name}: {len(windows.panel.names)} series, {windows.count} windows of {windows.horizon} steps from"
        f" {windows.panel.times[windows.origins[0]].date()}, {len(windows.training)} steps before them"
    )
    print(f"  {'':<24} CRPS_sum [95 % interval]     CRPS    energy   cov80  fit s    sample s  ours minus peer, 95 %")
    ours = run_ours(contest)
    show(ours, ours)
    peers = []
    for peer in contest.peers:
        peers.append(run_peer(peer, contest))
        show(peers[-1], ours)
    best = min(peers, key=lambda peer: peer.crps_sum.value)
    highest = max(block_bootstrap(ours.crps_sum, peer.crps_sum)[1] for peer in peers)
    figures: dict[str, float | str] = {
        "crps_sum_ours": ours.crps_sum.value,
        "crps_sum_best_peer": best.crps_sum.value,
        "best_peer": best.name,
        "ratio_to_best_peer": ours.crps_sum.value / best.crps_sum.value,
        "paired_difference_high": highest,
        "coverage80": ours.coverage.value,
        "fit_seconds": ours.fit_seconds,
        "sample_seconds": ours.sample_seconds,
        "crps_ours": ours.crps.value,
        "energy_ours": ours.energy.value,
    }
    figures |= {f"crps_sum_{peer.name.replace(',', '').replace(' ', '_')}": peer.crps_sum.value for peer in peers}
    return {f"{contest.name}_{key}": round(v, 6) if isinstance(v, float) else v for key, v in figures.items()}


def main() -> None:
    """Both sets, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer windows, steps and peers; under three minutes")
    parser.add_argument("--only", choices=("ecb", "chicago"), help="one set alone")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    figures: dict[str, float | str] = {}
    for contest in contests(arguments.quick):
        if arguments.only in (None, contest.name):
            figures |= run(contest)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
