"""Planning in mazes: ours, the demonstrator, the time-optimal ceiling and Diffuser on the same episodes, in one run.

    .venv/bin/python benchmarks/planning.py [--quick] [--seeds N] [--only medium speed ...] [--runs FOLDER]

Claims: plans learned from a recording arrive sooner than its demonstrator; a re-plan of the whole horizon is a matter
of milliseconds on one core; a tree that reuses the state expands thousands of nodes a second and decides by expected
reward. Episodes are those of seeds 100000 and up, which nobody looked at while developing. Models are runs of
`noiseladder train maze --maze NAME --folder runs/maze-NAME` (baseline: `train diffuser`, folder runs/diffuser-NAME), or
what ships with the package; what is not there is said, not guessed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.scheduling_matrix import full_sequence, pyramid
from noiseladder.networks import MinGRUNetwork
from noiseladder.planning.choosing import BestOf, ParticlePlanner
from noiseladder.planning.demonstrator import Demonstrator
from noiseladder.planning.diffusion_tree import DiffusionTree, expansions_per_second
from noiseladder.planning.energies import Arrival, Away, Onward, ToGoal
from noiseladder.planning.evaluation import (
    HEADER,
    Evaluation,
    Planner,
    decision_times,
    evaluate,
    paired_difference,
    quantiles,
)
from noiseladder.planning.follower import Follower
from noiseladder.planning.guides import ByEnergy, Levelled, MonteCarlo
from noiseladder.planning.knowledge import Knowledge
from noiseladder.planning.ogbench import PointMaze, centre
from noiseladder.planning.planner import Guide, Planner as Ours
from noiseladder.planning.point_mass import PointMass
from noiseladder.planning.problems import Problem, problem
from noiseladder.planning.rehearsed import Rehearsed
from noiseladder.planning.roads import FAR
from noiseladder.planning.search import By, SearchOptions, Widening, choice_law, plant, search
from noiseladder.planning.search_picture import draw_value_against_budget
from noiseladder.planning.shooting import Shooting
from noiseladder.planning.tasks import Once, Outcome, Task, Until, attempt, blocked_tasks, gold_tasks, way_tasks
from noiseladder.planning.time_optimal import TimeOptimal
from noiseladder.planning.tree_planner import TreePlanner
from noiseladder.recipes import diffuser
from noiseladder.recipes.trained_maze import TrainedMaze, load, shipped

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "planning"), str(Path(__file__).parents[1] / "tests")]

FIRST_SEED = 100_000
MAZES = ("umaze", "medium", "large", "multi-umaze", "multi-medium", "multi-large")
OGBENCH = (
    "medium-navigate", "large-navigate", "giant-navigate", "medium-stitch", "large-stitch", "giant-stitch",
    "teleport-navigate",
)  # fmt: skip
SECTIONS = (
    *MAZES, "ogbench", "speed", "search", "roadless", "montecarlo", "choosing", "doors", "gold", "once",
    "teleport",
)  # fmt: skip
CEILING = 20
"""Episodes of the time-optimal reference, which nobody changes: docs/planning.md has its 200."""
WARM = 0.5


@dataclass(frozen=True)
class Run:
    """What is asked for, and the figures found so far."""

    quick: bool
    episodes: int
    ogbench: int
    runs: Path
    figures: dict[str, float] = field(default_factory=dict)

    def put(self, **found: float) -> None:
        """Figures for the last line; what is not a number is left out."""
        self.figures.update({name: round(value, 4) for name, value in found.items() if math.isfinite(value)})

    @property
    def seeds(self) -> range:
        """Episodes of a maze."""
        return range(FIRST_SEED, FIRST_SEED + self.episodes)

    def model(self, *names: str) -> TrainedMaze | None:
        """The first that is there: run folders, then what ships; None, and a line that says so, where none is."""
        for name in names:
            if (self.runs / name / "weights.safetensors").is_file():
                print(f"  weights: {self.runs / name}")
                return load(self.runs / name)
        for name in names:
            if name in shipped():
                print(f"  weights: {name}, shipped")
                return load(name)
        print(f"  no weights: neither {self.runs / names[0]} nor a shipped {names[0]}; skipped", flush=True)
        return None


def main() -> None:
    """All sections, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few episodes and short timings")
    parser.add_argument("--seeds", type=int, help="episodes of each maze; 200, or 20 when quick")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where trained runs lie")
    arguments = parser.parse_args()
    if arguments.seeds is not None and arguments.seeds < 1:
        parser.error(f"--seeds is {arguments.seeds}: give 1 or more")
    torch.set_num_threads(1)
    episodes = arguments.seeds or (20 if arguments.quick else 200)
    run = Run(arguments.quick, episodes, 4 if arguments.quick else 40, arguments.runs)
    sections: dict[str, Callable[[Run], None]] = {
        "ogbench": ogbench, "speed": speed, "search": searching, "roadless": roadless, "montecarlo": monte_carlo,
        "choosing": choosing, "doors": doors, "gold": gold, "once": once, "teleport": teleport,
    }  # fmt: skip
    for section in arguments.only or SECTIONS:
        began = time.perf_counter()
        if section in MAZES:
            maze(run, section)
        else:
            sections[section](run)
        print(f"  ({section}: {time.perf_counter() - began:.0f} s)", flush=True)
    print(json.dumps(run.figures))


def ours(model: TrainedMaze, warm: float | None = None) -> Ours:
    """Our planner as it is by default."""
    return Ours(model.denoiser, model.knowledge, warm=warm)


def show(name: str, found: Evaluation, task: Problem) -> Evaluation:
    """Print a row."""
    print(found.row(name, task.norms), flush=True)
    return found


def maze(run: Run, name: str) -> None:
    """One maze: ours, the demonstrator, the ceiling, the baseline."""
    task = problem(name)
    world = task.world
    assert isinstance(world, PointMass)
    assert task.norms is not None
    grid = name.removeprefix("multi-")
    print(f"\n{name}: {run.episodes} episodes of {world.time_limit} steps from seed {FIRST_SEED}\n{HEADER}")
    key = name.replace("-", "_") if name.startswith("multi-") else f"score_{name}"
    model = run.model(f"maze-{grid}")
    mine = None
    if model is not None:
        mine = show("ours", evaluate(world, ours(model), run.seeds), task)
        score = mine.score(task.norms)
        run.put(**{key: score.mean, f"{key}_low": score.low, f"{key}_high": score.high})
        run.put(
            **{
                f"{key}_return": mine.mean_return().mean,
                f"{key}_arrival": mine.mean_arrival().mean,
                f"{key}_success": mine.success_rate().mean,
                f"{key}_latched": mine.latched_score(task.norms).mean,
            }
        )
    others: dict[str, tuple[Planner, int]] = {}
    if model is not None:
        # What is owed to what was read off the recording, and not to the network.
        others["follower, no network"] = (Follower(model.knowledge), run.episodes)
    others |= {
        "demonstrator": (Demonstrator(world.maze), run.episodes),
        "time-optimal (simulator)": (TimeOptimal(world.maze), min(run.episodes, 5 if run.quick else CEILING)),
    }
    folder = run.runs / f"diffuser-{grid}"
    if (folder / "weights.safetensors").is_file():
        others["Diffuser, PD controller"] = (diffuser.load(folder), run.episodes)
        others["Diffuser, own actions"] = (diffuser.load(folder, own_actions=True), run.episodes)
    else:
        print(f"  no Diffuser row: noiseladder train diffuser --maze {grid} --folder {folder}")
    for label, (planner, episodes) in others.items():
        found = show(label, evaluate(world, planner, run.seeds[:episodes]), task)
        short = label.partition(" ")[0].strip(",").replace("-", "_").lower() + ("_own" if "own" in label else "")
        run.put(**{f"{key}_{short}": found.score(task.norms).mean})
        if mine is not None and found.seeds == mine.seeds:
            print(f"  ours minus this, same episodes: {mine.against(found, task.norms):+.1f}", flush=True)


def ogbench(run: Run) -> None:
    """OGBench PointMaze: five tasks, an episode ends at success, at most 1000 steps."""
    for name in OGBENCH:
        task = problem(f"ogbench-{name}")
        assert task.world is not None
        print(f"\nogbench {name}: 5 tasks, {run.ogbench} episodes each")
        model = run.model(f"ogbench-{name}", f"small-ogbench-{name}")
        if model is None:
            continue
        # Consecutive seeds take turns at the five tasks.
        seeds = range(FIRST_SEED, FIRST_SEED + 5 * run.ogbench)
        print(HEADER)
        found = show("ours", evaluate(task.world, ours(model), seeds), task)
        each = [found.success[number::5].double().mean().item() for number in range(5)]
        print(f"  success by task: {', '.join(f'{100 * share:.0f} %' for share in each)}", flush=True)
        key = name.replace("-", "_")
        run.put(
            **{f"ogbench_{key}": 100 * found.success_rate().mean, f"ogbench_{key}_arrival": found.mean_arrival().mean}
        )


def speed(run: Run) -> None:
    """One decision of one row on one core, the whole horizon planned anew; and nodes a second."""
    print("\nspeed: one core, batch 1, the whole horizon replanned at every decision")
    calls, worst = (30 if run.quick else 200), 0.0
    for name in MAZES[:3]:
        model = run.model(f"maze-{name}")
        if model is None:
            continue
        world = problem(f"multi-{name}").world
        assert world is not None
        for label, warm in (("cold", None), ("warm", WARM)):
            seconds = decision_times(world, ours(model, warm), run.seeds, calls, warmup=3)
            median, slow = quantiles(seconds)
            print(
                f"  {name:<8} {label}  median {median:7.1f} ms   p99 {slow:7.1f} ms   of {calls} decisions", flush=True
            )
            run.put(**{f"replan_ms_median_{name}_{label}": median, f"replan_ms_p99_{name}_{label}": slow})
            if label == "cold" and median >= worst:
                # The slowest maze stands for all.
                worst = median
                run.put(replan_ms_median=median, replan_ms_p99=slow)
    torch.manual_seed(0)
    network = MinGRUNetwork(8, width=64, layers=2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    tree = DiffusionTree(
        Denoiser(network, Cosine()).eval().requires_grad_(False),
        shape=(1, 8),
        reward=lambda tokens: tokens[:, 0, 0],
        matrix=full_sequence(1, 2),
    )
    found = expansions_per_second(tree, tree.denoiser.initial_state(1), batch=256, seconds=2.0 if run.quick else 10.0)
    print(
        f"  tree: {found.per_second:.0f} expansions a second, {found.per_core_second:.0f} a second of the processor"
        f" (minGRU of width 64, 2 layers, 2 denoising steps, {found.nodes} nodes)",
        flush=True,
    )
    # Other work on the machine is not the tree's: what it does with a core counts.
    run.put(expansions_per_second=found.per_core_second, expansions_per_wall_second=found.per_second)


def searching(run: Run) -> None:
    """The gamble with an exact denoiser, and value against budget on problems whose value is known."""
    from beds import Gamble, Grid, LinearQuadratic, compare

    from exact import gamble

    print("\nsearch: P(gamble) under exp(strength * E[pay]); tilting by the pay itself would give .788 and .999")
    exact = DiffusionTree(
        gamble(Cosine()), shape=(1, 1), reward=lambda x: x[:, 0, 0], matrix=full_sequence(1, 16), alternate=True,
        label=lambda x: (100 + 10 * x[:, 0, 0]).round().long(), dtype=torch.float64,
    )  # fmt: skip
    options = SearchOptions(batch=256, exploration=50.0, depth=2, decisions=Widening(4, 0.6))
    shares, strengths = [], (5.0, 20.0)
    for seed in range(FIRST_SEED, FIRST_SEED + (8 if run.quick else 24)):
        tree = plant(exact.root(exact.denoiser.initial_state(1)), seed)
        for _ in search(exact, tree, options, 3000):
            pass
        state = tree.state(tree.children(0))
        gambles = (state.tokens[:, 0, 0] > 0).numpy()  # type: ignore[attr-defined]
        shares.append([choice_law(tree, strength)[gambles].sum() for strength in strengths])
    found = np.mean(shares, axis=0)
    truth = np.array([1 / (1 + math.exp(0.1 * strength)) for strength in strengths])
    error = float(np.abs(found - truth).max())
    for strength, share, true in zip(strengths, found, truth):
        print(f"  strength {strength:4.0f}: P(gamble) {share:.4f}, exact {true:.4f}  ({len(shares)} trees)", flush=True)
    run.put(gamble_error=error)
    budgets, seeds = ((64, 256), range(4)) if run.quick else ((64, 256, 1024), range(8))
    quadratic = SearchOptions(batch=16, exploration=0.1, keep_estimates=True, decisions=Widening(2, 0.5))
    grid = SearchOptions(batch=16, exploration=1.5, decisions=Widening(4, 0, 4), outcomes=Widening(1, 0.5))
    chance = SearchOptions(batch=16, exploration=3.0, outcomes=Widening(1, 0.85))
    results = [
        compare("gamble, 3 levels", Gamble(3), chance, budgets, seeds, By.VISITS),
        compare("linear-quadratic", LinearQuadratic(3), quadratic, budgets, seeds, By.BEST),
        compare("stochastic grid", Grid(), grid, budgets, seeds, By.VISITS),
    ]
    for result in results:
        equal = len(result.tree.calls) - 1
        tree_share = float(result.share(result.tree)[-1].mean())
        rival_share = float(result.share(result.best_of_n)[equal].mean())
        print(
            f"  {result.name:<18} tree {tree_share:6.3f}, best of n {rival_share:6.3f} of what can be had", flush=True
        )
        key = result.name.partition(",")[0].replace("-", "_").replace(" ", "_")
        run.put(**{f"search_{key}": tree_share, f"best_of_n_{key}": rival_share})
    path = run.runs / "value-against-budget.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_value_against_budget(results, path)
    print(f"  wrote {path}")


def compared(run: Run, name: str, planners: dict[str, Planner], seeds: Sequence[int]) -> dict[str, Evaluation]:
    """Planners on the same episodes, each against the first."""
    task = problem(name)
    assert task.world is not None
    print(HEADER)
    found: dict[str, Evaluation] = {}
    for label, planner in planners.items():
        found[label] = show(label, evaluate(task.world, planner, seeds), task)
        first = next(iter(found.values()))
        if found[label] is not first:
            print(f"  this minus the first, same episodes: {found[label].against(first, task.norms):+.1f}", flush=True)
    return found


def choosing(run: Run) -> None:
    """Sampling once, best of 16 and tree search, on the same episodes."""
    seeds = run.seeds[: 2 if run.quick else 8]
    name = "multi-medium"
    print(f"\nchoosing among plans along the road: {name}, {len(seeds)} episodes")
    model = run.model("maze-medium")
    if model is None:
        return
    planners: dict[str, Planner] = {
        "ours, one plan": ours(model),
        "ours, best of 16": BestOf(ours(model), Away(), 16),
        "ours, tree of 64": TreePlanner(model.denoiser, model.knowledge, Away(), budget=64, execute=1),
    }
    for label, found in compared(run, name, planners, seeds).items():
        norms = problem(name).norms
        assert norms is not None
        run.put(**{f"choosing_{label.split(', ')[1].replace(' ', '_')}": found.score(norms).mean})


NEAR_FIRST = partial(pyramid, delay=1)
STRENGTH = 30.0
"""Of the pull towards the goal, without a road: 10, 30 and 100 did alike in other episodes (seeds 0 to 19)."""


def unled(model: TrainedMaze, guide: Guide | None = None, steps: int = 4, **options: Any) -> Ours:
    """Our planner when it is not told its road: eight tokens ahead."""
    return Ours(model.denoiser, model.knowledge, horizon=8, steps=steps, road=False, guide=guide, **options)


def roadless(run: Run) -> None:
    """Energies alone, no road in the condition: none, a gradient, pyramids, best of n, particles."""
    name = "multi-medium"
    few, more = (run.seeds[:2], run.seeds[:4]) if run.quick else (run.seeds[:10], run.seeds[:60])
    print(f"\nguided without a road: {name}, {len(more)} episodes for the gradient, {len(few)} for the others")
    model = run.model("maze-medium")
    if model is None:
        return
    every, task = ToGoal(None), problem(name)
    assert task.world is not None
    assert task.norms is not None
    rows: dict[str, tuple[Planner, Sequence[int]]] = {
        "gradient, all tokens": (unled(model, ByEnergy(every, STRENGTH)), more),
        "gradient, arrival": (unled(model, ByEnergy(Arrival(), 1.0)), few),
        "no guide": (unled(model), few),
        "gradient, pyramid": (unled(model, ByEnergy(every, STRENGTH), matrix=NEAR_FIRST), few),
        "levelled, pyramid": (unled(model, Levelled(every, STRENGTH), matrix=NEAR_FIRST), few),
        "best of 16": (BestOf(unled(model), every, 16), few),
        "particles, 16": (
            ParticlePlanner(model.denoiser, model.knowledge, every, 16, 10.0, horizon=8, steps=6, road=False),
            few,
        ),
    }
    print(HEADER)
    for label, (planner, seeds) in rows.items():
        found = show(label, evaluate(task.world, planner, seeds), task)
        run.put(**{f"roadless_{label.replace(',', '').replace(' ', '_')}": found.score(task.norms).mean})


def monte_carlo(run: Run) -> None:
    """Guidance alone, no road: 10 futures against 1 with as many denoising steps as take the same time."""
    seeds, name = run.seeds[: 2 if run.quick else 40], "multi-medium"
    print(f"\nMonte Carlo guidance without a road: {name}, {len(seeds)} episodes")
    model = run.model("maze-medium")
    if model is None:
        return
    task = problem(name)
    assert task.world is not None
    assert task.norms is not None

    def guided(futures: int, steps: int) -> Ours:
        guide = MonteCarlo(ToGoal(None), STRENGTH, futures, steps=3)
        return Ours(model.denoiser, model.knowledge, horizon=6, steps=steps, matrix=NEAR_FIRST, road=False, guide=guide)

    calls = 3 if run.quick else 8
    many, single = (quantiles(decision_times(task.world, guided(n, 3), seeds, calls))[0] for n in (10, 1))
    steps = max(3, round((3 + 6) * many / single) - 6)
    print(f"  a decision takes {many:.0f} ms with 10 futures, {single:.0f} ms with 1: 1 gets {steps} steps, not 3")
    planners: dict[str, Planner] = {
        "1 future": guided(1, 3), "1 future, equal seconds": guided(1, steps), "10 futures": guided(10, 3)
    }  # fmt: skip
    found = compared(run, name, planners, seeds)
    gain = found["10 futures"].against(found["1 future, equal seconds"], task.norms)
    print(f"  10 futures minus 1 at equal seconds: {gain:+.1f}", flush=True)
    run.put(monte_carlo_gain=gain.mean, monte_carlo_gain_low=gain.low, monte_carlo_gain_high=gain.high)
    steps_gain = found["10 futures"].against(found["1 future"], task.norms)
    run.put(monte_carlo_gain_equal_steps=steps_gain.mean)


def medium() -> PointMass:
    """The world of the tasks."""
    world = problem("multi-medium").world
    assert isinstance(world, PointMass)
    return world


def doors(run: Run) -> None:
    """A wall that no road knows: along the road all plans run into it, so the best of them is no good."""
    count = 2 if run.quick else 24
    print(f"\ndoors: {count} tasks in medium, score minus the steps until the goal, an entered block never arrives")
    model = run.model("maze-medium")
    if model is None:
        return
    world = medium()
    rows: dict[str, Callable[[Task], Planner]] = {
        "one plan": lambda task: ours(model),
        "best of 25": lambda task: BestOf(ours(model), task.energy, 25),
        "shooting, 192 nodes": lambda task: Shooting(looking_around(model, task, 1), 24, 8),
        "shooting, 384 nodes": lambda task: Shooting(looking_around(model, task, 1), 48, 8),
        "tree, 192 nodes": lambda task: looking_around(model, task, 192),
    }
    lived_through(run, "doors", rows, blocked_tasks(model.knowledge, count, seed=7), world, model.knowledge)


def looking_around(model: TrainedMaze, task: Task, budget: int) -> TreePlanner:
    """The tree of the tasks: nodes of three tokens; it sees what the road ahead of a plan would bring."""
    # Few children and much exploration: a way around begins with steps that look worse than all others.
    options = SearchOptions(batch=32, exploration=2.0, decisions=Widening(3.0, 0.3), depth=8)
    places = None if task.gold is None else task.gold[None]
    return TreePlanner(
        model.denoiser, model.knowledge, Onward(task.energy), budget, chunk=3, places=places, options=options
    )


def lived_through(
    run: Run, name: str, rows: dict[str, Callable[[Task], Planner]], tasks: Sequence[Task], world: PointMass,
    knowledge: Knowledge,
) -> dict[str, list[Outcome]]:  # fmt: skip
    """Every planner on the same tasks; the last against all others."""
    found: dict[str, list[Outcome]] = {}
    for label, make in rows.items():
        began = time.process_time()
        found[label] = [attempt(task, make(task), world, knowledge) for task in tasks]
        worked = time.process_time() - began
        score, arrived = np.mean([one.score for one in found[label]]), np.mean([one.arrived for one in found[label]])
        print(
            f"  {label:<22} score {score:7.1f}  arrived {100 * arrived:3.0f} %  {worked:6.1f} s of one core", flush=True
        )
        key = label.replace(",", "").replace(" ", "_")
        run.put(**{f"{name}_{key}": float(score), f"{name}_{key}_arrived": 100 * float(arrived)})
    *rivals, last = found
    scores = {label: torch.tensor([one.score for one in outcomes]) for label, outcomes in found.items()}
    for rival in rivals:
        print(f"  {last} minus {rival}: {paired_difference(scores[last], scores[rival]):+.1f}", flush=True)
    return found


def gold(run: Run) -> None:
    """Gold beside the road: half of the detours pay."""
    count = 2 if run.quick else 24
    print(f"\ngold: {count} tasks in medium, score minus the steps until the goal, plus what the gold is worth")
    model = run.model("maze-medium")
    if model is None:
        return
    world = medium()

    def told(task: Task, make: Callable[[Task], Planner]) -> Planner:
        """A planner that is told once it has the gold that there is none any more."""
        assert task.gold is not None
        without = replace(task, energy=Arrival(), gold=None)
        return Until(make(task), make(without), task.gold, task.near)

    rows: dict[str, Callable[[Task], Planner]] = {
        "one plan": lambda task: ours(model),
        "best of 25": lambda task: BestOf(ours(model), task.energy, 25),
        "shooting, 64 nodes": lambda task: told(task, lambda one: Shooting(looking_around(model, one, 1), 8, 8)),
        "shooting, 128 nodes": lambda task: told(task, lambda one: Shooting(looking_around(model, one, 1), 16, 8)),
        "tree, 96 nodes": lambda task: told(task, lambda one: looking_around(model, one, 96)),
    }
    tasks = gold_tasks(model.knowledge, count, seed=11)
    for label, outcomes in lived_through(run, "gold", rows, tasks, world, model.knowledge).items():
        shares = [
            100 * np.mean([one.took for one, task in zip(outcomes, tasks) if task.pays is pays])
            for pays in (True, False)
        ]
        print(f"  {label:<22} took it where it pays {shares[0]:3.0f} %, where not {shares[1]:3.0f} %", flush=True)


def once(run: Run) -> None:
    """Planning once, then acting without looking."""
    count = 2 if run.quick else 24
    print(f"\nonce: {count} ways in medium, score minus the steps until the goal; nobody plans again but the last")
    model = run.model("maze-medium")
    if model is None:
        return
    world = medium()
    knowledge = model.knowledge
    whole = partial(Ours, model.denoiser, knowledge, horizon=24, execute=24)
    rows: dict[str, Callable[[Task], Planner]] = {
        "one plan": lambda task: Once(whole()),
        "best of 16": lambda task: Once(BestOf(whole(), task.energy, 16)),
        "rehearsed": lambda task: Once(Rehearsed(ours(model), knowledge, 24)),
        "planning again": lambda task: ours(model),
    }
    lived_through(run, "once", rows, way_tasks(knowledge, count, seed=11), world, knowledge)


def teleport(run: Run) -> None:
    """Whether a gate pays: exactly by value iteration, and what a tree with chance nodes and shooting make of it."""
    task = problem("ogbench-teleport-navigate")
    model = run.model("ogbench-teleport-navigate", "small-ogbench-teleport-navigate")
    world = task.world
    if model is None:
        return
    assert isinstance(world, PointMaze)
    knowledge = model.knowledge
    jumps, roads = knowledge.jumps, knowledge.roads
    print(
        f"\nteleport: {len(jumps)} gates, exits {jumps.exits.round().tolist()}, dead ends"
        f" {jumps.dead_ends(roads).tolist()}"
    )
    ends = centre(torch.tensor(world.layout.tasks)).float()
    walked = roads.length(ends[:, 0], ends[:, 1])
    print(f"  length of the walk by task:                  {[round(one) for one in walked.tolist()]}")
    for lost in (math.inf, 240.0, 100.0, 50.0):
        found = jumps.expected_length(roads, ends[:, 0], ends[:, 1], lost)
        print(
            f"  expected with gates, a dead end costs {lost:>6.0f}: {[round(one) for one in found.tolist()]}",
            flush=True,
        )
    tree = TreePlanner(
        model.denoiser, knowledge, Arrival(pace=1.2), budget=48, chunk=4, wander=False, jumps=True
    )  # fmt: skip
    planners: dict[str, Planner] = {
        "along the road": ours(model), "tree of 48": Stranded(tree, knowledge),
        "shooting, 48 nodes": Stranded(Shooting(tree, 6, 8), knowledge),
    }  # fmt: skip
    seeds = range(FIRST_SEED, FIRST_SEED + 5 * (1 if run.quick else 2))
    print(HEADER)
    for label, planner in planners.items():
        found_here = show(label, evaluate(world, planner, seeds), task)
        key = label.partition(",")[0].replace(" ", "_")
        run.put(**{f"teleport_{key}": 100 * found_here.success_rate().mean})


@dataclass(frozen=True)
class Stranded:
    """A planner that does nothing any more for a body that chance has put where nothing leads on."""

    planner: TreePlanner | Shooting
    knowledge: Knowledge

    def reset(self, episodes: int) -> None:
        """New episodes begin."""
        self.planner.reset(episodes)

    def plan(self, observation: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """The planner's actions, zeros for the stranded."""
        roads = self.knowledge.roads
        free = roads.apart(observation.float()) <= FAR * roads.size
        if not bool(free.any()):
            return torch.zeros(len(observation), 8, goal.shape[1])
        actions = self.planner.plan(observation[free], goal[free]).actions
        found = torch.zeros(len(observation), *actions.shape[1:])
        found[free] = actions
        return found


if __name__ == "__main__":
    main()
