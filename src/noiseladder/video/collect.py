"""Collecting: processes record shards side by side; one that dies is tried again, and a killed collection goes on."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .doom import RATE, WHOLE, DoomOptions, check_installed
from .doom_explorer import ACTIONS
from .store import ClipStore, Description, commit_shard, partial_folder, shard_folder, sweep_shards

EPISODES_A_SHARD = 4
ATTEMPTS = 3
SILENCE = 120.0  # seconds without a clip after which a recorder is taken for dead


@dataclass(frozen=True)
class Collected:
    """How far a collection is.

    frames: recorded or found so far; new_frames: those of this call; seconds: since it began.
    """

    shards_done: int
    shards: int
    frames: int
    new_frames: int
    seconds: float


def description_of(options: DoomOptions) -> Description:
    """What a store of Doom walks says about itself."""
    return Description((options.size, options.size), ACTIONS, RATE, {"world": "doom", **options.describe()})


def default_folder(options: DoomOptions) -> Path:
    """In the user's cache, a folder of its own for each set of options: $NOISELADDER_CACHE, or ~/.cache/noiseladder."""
    cache = os.environ.get("NOISELADDER_CACHE")
    root = Path(cache) if cache else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "noiseladder"
    return root / "video" / f"doom-{options.map.value}-{options.size}-{description_of(options).key}"


def collect_doom(
    folder: Path, options: DoomOptions, episodes: int, processes: int | None = None
) -> Iterator[Collected]:
    """Fill the store in `folder` with the episodes 0 to `episodes` - 1, yielding progress; shards that are there stay.

    Episodes are recorded in shards of four, by `processes` (default: one a core) at a time, so the store may hold up
    to three more. The frames depend on the options and the number of the episode alone, not on the processes.
    Raises ImportError without VizDoom, ValueError for a folder with something else, OSError when the engine fails
    three times on the same shard.
    """
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}, expected at least 1")
    check_installed()
    processes = processes or max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    description_of(options).write(folder)
    sweep_shards(folder)
    shards = -(-episodes // EPISODES_A_SHARD)
    waiting = deque(number for number in range(shards) if not (shard_folder(folder, number) / "shard.json").is_file())
    found = sum(
        int(json.loads((shard_folder(folder, number) / "shard.json").read_text())["frames"])
        for number in range(shards)
        if number not in waiting
    )
    done, new, began = shards - len(waiting), 0, time.monotonic()
    attempts = dict.fromkeys(waiting, 0)
    running: set[_Recorder] = set()
    yield (last := Collected(done, shards, found, 0, 0.0))
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running.add(_Recorder(folder, options, waiting.popleft()))
            _wait(running)
            for recorder in [recorder for recorder in running if recorder.ended()]:
                running.discard(recorder)
                if recorder.whole:
                    new += commit_shard(folder, recorder.number, recorder.partial)
                    done += 1
                else:
                    waiting.appendleft(recorder.number)
                attempts[recorder.number] += 1
                words = recorder.last_words()
                recorder.close()
                if not recorder.whole and attempts[recorder.number] >= ATTEMPTS:
                    raise OSError(f"Doom failed {ATTEMPTS} times on shard {recorder.number}: {words}")
            now = Collected(done, shards, found + new + sum(r.frames for r in running), new, time.monotonic() - began)
            if (now.shards_done, now.frames) != (last.shards_done, last.frames):
                yield (last := now)
    finally:
        for recorder in running:
            recorder.close()


def doom_store(folder: Path, options: DoomOptions, episodes: int) -> ClipStore:
    """The store in `folder` with at least these episodes, recorded now if they are not there."""
    for _ in collect_doom(folder, options, episodes):
        pass
    return ClipStore.open(folder)


class _Recorder:
    """One process that records one shard, in a working folder of its own."""

    def __init__(self, folder: Path, options: DoomOptions, number: int) -> None:
        self.number, self.frames, self.heard = number, 0, time.monotonic()
        self.speaks = True
        self.whole = False  # every clip is on disk; the engine may die after that
        self.partial = partial_folder(folder, number).absolute()
        self.work = Path(tempfile.mkdtemp(prefix="noiseladder-doom-"))
        first = number * EPISODES_A_SHARD
        job = {
            "options": options.describe(),
            "episodes": list(range(first, first + EPISODES_A_SHARD)),
            "target": str(self.partial),
        }
        (self.work / "job.json").write_text(json.dumps(job))
        self.errors = (self.work / "errors.txt").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "noiseladder.video.doom", "job.json"],
            cwd=self.work,
            # The work folder is not where our package is, should it not be installed.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(_search_path()), "OMP_NUM_THREADS": "1"},
            bufsize=0,  # or lines could wait in a buffer that no selector sees
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            start_new_session=True,  # so that the engine, a process of the recorder, ends with it
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout

    def hear(self) -> None:
        """Read a line, if there is one."""
        said = self.output.readline()
        self.speaks = bool(said)
        line = said.strip()
        if line.isdigit():
            self.frames, self.heard = int(line), time.monotonic()
        elif line == WHOLE.encode():
            self.whole = True

    def ended(self) -> bool:
        if self.process.poll() is None and time.monotonic() - self.heard > SILENCE:
            self._kill()
        if self.process.poll() is None:
            return False
        self._kill()  # an engine left alone would hold our pipe open
        while self.speaks:  # what it said last may not have been read yet
            self.hear()
        return True

    def last_words(self) -> str:
        words = (self.work / "errors.txt").read_text(errors="replace").strip().splitlines()
        return words[-1] if words else f"it ended with status {self.process.returncode}"

    def close(self) -> None:
        self._kill()
        self.output.close()
        self.errors.close()
        shutil.rmtree(self.partial, ignore_errors=True)
        shutil.rmtree(self.work, ignore_errors=True)

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _wait(running: set[_Recorder]) -> None:
    """Until one of them says something or a second has gone by."""
    if not all(recorder.speaks for recorder in running):
        time.sleep(0.02)  # one is about to end
    with selectors.DefaultSelector() as selector:
        for recorder in running:
            if recorder.speaks:
                selector.register(recorder.output, selectors.EVENT_READ, recorder)
        for key, _ in selector.select(timeout=1.0) if selector.get_map() else ():
            key.data.hear()


def _search_path() -> list[str]:
    """Where a recorder finds this package, should it not be installed, and what the user's own path adds."""
    mine = str(Path(__file__).resolve().parents[2])
    return [mine, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
