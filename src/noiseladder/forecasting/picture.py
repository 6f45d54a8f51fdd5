"""A forecast as a picture: the past, then a fan that widens; one small plot a series."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .forecast import Forecast

BANDS = (0.95, 0.8, 0.5)
FAN, INK, TRUTH, PALE = "#2a6f97", "#22333b", "#c1121f", "#8d99ae"


def draw_forecast(forecast: Forecast, path: Path | None, history: int, most: int, truth: Tensor | None) -> Figure:
    """Draw the first `most` series; see Forecast.plot."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    shown = min(most, len(forecast.names))
    across = min(4, math.ceil(math.sqrt(shown)))
    down = math.ceil(shown / across)
    size = (7.2, 3.2) if shown == 1 else (3.6 * across, 2.3 * down)
    figure = Figure(figsize=(size[0], size[1] + 0.5), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).flatten()
    past = forecast.past.values[-history:].numpy()
    before = forecast.past.times[-history:]
    after, repeats = forecast.times, 1
    if len(after) == 1:  # a single step has no width, so it is drawn as half a step of two equal ends
        quarter = (after[0] - before[-1]) / 4
        after, repeats = [after[0] - quarter, after[0] + quarter], 2
    for number, axes in enumerate(grid):
        if number >= shown:
            axes.set_visible(False)
            continue
        axes.plot(before, past[:, number], color=INK, linewidth=0.9)
        for place, band in enumerate(BANDS):
            low, high = (
                forecast.quantile((1 + sign * band) / 2)[:, number].repeat(repeats).numpy() for sign in (-1, 1)
            )
            axes.fill_between(
                after, low, high, color=FAN, alpha=0.18 + 0.12 * place, linewidth=0, label=f"{band:.0%} band"
            )  # fmt: skip
        median = forecast.median[:, number].repeat(repeats).numpy()
        axes.plot(after, median, color=FAN, linewidth=1.2, label="median")
        if truth is not None:
            axes.plot(
                after, truth[:, number].repeat(repeats).numpy(), color=TRUTH, linewidth=0.9, label="what happened"
            )
        axes.axvline(before[-1], color=PALE, linewidth=0.6, linestyle=":")
        axes.set_title(forecast.names[number], fontsize=9, loc="left")
        locator = AutoDateLocator(minticks=3, maxticks=7)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.xaxis.get_offset_text().set_fontsize(7)
        axes.tick_params(labelsize=7, length=2, color=PALE)
        axes.spines[["top", "right"]].set_visible(False)
    if shown < len(forecast.names):
        figure.suptitle(f"the first {shown} of {len(forecast.names)} series", fontsize=9, color=INK)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    if path is not None:
        figure.savefig(path, dpi=140)
    return figure
