"""Video files as arrays and back: mp4 and its kin by PyAV, GIF by Pillow, one frame at a time."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence, UnidentifiedImageError

Frame = NDArray[np.uint8]

VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".gif")
# What Pillow raises for a GIF that is cut off or scrambled, depending on where.
_GIF_ERRORS = (UnidentifiedImageError, OSError, EOFError, SyntaxError, ValueError, IndexError, struct.error)
GIF_RATE = 10.0  # frames a second of a GIF that does not say


@dataclass(frozen=True)
class VideoFile:
    """What a file says about itself before it is decoded.

    frames: how many it announces, or None where it does not say. rate: frames a second.
    """

    path: Path
    frames: int | None
    height: int
    width: int
    rate: float


def probe(path: Path) -> VideoFile:
    """Look at the head of a video file; ValueError when it is none, or a broken one."""
    _check_ending(path)
    if path.suffix.lower() == ".gif":
        with _open_gif(path) as image:
            duration = image.info.get("duration", 0)
            try:
                frames = int(getattr(image, "n_frames", 1))
            except _GIF_ERRORS as error:
                raise ValueError(f"{path} is broken ({error}): copy or record it again") from error
            return VideoFile(path, frames, image.height, image.width, 1000 / duration if duration > 0 else GIF_RATE)
    with _open_video(path) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        if not stream.width or not stream.height or not rate:
            raise ValueError(f"{path} does not say how large or how fast its frames are: write it anew as mp4")
        return VideoFile(path, stream.frames or None, stream.height, stream.width, float(rate))


def read_frames(path: Path) -> Iterator[Frame]:
    """The frames of a video file in order, each (H, W, 3) uint8 RGB.

    Raises ValueError when the file is broken, also when it breaks off in the middle: a half clip is never taken for a
    whole one, but its frames up to there have been yielded.
    """
    _check_ending(path)
    return _read_gif(path) if path.suffix.lower() == ".gif" else _read_video(path)


def check_format(path: Path) -> None:
    """Raise what `write_video` would raise for an ending: ValueError, or ImportError for mp4 without PyAV."""
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise ValueError(f"{path} ends in {path.suffix!r}, expected .mp4 or .gif")
    if path.suffix.lower() == ".mp4":
        _pyav()


def write_video(path: Path, frames: Iterable[Frame], rate: float) -> None:
    """Write frames (H, W, 3) uint8 as the format that the ending of `path` names: mp4 (H.264) or gif.

    mp4 takes even sizes only and changes the pixels a little; a GIF has 256 colours a frame. The file is written in
    place: wrap this in what makes a file whole or not there at all.
    """
    if not 0 < rate <= 1000:
        raise ValueError(f"rate is {rate}, expected more than 0 and at most 1000 frames a second")
    several = iter(frames)
    first = next(several, None)
    if first is None:
        raise ValueError(f"there are no frames to write to {path}")
    everything = (_checked(frame, first.shape) for frame in chain([first], several))
    match path.suffix.lower():
        case ".gif":
            pictures = [Image.fromarray(frame) for frame in everything]
            # A GIF counts hundredths of a second, and players take less than two for ten.
            duration = max(20, 10 * round(100 / rate))
            pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, loop=0)
        case ".mp4":
            if first.shape[0] % 2 or first.shape[1] % 2:
                raise ValueError(f"frames are {first.shape[1]}x{first.shape[0]}, but mp4 takes even sizes only")
            _write_mp4(path, everything, first.shape[:2], rate)
        case _:
            check_format(path)


def _write_mp4(path: Path, frames: Iterable[Frame], size: tuple[int, ...], rate: float) -> None:
    av = _pyav()
    with closing(av.open(str(path), "w", format="mp4")) as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def _read_video(path: Path) -> Iterator[Frame]:
    av = _pyav()
    with _open_video(path) as container:
        announced, seen = container.streams.video[0].frames, 0
        try:
            for frame in container.decode(video=0):
                array: Frame = frame.to_ndarray(format="rgb24")
                seen += 1
                yield array
        except av.FFmpegError as error:
            raise ValueError(
                f"{path} is broken after {seen} frames ({error.strerror}): copy or record it again"
            ) from error
    if seen < announced:
        raise ValueError(f"{path} breaks off after {seen} of {announced} frames: copy or record it again")
    if seen == 0:
        raise ValueError(f"{path} holds no frames: copy or record it again")


def _read_gif(path: Path) -> Iterator[Frame]:
    with _open_gif(path) as image:
        seen = 0
        try:
            for picture in ImageSequence.Iterator(image):
                array = np.asarray(picture.convert("RGB"))
                seen += 1
                yield array
        except _GIF_ERRORS as error:
            raise ValueError(f"{path} is broken after {seen} frames ({error}): copy or record it again") from error


def _check_ending(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix.lower() not in VIDEO_ENDINGS:
        raise ValueError(f"{path} ends in {path.suffix!r}, expected a video: {' '.join(VIDEO_ENDINGS)}")


def _open_gif(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=["GIF"])
    except _GIF_ERRORS as error:
        raise ValueError(f"{path} is not a GIF that can be read: it is empty, broken or something else") from error


def _open_video(path: Path) -> Any:
    av = _pyav()
    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise ValueError(
            f"{path} is not a video that can be read ({error.strerror}): it is empty, cut off or something else"
        ) from error
    if not container.streams.video:
        found = ", ".join(stream.type for stream in container.streams) or "nothing"
        container.close()
        raise ValueError(f"{path} holds no pictures, only {found}")
    return container


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("videos other than GIF need PyAV: pip install 'noiseladder[video]'") from error
    return av


def _checked(frame: Frame, shape: tuple[int, ...]) -> Frame:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != shape:
        raise ValueError(
            f"a frame is {frame.dtype} of shape {frame.shape}, expected uint8 of shape (H, W, 3), as the first: {shape}"
        )
    return frame
