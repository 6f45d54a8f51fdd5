"""Problems whose best value is known: a gamble of several levels, a linear-quadratic problem, a stochastic grid.

Each gives `expand` for `search`, its exact value, and what a first decision is truly worth. Everything random comes
from the keys of nodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from noiseladder.diffusion.state import State
from noiseladder.planning.keyed_noise import normal, root_key, uniform
from noiseladder.planning.search import Children, Leaves, Tree, choose, plant, search
from noiseladder.planning.search_picture import BedResult, Curve


@dataclass(frozen=True)
class Place(State):
    """values (B, n), and decisions made so far, steps (B,); action (B,), the last one, decided at chance nodes."""

    values: Tensor
    steps: Tensor
    action: Tensor


def place(values: list[float]) -> Place:
    return Place(torch.tensor([values], dtype=torch.float64), torch.zeros(1), torch.zeros(1, dtype=torch.float64))


@dataclass(frozen=True)
class Gamble:
    """`levels` times: safe pays .6 surely, the gamble 1 or 0 with equal chance. Decisions: prior 1/2 each."""

    levels: int = 1
    start = place([0.0])

    @property
    def floor(self) -> float:
        """The zero of the scale: gambling at once, then playing well."""
        return self.worth(1.0)

    @property
    def length(self) -> int:
        """Expansions in one whole plan."""
        return 2 * self.levels

    def __call__(self, leaves: Leaves) -> Children:
        here = leaves.states
        chance = torch.from_numpy(leaves.chance)
        draw = torch.from_numpy(uniform(leaves.keys)[:, 0])
        decided = torch.where(draw < 0.5, 1.0, -1.0).double()  # 1 gambles
        pay = torch.where(here.action > 0, (draw < 0.5).double(), 0.6)
        steps = here.steps + chance
        after = Place(here.values, steps, torch.where(chance, here.action, decided))
        return Children(
            after, torch.where(chance, pay, 0.0), torch.zeros(len(leaves)), steps >= self.levels, chance=~chance,
            labels=torch.where(chance, 1e3 * pay, after.action + 1).long(),
        )  # fmt: skip

    @property
    def value(self) -> float:
        return 0.6 * self.levels

    def worth(self, action: float) -> float:
        """Expected pay of a first decision, the best ones following."""
        return (0.5 if action > 0 else 0.6) + 0.6 * (self.levels - 1)


@dataclass(frozen=True)
class LinearQuadratic:
    """x' = A x + B u, reward -(x' Q x + r u^2), `steps` times, then -x' P x: the best first action is Riccati's.

    Decisions are drawn from N(0, spread^2). noise: standard deviation of what chance adds to x', 0 for none.
    """

    steps: int = 3
    spread: float = 1.5
    noise: float = 0.0
    start = place([1.5, -0.5])
    transition = torch.tensor([[1.0, 0.5], [0.0, 1.0]], dtype=torch.float64)
    push = torch.tensor([0.125, 0.5], dtype=torch.float64)
    cost = torch.diag(torch.tensor([1.0, 0.2], dtype=torch.float64))
    price = 0.1

    @cached_property
    def riccati(self) -> list[tuple[Tensor, Tensor]]:
        """For each step from the first: cost to go P before it, and the gain of u = -gain x."""
        to_go, found = self.cost, []
        for _ in range(self.steps):
            reach = self.push @ to_go
            gain = reach @ self.transition / (self.price + reach @ self.push)
            closed = self.transition - torch.outer(self.push, gain)
            to_go = self.cost + self.price * torch.outer(gain, gain) + closed.T @ to_go @ closed
            found.append((to_go, gain))
        return found[::-1]

    @property
    def value(self) -> float:
        """Of the best actions from the start; chance adds the trace of what follows."""
        x = self.start.values[0]
        ends = [to_go for to_go, _ in self.riccati[1:]] + [self.cost]
        return float(-x @ self.riccati[0][0] @ x) - self.noise**2 * sum(float(p.trace()) for p in ends)

    @property
    def floor(self) -> float:
        return self.idle

    @property
    def length(self) -> int:
        return self.steps * (2 if self.noise > 0 else 1)

    @property
    def idle(self) -> float:
        """Value of never acting, the zero of the scale on which 99 % is measured (without noise)."""
        return float(self.coast(self.start.values, torch.zeros(1)))

    @property
    def action(self) -> float:
        return float(-self.riccati[0][1] @ self.start.values[0])

    def coast(self, x: Tensor, steps: Tensor) -> Tensor:
        """Return from x (B, 2) after so many steps if nothing is done any more: a plan that exists."""
        total = torch.zeros(len(x), dtype=torch.float64)
        for step in range(self.steps + 1):
            total = torch.where(steps <= step, total - (x @ self.cost * x).sum(-1), total)
            x = torch.where((steps <= step)[:, None], x @ self.transition.T, x)
        return total

    def __call__(self, leaves: Leaves) -> Children:
        here, chance = leaves.states, torch.from_numpy(leaves.chance)
        drawn = normal(leaves.keys, (3,), dtype=torch.float64)
        decided = self.spread * drawn[:, 0]
        moves = chance if self.noise > 0 else torch.ones_like(chance)
        u = here.action if self.noise > 0 else decided
        x = here.values
        moved = x @ self.transition.T + u[:, None] * self.push + self.noise * drawn[:, 1:]
        paid = -(x @ self.cost * x).sum(-1) - self.price * u**2
        steps = here.steps + moves
        ended = steps >= self.steps
        # What the last state costs is paid on the way into it.
        paid = paid - torch.where(ended, (moved @ self.cost * moved).sum(-1), 0.0)
        after = Place(torch.where(moves[:, None], moved, x), steps, torch.where(chance, here.action, decided))
        values = torch.where(ended, 0.0, self.coast(after.values, steps))
        return Children(after, torch.where(moves, paid, 0.0), values, ended & moves, ~moves)

    def worth(self, action: float) -> float:
        """Of a first action, the best ones following."""
        x = self.start.values[0]
        moved = self.transition @ x + action * self.push
        after = [to_go for to_go, _ in self.riccati[1:]] + [self.cost]
        rest = self.noise**2 * sum(float(p.trace()) for p in after)
        return float(-x @ self.cost @ x - self.price * action**2 - moved @ after[0] @ moved) - rest


MOVES = torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1]])


@dataclass(frozen=True)
class Grid:
    """A walk over 4 x 4 cells in which a step slips sideways with probability `slip`; cells that pay end it.

    The near goal pays little; the way to the far one leads along pits. Outcomes are drawn, not enumerated; a leaf is
    worth what walking at random gives. Exact by dynamic programming over cells and steps left.
    """

    steps: int = 4
    slip: float = 0.2
    start = place([0.0, 0.0])

    @property
    def floor(self) -> float:
        """What walking at random gives."""
        return float(self.random[self.steps, 0, 0])

    @property
    def length(self) -> int:
        return 2 * self.steps

    @property
    def pays(self) -> Tensor:
        """(4, 4): what entering a cell pays; all but 0 end the walk."""
        pays = torch.zeros(4, 4, dtype=torch.float64)
        pays[3, 0], pays[1, 1], pays[2, 1], pays[0, 2] = 1.0, -0.6, -0.6, 0.5
        return pays

    def enter(self, cell: Tensor, move: Tensor) -> Tensor:
        """Cells (B, 2) after moves (B,) of 0 .. 3; walls hold."""
        return (cell + MOVES[move]).clamp(0, 3)

    @cached_property
    def table(self) -> Tensor:
        """Worth of (steps left, row, column, move) if the best follows; 0 where no step is left."""
        return self.programme(lambda worth: worth.amax(-1))

    @cached_property
    def random(self) -> Tensor:
        """Value of (steps left, row, column) if every move is drawn."""
        return self.programme(lambda worth: worth.mean(-1)).mean(-1)

    def programme(self, value_of: Callable[[Tensor], Tensor]) -> Tensor:
        """Dynamic programming backwards in time."""
        cells = torch.cartesian_prod(torch.arange(4), torch.arange(4))
        worth = [torch.zeros(4, 4, 4, dtype=torch.float64)]
        for _ in range(self.steps):
            value = value_of(worth[-1])
            best = torch.zeros(16, 4, dtype=torch.float64)
            for move in range(4):
                for turn, chance in ((0, 1 - self.slip), (1, self.slip / 2), (3, self.slip / 2)):
                    next_cell = self.enter(cells, torch.full((16,), (move + turn) % 4))
                    pay = self.pays[next_cell[:, 0], next_cell[:, 1]]
                    rest = torch.where(pay == 0, value[next_cell[:, 0], next_cell[:, 1]], 0.0)
                    best[:, move] += chance * (pay + rest)
            worth.append(best.reshape(4, 4, 4))
        return torch.stack(worth)

    @property
    def value(self) -> float:
        row, column = self.start.values[0].long().tolist()
        return float(self.table[self.steps, row, column].max())

    def worth(self, action: float) -> float:
        row, column = self.start.values[0].long().tolist()
        return float(self.table[self.steps, row, column, int(action)])

    def __call__(self, leaves: Leaves) -> Children:
        here, chance = leaves.states, torch.from_numpy(leaves.chance)
        draw = torch.from_numpy(uniform(leaves.keys)[:, 0])
        turn = torch.where(draw < self.slip, torch.where(draw < self.slip / 2, 1, 3), 0)
        cell = self.enter(here.values.long(), (here.action.long() + turn) % 4)
        pay = torch.where(chance, self.pays[cell[:, 0], cell[:, 1]], 0.0)
        steps, move = here.steps + chance, torch.from_numpy(leaves.slots % 4)
        after = Place(
            torch.where(chance[:, None], cell.double(), here.values),
            steps,
            # Decisions are enumerated: the slot is the move.
            torch.where(chance, here.action, move.double()),
        )
        ended = chance & ((pay != 0) | (steps >= self.steps))
        values = self.random[(self.steps - steps).long(), after.values[:, 0].long(), after.values[:, 1].long()]
        labels = torch.where(chance, cell[:, 0] * 4 + cell[:, 1], move)
        return Children(after, pay, torch.where(ended, 0.0, values), ended, ~chance, labels=labels)


def best_of_n(problem, plans: int, seed: int) -> tuple[float, float, int]:
    """The rival without a tree: (first action of the best of n whole plans, its return, expansions).

    Every plan is lived once, as a sampled plan of a diffusion model is: actions and outcomes come together.
    """
    rng = np.random.default_rng([seed, 7])
    states = problem.start[torch.zeros(plans, dtype=torch.long)]
    total = torch.zeros(plans, dtype=torch.float64)
    first = torch.full((plans,), torch.nan, dtype=torch.float64)
    alive = torch.ones(plans, dtype=torch.bool)
    chance, depth, calls = torch.zeros(plans, dtype=torch.bool), 0, 0
    while bool(alive.any()):
        keys = rng.integers(0, 2**63, plans).astype(np.uint64) ^ root_key(seed)
        leaves = Leaves(states, keys, rng.integers(0, 4, plans), chance.numpy(), np.full(plans, depth))
        children = problem(leaves)
        calls += int(alive.sum())
        total = torch.where(alive, total + children.rewards, total)
        states, chance = children.states, children.chance
        first = torch.where(first.isnan(), states.action, first)
        alive = alive & ~children.ended
        depth += 1
    best = int(total.argmax())
    return float(first[best]), float(total[best]), calls


def first_action(tree: Tree, child: int) -> float:
    """The decision that a child of the root stands for."""
    state = tree.state(np.array([child]))
    assert isinstance(state, Place)
    return float(state.action[0])


def compare(name, problem, options, budgets, seeds, by) -> BedResult:
    """Tree search and best-of-n at the same numbers of expansions; seconds are of the processor.

    Steps of these problems cost next to nothing, so in equal seconds the rival lives many more plans: it goes on to
    budgets 8 and 64 times as large.
    """
    found, rival = [], []
    for budget in budgets:
        for seed in seeds:
            start = time.process_time()
            tree = plant(problem.start, seed, value=problem.floor)
            for _ in search(problem, tree, options, budget):
                pass
            worth = problem.worth(first_action(tree, choose(tree, by=by)))
            found.append((tree.walks, time.process_time() - start, worth))
    for budget in (*budgets, 8 * budgets[-1], 64 * budgets[-1]):
        for seed in seeds:
            start = time.process_time()
            action, _, calls = best_of_n(problem, max(1, budget // problem.length), seed)
            rival.append((calls, time.process_time() - start, problem.worth(action)))
    curves = [np.array(rows).reshape(-1, len(seeds), 3) for rows in (found, rival)]
    tree_curve, rival_curve = (Curve(c[..., 0].mean(1), c[..., 1].mean(1), c[..., 2]) for c in curves)
    return BedResult(name, problem.value, problem.floor, tree_curve, rival_curve)
