"""Imitation with memory: the fruit swap lived with much and little memory, with trouble, and from dreams; two routes.

    .venv/bin/python benchmarks/imitation.py [--quick] [--model swap] [--only success knocked ...] [--keep FILE]
        [--rivals RUN ...]

Claims: with its memory the policy swaps the fruits, without it it cannot, and its ceiling then is that of a script
which sees the picture and draws the hidden phase; a camera that is covered costs little when it is read at a higher
level; what is imagined from the first frame is what the simulator does when it obeys. Episodes are of seeds 100000 and
up, which nobody looked at while developing; disturbances are drawn from the ranges of `imitation/disturbances.py` by
the episode's seed. The model ships with the package (or is a run folder of `noiseladder train swap`). --keep writes
every finished row to a file and reads it back, so that a run of an hour can be interrupted. Needs the extra imitation.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from noiseladder.imitation.demonstrations import live
from noiseladder.imitation.demonstrator import guess
from noiseladder.imitation.disturbances import Blackout, Distractor, Disturbance, Hand, Jolts, Knock, Noise
from noiseladder.imitation.dreaming import ReadPlaces, dream, replay
from noiseladder.imitation.dynamics import foresee, infer_actions
from noiseladder.imitation.fruit_swap import STEPS_PER_SECOND, FruitSwap
from noiseladder.imitation.policy import Level, Policy
from noiseladder.imitation.policy_evaluation import (
    Believe,
    DoubtTheBlind,
    believe_all,
    believe_unsurprised,
    live_with,
    share,
)
from noiseladder.imitation.policy_knowledge import PolicyKnowledge
from noiseladder.imitation.suspicion import LIMITS, Suspicion
from noiseladder.imitation.two_routes import sail
from noiseladder.recipes import routes
from noiseladder.recipes.run_folders import WEIGHTS, find_run
from noiseladder.recipes.trained_swap import STEPS, load_policy, shipped
from noiseladder.training import seeded, train
from noiseladder.training.durable import replace_text
from noiseladder.training.run import read_recipe_file

FIRST_SEED = 100_000
MEMORIES = (1, 2, 4, 8, 16)
LEVELS = (0.1, 0.25, 0.5, 0.75)
SAMPLED = 6  # denoising steps where one of what may be done is wanted instead of the mean
Row = dict[str, Any]
"""What is kept of a row: successes, of, steps, seconds of deciding."""


@dataclass
class Run:
    """What is asked for, and the figures found so far."""

    quick: bool
    many: int
    some: int
    model: str
    keep: Path | None
    rivals: tuple[str, ...] = ()
    rows: dict[str, Row] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)

    def row(self, name: str, count: int, make: Callable[[], Row]) -> Row:
        """A row that was found before, or is found now and kept."""
        key = f"{name} of {count}"
        if key not in self.rows:
            self.rows[key] = make()
            if self.keep is not None:
                replace_text(self.keep, json.dumps({"model": self.digest, "rows": self.rows}, indent=1) + "\n")
        return self.rows[key]

    @property
    def folder(self) -> Path:
        """Of the model."""
        return find_run(self.model, shipped(), "swap")

    @property
    def digest(self) -> str:
        """Of the weights, so that rows of another model are not taken for these."""
        return hashlib.sha256((self.folder / WEIGHTS).read_bytes()).hexdigest()[:16]

    def put(self, **found: float) -> None:
        """Figures for the last line; what is not a number is left out."""
        self.figures.update({name: round(value, 4) for name, value in found.items() if math.isfinite(value)})


def told(row: Row) -> str:
    """A line of the table."""
    found, low, high = share(row["successes"], row["of"])
    steps = f"{row['steps'] / row['of']:5.0f}" if "steps" in row else ""
    return f"{found:6.1%}  [{low:5.1%}, {high:5.1%}]  {row['of']:4d}  {steps}"


def show(run: Run, key: str, title: str, row: Row) -> None:
    """Print a row and keep its figure."""
    print(f"{title:<66} {told(row)}", flush=True)
    run.put(**{key: row["successes"] / row["of"]})


@dataclass(frozen=True)
class DoubtWhile:
    """A camera is read at `level` while something is in front of it."""

    spell: Hand
    level: float

    def __call__(self, step: int) -> Level:
        return {self.spell.camera: self.level} if self.spell.during(step) else 0.0


def lived(
    world: FruitSwap,
    policy: Policy,
    count: int,
    wrong: Callable[[int], Sequence[Disturbance]] = lambda seed: (),
    believe: Callable[[Sequence[Disturbance]], Believe] = lambda wrong: believe_all,
    memory: int | None = None,
) -> Row:
    """Live `count` episodes."""
    row: Row = {"successes": 0, "of": count, "steps": 0, "seconds": 0.0, "failed": []}
    policy.episodes_before = 0
    for number in range(count):
        seed = FIRST_SEED + number
        disturbances = tuple(wrong(seed))
        episode = live_with(world, policy, seed, disturbances, believe(disturbances), memory)
        row["successes"] += episode.success
        row["steps"] += episode.steps
        row["seconds"] += episode.seconds
        if not episode.success:
            row["failed"].append([seed, *episode.moves])
    return row


def scripted(count: int, patience: int | None) -> Row:
    """The script without memory: it sees where all is and draws the hidden phase at random."""
    world = FruitSwap(pictures=False)
    row: Row = {"successes": 0, "of": count, "steps": 0}
    for number in range(count):
        seed = FIRST_SEED + number
        world.reset(seed)
        for action in guess(world, seed, patience):
            world.step(action)
            if world.over:
                break
        row["successes"] += world.succeeded
        row["steps"] += world.steps
    return row


def dreamt(world: FruitSwap, policy: Policy, count: int) -> Row:
    """Imagine whole episodes, let the simulator obey, and compare where the fruits are in the end."""
    read = ReadPlaces.learn(world, policy)
    row: Row = {"successes": 0, "of": count, "imagined swapped": 0, "replayed swapped": 0}
    policy.episodes_before = 0
    for number in range(count):
        found = dream(world, policy, FIRST_SEED + number)
        after, imagined = replay(world, found), read(found.seen)
        row["successes"] += imagined == after.places
        row["imagined swapped"] += imagined == (world.slots[1], world.slots[0])
        row["replayed swapped"] += after.swapped
    return row


def understood(world: FruitSwap, policy: Policy, count: int) -> dict[str, float]:
    """How well the next look is foretold from true deeds, and deeds from two looks, in demonstrations nobody learned.

    Root mean squares. foreseen, copied: errors of the next look, in usual deviations, and of the last look in its
    place. expected, inferred: errors, in centimetres, of where six steps lead the hand, before the next look and after.
    """
    tokens = policy.knowledge.tokens
    squares: dict[str, list[float]] = {"foreseen": [], "copied": [], "expected": [], "inferred": []}
    scale = tokens.scale[: tokens.seen_size]
    for number in range(count):
        trace = PolicyKnowledge.trace(live(world, FIRST_SEED + number), policy.knowledge.eyes)
        policy.reset()
        for step in range(0, len(trace.actions) - tokens.chunk, tokens.chunk):
            before, after = (
                {name: v[at : at + 1] for name, v in trace.seen.items()} for at in (step, step + tokens.chunk)
            )
            done = trace.actions[None, step : step + tokens.chunk]
            told = foresee(policy, before, done)
            for name, look in (("foreseen", told), ("copied", before)):
                apart = torch.cat([after[sense] - look[sense] for sense in tokens.senses], dim=-1) / scale
                squares[name].append(apart.square().mean().item())
            led = done[0, :, :3].sum(0)
            found = infer_actions(policy, before, after)
            squares["expected"].append((100 * (found.expected[:, :3].sum(0) - led)).square().sum().item())
            squares["inferred"].append((100 * (found.mean[:, :3].sum(0) - led)).square().sum().item())
            policy.watch(before, done)
    return {name: math.sqrt(sum(found) / len(found)) for name, found in squares.items()}


def crashes(cloning: bool, steps: int, boats: int) -> Row:
    """Train the two routes and count who runs aground."""
    options = routes.Routes(cloning=cloning, steps=steps, threads=1, validate_every=steps)
    began = time.process_time()
    with seeded(options.seed, "weights"):
        made = routes.experiment(options)
    for _ in train(made, options):
        pass
    spent = time.process_time() - began
    paths = routes.voyages(routes.policy_of(made.denoiser, options), boats, 1)
    aground, arrived = sail(routes.COURSE, paths)
    left = int((paths[:, 20:28, 1].mean(1) > 0).sum())
    return {
        "successes": int(aground.sum()), "of": boats, "arrived": int(arrived.sum()), "left": left, "training": spent,
    }  # fmt: skip


def sections(run: Run) -> dict[str, Callable[[], None]]:
    """Name -> what prints that part of the table."""
    world = FruitSwap(64)
    policy = load_policy(run.model)
    many, some = run.many, run.some
    suspicion = partial(believe_unsurprised, Suspicion(LIMITS))

    def live(key: str, title: str, count: int, **options: Any) -> None:
        show(run, key, title, run.row(key, count, lambda: lived(world, policy, count, **options)))

    def success() -> None:
        live("success", "full memory", many)
        row = run.row("success", many, dict)
        run.put(hz=row["steps"] / row["seconds"], decisions_per_second=_decisions(policy, row))
        print(f"{'':<66} {row['steps'] / row['seconds']:.0f} steps a second of deciding (the arm takes"
              f" {STEPS_PER_SECOND})")  # fmt: skip

    def sampled() -> None:
        sampling = load_policy(run.model, SAMPLED)
        row = run.row("success_sampled", some, lambda: lived(world, sampling, some))
        show(run, "success_sampled", f"full memory, sampled in {SAMPLED} steps instead of the mean", row)

    def memory() -> None:
        for length in MEMORIES:
            live(f"success_memory_{length}", f"memory of {length} tokens", some, memory=length)

    def memoryless() -> None:
        sampling = load_policy(run.model, SAMPLED)
        title = f"no memory, same weights, sampled in {SAMPLED} steps"
        row = run.row("success_memoryless", some, lambda: lived(world, sampling, some, memory=0))
        show(run, "success_memoryless", title, row)
        live("success_memoryless_mean", "no memory, same weights, the mean", some, memory=0)
        chunk = policy.knowledge.tokens.chunk
        for key, patience, title in (
            ("memoryless_ceiling", chunk, f"script without memory, draws the phase anew every {chunk} steps"),
            ("memoryless_ceiling_kind", None, "script without memory, finishes every move that it begins"),
        ):
            show(run, key, title, run.row(key, many, partial(scripted, many, patience)))

    def occluded() -> None:
        wrong = lambda seed: (Blackout.drawn(seed),)  # noqa: E731

        def at(level: float) -> Callable[[Sequence[Disturbance]], Believe]:
            return lambda made: DoubtTheBlind(made[0], level)  # type: ignore[arg-type]

        live("success_occluded", "camera black for 2 to 5 s, read at level 1", many, wrong=wrong, believe=at(1.0))
        live("success_occluded_surprise", "the same, at the level that its surprise asks for", some,
             wrong=wrong, believe=lambda made: suspicion)  # fmt: skip
        live("success_occluded_trusted", "the same, believed", some, wrong=wrong)

    def trust() -> None:
        wrong = lambda seed: (Blackout.drawn(seed),)  # noqa: E731

        def at(level: float) -> Callable[[Sequence[Disturbance]], Believe]:
            return lambda made: DoubtTheBlind(made[0], level)  # type: ignore[arg-type]

        for level in LEVELS:
            live(
                f"success_occluded_{level:g}",
                f"the same, read at level {level:g}",
                some,
                wrong=wrong,
                believe=at(level),
            )

    def surprise() -> None:
        live("success_surprise", "nothing wrong, levels by surprise", some, believe=lambda made: suspicion)

    def hand() -> None:
        wrong = lambda seed: (Hand.drawn(seed),)  # noqa: E731
        live("success_hand", "a hand before a camera, read at level 1", some,
             wrong=wrong, believe=lambda made: DoubtWhile(made[0], 1.0))  # type: ignore[arg-type]  # fmt: skip
        live("success_hand_surprise", "the same, at the level that its surprise asks for", some,
             wrong=wrong, believe=lambda made: suspicion)  # fmt: skip
        live("success_hand_trusted", "the same, believed", some, wrong=wrong)

    def knocked() -> None:
        live("success_knocked", "a fruit knocked by 2 to 4 cm", many, wrong=lambda seed: (Knock.drawn(seed),))

    def others() -> None:
        live(
            "success_distractor", "a box of any colour on the table", some, wrong=lambda seed: (Distractor.drawn(seed),)
        )
        live("success_noise", "noise of 12 grey levels on every pixel", some, wrong=lambda seed: (Noise(),))
        live("success_jolted", "the arm jolted as in the demonstrations", some, wrong=lambda seed: (Jolts(seed),))

    def dreams() -> None:
        row = run.row("imagined_agreement", some, lambda: dreamt(world, policy, some))
        show(run, "imagined_agreement", "dream and replay end with the same plates", row)
        print(f"{'':<66} imagined swapped {row['imagined swapped']}, replayed swapped {row['replayed swapped']}")
        run.put(
            imagined_swapped=row["imagined swapped"] / row["of"], replayed_swapped=row["replayed swapped"] / row["of"]
        )

    def dynamics() -> None:
        found = run.row("dynamics", min(some, 8), lambda: dict(understood(world, policy, min(some, 8))))
        print(
            f"{'the next look after what was really done':<66} off by {found['foreseen']:.3f} usual deviations;"
            f" the last look {found['copied']:.3f}"
        )
        print(
            f"{'where six steps led the hand, from the looks before and after':<66} off by {found['inferred']:.2f} cm;"
            f" from the look before alone {found['expected']:.2f}"
        )
        run.put(**{f"dynamics_{name}": value for name, value in found.items()})

    def rivals() -> None:
        for folder in run.rivals:
            lesson = read_recipe_file(Path(folder))["lesson"].lower().replace("_", "-")
            none = lesson == "memoryless"
            rival = load_policy(folder, SAMPLED if none else STEPS)
            key, memory = f"success_rival_{lesson.replace('-', '_')}", 0 if none else None
            steps = read_recipe_file(Path(folder))["steps"]
            row = run.row(f"{key} {steps}", some, partial(lived, world, rival, some, memory=memory))
            show(run, key, f"trained as {lesson}, {steps} steps, the same network", row)

    def two_routes() -> None:
        steps, boats = (150, 200) if run.quick else (1500, 1000)
        for key, cloning in (("routes_crashes", False), ("routes_crashes_cloning", True)):
            row = run.row(f"{key} {steps}", boats, partial(crashes, cloning, steps, boats))
            title = f"two routes, {'deterministic cloning' if cloning else 'sampled'}: run aground"
            show(run, key, title, row)
            print(f"{'':<66} {row['arrived']} arrive, {row['left']} on the left, {row['training']:.0f} s of training")

    return {
        "success": success, "knocked": knocked, "occluded": occluded, "memoryless": memoryless, "dreams": dreams,
        "dynamics": dynamics,
        "sampled": sampled, "hand": hand, "others": others, "surprise": surprise, "rivals": rivals,
        "routes": two_routes,
        "memory": memory, "trust": trust,
    }  # fmt: skip


def draw(run: Run, path: Path) -> None:
    """Success against memory, and against how far a black camera is believed, with intervals, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    found = {key.partition(" of ")[0]: row for key, row in run.rows.items()}
    memories = [("success_memoryless", 0, "none")]
    memories += [(f"success_memory_{length}", number, str(length)) for number, length in enumerate(MEMORIES, 1)]
    memories += [("success", len(MEMORIES) + 1, "all")]
    levels = [("success_occluded_trusted", 0.0), *((f"success_occluded_{level:g}", level) for level in LEVELS)]
    levels += [("success_occluded", 1.0)]
    for axis, points in (
        (left, [(key, place) for key, place, _ in memories]),
        (right, levels),
    ):
        there = [(place, *share(found[key]["successes"], found[key]["of"])) for key, place in points if key in found]
        if not there:
            continue
        places, shares, lows, highs = (list(values) for values in zip(*there))
        below = [share - low for share, low in zip(shares, lows)]
        above = [high - share for share, high in zip(shares, highs)]
        axis.errorbar(places, shares, yerr=[below, above], fmt="o-", capsize=3)
        axis.set_ylim(0, 1.08)
        axis.grid(alpha=0.3)
    left.set_xticks([place for _, place, _ in memories], [name for *_, name in memories])
    left.set(xlabel=f"tokens remembered, {STEPS_PER_SECOND} steps a second", ylabel="swaps that succeed")
    if "memoryless_ceiling_kind" in found:
        row = found["memoryless_ceiling_kind"]
        left.axhline(row["successes"] / row["of"], linestyle=":", color="0.4")
        left.text(
            0.2, row["successes"] / row["of"] + 0.02, "script without memory, at its kindest", color="0.4", fontsize=8
        )
    right.set(xlabel="level at which the black camera is read (0: believed)")
    if "success_occluded_surprise" in found:
        row = found["success_occluded_surprise"]
        right.axhline(row["successes"] / row["of"], linestyle="--", color="tab:green")
        right.text(0.02, row["successes"] / row["of"] + 0.02, "level chosen by surprise", color="tab:green", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _decisions(policy: Policy, row: Row) -> float:
    return row["steps"] / policy.knowledge.tokens.chunk / row["seconds"]


def last_minute(log: Path) -> float:
    """The minutes that a training took."""
    header, *_, last = log.read_text(encoding="utf-8").splitlines()
    return float(dict(zip(header.split(","), last.split(",")))["seconds"]) / 60


def main() -> None:
    """Print the table and the line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few episodes of each row")
    parser.add_argument("--model", default="swap", help="a run folder, or the name of what ships")
    parser.add_argument("--many", type=int, help="episodes of the rows that have a bar (200)")
    parser.add_argument("--some", type=int, help="episodes of the others (60)")
    parser.add_argument("--only", nargs="+", help="parts of the table")
    parser.add_argument("--keep", type=Path, help="file to which finished rows go, and from which they come")
    parser.add_argument(
        "--rivals", nargs="+", default=(), help="run folders of `train swap --lesson cloning` and others"
    )
    parser.add_argument("--picture", type=Path, help="where to draw success against memory and trust, a PNG")
    chosen = parser.parse_args()
    many, some = (chosen.many or 4, chosen.some or 2) if chosen.quick else (chosen.many or 200, chosen.some or 60)
    torch.set_num_threads(1)
    run = Run(chosen.quick, many, some, chosen.model, chosen.keep, tuple(chosen.rivals))
    if chosen.keep is not None and chosen.keep.is_file():
        kept = json.loads(chosen.keep.read_text(encoding="utf-8"))
        run = replace(run, rows=kept["rows"] if kept["model"] == run.digest else {})
    parts = sections(run)
    unknown = [name for name in chosen.only or () if name not in parts]
    if unknown:
        sys.exit(f"there is no part {unknown[0]!r}: expected some of {', '.join(parts)}")
    print(f"{'':<66} {'found':>6}  {'95 % interval':>14}  {'of':>4}  steps")
    for name, part in parts.items():
        if chosen.only is None or name in chosen.only:
            part()
    if chosen.picture is not None:
        draw(run, chosen.picture)
    # A run may have begun with the weights of others, whose logs ship beside its own.
    minutes = [last_minute(log) for log in sorted(run.folder.glob("metrics*.csv"))]
    if minutes:
        run.put(train_minutes=sum(minutes))
        print(f"{'training, minutes on one core beside other jobs':<66} {sum(minutes):.0f}")
    print(json.dumps(run.figures))


if __name__ == "__main__":
    main()
