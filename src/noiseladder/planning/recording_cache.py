"""A recording that takes a minute to make is made once: kept in a cache folder, known by its hash."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from noiseladder.training import durable
from noiseladder.training.cache_folder import cache_folder as cache_folder

from .recordings import Recording, arrays, read_npz


def kept(
    folder: Path,
    name: str,
    description: Mapping[str, Any],
    make: Callable[[], Generator[tuple[int, int], None, Recording]],
    watch: Callable[[int, int], None] | None = None,
) -> Recording:
    """The recording `name` of the folder if it is what `description` says; otherwise it is made now and put there.

    make: yields how many steps are done and how many there will be, returns the recording; `watch` is told of them.
    Beside the arrays lies a JSON file with the description and the SHA-256; arrays that do not fit it are made again,
    with a warning. Raises OSError, one sentence, where the folder cannot be written.
    """
    path = folder / f"{name}.npz"
    wanted = json.loads(json.dumps(description))
    found = _found(path, wanted)
    if found is not None:
        return found
    steps = make()
    while True:
        try:
            done, count = next(steps)
        except StopIteration as finished:
            made: Recording = finished.value
            break
        if watch is not None:
            watch(done, count)
    durable.replace_file(path, lambda partial: np.savez(partial, **arrays(made)))  # type: ignore[arg-type]
    # The description comes last: arrays without one are taken for half-written.
    durable.replace_text(path.with_suffix(".json"), json.dumps({**wanted, "sha256": made.hash()}, indent=2) + "\n")
    return made


def _found(path: Path, wanted: dict[str, Any]) -> Recording | None:
    if not (path.is_file() and path.with_suffix(".json").is_file()):
        return None
    try:
        beside = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        expected = beside.pop("sha256")
        recording = read_npz(path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error)
    else:
        if beside != wanted:
            why = "it was made from something else"
        elif expected != recording.hash():
            why = "it does not fit the hash beside it"
        else:
            return recording
    warnings.warn(f"the recording {path} is damaged or another one and will be made again: {why}", stacklevel=4)
    return None
