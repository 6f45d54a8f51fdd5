"""Plans by tree search: a node is a plan so far, a child costs only its new tokens, and the best leaf says what to do.

Children are proposed in turn: along the recorded road to the goal, along the road to each place that the user names
and to each gate (`jumps`), along the road to a place drawn at random, and, if wanted, without any road. The search
decides which of them to follow, and for how long. A plan that comes to a gate is a chance node: its children begin at
the gate's exits, as often as recorded, and it is worth their mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.scheduling_matrix import full_sequence
from noiseladder.diffusion.state import State

from .diffusion_tree import DiffusionTree, Imagined
from .energies import Energy
from .guides import OfTokens
from .jumps import Jumps
from .keyed_noise import EpisodeKeys, Keys, uniform
from .knowledge import Knowledge
from .planner import Context, Plan, Planner, road_ahead
from .roads import FAR
from .search import Children, Index, Leaves, SearchOptions, Tree, Widening, plant, principal_path, reroot, search

WANDER = 3
"""Stream of a node's random numbers; those below it belong to `DiffusionTree`."""


@dataclass(frozen=True)
class Journey(State):
    """A node's state: what the model imagines, all tokens (B, t, D) since the tree was planted, and the road (B,) that
    the last ones took (`Proposals.targets`)."""

    imagined: Imagined
    tokens: Tensor
    target: Tensor


@dataclass(frozen=True)
class Proposals:
    """`expand` for `search`: a chunk of tokens for each leaf, and how good its whole plan is.

    problem: how chunks are sampled. context: of the one episode that is planned. places: (n, P), those that slots
    0, 1, ... n - 1 follow the road to; with `wander` the next slot follows that to a recorded place drawn by its key;
    with `free` the next follows none; then in turn again. jumps: where a plan is carried away; behind an exit it goes
    on along the road to places[0], and the network is told that road, not where it is. lost: energy of a plan that
    ends behind an exit from which nothing leads on.
    """

    problem: DiffusionTree
    energy: Energy
    context: Context
    places: Tensor
    wander: bool = True
    free: bool = False
    jumps: Jumps | None = None
    lost: float = 1000.0
    persist: float = 0.5

    @property
    def turns(self) -> int:
        """Kinds of proposals."""
        return len(self.places) + int(self.wander) + int(self.free)

    def __call__(self, leaves: Leaves) -> Children:
        """No rewards: a value is minus the energy of all tokens since the root, so the best leaf is the best plan."""
        assert isinstance(leaves.states, Journey)
        past, asked = leaves.states.tokens, torch.from_numpy(leaves.chance)
        here = self.ends(past)
        begin, weights = self.thrown(here, asked, leaves)
        target = self.targets(leaves, leaves.states.target)
        condition = self.condition(torch.cat([begin, self.velocities(past)], dim=1), target)
        problem = replace(self.problem, condition=lambda _: condition)
        with torch.no_grad():
            children = problem(replace(leaves, states=leaves.states.imagined))
            assert isinstance(children.states, Imagined)
            fresh = self.context.knowledge.tokens.moved(children.states.tokens, begin - here)
            tokens = torch.cat([past, fresh], dim=1)
            values = -OfTokens(self.energy, self.context)(tokens)
        chance = ended = None
        if self.jumps is not None:
            exit_ = torch.from_numpy(leaves.slots) % len(self.jumps.exits)
            ended = asked & self.jumps.dead_ends(self.context.knowledge.roads)[exit_]
            chance = (self.jumps.entered(self.ends(tokens)) >= 0) & ~ended
            values = torch.where(ended, -self.lost, values)
            values = torch.where(chance, -self.behind(tokens), values)
        state = Journey(replace(children.states, tokens=fresh), tokens, target)
        return Children(state, torch.zeros_like(values), values, ended, chance, weights)

    def behind(self, tokens: Tensor) -> Tensor:
        """What plans (B, t, D) that end at a gate are expected to cost behind it, (B,): a gate itself is no place to
        go on from, and whoever took it for one would hope before the outcomes are seen."""
        assert self.jumps is not None
        here = self.ends(tokens)
        chances = self.jumps.chances[torch.cdist(here, self.jumps.gates).argmin(1)]
        dead, cost = self.jumps.dead_ends(self.context.knowledge.roads), torch.zeros(len(tokens))
        for number, exit_ in enumerate(self.jumps.exits):
            thrown = self.context.knowledge.tokens.thrown(tokens, exit_ - here)
            energy = torch.full_like(cost, self.lost) if dead[number] else OfTokens(self.energy, self.context)(thrown)
            cost = cost + chances[:, number] * energy
        return cost

    def thrown(self, here: Tensor, asked: Tensor, leaves: Leaves) -> tuple[Tensor, Tensor | None]:
        """Where chunks begin, (B, P), and how likely that is, (B,): at exits where chance is `asked`, else `here`."""
        if self.jumps is None or not bool(asked.any()):
            return here, None
        gate = torch.cdist(here, self.jumps.gates).argmin(1)
        # In turn, each exit once: then the mean over outcomes is no estimate.
        exit_ = torch.from_numpy(leaves.slots) % len(self.jumps.exits)
        weights = self.jumps.chances[gate, exit_].clamp(min=1e-6)
        return (
            torch.where(asked[:, None], self.jumps.exits[exit_], here),
            torch.where(asked, weights, torch.ones_like(weights)),
        )

    def ends(self, past: Tensor) -> Tensor:
        """Where journeys (B, t, D) have come to: (B, P)."""
        if past.shape[1]:
            return self.context.positions(past)[:, -1]
        return self.context.observation[:, : self.context.knowledge.tokens.axes].expand(len(past), -1)

    def turn(self, slots: Index) -> Index:
        """Kinds of proposals by slots: each place once, as its road is always the same, then the others in turn."""
        others, places = int(self.wander) + int(self.free), len(self.places)
        if not others:
            return slots % places
        return np.where(slots < places, slots, places + (slots - places) % others)

    def velocities(self, past: Tensor) -> Tensor:
        """How fast journeys (B, t, D) are at their ends: (B, P), or (B, 0) for a body without inertia."""
        tokens = self.context.knowledge.tokens
        if past.shape[1]:
            return tokens.velocity(past)[:, -1]
        return self.context.observation[:, tokens.axes :].expand(len(past), -1)

    def targets(self, leaves: Leaves, before: Tensor) -> Tensor:
        """The road that each new chunk takes, (B,): a place's number, then those of recorded places; -1 for none.

        before: (B,), those that their parents took.
        """
        places, roads = len(self.places), self.context.knowledge.roads
        turn = torch.from_numpy(np.where(leaves.chance, 0, self.turn(leaves.slots)))
        drawn, kept = uniform(leaves.keys, stream=WANDER, count=2).T
        target = places + torch.from_numpy((drawn * len(roads.centres)).astype(np.int64))
        target = torch.where((before >= places) & torch.from_numpy(kept < self.persist), before, target)
        return torch.where(turn < places, turn, torch.where(turn < places + int(self.wander), target, -1))

    def condition(self, observation: Tensor, target: Tensor) -> Tensor:
        """Conditions (B, c, C) of new chunks that begin at observations (B, O), on the roads to `target` (B,)."""
        knowledge, chunk = self.context.knowledge, self.problem.shape[0]
        condition = observation.new_zeros(len(observation), chunk, knowledge.tokens.condition_size)
        # What is imagined may leave all that was ever visited: no road leads on from there.
        there = knowledge.roads.apart(observation[:, : knowledge.tokens.axes]) <= FAR * knowledge.roads.size
        led = (target >= 0) & there
        if bool(led.any()):
            targets = torch.cat([self.places, knowledge.roads.centres])
            condition[led] = road(knowledge, observation[led], targets[target[led]], chunk)[0]
        return condition


@dataclass(frozen=True)
class Grown:
    """A tree to go on with: after what is being done the body should be at `expected` (P,), and the root at `node`."""

    tree: Tree
    proposals: Proposals
    node: int
    expected: Tensor


class TreePlanner:
    """Searches a tree of plans for each episode; `plan(observation, goal)` is all that an evaluator needs.

    energy: of a whole plan, lowest is best; plans of different lengths are compared, so it should count time (as
    `Arrival` does). budget: walks for each decision. chunk: tokens of a node. execute: nodes to do before planning
    again, None for the whole plan. places: (n, P), where roads may be taken to besides the goal. roads: whether the
    road to the goal is proposed; wander: whether roads to places drawn at random are; free: whether proposals without
    a road are (for a model that has learned to go on without one). jumps: whether roads to recorded gates are proposed
    and what they do is weighed; lost: the energy of coming out where nothing leads on. steps: denoising steps. options:
    of the search; None: one child of each kind, one of each exit of a gate, 24 nodes deep. tolerance: a body that is
    within this many full-speed tokens of where it should be keeps its tree. seed: of all noise. watch: is told how much
    of a decision is made, 0 to 1, for a progress line.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        knowledge: Knowledge,
        energy: Energy,
        budget: int = 256,
        chunk: int = 1,
        execute: int | None = 1,
        places: Tensor | None = None,
        roads: bool = True,
        wander: bool = True,
        free: bool = False,
        jumps: bool = False,
        lost: float = 1000.0,
        steps: int = 2,
        options: SearchOptions | None = None,
        tolerance: float = 0.1,
        seed: int = 0,
        watch: Callable[[float], None] | None = None,
    ) -> None:
        if budget < 1 or chunk < 1 or steps < 1 or (execute is not None and execute < 1):
            raise ValueError(
                f"budget {budget}, chunk {chunk}, steps {steps}, execute {execute}: expected at least 1 of each"
            )
        if knowledge.tokens.observation_first:
            raise ValueError(
                "this model's tokens begin with their observation, and a tree needs tokens that end with it: train"
                " without observation_first"
            )
        axes = knowledge.tokens.axes
        places = torch.zeros(0, axes) if places is None else places.float()
        if places.ndim != 2 or places.shape[1] != axes:
            raise ValueError(f"places have shape {tuple(places.shape)}, expected (n, {axes})")
        if not bool(places.isfinite().all()):
            raise ValueError("places hold NaN or infinite values, expected points to take a road to")
        self.jumps = knowledge.jumps if jumps and len(knowledge.jumps) else None
        if self.jumps is not None and not roads:
            raise ValueError("behind a gate a plan takes the road to its goal: leave roads on, or jumps out")
        if not (roads or wander or free or len(places)):
            raise ValueError("nothing would be proposed: leave roads or wander on, or give places")
        exits = 1 if self.jumps is None else len(self.jumps.exits)
        if self.jumps is not None:
            places = torch.cat([places, self.jumps.gates])
        if options is None:
            turns = int(roads) + int(wander) + int(free) + len(places)
            # A detour looks worse at each of its first steps: little exploration would never see it pay.
            options = SearchOptions(
                batch=32,
                exploration=1.0,
                decisions=Widening(float(turns), 0.0),
                outcomes=Widening(float(exits), 0.0, exits),
                depth=24,
            )
        self.denoiser, self.knowledge, self.energy = denoiser, knowledge, energy
        self.budget, self.execute, self.options, self.tolerance = budget, execute, options, tolerance
        self.roads, self.wander, self.free, self.lost = roads, wander, free, lost
        self.places = places
        self.problem = DiffusionTree(denoiser, (chunk, knowledge.tokens.size), nothing, full_sequence(chunk, steps))
        self.checks = Planner(denoiser, knowledge)
        self.keys, self.watch = EpisodeKeys(seed), watch
        self.grown: dict[int, Grown] = {}
        self.kept = 0
        """Nodes that were known already when planning again, over all plans."""

    def reset(self, episodes: int) -> None:
        """Forget all trees: new episodes begin."""
        self.keys.reset(episodes)
        self.grown = {}

    def plan(self, observation: Tensor, goal: Tensor) -> Plan:
        """observation (B, O), goal (B, P) -> plans, all as long as the shortest. Raises ValueError as Planner does."""
        self.checks.check(observation, goal)
        observation, goal = observation.float(), goal.float()
        chunk, steps = self.problem.shape[0], self.knowledge.tokens.steps
        plans, trees, keys = [], [], self.keys.next(len(observation))
        for row in range(len(observation)):
            part = slice(row, row + 1)
            proposals, tree = self.root(row, observation[part], goal[part], keys[part])
            known = tree.walks
            for _ in search(proposals, tree, self.options, self.budget):
                if self.watch is not None:
                    self.watch((row + min(1.0, (tree.walks - known) / self.budget)) / len(observation))
            path = principal_path(tree)
            states = [tree.state(np.array([node])) for node in path[1:]]
            plans.append(torch.cat([one.imagined.tokens[0] for one in states if isinstance(one, Journey)]))
            trees.append((tree, proposals, path))
        plan = self.told(observation, goal, plans)
        for row, (tree, proposals, path) in enumerate(trees):
            nodes = plan.actions.shape[1] // (chunk * steps)
            after = tree.state(np.array([path[nodes]]))
            assert isinstance(after, Journey)
            self.grown[row] = Grown(tree, proposals, path[nodes], proposals.ends(after.tokens)[0])
        return plan

    def told(self, observation: Tensor, goal: Tensor, plans: list[Tensor]) -> Plan:
        """Tokens (T, D) for each row, of any lengths, as plans that are all as long as the shortest."""
        chunk, known, axes = self.problem.shape[0], self.knowledge.tokens, self.knowledge.tokens.axes
        length = min(len(found) for found in plans)
        tokens = torch.stack([found[:length] for found in plans])
        positions = known.positions(tokens, observation[:, :axes])
        nodes = length // chunk if self.execute is None else min(self.execute, length // chunk)
        way = self.knowledge.roads.way(observation[:, :axes], goal, self.knowledge.stories.spacing)
        actions = known.actions(tokens)[:, : nodes * chunk * known.steps]
        return Plan(tokens, positions, known.reward(tokens), actions, way)

    def root(self, row: int, observation: Tensor, goal: Tensor, key: Keys) -> tuple[Proposals, Tree]:
        """The sub-tree of what was done, if all went as planned, otherwise a new tree."""
        knowledge, axes = self.knowledge, self.knowledge.tokens.axes
        position = observation[:, :axes]
        condition, off = road(knowledge, observation, goal, 1)
        if not self.roads:
            condition, off = torch.zeros_like(condition), torch.zeros_like(off)
        known, levels = knowledge.tokens.known(observation, off)
        with torch.no_grad():
            memory = self.denoiser.observe(known, condition, None, levels)
        old = self.grown.pop(row, None)
        if old is not None and self.agrees(old, position[0], goal):
            journey = old.tree.state(np.array([old.node]))
            assert isinstance(journey, Journey)
            tree = reroot(old.tree, old.node, replace(journey, imagined=Imagined(memory, journey.imagined.tokens)))
            self.kept += len(tree) - 1
            return old.proposals, tree
        places = torch.cat([goal, self.places]) if self.roads else self.places
        context = Context(observation, goal, knowledge)
        proposals = Proposals(self.problem, self.energy, context, places, self.wander, self.free, self.jumps, self.lost)
        nowhere, nobody = torch.zeros(1, 0, knowledge.tokens.size), torch.full((1,), -1)
        return proposals, plant(Journey(self.problem.root(memory), nowhere, nobody), key=key)

    def agrees(self, old: Grown, position: Tensor, goal: Tensor) -> bool:
        """Whether a tree foresaw where the body is now (P,), on its way to the same goal (1, P), and goes on there."""
        if old.tree.ended[old.node]:
            return False
        apart = (old.expected - position).norm().item()
        same = torch.equal(old.proposals.context.goal, goal)
        return same and apart <= self.tolerance * self.knowledge.tokens.stride


def road(knowledge: Knowledge, observation: Tensor, place: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """The road ahead of observations (B, O) to places (B, P), as conditions (B, T, C), and how far off it they are."""
    way = knowledge.roads.way(observation[:, : knowledge.tokens.axes], place, knowledge.stories.spacing)
    return road_ahead(knowledge, way, observation, tokens)


def nothing(tokens: Tensor) -> Tensor:
    """No reward by itself: a journey is judged as a whole."""
    return tokens.new_zeros(len(tokens))
