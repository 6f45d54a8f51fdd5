"""The LeRobot layout, version 3: numbers in Parquet files, pictures in mp4 files, many episodes in each of both.

    meta/info.json                                   features, rate, where the files are
    meta/tasks.parquet, meta/stats.json, meta/episodes/chunk-000/file-000.parquet      rows and seconds of each episode
    data/chunk-000/file-000.parquet                  action, observation.state, timestamp, episode_index, ...
    videos/observation.images.CAMERA/chunk-000/file-000.mp4

Read and written by pyarrow and PyAV, without the lerobot package. Videos are lossy: a picture comes back as close as
the codec left it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .episodes import Episode
from .npz_episodes import numbers

IMAGES = "observation.images."
STATE, ACTION = "observation.state", "action"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
USUAL_RATE = 10
# Constant quality; 18 is called visually lossless by x264's authors. A key frame every other picture, as LeRobot does,
# lets one episode be found without decoding those before it.
QUALITY, KEY_EVERY = "18", 2
STATISTICS: dict[str, Any] = {"min": np.min, "max": np.max, "mean": np.mean, "std": np.std}


def need(package: str) -> Any:
    """A package of the extra, or an ImportError that names the extra."""
    try:
        return import_module(package)
    except ImportError as error:
        name = package.split(".")[0]
        raise ImportError(f"LeRobot folders need {name}: pip install 'noiseladder[imitation]'") from error


# Reading


def read_lerobot(folder: Path) -> Iterator[Episode]:
    """The episodes of a LeRobot v3 folder, in order, each decoded when it is asked for.

    Cameras are named by what follows `observation.images.`. Raises ValueError, naming the episode where one is to
    blame, for missing or broken files, another version of the layout, and rows or pictures that are not there.
    """
    info = _read_info(folder)
    rate = float(info["fps"])
    cameras = [key for key, feature in info["features"].items() if feature.get("dtype") == "video"]
    stills = [key for key, feature in info["features"].items() if feature.get("dtype") == "image"]
    rows = _Rows(folder, info)
    films = {camera: _Films(folder, info, camera, rate) for camera in cameras}
    for about in _read_about(folder):
        name = f"episode {about['episode_index']}"
        table = rows.of(name, about)
        pictures = {_short(camera): films[camera].of(name, about, len(table[ACTION])) for camera in cameras}
        pictures.update({_short(camera): _stills(name, camera, table) for camera in stills})
        actions = numbers(name, "actions", table[ACTION])
        state = numbers(name, "state", table[STATE]) if STATE in table else np.zeros((len(actions), 0), np.float32)
        notes = {"tasks": [str(task) for task in about.get("tasks") or []]}
        yield Episode(name, pictures, state, actions, rate, notes)


def _read_info(folder: Path) -> dict[str, Any]:
    path = folder / "meta" / "info.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a LeRobot folder: it has no meta/info.json")
    try:
        info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version, features = str(info["codebase_version"]), info["features"]
        if float(info["fps"]) <= 0 or ACTION not in features:
            raise ValueError("expected fps above 0 and a feature called action")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a LeRobot folder: {error!s}") from error
    if not version.startswith("v3"):
        raise ValueError(f"{folder} is in LeRobot's layout {version}, expected v3: convert it with lerobot's own tool")
    return info


def _read_about(folder: Path) -> list[dict[str, Any]]:
    """One row of facts for each episode."""
    paths = sorted((folder / "meta" / "episodes").glob("*/*.parquet"))
    if not paths:
        raise ValueError(f"{folder} has no meta/episodes/chunk-000/file-000.parquet: expected a row for each episode")
    found = []
    for path in paths:
        table = _read_parquet(path, "the list of episodes")
        names = [name for name in table.column_names if not name.startswith("stats/")]
        found += table.select(names).to_pylist()
    if not found:
        raise ValueError(f"{folder} lists no episodes")
    for about in found:
        missing = [
            key for key in ("episode_index", "length", "data/chunk_index", "data/file_index") if key not in about
        ]
        if missing:
            raise ValueError(f"the list of episodes in {folder} lacks {', '.join(missing)}")
        if about["length"] < 1:
            raise ValueError(f"episode {about['episode_index']} has no steps: remove it")
    return sorted(found, key=lambda about: int(about["episode_index"]))


def _read_parquet(path: Path, name: str) -> Any:
    parquet = need("pyarrow.parquet")
    if not path.is_file():
        raise ValueError(f"{name}: there is no file {path}")
    try:
        return parquet.read_table(path)
    except Exception as error:  # pyarrow's own, and OSError, and what is inside it
        raise ValueError(f"{name}: {path} cannot be read as Parquet: {' '.join(str(error).split())}") from error


class _Rows:
    """The numbers of episodes; the file that was read last is kept, for its next episode."""

    def __init__(self, folder: Path, info: Mapping[str, Any]) -> None:
        self.folder, self.pattern = folder, str(info.get("data_path") or DATA_PATH)
        self.path: Path | None = None
        self.table: Any = None

    def of(self, name: str, about: Mapping[str, Any]) -> dict[str, Any]:
        """Columns of one episode, actions and state as arrays."""
        where = {"chunk_index": about["data/chunk_index"], "file_index": about["data/file_index"]}
        path = self.folder / _inside(self.pattern.format(**where))
        if path != self.path:
            self.table, self.path = _read_parquet(path, name), path
        needed = [key for key in (ACTION, "episode_index") if key not in self.table.column_names]
        if needed:
            raise ValueError(f"{name}: {path} lacks the columns {', '.join(needed)}")
        mine = np.flatnonzero(self.table["episode_index"].to_numpy() == about["episode_index"])
        if len(mine) != about["length"]:
            raise ValueError(f"{name}: {path} has {len(mine)} rows of it, expected {about['length']}")
        part = self.table.take(mine)
        columns: dict[str, Any] = {}
        for key in part.column_names:
            if key in (ACTION, STATE):
                try:
                    columns[key] = np.array(part[key].to_pylist(), dtype=np.float32).reshape(len(mine), -1)
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{name}: {key} is not a row of numbers at every step: {error}") from error
            elif key.startswith(IMAGES):
                columns[key] = part[key].to_pylist()
        return columns


class _Films:
    """The pictures of one camera; a file that holds several episodes is decoded once, from the front."""

    def __init__(self, folder: Path, info: Mapping[str, Any], camera: str, rate: float) -> None:
        self.folder, self.camera, self.rate = folder, camera, rate
        self.pattern = str(info.get("video_path") or VIDEO_PATH)
        self.path: Path | None = None
        self.frames: Iterator[NDArray[np.uint8]] = iter(())
        self.place = 0

    def of(self, name: str, about: Mapping[str, Any], length: int) -> NDArray[np.uint8]:
        """The `length` frames of one episode."""
        keys = [f"videos/{self.camera}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
        if any(about.get(key) is None for key in keys):
            raise ValueError(
                f"{name} lacks camera {_short(self.camera)}: the list of episodes does not say where it is"
            )
        where = {"video_key": self.camera, "chunk_index": about[keys[0]], "file_index": about[keys[1]]}
        path = self.folder / _inside(self.pattern.format(**where))
        start = round(float(about[keys[2]]) * self.rate)
        if path != self.path or start < self.place:
            self.path, self.place, self.frames = path, 0, _decode(path)
        found: list[NDArray[np.uint8]] = []
        try:
            while self.place < start + length:
                frame = next(self.frames)
                self.place += 1
                if self.place > start:
                    found.append(frame)
        except StopIteration:
            self.path = None
            raise ValueError(
                f"{name}: camera {_short(self.camera)}: the video {path} ends after {self.place} pictures, expected"
                f" {start + length}"
            ) from None
        except (OSError, ValueError) as error:
            self.path = None
            raise ValueError(
                f"{name}: camera {_short(self.camera)}: the video {path} cannot be read: {' '.join(str(error).split())}"
            ) from error
        if len({frame.shape for frame in found}) > 1:
            raise ValueError(f"{name}: camera {_short(self.camera)}: the pictures change their size within {path}")
        return np.stack(found)


def _decode(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a video, (H, W, 3) each."""
    av = need("av")
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("it holds no pictures")
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def _stills(name: str, camera: str, table: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Pictures that are kept as PNG or JPEG inside the Parquet file."""
    import io

    from PIL import Image

    if camera not in table:
        raise ValueError(f"{name} lacks camera {_short(camera)}")
    found = []
    for step, cell in enumerate(table[camera]):
        try:
            with Image.open(io.BytesIO(cell["bytes"])) as image:
                found.append(np.asarray(image.convert("RGB")))
        except (OSError, TypeError, KeyError) as error:
            raise ValueError(f"{name}: camera {_short(camera)}: the picture at step {step} cannot be read") from error
    if len({frame.shape for frame in found}) > 1:
        raise ValueError(f"{name}: camera {_short(camera)}: the pictures change their size")
    return np.stack(found)


def _inside(path: str) -> str:
    """A path that stays in the folder: what a stranger's info.json says is not followed anywhere else."""
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ValueError(f"info.json points to {path}, outside of its folder: correct data_path and video_path")
    return path


def _short(camera: str) -> str:
    return camera.removeprefix(IMAGES)


# Writing


@dataclass
class _Written:
    """What has been written so far."""

    abouts: list[dict[str, Any]]
    columns: dict[str, list[Any]]
    rows: int = 0


def write_lerobot(folder: Path, episodes: Iterable[Episode], task: str = "swap the apple and the orange") -> int:
    """Write episodes into an empty folder, one in memory at a time; returns how many there were.

    Every episode needs the same cameras and sizes as the first, see `noiseladder.data.episodes.checked`; sides of
    pictures must be even, because the codec keeps colours for squares of four pixels.
    """
    written = _Written([], {})
    films: dict[str, _Film] = {}
    first: Episode | None = None
    try:
        for episode in episodes:
            if first is None:
                first = episode
                for camera, (height, width) in episode.sizes.items():
                    path = folder / VIDEO_PATH.format(video_key=IMAGES + camera, chunk_index=0, file_index=0)
                    films[camera] = _Film(path, episode.name, height, width, episode.rate or USUAL_RATE)
            _add(written, episode, first.rate or USUAL_RATE)
            for camera, film in films.items():
                film.add(episode.pictures[camera])
    finally:
        for film in films.values():
            film.close()
    if first is None:
        raise ValueError("there are no episodes to write: record some first")
    _write_tables(folder, written, task)
    _write_info(folder, written, first)
    return len(written.abouts)


class _Film:
    """One mp4 file being written."""

    def __init__(self, path: Path, name: str, height: int, width: int, rate: float) -> None:
        if height % 2 or width % 2:
            raise ValueError(f"{name}: pictures of {height}x{width} pixels cannot be mp4: make both sides even")
        self.av = need("av")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.container = self.av.open(str(path), "w")
        self.stream = self.container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, "yuv420p"
        self.stream.options = {"crf": QUALITY, "g": str(KEY_EVERY), "bf": "0"}

    def add(self, frames: NDArray[np.uint8]) -> None:
        """More pictures."""
        for frame in frames:
            picture = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            self.container.mux(self.stream.encode(picture))

    def close(self) -> None:
        """Write what is still in the encoder."""
        self.container.mux(self.stream.encode())
        self.container.close()


def _add(written: _Written, episode: Episode, rate: float) -> None:
    number, length = len(written.abouts), len(episode)
    about: dict[str, Any] = {
        "episode_index": number,
        "tasks": [],
        "length": length,
        "data/chunk_index": 0,
        "data/file_index": 0,
        "dataset_from_index": written.rows,
        "dataset_to_index": written.rows + length,
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
    }
    for camera in episode.pictures:
        key = f"videos/{IMAGES}{camera}"
        about.update({f"{key}/chunk_index": 0, f"{key}/file_index": 0})
        about[f"{key}/from_timestamp"] = written.rows / rate
        about[f"{key}/to_timestamp"] = (written.rows + length) / rate
    parts: dict[str, Any] = {
        ACTION: episode.actions,
        STATE: episode.state,
        "timestamp": (np.arange(length) / rate).astype(np.float32),
        "frame_index": np.arange(length),
        "episode_index": np.full(length, number),
        "index": np.arange(written.rows, written.rows + length),
        "task_index": np.zeros(length, dtype=np.int64),
    }
    for key, values in parts.items():
        written.columns.setdefault(key, []).append(values)
    for key, values in _statistics(episode).items():
        for what, found in values.items():
            about[f"stats/{key}/{what}"] = found
    written.abouts.append(about)
    written.rows += length


def _statistics(episode: Episode) -> dict[str, dict[str, list[Any]]]:
    """Smallest, largest, mean and deviation of each number; of pictures, of each colour in [0, 1]."""
    found: dict[str, dict[str, list[Any]]] = {}
    for key, rows in ((ACTION, episode.actions), (STATE, episode.state)):
        if rows.shape[1]:
            found[key] = {what: of(rows, axis=0).astype(float).tolist() for what, of in STATISTICS.items()}
            found[key]["count"] = [len(episode)]
    for camera, frames in episode.pictures.items():
        colours = frames.reshape(-1, 3) / 255.0
        found[IMAGES + camera] = {
            what: [[[float(value)]] for value in of(colours, axis=0)] for what, of in STATISTICS.items()
        }
        found[IMAGES + camera]["count"] = [len(episode)]
    return found


def _write_tables(folder: Path, written: _Written, task: str) -> None:
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    columns = {}
    for key, pieces in written.columns.items():
        values = np.concatenate(pieces)
        if values.ndim == 1:
            columns[key] = arrow.array(values)
        elif values.shape[1]:
            flat = arrow.array(values.astype(np.float32).ravel())
            columns[key] = arrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
    data = folder / DATA_PATH.format(chunk_index=0, file_index=0)
    data.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.table(columns), data)
    for about in written.abouts:
        about["tasks"] = [task]
    episodes = folder / EPISODES_PATH.format(chunk_index=0, file_index=0)
    episodes.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist(written.abouts), episodes)
    # LeRobot reads this file with pandas and takes the task from its index.
    columns_for_pandas = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_kind, "metadata": None}
        for name, kind, numpy_kind in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    about = {"index_columns": ["task"], "column_indexes": [], "columns": columns_for_pandas, "pandas_version": "2.2.0"}
    tasks = arrow.table({"task_index": [0], "task": [task]})
    parquet.write_table(tasks.replace_schema_metadata({"pandas": json.dumps(about)}), folder / "meta" / "tasks.parquet")


def _write_info(folder: Path, written: _Written, first: Episode) -> None:
    rate = first.rate or USUAL_RATE
    features: dict[str, Any] = {}
    for key, rows in ((ACTION, first.actions), (STATE, first.state)):
        if rows.shape[1]:
            features[key] = {"dtype": "float32", "shape": [rows.shape[1]], "names": None}
    for camera, (height, width) in first.sizes.items():
        features[IMAGES + camera] = {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height,
                "video.width": width,
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": rate,
                "video.channels": 3,
                "has_audio": False,
            },
        }
    for key, kind in (
        ("timestamp", "float32"),
        ("frame_index", "int64"),
        ("episode_index", "int64"),
        ("index", "int64"),
        ("task_index", "int64"),
    ):
        features[key] = {"dtype": kind, "shape": [1], "names": None}
    whole = int(rate) if float(rate).is_integer() else rate
    info = {
        "codebase_version": "v3.0",
        "robot_type": "ur5e",
        "total_episodes": len(written.abouts),
        "total_frames": written.rows,
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": whole,
        "splits": {"train": f"0:{len(written.abouts)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if first.pictures else None,
        "features": features,
    }
    meta = folder / "meta"
    (meta / "info.json").write_text(json.dumps(info, indent=4) + "\n", encoding="utf-8")
    (meta / "stats.json").write_text(json.dumps(_whole_statistics(written), indent=4) + "\n", encoding="utf-8")


def _whole_statistics(written: _Written) -> dict[str, dict[str, Any]]:
    """The statistics of all episodes, put together from those of each by their numbers of steps."""
    found: dict[str, dict[str, Any]] = {}
    keys = {key.split("/")[1] for about in written.abouts for key in about if key.startswith("stats/")}
    weights = np.array([about["length"] for about in written.abouts], dtype=float)
    weights /= weights.sum()
    for key in sorted(keys):
        parts = {
            what: np.array([about[f"stats/{key}/{what}"] for about in written.abouts], dtype=float)
            for what in STATISTICS
        }
        share = weights.reshape(-1, *[1] * (parts["mean"].ndim - 1))
        mean = (share * parts["mean"]).sum(0)
        spread = np.sqrt((share * (parts["std"] ** 2 + (parts["mean"] - mean) ** 2)).sum(0))
        found[key] = {
            "min": parts["min"].min(0).tolist(),
            "max": parts["max"].max(0).tolist(),
            "mean": mean.tolist(),
            "std": spread.tolist(),
            "count": [written.rows],
        }
    return found
