"""Real walks to hold a dream against: recorded from seeds that no training saw, in the world that a run is about."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from noiseladder.training import check_seed, generator_for
from noiseladder.video.bouncing import ACTIONS as PUSHES
from noiseladder.video.clip import Clip, one_hot
from noiseladder.video.collect import doom_store
from noiseladder.video.doom import DoomOptions, Map

from .video import Video
from .video_data import ALIKE, BOUNCING, DOOM, MAZES, bouncing_world

UNSEEN = 1_000_003
"""Added to seeds, so that no walk here is one that was trained on."""
TRIED = 8
"""Walks in which a long one is looked for."""


def real_walks(recipe: Video, frames: int, count: int, seed: int) -> list[Clip]:
    """Up to `count` walks of at most `frames` frames with poses where there are any; a walk that ends early is shorter.

    Raises ValueError for what is no seed and where there is no such world any more, ImportError without the engine.
    """
    check_seed(seed)  # below 0 one could undo UNSEEN
    if recipe.data in (DOOM, MAZES):
        with tempfile.TemporaryDirectory(prefix="noiseladder-walks-") as folder:
            store = doom_store(Path(folder) / "walks", doom_options(recipe, frames, seed), count)
            return [in_memory(store[number]) for number in range(count)]
    if recipe.data in (BOUNCING, ALIKE):
        world = bouncing_world(recipe)
        walks = []
        for number in range(count):
            played = world.play(1, frames, generator_for(UNSEEN + seed, "unseen clips", number))
            pushes = one_hot(np.asarray(played.actions[0].numpy()), len(PUSHES))
            walks.append(Clip(played.frames[0].numpy(), pushes))
        return walks
    _, held_out = recipe.split()
    longest = sorted(range(len(held_out)), key=lambda number: -int(held_out.lengths[number]))[:count]
    return [held_out[number][:frames] for number in longest]


def long_walk(recipe: Video, frames: int, seed: int) -> tuple[int, Clip]:
    """The first real walk of a seed that is `frames` long, and its number; the longest of TRIED where there is none.

    In Doom some walks end early, as somebody touches the armour. Raises what `real_walks` raises.
    """
    check_seed(seed)
    if recipe.data not in (DOOM, MAZES):
        return 0, real_walks(recipe, frames, 1, seed)[0]
    options = doom_options(recipe, frames, seed)
    with tempfile.TemporaryDirectory(prefix="noiseladder-walks-") as folder:

        def recorded() -> Iterator[Clip]:
            for number in range(TRIED):
                # Walks are recorded in shards, and those that are there stay: most of these calls record nothing.
                yield doom_store(Path(folder) / "walks", options, number + 1)[number]

        number, walk = first_long(recorded(), frames)
        return number, in_memory(walk)


def first_long(walks: Iterable[Clip], frames: int) -> tuple[int, Clip]:
    """The number of the first walk that has so many frames, and that walk; no other is asked for after it.

    Where there is none it is the longest, and of several the first.
    """
    seen: list[Clip] = []
    for walk in walks:
        seen.append(walk)
        if len(walk) >= frames:
            break
    return max(enumerate(seen), key=lambda walk: len(walk[1]))


def doom_options(recipe: Video, frames: int, seed: int) -> DoomOptions:
    """What is recorded for a run in Doom."""
    place = Map.MY_WAY_HOME if recipe.data == DOOM else Map.MAZES
    return DoomOptions(place, recipe.size, frames, UNSEEN + seed)


def in_memory(clip: Clip) -> Clip:
    """A clip whose frames are no longer in a file."""
    return Clip(clip.frames.copy(), clip.actions, clip.poses)


def have_real_walks(recipe: Video) -> bool:
    """Whether the world of a run is there to be recorded."""
    if recipe.data in (DOOM, MAZES):
        return find_spec("vizdoom") is not None
    return recipe.data in (BOUNCING, ALIKE) or Path(recipe.data).is_dir()


def idle_actions(count: int, actions: int, seed: int) -> list[int]:
    """What somebody does who looks around without a plan: the same thing for a while, then another."""
    generator = torch.Generator().manual_seed(seed)
    done: list[int] = []
    while len(done) < count:
        which, often = (int(torch.randint(n, (), generator=generator)) for n in (actions, 12))
        done += [which] * (1 + often)
    return done[:count]
