"""How many processor threads a step should use: one is often faster than two, so both are timed.

Sums over two threads round otherwise than over one, so the choice is part of what makes a run repeatable: a
checkpoint records it, and the first choice for a piece of work on a machine is remembered for the next run.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import torch

from .durable import replace_text

WORTH_IT = 1.15
"""Two threads must be this much faster than one: they take a core from whatever else is running."""


def choose_threads(step: Callable[[], object], work: Mapping[str, Any], rounds: int = 5) -> int:
    """One or two, whichever runs `step` faster; what OMP_NUM_THREADS says, if it is set.

    work: what `step` does, as JSON values; the choice is remembered for it.
    """
    allowed = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ or allowed == 1:
        return allowed
    memory = _memory(work)
    if memory.exists():
        try:
            remembered = json.loads(memory.read_text())["threads"]
        except (ValueError, KeyError, TypeError, OSError):
            remembered = None  # a damaged note is no reason to stop: time again
        if remembered in (1, 2):
            return int(remembered)
    one, two = time_threads(step, (1, 2), rounds)
    chosen = 2 if one > WORTH_IT * two else 1
    with suppress(OSError):  # a read-only home: the next run times again
        replace_text(memory, json.dumps({"threads": chosen, "seconds": [one, two]}))
    return chosen


def time_threads(step: Callable[[], object], choices: tuple[int, ...], rounds: int) -> list[float]:
    """Median seconds of one step for each number of threads, measured in turns so that all meet the same load."""
    seconds: dict[int, list[float]] = {threads: [] for threads in choices}
    before = torch.get_num_threads()
    try:
        for _ in range(rounds + 1):
            for threads in choices:
                torch.set_num_threads(threads)
                start = time.perf_counter()
                step()
                seconds[threads].append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return [median(times[1:]) for times in seconds.values()]  # the first round warms up


def _memory(work: Mapping[str, Any]) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    machine = (platform.machine(), platform.processor(), os.cpu_count(), torch.__version__)
    name = hashlib.blake2b(json.dumps([machine, work], sort_keys=True).encode(), digest_size=8).hexdigest()
    return cache / "noiseladder" / f"threads-{name}.json"
