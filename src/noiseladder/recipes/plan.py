"""Plan in a maze: `noiseladder plan RUN --start x,y --goal x,y` plans, lives the plan where the world is known, and
draws both."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import KW_ONLY, dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import torch
from cyclopts import Parameter
from numpy.typing import NDArray
from torch import Generator, Tensor

from noiseladder.diffusion.scheduling_matrix import pyramid
from noiseladder.planning import evaluation
from noiseladder.planning.choosing import BestOf
from noiseladder.planning.demonstrator import Demonstrator
from noiseladder.planning.energies import Arrival, Away
from noiseladder.planning.evaluation import HEADER, Block, Evaluation, evaluate, live, quantiles
from noiseladder.planning.guides import ByEnergy, MonteCarlo
from noiseladder.planning.gymnasium_world import GymnasiumWorld
from noiseladder.planning.knowledge import Knowledge
from noiseladder.planning.maze import Norms
from noiseladder.planning.pictures import Moment, Scene, draw_comparison, draw_plan, write_gif
from noiseladder.planning.planner import Plan, Planner
from noiseladder.planning.point_mass import PointMass
from noiseladder.planning.question import Question, check_place, random_place, told
from noiseladder.planning.search import Tree
from noiseladder.planning.tree_planner import Grown, Journey, TreePlanner
from noiseladder.planning.world import World, seeded
from noiseladder.training.durable import check_writable, replace_file
from noiseladder.training.progress import Line, duration

from .trained_maze import TrainedMaze, load

PICTURE = Path("plan.png")
PATIENCE = 10.0
"""Seconds that nobody needs to be told about."""


class Plans(Protocol):
    """What all planners here have in common."""

    def plan(self, observation: Tensor, goal: Tensor) -> Plan:
        """observation (B, O), goal (B, P) -> plans."""
        ...

    def reset(self, episodes: int) -> None:
        """New episodes begin."""
        ...


@dataclass(frozen=True)
class Ask:
    """What to plan, with what, and what to write."""

    run: str
    """The folder of a run of `train maze`, or a model that ships: maze-large, ogbench-giant-stitch, and so on."""
    _: KW_ONLY
    start: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    """Where to begin, as x,y; a random recorded place without it."""
    goal: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    """Where to go, as x,y; a random recorded place without it."""
    planner: str = "road"
    """road (along recorded roads), montecarlo (guided by sampled futures), best-of-n, or tree (search)."""
    guidance: float | None = None
    """How strongly the time of arrival guides the plan; 0 for road and 1 for montecarlo without it."""
    samples: int = 10
    """Futures of montecarlo, plans of best-of-n."""
    budget: int = 256
    """Walks of the tree for each decision."""
    horizon: int | None = None
    """Tokens in a plan; as many as the way takes without it. The tree chooses by itself."""
    seed: int = 0
    """Of random places and of all noise."""
    environment: str | None = None
    """A Gymnasium environment to live the plan in; it chooses start and goal. module:Name-v0 imports the module."""
    picture: Path | None = None
    """The first plan, and what was lived, over the maze, and the tree if there is one; plan.png without it."""
    gif: Path | None = None
    """Tokens falling out of the noise, near future first, or the tree as it grows; then what was lived."""
    compare: bool = False
    """Let all planners live the same episodes, and draw bars beside the picture."""
    episodes: int = 20
    """Episodes of --compare."""


def plan(options: Annotated[Ask, Parameter(name="*")]) -> None:
    """Plan in a maze, live the plan where its world is known, and draw both."""
    check(options)
    trained = load(options.run)
    torch.set_num_threads(1)  # tensors this small are faster on one core
    world = world_of(options, trained)
    if options.compare and world is None:
        raise ValueError("--compare needs a world to live in, and that of this recording is not known: --environment")
    observation, goal = question(options, trained.knowledge, world)
    planner = PLANNERS[options.planner](options, trained)
    axes, steps, near = trained.knowledge.tokens.axes, trained.knowledge.tokens.steps, trained.knowledge.tokens.near
    scene = scene_of(options, trained.knowledge, world)
    rows = [] if options.gif is None or options.planner == "tree" else watch(options, trained, observation, goal)

    place = told((100 * observation[0, :axes]).round() / 100)
    print(f"{options.run}, {options.planner}: from {place} to {told((100 * goal[0]).round() / 100)}")
    life, latest, waiting = None, Latest(planner), Waiting(options.planner)
    waiting.watch(planner)
    with closing(waiting.line):
        if world is None:
            latest.reset(1)
            began = time.perf_counter()
            latest.plan(observation, goal)
            seconds = time.perf_counter() - began
        else:
            asked = world if options.environment else Question(world, observation[0], goal[0])
            life = lived(asked, latest, options.seed, waiting)
    assert latest.first is not None
    first, tree = latest.first, None if latest.grown is None else placed(latest.grown)
    print(f"  plan      {foreseen(first, steps)}")
    if life is not None:
        print(f"  lived     {what_happened(life.judged, trained.problem.norms)}")
        median, slow = quantiles(life.judged.seconds)
        print(f"  decision  {median:.1f} ms (median of {len(life.moments)}), {slow:.1f} ms (99th percentile)")
    else:
        print("  lived     not: the world of this recording is not known here; --environment lives in one of yours")
        print(f"  decision  {1e3 * seconds:.1f} ms")

    if scene is None:
        print("no picture: positions have one axis, and a picture of a plan needs two")
    else:
        positions = torch.cat([observation[:, :axes], first.positions[0]])[:, :2]
        title = f"{options.run}, {options.planner}"
        lived_path = life.path if life else None
        figure = draw_plan(scene, positions, goal[0, :2], near, lived_path, steps, title, tree)
        path = options.picture or PICTURE
        replace_file(path, lambda partial: figure.savefig(partial, dpi=120, format="png"))
        print(f"wrote {path}")
        if options.gif is not None:
            moments = until_arrival(life.moments, life.judged) if life else []
            write_gif(scene, rows, moments, goal[0, :2], near, options.gif, tree=tree)
            print(f"wrote {options.gif}")
    if options.compare and world is not None:
        compare(options, trained, world)


@dataclass(frozen=True)
class Life:
    """One episode: where the body was (L, 2), each decision as a frame, and what it came to."""

    path: Tensor
    moments: list[Moment]
    judged: Evaluation


def scene_of(options: Ask, knowledge: Knowledge, world: World | None) -> Scene | None:
    """What plans are drawn over; None where they cannot be. Raises ValueError where a picture was asked for then."""
    if knowledge.tokens.axes < 2 and options.picture is None and options.gif is None:
        return None
    return Scene.of(knowledge, world)


def lived(world: World, latest: Latest, seed: int, waiting: Waiting | None = None) -> Life:
    """Live one episode, planning again and again."""
    blocks, moments = [], []
    path = world.start(seeded([seed])).observation[:, :2].float()
    for block in live(world, latest, [seed]):
        assert latest.last is not None
        planned = torch.cat([path[-1:], latest.last.positions[0, :, :2]])
        moments.append(Moment(planned, path, f"step {block.step}"))
        path = torch.cat([path, block.observations[0, :, :2].float()])
        blocks.append(block)
        if waiting is not None:
            waiting.lived(block)
    return Life(path, moments, evaluation.judge(blocks, [seed]))


class Waiting:
    """Says on stderr how far the lives of a planner are, once they have taken ten seconds."""

    def __init__(self, name: str) -> None:
        self.name, self.line = name, Line(sys.stderr, PATIENCE)
        self.start, self.done, self.limit, self.decisions, self.share = time.monotonic(), 0, 0, 0, 0.0

    def watch(self, planner: object) -> None:
        """Look into each decision of a planner that may be long about it."""
        if isinstance(planner, TreePlanner):
            planner.watch = self.searched

    def lived(self, block: Block) -> None:
        """A decision was lived."""
        self.done, self.limit, self.share = block.end, block.time_limit, 0.0
        self.decisions += 1
        self.say()

    def searched(self, share: float) -> None:
        """A part, 0 to 1, of a decision was made."""
        self.share = share
        self.say()

    def say(self) -> None:
        """Steps lived, of the decision what is made, and how long it will last if all decisions are like those made."""
        spent = time.monotonic() - self.start
        words = [f"step {self.done}/{self.limit}"] if self.done else []
        if self.share:
            words.append(f"{self.share:.0%} of the {'next' if self.done else 'first'} decision")
        if self.done:
            still = self.decisions * self.limit / self.done - self.decisions - self.share
            words.append(f"{duration(spent / (self.decisions + self.share) * max(0.0, still))} left")
        self.line.say(f"{self.name}: {'  '.join(words)}")


@dataclass
class Latest:
    """A planner whose first and last plan can be looked at; `grown`: the first plan's tree, if it came from one."""

    planner: Plans
    first: Plan | None = None
    last: Plan | None = None
    grown: Grown | None = None

    def plan(self, observation: Tensor, goal: Tensor) -> Plan:
        """The planner's plan."""
        self.last = self.planner.plan(observation, goal)
        if self.first is None:
            self.first = self.last
            self.grown = self.planner.grown[0] if isinstance(self.planner, TreePlanner) else None
        return self.last

    def reset(self, episodes: int) -> None:
        """New episodes begin."""
        self.planner.reset(episodes)


NEAR_FIRST = partial(pyramid, delay=1)
"""(tokens, steps) -> a scheduling matrix in which the near future is known first."""


def by_road(options: Ask, trained: TrainedMaze, **changed: Any) -> Planner:
    """Conditioned on the road ahead; guided too, if that is wanted."""
    scale = options.guidance or 0.0
    guide = ByEnergy(Arrival(), scale) if scale else None
    return Planner(
        trained.denoiser, trained.knowledge, options.horizon, guide=guide, **{"seed": options.seed, **changed}
    )


def by_montecarlo(options: Ask, trained: TrainedMaze, **changed: Any) -> Planner:
    """Guided by the gradient of the arrival, averaged over sampled futures; a pyramid, so that there is a future."""
    guide = MonteCarlo(Arrival(), 1.0 if options.guidance is None else options.guidance, options.samples)
    known = {"matrix": NEAR_FIRST, "seed": options.seed}
    return Planner(trained.denoiser, trained.knowledge, options.horizon, guide=guide, **{**known, **changed})


def by_choice(options: Ask, trained: TrainedMaze) -> BestOf:
    """The plan of several that foresees the fewest steps away from the goal."""
    planner = Planner(trained.denoiser, trained.knowledge, options.horizon, seed=options.seed)
    return BestOf(planner, Away(), options.samples)


def by_search(options: Ask, trained: TrainedMaze) -> TreePlanner:
    """The best branch of a tree of plans."""
    return TreePlanner(trained.denoiser, trained.knowledge, Away(), options.budget, seed=options.seed)


PLANNERS: dict[str, Callable[[Ask, TrainedMaze], Plans]] = {
    "road": by_road,
    "montecarlo": by_montecarlo,
    "best-of-n": by_choice,
    "tree": by_search,
}
"""By the name they have on the command line."""
GUIDED = ("road", "montecarlo")


def check(options: Ask) -> None:
    """Raise ValueError for options that cannot be met, before anything is read."""
    if options.planner not in PLANNERS:
        close = get_close_matches(options.planner, PLANNERS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"the planners are {', '.join(PLANNERS)}"
        raise ValueError(f"there is no planner {options.planner!r}; {hint}")
    for name in ("samples", "budget", "episodes", "horizon"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} is {value}, expected at least 1")
    if not 0 <= options.seed < 2**63:
        raise ValueError(f"--seed is {options.seed}, expected 0 to {2**63 - 1}")
    if options.guidance is not None and options.planner not in GUIDED:
        raise ValueError(
            f"--guidance is for the planners {' and '.join(GUIDED)}: {options.planner} chooses among plans, it does"
            " not push them"
        )
    if options.guidance is not None and not 0 <= options.guidance < float("inf"):
        raise ValueError(f"--guidance is {options.guidance}, expected 0 or more")
    if options.horizon is not None and options.planner == "tree":
        raise ValueError("--horizon is not for the tree, which decides itself how far to look: use --budget")
    if options.environment is not None and (options.start is not None or options.goal is not None):
        raise ValueError("--environment chooses start and goal itself: leave out --start and --goal, or use --seed")
    for path, ending in ((options.picture or PICTURE, ".png"), (options.gif, ".gif")):
        if path is not None:
            if path.suffix.lower() != ending:
                raise ValueError(f"{path} does not end in {ending}: give it a name that does")
            check_writable(path)
    for name, text in (("start", options.start), ("goal", options.goal)):
        if text is not None:
            numbers(text, name)


def numbers(text: str, name: str) -> Tensor:
    """`x,y` as a tensor (n,). Raises ValueError for anything else."""
    try:
        return torch.tensor([float(part) for part in text.split(",")])
    except ValueError:
        raise ValueError(f"--{name} is {text!r}, expected numbers with a comma between them, like 1,2.5") from None


def world_of(options: Ask, trained: TrainedMaze) -> World | None:
    """The world to live in: the one that the model was trained for, the user's own, or none that we know."""
    if options.environment is None:
        return trained.problem.world
    try:
        import gymnasium
    except ImportError as error:
        raise ValueError("Gymnasium environments need gymnasium: pip install 'noiseladder[planning]'") from error
    name, tokens = options.environment, trained.knowledge.tokens
    try:
        gymnasium.spec(name)
    except (gymnasium.error.Error, ImportError) as error:
        raise ValueError(f"there is no Gymnasium environment {name!r} here ({error})") from error
    return GymnasiumWorld(
        lambda: gymnasium.make(name),
        observation_size=tokens.observation_size,
        action_size=tokens.axes,
        goal_size=tokens.axes,
    )


def question(options: Ask, knowledge: Knowledge, world: World | None) -> tuple[Tensor, Tensor]:
    """Where the plan begins, (1, O), and its goal, (1, P)."""
    if options.environment is not None:
        assert world is not None
        begin = world.start(seeded([options.seed]))
        return begin.observation.float(), begin.goal.float()
    generator = Generator().manual_seed(options.seed)
    found = []
    for name, text in (("start", options.start), ("goal", options.goal)):
        place = random_place(knowledge, generator)
        found.append(place if text is None else check_place(numbers(text, name), name, knowledge, world))
    start, goal = found
    return knowledge.body.at_rest(start[None]), goal[None]


def watch(options: Ask, trained: TrainedMaze, observation: Tensor, goal: Tensor) -> list[tuple[Tensor, Tensor]]:
    """A plan of the same model and guide, near future first: levels (T,), positions (n, S + 1, 2) at every row."""
    make = by_montecarlo if options.planner == "montecarlo" else by_road
    planner = make(options, trained, steps=8, matrix=NEAR_FIRST)
    count = min(options.samples, 8) if options.planner == "best-of-n" else 1
    planner.reset(count)
    start = observation[:, None, :2].expand(count, -1, -1)
    return [
        (levels, torch.cat([start, positions[..., :2]], dim=1))
        for levels, positions in planner.watch(observation.expand(count, -1), goal.expand(count, -1))
    ]


def foreseen(found: Plan, steps: int) -> str:
    """How long a plan is, and when it expects to arrive by the rewards that the model foresees."""
    rewards = found.rewards[0]
    there = rewards > steps / 2
    words = f"{len(rewards) * steps} steps ({len(rewards)} tokens of {steps}), "
    if not bool(there.any()):
        return words + "does not foresee to arrive"
    token = int(there.int().argmax())
    return words + f"foresees to arrive at step {round((token + 1) * steps - min(steps, float(rewards[token]))) + 1}"


def what_happened(found: Evaluation, norms: Norms | None) -> str:
    """One episode in words."""
    arrival = float(found.arrival[0])
    words = f"at the goal at step {arrival:.0f}" if arrival == arrival else "never at the goal"
    words += f" of {found.time_limit}, return {float(found.returns[0]):.0f}"
    if norms is not None:
        words += f", score {float(found.scores(norms)[0]):.0f}"
    if found.collisions is not None:
        words += f", {float(found.collisions[0]):.0f} steps at walls"
    return words


def until_arrival(moments: list[Moment], found: Evaluation, most: int = 70) -> list[Moment]:
    """The moments up to a little after the arrival, thinned out."""
    arrival = float(found.arrival[0])
    if arrival == arrival:
        each = len(moments[1].lived) - len(moments[0].lived) if len(moments) > 1 else 1  # steps between two looks
        moments = moments[: int(arrival / each) + 3]
        moments[-1] = Moment(moments[-1].planned, moments[-1].lived, f"at the goal at step {arrival:.0f}")
    every = -(-len(moments) // most)
    return [*moments[:-1:every], moments[-1]]


def placed(grown: Grown) -> tuple[Tree, NDArray[np.float64]]:
    """A tree, and where each of its nodes has come to, (nodes, 2)."""
    places = []
    for node in range(len(grown.tree)):
        journey = grown.tree.state(np.array([node]))
        assert isinstance(journey, Journey)
        places.append(grown.proposals.ends(journey.tokens)[0, :2].double().numpy())
    return grown.tree, np.stack(places)


def compare(options: Ask, trained: TrainedMaze, world: World) -> None:
    """All planners in the same episodes: a table, and bars beside the picture."""
    norms = None if options.environment else trained.problem.norms
    seeds = range(options.seed, options.seed + options.episodes)
    print(f"\n{HEADER}")
    found: dict[str, Evaluation] = {}
    for name, make in PLANNERS.items():
        if name == "tree" and trained.knowledge.tokens.observation_first:
            print("tree: left out, this model's tokens begin with their observation")
            continue
        chosen = replace(options, guidance=options.guidance if name in GUIDED else None)
        planner, waiting = make(chosen, trained), Waiting(name)
        waiting.watch(planner)
        with closing(waiting.line):
            found[name] = evaluate(world, planner, seeds, watch=waiting.lived)
        print(found[name].row(name, norms), flush=True)
    if isinstance(world, PointMass):
        found["demonstrator"] = evaluate(world, Demonstrator(world.maze), seeds)
        print(found["demonstrator"].row("demonstrator", norms), flush=True)
    title = f"{options.run}, the same episodes for all: {options.episodes}"
    figure = draw_comparison(found, norms, title)
    picture = options.picture or PICTURE
    path = picture.with_name(f"{picture.stem}-planners.png")
    replace_file(path, lambda partial: figure.savefig(partial, dpi=120, format="png"))
    print(f"wrote {path}")
