"""Who is denoised when: a row for each sampling step, a column for each token, a noise level in every cell.

All tokens walk down the same stairs from 1 (noise) to 0 (clean), and each may start some rows later. Every matrix
here is that one formula, `staircase`; a user's own is any (rows, T) tensor that `check_matrix` accepts.
A causal network cannot use a later token that is cleaner: with it, trapezoid and keyframes are worse samplers
than no delay at all, and short delays are biased (docs/exact.md, "schedule bias").
"""

import torch
from torch import Tensor

from .noise import NoiseSchedule


def staircase(delays: Tensor, steps: int, stairs: Tensor | None = None) -> Tensor:
    """Token t waits `delays[t]` rows, then goes from 1 to 0 in `steps` rows.

    delays: (T,) integers >= 0. stairs: (steps + 1,) levels falling from 1 to 0, uniform if not given.
    Returns (steps + largest delay + 1, T).
    """
    if steps != int(steps) or steps < 1:
        raise ValueError(f"steps is {steps}, expected a whole number, at least 1 row from noise to clean")
    if delays.ndim != 1 or len(delays) == 0 or delays.is_floating_point() or bool((delays < 0).any()):
        raise ValueError(
            f"delays are {delays.dtype} of shape {tuple(delays.shape)}, expected one whole number of rows, 0 or"
            " more, for each token"
        )
    if stairs is None:
        stairs = 1 - torch.arange(steps + 1) / steps
    elif stairs.shape != (steps + 1,) or stairs[0] != 1 or stairs[-1] != 0 or not bool((stairs.diff() <= 0).all()):
        raise ValueError(
            f"stairs have shape {tuple(stairs.shape)} and go from {float(stairs[0]):g} to {float(stairs[-1]):g},"
            f" expected ({steps + 1},): steps + 1 levels that fall from 1 to 0"
        )
    rows = torch.arange(steps + int(delays.max()) + 1)
    return stairs[(rows[:, None] - delays[None, :]).clamp(0, steps)]


def log_snr_stairs(schedule: NoiseSchedule, steps: int, limit: float = 14.0) -> Tensor:
    """Levels of `steps` equal falls of the log-SNR between -limit and limit, with exact ends: (steps + 1,)."""
    log_snr = torch.linspace(-limit, limit, steps + 1, dtype=torch.float64)
    levels = schedule.level_of_log_snr(log_snr)
    levels[0], levels[-1] = 1.0, 0.0
    return levels.to(torch.get_default_dtype())


def full_sequence(tokens: int, steps: int, stairs: Tensor | None = None) -> Tensor:
    """All tokens together: whole-sequence diffusion ("horizon infinity")."""
    return staircase(torch.zeros(tokens, dtype=torch.long), steps, stairs)


def autoregressive(tokens: int, steps: int, stairs: Tensor | None = None) -> Tensor:
    """One token after the other: next-token diffusion ("horizon 1")."""
    return staircase(torch.arange(tokens) * steps, steps, stairs)


def pyramid(tokens: int, steps: int, delay: int, stairs: Tensor | None = None) -> Tensor:
    """The near future first: each token starts `delay` rows after the one before.

    For unbiased plain samples from a causal network take the delay from `causal_delay`.
    """
    return staircase(torch.arange(tokens) * delay, steps, stairs)


def causal_delay(schedule: NoiseSchedule, steps: int, stairs: Tensor | None = None, log_snr_lag: float = 9.0) -> int:
    """The pyramid delay, in rows, at which a causal denoiser's samples are no longer biased.

    What counts is how much cleaner, in nats of log-SNR, a token is than the next while both are informative: the
    delay is the smallest that gives a lag of `log_snr_lag` (9 nats: exact-tests.md section 5) on average over the
    stairs within +-`log_snr_lag`; at most `steps`, which is autoregressive.
    """
    if stairs is None:
        stairs = 1 - torch.arange(steps + 1, dtype=torch.float64) / steps
    log_snr = schedule.log_snr(stairs.double()).clamp(-14, 14)
    for delay in range(1, steps):
        lag = log_snr[delay:] - log_snr[:-delay]
        telling = (log_snr[delay:] > -log_snr_lag) & (log_snr[:-delay] < log_snr_lag)
        if bool(telling.any()) and lag[telling].mean() >= log_snr_lag:
            return delay
    return steps


def trapezoid(tokens: int, steps: int, delay: int, stairs: Tensor | None = None) -> Tensor:
    """Both ends first, the middle last: a known start and goal. For networks that are not causal."""
    position = torch.arange(tokens)
    return staircase(torch.minimum(position, tokens - 1 - position) * delay, steps, stairs)


def keyframes(tokens: int, steps: int, every: int, stairs: Tensor | None = None) -> Tensor:
    """Every `every`-th token first, then all between. For networks that are not causal."""
    if every < 1:
        raise ValueError(f"every is {every}, expected at least 1 token from one keyframe to the next")
    return staircase((torch.arange(tokens) % every != 0).long() * steps, steps, stairs)


def chunks(tokens: int, steps: int, size: int, stairs: Tensor | None = None) -> Tensor:
    """Groups of `size` tokens, each denoised together, one group after the other."""
    if size < 1:
        raise ValueError(f"size is {size}, expected at least 1 token in a chunk")
    return staircase(torch.arange(tokens) // size * steps, steps, stairs)


def check_matrix(matrix: Tensor, given: Tensor | None = None, early_stop: bool = False) -> None:
    """Raise ValueError unless sampling can follow `matrix` (rows, T).

    given: (T,) bool, True for tokens whose values at their first level come with the noise (inpainting, warm
    re-planning); only those may start below 1. early_stop: allow columns that end above 0.
    """
    if matrix.ndim != 2 or matrix.shape[0] < 1 or matrix.shape[1] < 1 or not matrix.is_floating_point():
        raise ValueError(
            f"the scheduling matrix is {matrix.dtype} of shape {tuple(matrix.shape)}, expected floats of shape"
            " (rows, T): a row for each sampling step, a column for each token"
        )
    if given is not None and (given.dtype != torch.bool or given.shape != matrix.shape[1:]):
        raise ValueError(
            f"given is {given.dtype} of shape {tuple(given.shape)}, expected bool of shape ({matrix.shape[1]},): one"
            " for each column of the scheduling matrix"
        )
    bad = ~((matrix >= 0) & (matrix <= 1))
    if bool(bad.any()):
        row, column = bad.nonzero()[0].tolist()
        raise ValueError(
            f"the scheduling matrix holds {matrix[row, column].item():g} in row {row}, column {column}; levels lie"
            " in [0, 1]"
        )
    rises = matrix.diff(dim=0) > 0
    if bool(rises.any()):
        row, column = rises.nonzero()[0].tolist()
        raise ValueError(
            f"column {column} of the scheduling matrix rises from {matrix[row, column].item():g} to"
            f" {matrix[row + 1, column].item():g} after row {row}; levels may only fall, from noise to clean"
        )
    open_start = matrix[0] < 1
    if given is not None:
        open_start = open_start & ~given
    if bool(open_start.any()):
        column = int(open_start.nonzero()[0])
        raise ValueError(
            f"column {column} of the scheduling matrix starts at {matrix[0, column].item():g}, not at 1: only"
            " tokens that are given may start cleaner than pure noise (pass given=...)"
        )
    if not early_stop and bool((matrix[-1] > 0).any()):
        column = int((matrix[-1] > 0).nonzero()[0])
        raise ValueError(
            f"column {column} of the scheduling matrix ends at {matrix[-1, column].item():g}, not at 0: its token"
            " would stay noisy (pass early_stop=True if that is wanted)"
        )


def network_calls(matrix: Tensor, causal: bool = False) -> int:
    """How many times sampling with this matrix (rows, T) calls the network.

    Once for each pair of rows that differ; a bare causal denoiser also reads finished tokens into its state, once each
    time that more of them are finished from the first on.
    """
    moving = (matrix.diff(dim=0) != 0).any(dim=1)
    calls = int(moving.sum())
    if causal:
        finished = (matrix[:-1] == 0).long().cumprod(dim=1).sum(dim=1)[moving]
        calls += len(set(finished.tolist()) - {0})
    return calls
