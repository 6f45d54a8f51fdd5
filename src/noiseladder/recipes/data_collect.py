"""`noiseladder data collect`: record walks in Doom, or make clips of your own videos, once, for many trainings."""

from __future__ import annotations

import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, TextIO

from cyclopts import Parameter

from noiseladder.training.progress import compact, duration
from noiseladder.training.randomness import check_seed
from noiseladder.video.collect import Collected, collect_doom, default_folder
from noiseladder.video.doom import DoomOptions, Map
from noiseladder.video.doom_maps import MazeOptions
from noiseladder.video.own_video import Wanted, import_video
from noiseladder.video.store import ClipStore


@dataclass(frozen=True)
class Doom:
    """Walks in Doom: three actions, the pose of every frame."""

    _: KW_ONLY
    episodes: int = 40
    """Walks to record; those that are there already are kept."""
    size: int = 64
    """Side of a frame in pixels, 16 to 240."""
    frames: int = 500
    """Frames of one walk."""
    map: Map = Map.MAZES
    """A new maze for every walk, or always the nine rooms of my-way-home."""
    rooms: int = 5
    """Junctions along each side of a maze."""
    seed: int = 0
    """The same seed records the same frames."""
    folder: Path | None = None
    """Where to keep them; in the cache ($NOISELADDER_CACHE, ~/.cache/noiseladder) without it."""
    processes: int | None = None
    """Recorders at a time; one a core without it."""


def collect_doom_walks(options: Annotated[Doom, Parameter(name="*")] = Doom()) -> None:
    """Record walks in Doom; stopped or killed, the same command goes on."""
    if options.processes is not None and options.processes < 1:
        raise ValueError(f"--processes is {options.processes}, expected at least 1")
    check_seed(options.seed)
    wanted = DoomOptions(options.map, options.size, options.frames, options.seed, MazeOptions(rooms=options.rooms))
    folder = options.folder or default_folder(wanted)
    live, last = sys.stderr.isatty(), Collected(0, 0, 0, 0, 0.0)
    for last in collect_doom(folder, wanted, options.episodes, options.processes):
        show(last, sys.stderr, live)
    if live:
        sys.stderr.write("\n")
    print(summary(folder))


def show(progress: Collected, out: TextIO, live: bool) -> None:
    """One line that is redrawn on a terminal; elsewhere one a shard."""
    line = f"shard {progress.shards_done}/{progress.shards}  {progress.frames} frames"
    if progress.new_frames:
        speed = progress.new_frames / progress.seconds
        left = (progress.shards - progress.shards_done) * progress.frames / max(1, progress.shards_done) / speed
        line += f"  {compact(speed)} frames/s  {duration(left)} left"
    out.write(f"\r\x1b[2K{line}" if live else f"{line}\n")
    out.flush()


@dataclass(frozen=True)
class Video:
    """Clips of your own: what `noiseladder data inspect` says can be used."""

    path: Path
    """A folder of mp4 or GIF files with or without actions.csv, of npz files, zarr, LeRobot v3; or one file."""
    folder: Path
    """Where to keep the clips."""
    _: KW_ONLY
    size: int = 64
    """Side of a frame in pixels; the middle square is shrunk to it."""
    rate: float | None = None
    """Frames a second to keep; all without it."""
    camera: str | None = None
    """Which camera, where there are several."""


def collect_video(options: Annotated[Video, Parameter(name="*")]) -> None:
    """Read your own videos into a store of clips."""
    import_video(options.path, options.folder, Wanted(options.size, options.rate, options.camera))
    print(summary(options.folder))


def summary(folder: Path) -> str:
    """What a store holds, in a line."""
    store = ClipStore.open(folder)
    height, width = store.description.size
    clips = "1 clip" if len(store) == 1 else f"{len(store)} clips"
    return f"{folder}: {clips}, {store.frames} frames of {width}x{height}, {store.description.key}"
