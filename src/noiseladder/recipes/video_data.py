"""What a video world is learned from, by name: Doom, bouncing shapes, or a store of clips of your own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noiseladder.training import generator_for
from noiseladder.training.cache_folder import cache_folder
from noiseladder.training.options import check_at_least
from noiseladder.video.bouncing import ACTIONS as PUSHES, BouncingWorld
from noiseladder.video.clip import Clip, one_hot
from noiseladder.video.collect import collect_doom, default_folder
from noiseladder.video.doom import DoomOptions, Map
from noiseladder.video.store import ClipStore, Description, shard_folder, sweep_shards, write_shard

DOOM, MAZES, BOUNCING, ALIKE = "doom", "doom-mazes", "bouncing", "bouncing-alike"
HELD_OUT = 0.1
CLIPS_A_SHARD = 20
WAIT = "wait"
LEAST_BOUNCING = 64  # pixels along the side of a frame


@dataclass(frozen=True, kw_only=True)
class VideoData:
    """Which clips; what both stages of a video world are asked for."""

    data: str = DOOM
    """doom (always the nine rooms of my-way-home), doom-mazes, bouncing, bouncing-alike (shapes of one size and speed),
    or the folder of a store of clips."""
    size: int = 64
    """Side of a frame in pixels."""
    episodes: int = 240
    """Walks to record, where the data are recorded."""
    episode_frames: int = 500
    """Frames of one of them."""

    def __post_init__(self) -> None:
        check_at_least(self, episodes=1, episode_frames=2)

    @property
    def recorded(self) -> bool:
        """Whether the clips are recorded, and the same whenever they are."""
        return self.data in (DOOM, MAZES, BOUNCING, ALIKE)

    def store(self) -> ClipStore:
        """All clips, recorded now where they are not there yet. Raises ValueError for what cannot be learned from."""
        if self.data in (DOOM, MAZES):
            return doom_walks(self)
        if self.data in (BOUNCING, ALIKE):
            return bouncing_clips(self)
        folder = Path(self.data)
        if not folder.is_dir():
            raise ValueError(
                f"there is no data {self.data!r}: expected {DOOM}, {MAZES}, {BOUNCING}, {ALIKE}, or the folder of a"
                " store of clips, which `noiseladder data collect video` makes of your own videos"
            )
        store = ClipStore.open(folder)
        if store.description.size != (self.size, self.size):
            height, width = store.description.size
            raise ValueError(
                f"the clips in {folder} are {width}x{height}, expected {self.size}x{self.size}: use --size {width}, or"
                f" collect them again with --size {self.size}"
            )
        return store

    def split(self) -> tuple[ClipStore, ClipStore]:
        """For training and held out: the last tenth of the shards, recorded from other seeds."""
        return self.store().split(HELD_OUT)


def doom_walks(data: VideoData) -> ClipStore:
    """Walks in Doom from the cache; what is missing is recorded now."""
    place = Map.MY_WAY_HOME if data.data == DOOM else Map.MAZES
    options = DoomOptions(place, data.size, data.episode_frames)
    folder = default_folder(options)
    for progress in collect_doom(folder, options, data.episodes):
        if progress.new_frames:
            print(f"recording walks: shard {progress.shards_done}/{progress.shards}", file=sys.stderr)
    store = ClipStore.open(folder)
    return ClipStore(store.description, store.shards[: -(-data.episodes // 4)])


def bouncing_world(data: VideoData) -> BouncingWorld:
    """The world of shapes that `data` names."""
    return BouncingWorld.alike(data.size) if data.data == ALIKE else BouncingWorld(size=data.size)


def bouncing_clips(data: VideoData) -> ClipStore:
    """Clips of the bouncing world from the cache; a clip depends on its number alone."""
    if data.size < LEAST_BOUNCING:
        raise ValueError(f"--size is {data.size}, expected at least {LEAST_BOUNCING} pixels for three shapes and a bar")
    world = bouncing_world(data)
    made_by = {"world": BOUNCING, "frames": data.episode_frames, **asdict(world)}
    made_by |= {name: list(value) for name, value in made_by.items() if isinstance(value, tuple)}
    description = Description((data.size, data.size), PUSHES, None, made_by)
    folder = cache_folder() / "video" / f"{BOUNCING}-{data.size}-{description.key}"
    description.write(folder)
    sweep_shards(folder)
    shards = -(-data.episodes // CLIPS_A_SHARD)
    for shard in range(shards):
        if not (shard_folder(folder, shard) / "shard.json").is_file():
            write_shard(folder, shard, list(bounce(world, shard, data.episode_frames)))
    store = ClipStore.open(folder)
    return ClipStore(store.description, store.shards[:shards])


def bounce(world: BouncingWorld, shard: int, frames: int) -> Iterator[Clip]:
    """The clips of a shard."""
    played = world.play(CLIPS_A_SHARD, frames, generator_for(0, "bouncing clips", shard))
    for shown, actions in zip(played.frames.numpy(), played.actions.numpy()):
        yield Clip(shown, one_hot(np.asarray(actions), len(PUSHES)))


def actions_of(description: Description) -> tuple[tuple[str, ...], Tensor]:
    """Names and conditions (A, C) of all that can be done: what the columns say, and waiting where that was done."""
    names, rows = description.action_names, torch.eye(len(description.action_names))
    if description.made_by.get("world") == BOUNCING:
        return (*names, WAIT), torch.cat([rows, torch.zeros(1, len(names))])
    return names, rows
