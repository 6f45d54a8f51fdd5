"""Windows of a long sequence: training draws them anywhere, a backtest takes them at fixed places."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def draw_starts(length: int, window: int, count: int, generator: Generator) -> Tensor:
    """`count` random starts of windows of `window` steps inside `length` steps, spread evenly, `(count,)`.

    Each start is uniform; one batch covers the whole sequence evenly (a random shift of equal strata), so that no
    batch is all of one regime. Raises ValueError when not even one window fits.
    """
    places = length - window + 1
    if places < 1:
        raise ValueError(f"a window of {window} steps does not fit into {length} steps: use a shorter window")
    shift = torch.rand(count, generator=generator)
    strata = (torch.arange(count) + shift) / count
    return (strata * places).long().clamp(max=places - 1)


def cut(values: Tensor, starts: Tensor, window: int) -> Tensor:
    """`(T, ...)` and starts `(B,)` -> `(B, window, ...)`."""
    return values[starts[:, None] + torch.arange(window)]
