"""`noiseladder evaluate RUN`: hold a learned world against real walks that it never saw."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import Parameter
from torch import Generator

from noiseladder.training.durable import check_writable, replace_text
from noiseladder.video.clip import Clip
from noiseladder.video.evaluation import (
    Dreamer,
    Endurance,
    endurance,
    long_dream,
    pieces,
    predict,
)
from noiseladder.video.metrics import block_statistics, revisits
from noiseladder.video.world_model import Dreaming

from .real_walks import have_real_walks, real_walks
from .trained_world import TrainedWorld, load

SHOWN = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Evaluate:
    """Measure a learned world."""

    run: str = "doom"
    """The folder of a `noiseladder train video`, or the name of a world that ships."""
    _: KW_ONLY
    walks: int = 4
    """Real walks to record and compare with."""
    walk_frames: int = 1500
    """Frames of each."""
    predictions: int = 64
    """Pieces of them whose next frames are predicted."""
    context: int = 32
    """Real frames before what is predicted."""
    block: int = 250
    """Frames in a block, for drift."""
    steps: int | None = None
    """Denoising calls for a frame; without it 2, and 1 for a distilled world."""
    stabilization: float = Dreaming.stabilization
    """The noise level at which dreamt frames are remembered."""
    history: float = Dreaming.history
    """How strongly the past speaks; 1 as it was learned."""
    bend: float = Dreaming.bend
    """How the levels of a frame fall: 1 evenly, above 1 fast at first."""
    seed: int = 0
    """Of the walks and of all noise."""
    json: Path | None = None
    """Where to keep the figures, too."""


def evaluate(options: Annotated[Evaluate, Parameter(name="*")] = Evaluate()) -> None:
    """Print a table: what is measured, the dream, and what real frames get in its place."""
    if options.json is not None:
        check_writable(options.json)
    world = load(options.run)
    calls = world.dreaming.steps if options.steps is None else options.steps
    dreaming = Dreaming(calls, options.stabilization, options.history, options.bend)
    if not have_real_walks(world.recipe):
        raise ImportError(
            "there are no real walks without the world that was learned: pip install 'noiseladder[video]'"
        )
    walks = real_walks(world.recipe, options.walk_frames, options.walks, options.seed)
    figures = measure(world, walks, dreaming, options)
    print(f"{'':28} {'dream':>10} {'real':>10}")
    for name, (dream, real) in figures.items():
        print(f"{name:28} {dream:10.3f} {real:10.3f}")
    if options.json is not None:
        values = {name: {"dream": dream, "real": real} for name, (dream, real) in figures.items()}
        replace_text(options.json, json.dumps(values, indent=2) + "\n")


def measure(
    world: TrainedWorld, walks: list[Clip], dreaming: Dreaming, options: Evaluate
) -> dict[str, tuple[float, float]]:
    """Name -> (figure of the dream, the same figure of real frames or of frames that the codec rebuilds)."""
    dreamer = Dreamer(world.sampler, world.codec, dreaming)
    found: dict[str, tuple[float, float]] = {}
    horizon = SHOWN[-1]
    parts = pieces(walks, options.context + horizon, options.predictions)
    ahead = predict(dreamer, parts, options.context, horizon, options.seed)
    mean = predict(Dreamer(world.denoiser, world.codec, replace(dreaming, steps=1)), parts, options.context, horizon)
    for name, figures in (("gain over copying, dB", ahead), ("the same of a mean, dB", mean)):
        for step in SHOWN:
            found[f"{name}, h={step}"] = (figures.gain[step - 1].item(), figures.ceiling[step - 1].item())
    found["sharpness at h=16"] = (ahead.sharpness[-1].item(), 1.0)
    longest = max(walks, key=len)
    dream = long_dream(dreamer, longest, options.context, options.seed)
    after = longest[options.context :]
    others = [walk for walk in walks if walk is not longest]
    if others and min(len(walk) for walk in [after, *others]) >= 2 * options.block:
        lasting = hold(dream, after, others, options.block)
        found["drift of blocks"] = (lasting.drift, lasting.floor)
    if after.poses is not None:
        poses = torch.from_numpy(after.poses)
        try:
            again, truly = (
                revisits(frames, poses, Generator().manual_seed(options.seed))
                for frames in (dream, torch.from_numpy(after.frames))
            )
            found["revisits, error over random"] = (again.ratio, truly.ratio)
        except ValueError:
            pass  # a short walk that never comes back
    return found


def hold(dream: torch.Tensor, walk: Clip, others: list[Clip], block: int) -> Endurance:
    """Blocks of a dream and of the walk it followed against blocks of other walks."""
    known = torch.cat([torch.from_numpy(other.frames[: len(other) // block * block]) for other in others])
    return endurance(
        block_statistics(dream, block),
        block_statistics(torch.from_numpy(walk.frames), block),
        block_statistics(known, block),
    )
