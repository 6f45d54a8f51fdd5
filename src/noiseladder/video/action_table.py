"""A table of actions beside a folder of videos: a line for every frame, what was done on seeing it.

    clip,frame,action          or          clip,frame,steer,throttle
    walk.mp4,0,forward                     drive.mp4,0,0.1,1.0

`clip` may be left out beside a single video, `frame` always; the last frame of a clip needs no line.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .clip import one_hot

CLIP, FRAME, ACTION = "clip", "frame", "action"


@dataclass(frozen=True)
class ActionTable:
    """names: one for each number of an action. rows: clip -> (lines, A), what was done on seeing each frame."""

    names: tuple[str, ...]
    rows: dict[str, NDArray[np.float32]]

    def leading_to(self, clip: str, frames: int) -> NDArray[np.float32]:
        """The actions of a clip as `Clip` has them, (frames, A): row t led to frame t, row 0 is zeros.

        Raises ValueError when lines are missing or left over.
        """
        rows = self.rows.get(clip, np.zeros((0, len(self.names)), np.float32))
        return shifted(rows, frames, f"{clip} has", "lines of actions")


def shifted(rows: NDArray[np.float32], frames: int, whose: str, what: str) -> NDArray[np.float32]:
    """What was done on seeing each frame, as what led to each frame; `frames` rows or one fewer are expected."""
    if len(rows) not in (frames, frames - 1):
        missing = frames - 1 - len(rows)
        wrong = f"{missing} are missing" if missing > 0 else f"{len(rows) - frames} are too many"
        raise ValueError(
            f"{whose} {frames} frames and {len(rows)} {what}, expected one a frame (the last may be left out): {wrong}"
        )
    led = np.zeros((frames, rows.shape[1]), np.float32)
    led[1:] = rows[: frames - 1]
    return led


def read_action_table(path: Path, clips: Sequence[str], known: Sequence[str] = ()) -> ActionTable:
    """Read a CSV file with the actions of `clips`, names of files beside it.

    Actions that are words become one-hot numbers in the order of `known`, or of the alphabet without it. Raises
    ValueError that names the line for whatever cannot be used.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a table of comma-separated values: {error}") from error
    header = [name.strip() for name in lines[0]] if lines else []
    columns = [name for name in header if name not in (CLIP, FRAME)]
    if not columns or len(set(header)) != len(header) or "" in header or (ACTION in columns and len(columns) > 1):
        raise ValueError(
            f"{path} starts with {','.join(header) or 'nothing'!r}, expected the names of its columns: clip, frame and"
            " then action, or a name for each number"
        )
    if CLIP not in header and len(clips) > 1:
        raise ValueError(f"{path} has no column clip, expected one because there are {len(clips)} videos")
    words: dict[str, list[str]] = {clip: [] for clip in clips}
    numbers: dict[str, list[list[float]]] = {clip: [] for clip in clips}
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines[1:], start=2):
        where = f"line {number} of {path}"
        if not line and len(header) > 1:
            continue
        if len(line) != len(header):
            raise ValueError(f"{where} has {len(line)} values, expected {len(header)}: {','.join(header)}")
        values = dict(zip(header, (value.strip() for value in line)))
        clip = values.get(CLIP, clips[0])
        if clip not in words:
            raise ValueError(f"{where} is about {clip!r}, but there is no such video{_meant(clip, clips)}")
        done = len(words[clip]) + len(numbers[clip])
        if FRAME in values and values[FRAME] != str(done):
            raise ValueError(f"{where} is about frame {values[FRAME]!r} of {clip}, expected {done}: one line a frame")
        if ACTION in values:
            if not values[ACTION]:
                raise ValueError(f"{where} has no action, expected a word: what was done on seeing that frame")
            if known and values[ACTION] not in known:
                raise ValueError(
                    f"{where}: unknown action {values[ACTION]!r}, expected {', '.join(known)}"
                    f"{_meant(values[ACTION], known)}"
                )
            words[clip].append(values[ACTION])
        else:
            numbers[clip].append([_number(values[name], name, where) for name in columns])
    if ACTION in columns:
        names = tuple(known) or tuple(sorted({word for said in words.values() for word in said}))
        place = {name: index for index, name in enumerate(names)}
        rows = {
            clip: one_hot(np.array([place[word] for word in said], dtype=int), len(names))
            for clip, said in words.items()
        }
        return ActionTable(names, rows)
    if known and tuple(known) != tuple(columns):
        raise ValueError(f"{path} has the columns {', '.join(columns)}, expected {', '.join(known)}")
    shape = (-1, len(columns))
    return ActionTable(
        tuple(columns), {clip: np.array(said, np.float32).reshape(shape) for clip, said in numbers.items()}
    )


def _number(value: str, name: str, where: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: {name} is {value!r}, expected a number; words go into a column called action")
    return number


def _meant(given: str, known: Sequence[str]) -> str:
    spelt = {name.lower(): name for name in known}
    near = get_close_matches(given.lower(), spelt, n=1)
    return f"; did you mean {spelt[near[0]]}?" if near else ""
