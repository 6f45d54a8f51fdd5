"""`noiseladder dream RUN`: walk in a learned world, beside the real one where it is there, and keep the film."""

from __future__ import annotations

import sys
import time
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cyclopts import Parameter

from noiseladder.training import check_seed
from noiseladder.training.durable import check_writable, replace_file
from noiseladder.video.beginnings import numbers_of
from noiseladder.video.clip import Clip, Frames
from noiseladder.video.world_model import Dreaming

from .real_walks import have_real_walks, idle_actions, long_walk
from .trained_world import TrainedWorld, load

CONTEXT = 16
MOST = 100_000  # frames, which are a gigabyte of 64x64
LARGEST = 32  # a frame of 64x64 then fills a screen
DEFAULT_RATE = 12.0


@dataclass(frozen=True)
class Dream:
    """A dream of a learned world."""

    run: str = "doom"
    """The folder of a `noiseladder train video`, or the name of a world that ships."""
    _: KW_ONLY
    frames: int = 500
    """Frames to dream."""
    gif: Path | None = None
    """Where to keep the film, a .gif: real on the left and dreamt on the right, where both are there."""
    strip: Path | None = None
    """Where to keep some of the frames in a row, a .png."""
    steps: int | None = None
    """Denoising calls for a frame; without it as the world learned to: 2, or 1."""
    stabilization: float = Dreaming.stabilization
    """The noise level at which dreamt frames are remembered."""
    history: float = Dreaming.history
    """How strongly the past speaks; 1 as it was learned."""
    bend: float = Dreaming.bend
    """How the levels of a frame fall: 1 evenly, above 1 fast at first."""
    real: bool = True
    """Follow a real walk, which is recorded now, and show both: the seed's first that is long enough; without, walk
    about from a kept beginning."""
    scale: int = 2
    """Pixels of the film for a pixel of a frame."""
    seed: int = 0
    """Of the walk and of all noise."""


def dream(options: Annotated[Dream, Parameter(name="*")] = Dream()) -> None:
    """Dream, and say how fast."""
    if options.frames < 1 or options.scale < 1:
        raise ValueError(f"--frames is {options.frames}, --scale {options.scale}: expected at least 1 of both")
    if options.scale > LARGEST:
        raise ValueError(f"--scale is {options.scale}, expected at most {LARGEST}: pixels of a film for one of a frame")
    if options.frames > MOST:
        raise ValueError(f"--frames is {options.frames}, expected at most {MOST}: all frames are kept in memory")
    check_seed(options.seed)
    for path, suffix in ((options.gif, ".gif"), (options.strip, ".png")):
        if path is not None and path.suffix.lower() != suffix:
            raise ValueError(f"{path} does not end in {suffix}: give it a name that does")
        if path is not None:
            check_writable(path)
    torch.set_num_threads(1)  # a frame at a time: more threads only wait for each other
    world = load(options.run)
    calls = world.dreaming.steps if options.steps is None else options.steps
    dreaming = Dreaming(calls, options.stabilization, options.history, options.bend)
    walk = followed(world, options)
    model = world.model(dreaming)
    if walk is None:
        frames, led = world.beginnings[options.seed]
        plan = idle_actions(options.frames, len(model.actions), options.seed)
    else:
        led = numbers_of(torch.from_numpy(np.asarray(walk.actions, np.float32)), world.beginnings.rows).tolist()
        frames, led, plan = walk.frames[:CONTEXT], led[:CONTEXT], led[CONTEXT:]
    model.reset(frames, led, options.seed)
    start = time.perf_counter()
    shown = [model.step(action) for action in plan]
    seconds = time.perf_counter() - start
    print(
        f"{len(shown)} frames of {model.size}x{model.size} in {seconds:.1f} s, {len(shown) / seconds:.0f} frames/s with"
        f" {calls} call{'s' * (calls > 1)} a frame"
    )
    dreamt = np.stack(shown)
    beside = None if walk is None else walk.frames[CONTEXT : CONTEXT + len(dreamt)]
    if options.gif is not None:
        write_film(options.gif, dreamt, beside, options.scale, world.beginnings.rate or DEFAULT_RATE)
        print(f"{options.gif}: {'dreamt' if beside is None else 'real on the left, dreamt on the right'}")
    if options.strip is not None:
        write_strip(options.strip, dreamt, beside, options.scale)
        print(f"{options.strip}: {'dreamt' if beside is None else 'real above, dreamt below'}")


def followed(world: TrainedWorld, options: Dream) -> Clip | None:
    """A real walk to dream along, or None with a line that says why not."""
    if not options.real:
        return None
    if not have_real_walks(world.recipe):
        print("the real world is not installed here, so the dream walks about by itself", file=sys.stderr)
        return None
    number, walk = long_walk(world.recipe, CONTEXT + options.frames, options.seed)
    left = len(walk) - CONTEXT
    if left <= 0:
        raise ValueError(f"the real walk ended after {len(walk)} frames: choose another --seed")
    if number:
        print(f"walk {number} of seed {options.seed} is followed: those before it ended earlier", file=sys.stderr)
    if left < options.frames:
        print(
            f"the real walk reached its end: {left} frames are dreamt and not {options.frames}; another --seed may walk"
            " longer, --no-real goes on without it",
            file=sys.stderr,
        )
    return walk


def side_by_side(dreamt: Frames, real: Frames | None) -> Frames:
    """Films (T, H, W, 3) next to each other with a white line between them."""
    if real is None:
        return dreamt
    line = np.full((len(dreamt), dreamt.shape[1], 2, 3), 255, np.uint8)
    film: Frames = np.concatenate([real, line, dreamt], axis=2)
    return film


def write_film(path: Path, dreamt: Frames, real: Frames | None, scale: int, rate: float) -> None:
    """A GIF that runs for ever, at `rate` frames a second."""
    from PIL import Image

    film = side_by_side(dreamt, real).repeat(scale, axis=1).repeat(scale, axis=2)
    pages = [Image.fromarray(frame).quantize(64, dither=Image.Dither.NONE) for frame in film]

    def write(partial: Path) -> None:
        pages[0].save(
            partial, format="gif", save_all=True, append_images=pages[1:], duration=round(1000 / rate), loop=0
        )

    replace_file(path, write)


def write_strip(path: Path, dreamt: Frames, real: Frames | None, scale: int, count: int = 12) -> None:
    """A PNG of `count` frames at even distances."""
    from PIL import Image

    places = np.linspace(0, len(dreamt) - 1, min(count, len(dreamt))).round().astype(int)
    rows = [np.concatenate(list(film[places]), axis=1) for film in (real, dreamt) if film is not None]
    picture = Image.fromarray(np.concatenate(rows).repeat(scale, axis=0).repeat(scale, axis=1))
    replace_file(path, lambda partial: picture.save(partial, format="png"))
