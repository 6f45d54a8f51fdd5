"""A recorded walk as a file: GIF always, mp4 where PyAV is there; large enough to be looked at."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from noiseladder.data.video_files import write_video
from noiseladder.video.clip import Frames

TALL = 192  # pixels, at least; frames of 64 are too small to be seen on a telephone


def formats() -> list[str]:
    """The formats that can be written here."""
    return ["gif", "mp4"] if find_spec("av") is not None else ["gif"]


def film(frames: Sequence[Frames], rate: float, format: str) -> bytes:
    """Frames (H, W, 3) uint8 as a file, each pixel a square. Raises ImportError for mp4 without PyAV."""
    with tempfile.TemporaryDirectory(prefix="noiseladder-film-") as folder:
        path = Path(folder) / f"walk.{format}"
        write_video(path, _enlarged(frames), rate)
        return path.read_bytes()


def _enlarged(frames: Sequence[Frames]) -> Iterator[Frames]:
    times = -(-TALL // frames[0].shape[0])
    times += times % 2 and (frames[0].shape[0] % 2 or frames[0].shape[1] % 2)  # mp4 takes even sizes only
    for frame in frames:
        yield np.repeat(np.repeat(frame, times, 0), times, 1)
