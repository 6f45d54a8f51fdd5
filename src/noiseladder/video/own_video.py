"""Your own recordings as clips: videos with or without actions.csv, npz, zarr, LeRobot; looked at, or made a store."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noiseladder.data.episode_folders import holds_episodes, read_episodes
from noiseladder.data.episodes import Episode
from noiseladder.data.npz_episodes import read_arrays
from noiseladder.data.video_files import VIDEO_ENDINGS, probe, read_frames

from .action_table import ActionTable, read_action_table, shifted
from .clip import Clip
from .resize import shrink
from .store import BEGUN, ClipStore, Description, shard_folder, sweep_shards, whole_store, write_shard

ACTIONS_FILE = "actions.csv"
LAYOUTS = (
    "mp4 or GIF files, with or without actions.csv; npz files with frames (T, H, W, 3); a store of clips; zarr as in"
    " diffusion_policy; LeRobot v3"
)
OTHERS = {
    "world.json": "an exported world", "recipe.json": "a training run", BEGUN: "a store that was not read to its end"
}  # fmt: skip
RATES_DIFFER = 0.01  # relative; 30 and 29.97 frames a second are the same


@dataclass(frozen=True)
class Wanted:
    """How recordings are to become clips.

    size: of a frame's side; the middle square is shrunk to it. rate: frames a second to keep, or None for all.
    camera: which one, where there are several. actions: names that must be used, or () for those that are found.
    """

    size: int = 64
    rate: float | None = None
    camera: str | None = None
    actions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 1024:
            raise ValueError(f"size is {self.size}, expected 8 to 1024: pixels along the side of a frame")
        if self.rate is not None and not 0 < self.rate <= 1000:
            raise ValueError(f"rate is {self.rate}, expected more than 0 and at most 1000 frames a second")


@dataclass(frozen=True)
class Recording:
    """One clip, read and shrunk, and what it was like before: height, width and frames a second, None if not said."""

    name: str
    clip: Clip
    size: tuple[int, int]
    rate: float | None
    action_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """A recording that cannot be used, and the sentence that says why."""

    name: str
    why: ValueError


@dataclass(frozen=True)
class Layout:
    """What kind of thing lies at a path, and the names of the recordings in it where they are known at once."""

    kind: str
    names: tuple[str, ...] = ()
    has_actions: bool = False


def layout_of(path: Path) -> Layout:
    """What lies at `path`; FileNotFoundError for nothing, ValueError for an empty folder or something else."""
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: expected {LAYOUTS}")
    if path.is_file():
        if path.suffix.lower() in VIDEO_ENDINGS:
            return Layout("video", (path.name,), (path.parent / ACTIONS_FILE).is_file() and _alone(path))
        if path.suffix == ".npz":
            return Layout("npz", (path.name,))
    elif (path / "store.json").is_file():
        return Layout("store")
    else:
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        videos = tuple(file.name for file in files if file.suffix.lower() in VIDEO_ENDINGS)
        if videos:
            return Layout("video", videos, (path / ACTIONS_FILE).is_file())
        arrays = [file for file in files if file.suffix == ".npz"]
        if arrays and "frames" in _names_in(arrays[0]):
            return Layout("npz", tuple(file.name for file in arrays))
        if not any(path.iterdir()):
            raise ValueError(f"{path} is empty: expected {LAYOUTS}")
    if holds_episodes(path):
        return Layout("episodes")
    for file, what in OTHERS.items():
        if (path / file).is_file():
            raise ValueError(f"{path} holds {what}, and no recordings: expected {LAYOUTS}")
    if path.is_dir():
        raise ValueError(f"{path} holds no recordings that can be read: expected {LAYOUTS}")
    raise ValueError(f"{path} is nothing that can be read: expected {LAYOUTS}")


def read_recordings(path: Path, wanted: Wanted) -> Iterator[Recording | Problem]:
    """The recordings at `path`, one at a time; those that cannot be used come as problems.

    Raises ValueError at once for what concerns them all: a broken table of actions, rates that differ.
    """
    layout = layout_of(path)
    match layout.kind:
        case "video":
            yield from _videos(path if path.is_dir() else path.parent, layout, wanted)
        case "npz":
            folder = path if path.is_dir() else path.parent
            for name in layout.names:
                yield _attempt(name, partial(_npz, folder / name, wanted))
        case "store":
            yield from _stored(path, wanted)
        case _:
            yield from _episodes(path, wanted)


def clip_recordings(path: Path, wanted: Wanted) -> Iterator[Recording]:
    """The recordings at `path`; raises ValueError at the first that cannot be used, or does not go with the others."""
    first: Recording | None = None
    for found in read_recordings(path, wanted):
        if isinstance(found, Problem):
            raise found.why
        first = first or found
        check_alike(first, found)
        yield found


def check_alike(first: Recording, other: Recording) -> None:
    """Raise ValueError when two recordings cannot be learnt from together."""
    if first.action_names != other.action_names:
        raise ValueError(
            f"{first.name} has {_actions(first)}, but {other.name} has {_actions(other)}: give all clips the same"
        )


def import_video(path: Path, folder: Path, wanted: Wanted | None = None) -> ClipStore:
    """Make a store in `folder` of the recordings at `path`, a shard each; what is there already stays.

    Raises ValueError with one sentence for the first thing that is wrong, and leaves nothing of what it wrote. Killed,
    the same call goes on; until all of it is written the folder is no store.
    """
    wanted = wanted or Wanted()
    layout = layout_of(path)
    recordings = clip_recordings(path, wanted)
    first = next(recordings, None)
    if first is None:
        raise ValueError(f"{path} holds no clips: expected {LAYOUTS}")
    made_by = {"world": "own video", "source": _fingerprint(path, layout)}
    if layout.kind == "episodes" and wanted.camera is not None:
        made_by["camera"] = wanted.camera  # where none is chosen there is one
    size, rate = (wanted.size, wanted.size), wanted.rate or first.rate
    with whole_store(folder, Description(size, first.action_names, rate, made_by)):
        sweep_shards(folder)
        for number, recording in enumerate(chain([first], recordings)):
            if not (shard_folder(folder, number) / "shard.json").is_file():
                write_shard(folder, number, [recording.clip])
    return ClipStore.open(folder)


# The layouts


def _videos(folder: Path, layout: Layout, wanted: Wanted) -> Iterator[Recording | Problem]:
    table: ActionTable | None = None
    if layout.has_actions:
        table = read_action_table(folder / ACTIONS_FILE, layout.names, wanted.actions)
    rates: dict[float, str] = {}
    for name in layout.names:
        try:
            rates.setdefault(probe(folder / name).rate, name)
        except ValueError:
            continue  # said below, for this one
    if wanted.rate is None:
        slow, fast = min(rates, default=1.0), max(rates, default=1.0)
        if fast > slow * (1 + RATES_DIFFER):
            raise ValueError(
                f"{rates[slow]} has {slow:g} frames a second and {rates[fast]} {fast:g}: say which rate to keep"
                f" (rate {slow:g} or less)"
            )
    for name in layout.names:
        yield _attempt(name, partial(_video, folder / name, table, wanted))


def _video(path: Path, table: ActionTable | None, wanted: Wanted) -> Recording:
    head = probe(path)
    step = 1.0 if wanted.rate is None else head.rate / wanted.rate
    if step < 1 - RATES_DIFFER:
        raise ValueError(f"{path.name} has {head.rate:g} frames a second, expected at least {wanted.rate:g}")
    if abs(step - 1) <= RATES_DIFFER:
        step = 1.0
    elif table is not None:
        raise ValueError(
            f"{path.name} has {head.rate:g} frames a second with an action each, expected {wanted.rate:g}: frames with"
            " actions cannot be left out; keep its rate"
        )
    kept, following = [], 0.0
    for number, frame in enumerate(read_frames(path)):
        if number >= following - 1e-6:
            kept.append(_shrunk(frame, wanted.size, path.name))
            following += step
    frames = np.stack(kept)
    actions = None if table is None else table.leading_to(path.name, len(frames))
    names = () if table is None else table.names
    return Recording(path.name, Clip(frames, actions), (head.height, head.width), head.rate, names)


def _npz(path: Path, wanted: Wanted) -> Recording:
    name = path.name
    arrays = read_arrays(path, name)
    if "frames" not in arrays:
        raise ValueError(
            f"{name} holds {', '.join(arrays) or 'nothing'}, expected frames (T, H, W, 3), perhaps actions"
        )
    frames = arrays["frames"]
    whole = _clip(name, frames, None, arrays.get("poses"))
    actions = arrays.get("actions")
    if actions is not None:
        if actions.ndim != 2 or actions.dtype.kind not in "fiub":
            raise ValueError(
                f"{name}: actions are {actions.dtype} of shape {actions.shape}, expected numbers ({len(frames)}, A)"
            )
        actions = shifted(actions.astype(np.float32), len(frames), f"{name} has", "rows of actions")
    small = np.stack([_shrunk(frame, wanted.size, name) for frame in whole.frames])
    names = () if actions is None else _numbered(actions.shape[1], wanted, name)
    rate = float(arrays["rate"]) if "rate" in arrays else None
    return Recording(name, _clip(name, small, actions, whole.poses), (frames.shape[1], frames.shape[2]), rate, names)


def _stored(path: Path, wanted: Wanted) -> Iterator[Recording | Problem]:
    store = ClipStore.open(path)
    about = store.description

    def read(number: int, name: str) -> Recording:
        try:
            clip = store[number]
        except ValueError as error:
            raise ValueError(f"{name} of {path}: {error}") from error
        small = np.stack([_shrunk(frame, wanted.size, name) for frame in clip.frames])
        return Recording(name, Clip(small, clip.actions, clip.poses), about.size, about.rate, about.action_names)

    for number in range(len(store)):
        yield _attempt(f"clip {number}", partial(read, number, f"clip {number}"))


def _episodes(path: Path, wanted: Wanted) -> Iterator[Recording | Problem]:
    episodes = read_episodes(path)
    while True:
        try:
            episode = next(episodes)
        except StopIteration:
            return
        except ValueError as error:
            # After it the reader cannot go on.
            yield Problem(path.name, error)
            return
        yield _attempt(episode.name, partial(_episode, episode, wanted))


def _episode(episode: Episode, wanted: Wanted) -> Recording:
    cameras = tuple(episode.pictures)
    if wanted.camera is None and len(cameras) != 1:
        raise ValueError(f"{episode.name} has {len(cameras)} cameras ({', '.join(cameras)}): say which one")
    camera = wanted.camera or cameras[0]
    if camera not in cameras:
        raise ValueError(f"{episode.name} has no camera {camera!r}, expected one of {', '.join(cameras)}")
    frames = episode.pictures[camera]
    small = np.stack([_shrunk(frame, wanted.size, episode.name) for frame in frames])
    actions = shifted(episode.actions, len(frames), f"{episode.name} has", "actions")
    names = _numbered(actions.shape[1], wanted, episode.name)
    return Recording(episode.name, Clip(small, actions), episode.sizes[camera], episode.rate, names)


def _clip(name: str, *arrays: NDArray[Any] | None) -> Clip:
    """A clip, whose name is said in what is wrong with it."""
    try:
        return Clip(*arrays)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _attempt(name: str, read: Callable[[], Recording]) -> Recording | Problem:
    try:
        return read()
    except ValueError as error:
        return Problem(name, error)


def _shrunk(frame: NDArray[np.uint8], size: int, name: str) -> NDArray[np.uint8]:
    try:
        return shrink(frame, size)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _numbered(count: int, wanted: Wanted, name: str) -> tuple[str, ...]:
    if wanted.actions and len(wanted.actions) != count:
        raise ValueError(f"{name} has actions of {count} numbers, expected {len(wanted.actions)}: {wanted.actions}")
    return wanted.actions or tuple(f"action {number}" for number in range(count))


def _actions(recording: Recording) -> str:
    return f"the actions {', '.join(recording.action_names)}" if recording.action_names else "no actions"


def _alone(path: Path) -> bool:
    return sum(file.suffix.lower() in VIDEO_ENDINGS for file in path.parent.iterdir()) == 1


def _names_in(path: Path) -> Sequence[str]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return list(file.files)
    except (TypeError, ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error):
        return ["frames"]  # broken: said when it is read


def _fingerprint(path: Path, layout: Layout) -> str:
    """Differs when a file at `path` has another size or date."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    if path.is_file() and layout.has_actions:
        files.append(path.parent / ACTIONS_FILE)
    lines = [f"{file.relative_to(path.parent)} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
