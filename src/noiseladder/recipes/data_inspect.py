"""`noiseladder data inspect PATH`: what is there, what fits a model of video, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from noiseladder.video.own_video import (
    ACTIONS_FILE,
    Problem,
    Recording,
    Wanted,
    check_alike,
    layout_of,
    read_recordings,
)

KINDS = {"video": "videos", "npz": "npz files", "store": "a store of clips", "episodes": "recorded episodes"}
MOST_LINES = 10  # of one kind


@dataclass(frozen=True)
class Inspect:
    """What to look at, and what it is to be used for."""

    path: Path
    """A folder of mp4 or GIF files with or without actions.csv, of npz files, a store of clips, zarr, LeRobot v3; or
    one file."""
    _: KW_ONLY
    size: int = 64
    """Side of the frames that a model is to learn, in pixels."""
    window: int = 36
    """Frames of the segments that a model is to learn."""
    rate: float | None = None
    """Frames a second to keep; all without it."""
    camera: str | None = None
    """Which camera, where there are several."""


def inspect_data(options: Annotated[Inspect, Parameter(name="*")]) -> None:
    """Read everything once and say what it is good for."""
    if options.window < 1:
        raise ValueError(f"--window is {options.window}, expected at least 1")
    wanted = Wanted(options.size, options.rate, options.camera)
    layout = layout_of(options.path)
    recordings: list[Recording] = []
    problems: list[Problem] = []
    for found in read_recordings(options.path, wanted):
        if isinstance(found, Problem):
            problems.append(found)
            continue
        try:
            check_alike(recordings[0] if recordings else found, found)
        except ValueError as error:
            problems.append(Problem(found.name, error))
        else:
            recordings.append(_facts_only(found))
    print("\n".join(report(options, KINDS[layout.kind], recordings, problems)))


def _facts_only(recording: Recording) -> Recording:
    """Without its pixels: a frame that is repeated has the same length and takes no memory."""
    clip = recording.clip
    frames = np.broadcast_to(clip.frames[:1].copy(), clip.frames.shape)
    return replace(recording, clip=replace(clip, frames=frames))


def report(options: Inspect, kind: str, recordings: list[Recording], problems: list[Problem]) -> list[str]:
    """The lines that are printed."""
    frames = sum(len(recording.clip) for recording in recordings)
    lines = [f"{options.path}: {kind}, {_many(len(recordings) + len(problems), 'clip')}"]
    if recordings:
        lines += [
            f"  frames    {frames} that can be read",
            f"  size      {_tally(f'{width}x{height}' for height, width in (r.size for r in recordings))}",
            f"  rate      {_tally('not said' if r.rate is None else f'{r.rate:g} a second' for r in recordings)}",
            f"  actions   {_actions(recordings)}",
            f"  poses     {'yes' if all(r.clip.poses is not None for r in recordings) else 'none'}",
        ]
    lines += ["fits", *_fits(options, recordings)]
    missing = _missing(recordings)
    if missing:
        lines += ["missing", *(f"  {line}" for line in missing)]
    if problems:
        lines += ["cannot be used", *(f"  {problem.why}" for problem in problems[:MOST_LINES])]
        if len(problems) > MOST_LINES:
            lines.append(f"  and {len(problems) - MOST_LINES} more")
    return lines


def _actions(recordings: list[Recording]) -> str:
    """Their names; where each frame has at most one, with how many frames it led to, so that a typo is seen."""
    names = recordings[0].action_names
    if not names:
        return "none"
    rows = np.concatenate([r.clip.actions for r in recordings if r.clip.actions is not None])
    if not (np.isin(rows, (0, 1)).all() and (rows.sum(1) <= 1).all()):
        return ", ".join(names)
    counts = rows.sum(0).astype(int).tolist()
    return ", ".join(f"{name} ({count})" for name, count in zip(names, counts, strict=True))


def _fits(options: Inspect, recordings: list[Recording]) -> list[str]:
    long_enough = [r for r in recordings if len(r.clip) >= options.window]
    too_short = [r for r in recordings if len(r.clip) < options.window]
    segments = sum(len(r.clip) - options.window + 1 for r in long_enough)
    lines = []
    if long_enough:
        lines.append(
            f"  {_many(len(long_enough), 'clip')} with {_many(segments, 'segment')} of {options.window} frames,"
            f" {options.size}x{options.size} pixels from the middle square"
        )
    else:
        lines.append(f"  nothing: no clip has the {options.window} frames of a segment")
    lines += [
        f"  not {r.name}: {_many(len(r.clip), 'frame')}, a segment has {options.window}" for r in too_short[:MOST_LINES]
    ]
    if len(too_short) > MOST_LINES:
        lines.append(f"  and {len(too_short) - MOST_LINES} more that are too short")
    return lines


def _missing(recordings: list[Recording]) -> list[str]:
    if not recordings:
        return []
    lines = []
    if not recordings[0].action_names:
        lines.append(f"actions: a model can be watched but not steered; put them into {ACTIONS_FILE} beside the videos")
    if any(recording.clip.poses is None for recording in recordings):
        lines.append("poses: whether a place looks the same again cannot be measured")
    if len(recordings) == 1:
        lines.append("a second clip: nothing can be held out for validation")
    return lines


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _tally(values: Iterable[str]) -> str:
    counts = Counter(values)
    if len(counts) == 1:
        return str(next(iter(counts)))
    return ", ".join(f"{value} ({count})" for value, count in counts.most_common())
