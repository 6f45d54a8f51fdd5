"""Tree search over anything that can be expanded in batches; it knows neither mazes nor diffusion.

The problem comes in as one function: states and keys in, children out. Nodes are rows of arrays; a batch of walks goes
down the tree level by level, all together, and counts its own visits, so that one batch selects different leaves. Two
kinds of nodes: at a **decision** the searcher chooses, and its value is the best child's; at a **chance** node the
world chooses, and its value is the mean over outcomes. A maximum over sampled outcomes would be a gambler's value.

    tree = plant(root)
    for tree in search(expand, tree, options, budget=10_000):
        ...                                     # watch it, stop it
    child = choose(tree)
    tree = reroot(tree, child, state=posterior) # keep what is known below

Every node has a key that depends on the seed and its path alone, and all randomness of a child comes from its key
(`keyed_noise`): neither the order of the search nor its batches shift sampling noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noiseladder.diffusion.state import State

from .keyed_noise import Keys, child_keys, root_key

Index = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Leaves:
    """Where children are wanted: one row for each child, so a node that gets two is there twice.

    states: of the parents, n rows. keys: (n,), names of the children's own random numbers. slots: (n,), which draw
    of its parent each is, 0 the first. chance: (n,), whether the parent is a chance node. depth: (n,), of the
    parents, 0 at the root.
    """

    states: State
    keys: Keys
    slots: Index
    chance: NDArray[np.bool_]
    depth: Index

    def __len__(self) -> int:
        """Number of children wanted."""
        return len(self.keys)


@dataclass(frozen=True)
class Children:
    """What an expansion gives for n leaves.

    states: n rows. rewards: (n,), on the way from the parent into the child. values: (n,), an estimate of all that
    follows. ended: (n,) bool, nothing follows. chance: (n,) bool, the child is a chance node. weights: (n,) > 0, prior
    weight of a decision or probability of an outcome; None where children are samples of their law and count the same.
    labels: (n,) whole numbers >= 0; children of one parent with one label are the same: drawn again, a child gains
    weight and no node is added. Where decisions or outcomes are few, this lets a tree become deep. None: all differ.
    """

    states: State
    rewards: Tensor
    values: Tensor
    ended: Tensor | None = None
    chance: Tensor | None = None
    weights: Tensor | None = None
    labels: Tensor | None = None


Expand = Callable[[Leaves], Children]
"""One batched call: a child for each leaf."""


class By(Enum):
    """What a child is worth."""

    BEST = "best"  # backed up: best decision, mean outcome
    MEAN = "mean"  # mean return of all walks through it
    VISITS = "visits"  # how often it was visited; only to choose in the end


@dataclass(frozen=True)
class Widening:
    """A node visited n times may draw ceil(scale * n^power) children, at most `most` (Couetoux et al., 2011).

    Draws that ended take no room: to visit one again teaches nothing, and a value that rests on few outcomes is luck.
    """

    scale: float = 1.0
    power: float = 0.5
    most: int = 2**31

    def __post_init__(self) -> None:
        if self.scale <= 0 or not 0 <= self.power <= 1 or self.most < 1:
            raise ValueError(
                f"widening is scale {self.scale}, power {self.power}, most {self.most}, expected scale above 0, power"
                " in [0, 1] and at least one child"
            )

    def allowed(self, visits: Index, over: Index) -> Index:
        """Number of draws by number of visits and of draws that ended."""
        room = np.ceil(self.scale * visits.astype(np.float64) ** self.power).astype(np.int64)
        allowed: Index = np.minimum(room + over, self.most)
        return allowed


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    batch: walks in one call of `expand`. exploration: how much a little visited child is worth; .1 to
    .5 does well where dynamics are certain, 1.5 to 3 where outcomes are chance and few of them may be luck. discount:
    for every edge but those into a chance node, which is the same moment as its decision. decisions, outcomes: how
    many children a node may have. by: the value that walks follow. trust: a child counts in the best only with this
    share of the visits of the most visited one: 0 where dynamics are certain, above 0 where a value may be luck.
    keep_estimates: a node's own estimate stays a candidate of its maximum; right where it is the value of a plan that
    exists. normalise: bring values to [0, 1] over the tree before adding exploration, so that it does not depend on the
    scale of rewards. depth: nodes this deep are not expanded.
    """

    batch: int = 64
    exploration: float = 0.5
    discount: float = 1.0
    decisions: Widening = field(default_factory=Widening)
    outcomes: Widening = field(default_factory=lambda: Widening(power=0.7))
    by: By = By.BEST
    trust: float = 0.0
    keep_estimates: bool = False
    normalise: bool = True
    depth: int | None = None

    def __post_init__(self) -> None:
        if self.batch < 1 or self.exploration < 0 or not 0 <= self.trust <= 1 or not 0 < self.discount <= 1:
            raise ValueError(
                f"batch {self.batch}, exploration {self.exploration}, trust {self.trust}, discount {self.discount}:"
                " expected batch at least 1, exploration at least 0, trust in [0, 1], discount in (0, 1]"
            )
        if self.by is By.VISITS:
            raise ValueError("walks cannot follow By.VISITS, expected By.BEST or By.MEAN")
        if self.depth is not None and self.depth < 1:
            raise ValueError(f"depth is {self.depth}, expected at least 1 level below the root, or None")


class Rows:
    """States of one shape in one batch that grows by doubling."""

    def __init__(self, states: State) -> None:
        self.like = states[:0]
        self.shapes = shapes(states)
        self.size = 0
        self.buffers = [tensor[:0].clone() for tensor in tensors(states)]

    def append(self, states: State) -> Index:
        """Copy states in; the rows where they lie."""
        fresh = tensors(states)
        count = len(fresh[0])
        if self.size + count > len(self.buffers[0]):
            room = max(64, 2 * len(self.buffers[0]), self.size + count)
            for place, buffer in enumerate(self.buffers):
                grown = buffer.new_empty(room, *buffer.shape[1:])
                grown[: self.size] = buffer[: self.size]
                self.buffers[place] = grown
        for buffer, tensor in zip(self.buffers, fresh, strict=True):
            buffer[self.size : self.size + count] = tensor
        self.size += count
        return np.arange(self.size - count, self.size)

    def gather(self, rows: Index) -> State:
        """The states in these rows."""
        index = torch.from_numpy(rows)
        picked = iter([buffer[index] for buffer in self.buffers])
        return self.like.map(lambda _: next(picked))


def tensors(states: State) -> list[Tensor]:
    """All tensors of a state, always in the same order."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    states.map(keep)
    return found


def shapes(states: State) -> tuple[tuple[int, ...], ...]:
    """Shapes of a state's tensors without the batch: states that agree in them can be one batch."""
    return tuple(tuple(tensor.shape[1:]) for tensor in tensors(states))


COLUMNS: dict[str, type] = {
    **dict.fromkeys(("parent", "slot", "depth", "visits", "kind", "row", "label", "new_visits"), np.int64),
    **dict.fromkeys(("first", "room", "count", "draws", "over"), np.int64),
    **dict.fromkeys(("total", "best", "estimate", "reward", "discount", "weight", "new_total"), np.float64),
    **dict.fromkeys(("chance", "ended"), np.bool_),
    "key": np.uint64,
}


class Tree:
    """All that a search knows. Node 0 is the root; a parent comes before its children.

    Columns, one row for each node: parent (-1 at the root), slot, depth, key, visits (its own creation included), total
    (sum of returns from it), best (backed up), estimate (its own when it was new), reward and discount of the edge
    into it, weight, chance, ended, count (of children). States are held in one batch for each shape of state.
    """

    parent: Index
    slot: Index
    depth: Index
    key: Keys
    visits: Index
    total: Floats
    best: Floats
    estimate: Floats
    reward: Floats
    discount: Floats
    weight: Floats
    chance: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    kind: Index  # which of `states`
    row: Index  # and which row of it
    first: Index  # children lie in `kids` from here
    room: Index  # how many may lie there before the block moves
    count: Index  # how many do
    draws: Index  # how many were drawn, those included that were known already
    over: Index  # how many draws ended
    label: Index
    new_visits: Index  # of the batch under way, 0 between batches
    new_total: Floats

    def __init__(self) -> None:
        for name, kind in COLUMNS.items():
            setattr(self, name, np.zeros(0, dtype=kind))
        self.size = 0
        self.states: list[Rows] = []
        self.kids: Index = np.zeros(64, dtype=np.int64)
        self.kids_used = 0
        self.low, self.high = np.inf, -np.inf  # of the values of children so far
        self.calls = 0  # of `expand`
        self.walks = 0

    def __len__(self) -> int:
        """Number of nodes."""
        return self.size

    def append(self, states: State, count: int, **columns: object) -> Index:
        """New nodes with these columns (scalars or (count,)); their numbers."""
        self._reserve(self.size + count)
        nodes = np.arange(self.size, self.size + count)
        here = slice(self.size, self.size + count)
        for name, value in columns.items():
            getattr(self, name)[here] = value
        self.kind[here], self.row[here] = self._put(states)
        self.size += count
        return nodes

    def state(self, nodes: Index) -> State:
        """States of nodes whose states have one shape."""
        kind = self.kind[nodes]
        if (kind != kind[0]).any():
            raise ValueError("these nodes hold states of different shapes: ask for one `kind` at a time")
        return self.states[int(kind[0])].gather(self.row[nodes])

    def children(self, node: int) -> Index:
        """Numbers of a node's children, in the order in which they came."""
        return self.kids[self.first[node] : self.first[node] + self.count[node]].copy()

    def worth(self, nodes: Index, by: By = By.BEST) -> Floats:
        """What parents get by going to these nodes: reward + discount * value, or visits."""
        if by is By.VISITS:
            return self.visits[nodes].astype(np.float64)
        value = self.best[nodes] if by is By.BEST else self.total[nodes] / np.maximum(self.visits[nodes], 1)
        return self.reward[nodes] + self.discount[nodes] * value

    def value(self, node: int = 0, by: By = By.BEST) -> float:
        """What is expected from a node on."""
        return float(self.best[node] if by is By.BEST else self.total[node] / max(self.visits[node], 1))

    def families(self, nodes: Index) -> tuple[Index, NDArray[np.bool_]]:
        """Children of several nodes: (n, most children), and where there is one."""
        count = self.count[nodes]
        places = np.arange(count.max(initial=1))
        there = places < count[:, None]
        return self.kids[np.where(there, self.first[nodes][:, None] + places, 0)], there

    def adopt(self, parents: Index, nodes: Index) -> None:
        """Enter nodes, sorted by parent, as children; parents repeat."""
        families, sizes = np.unique(parents, return_counts=True)
        needed = self.count[families] + sizes
        small = needed > self.room[families]
        if small.any():
            self._move(families[small], needed[small])
        self.kids[self.first[parents] + self.count[parents] + ramps(sizes)] = nodes
        self.count[families] = needed

    def _move(self, nodes: Index, needed: Index) -> None:
        """Give nodes larger blocks of children at the end of `kids`; each block at least doubles."""
        room = np.maximum(4, 2 ** np.ceil(np.log2(needed)).astype(np.int64))
        used = self.kids_used + int(room.sum())
        if used > len(self.kids):
            self.kids = np.concatenate([self.kids, np.zeros(max(len(self.kids), used), dtype=np.int64)])
        first = self.kids_used + np.cumsum(room) - room
        old, count = self.first[nodes], self.count[nodes]
        within = ramps(count)
        self.kids[np.repeat(first, count) + within] = self.kids[np.repeat(old, count) + within]
        self.first[nodes], self.room[nodes] = first, room
        self.kids_used = used

    def _put(self, states: State) -> tuple[int, Index]:
        shape = shapes(states)
        for kind, rows in enumerate(self.states):
            if rows.shapes == shape:
                return kind, rows.append(states)
        self.states.append(Rows(states))
        return len(self.states) - 1, self.states[-1].append(states)

    def _reserve(self, size: int) -> None:
        if size <= len(self.parent):
            return
        more = max(64, size, 2 * len(self.parent)) - len(self.parent)
        for name, kind in COLUMNS.items():
            setattr(self, name, np.concatenate([getattr(self, name), np.zeros(more, dtype=kind)]))


def ramps(counts: Index) -> Index:
    """0 .. count - 1 for each count, one after the other."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


def plant(root: State, seed: int = 0, value: float = 0.0, chance: bool = False, key: Keys | None = None) -> Tree:
    """A tree of one node.

    root: a state with a batch of 1. value: an estimate of what follows it. chance: whether the root is a chance node.
    key: the root's key instead of one made from the seed.
    """
    if any(len(tensor) != 1 for tensor in tensors(root)) or not tensors(root):
        raise ValueError(
            f"the root state holds tensors of batch {[len(t) for t in tensors(root)]}, expected 1 in each:"
            " use state[:1]"
        )
    tree = Tree()
    tree.append(
        root, 1, parent=-1, key=root_key(seed) if key is None else key, visits=1, total=value, best=value,
        estimate=value, discount=1.0, weight=1.0, chance=chance,
    )  # fmt: skip
    return tree


def search(
    expand: Expand, tree: Tree, options: SearchOptions | None = None, budget: int | None = None
) -> Iterator[Tree]:
    """Grow the tree, batch after batch, and yield it (always the same object) after each.

    budget: how many walks; each walk adds one node or visits one end. None: until the caller stops. A batch may be
    smaller than asked where the tree has not yet room for so many new nodes; the first ones always are.
    """
    if budget is not None and budget < 1:
        raise ValueError(f"budget is {budget}, expected at least 1 walk, or None to go on until you stop")
    return _search(expand, tree, SearchOptions() if options is None else options, budget)


def _search(expand: Expand, tree: Tree, options: SearchOptions, budget: int | None) -> Iterator[Tree]:
    done = 0
    while (budget is None or done < budget) and not tree.ended[0]:
        found = select(tree, options, options.batch if budget is None else min(options.batch, budget - done))
        fresh = attach(tree, expand, options, found) if len(found.parents) else np.zeros(0, dtype=np.int64)
        back_up(tree, options, found, fresh)
        done += len(found.parents) + int(found.end_counts.sum())
        tree.walks += len(found.parents) + int(found.end_counts.sum())
        yield tree


@dataclass(frozen=True)
class Selection:
    """Where a batch of walks went: nodes level by level, parents (n,) that get a child each, ends and their visits."""

    levels: list[Index]
    parents: Index
    ends: Index
    end_counts: Index


def select(tree: Tree, options: SearchOptions, batch: int) -> Selection:
    """Send `batch` walks down from the root, all together; those that find no room stay at home."""
    nodes, walkers = np.zeros(1, dtype=np.int64), np.full(1, batch)
    levels: list[Index] = []
    parents: list[Index] = []
    ends: list[Index] = []
    end_counts: list[Index] = []
    while len(nodes):
        levels.append(nodes)
        over = tree.ended[nodes]
        if over.any():
            ends.append(nodes[over])
            end_counts.append(walkers[over])
            nodes, walkers = nodes[~over], walkers[~over]
        visits, have = tree.visits[nodes] + walkers, tree.count[nodes]
        allowed = options.decisions.allowed(visits, tree.over[nodes])
        chance = tree.chance[nodes]
        if chance.any():
            allowed = np.where(chance, options.outcomes.allowed(visits, tree.over[nodes]), allowed)
        fresh = np.clip(allowed - tree.draws[nodes], 0, walkers)
        parents.append(np.repeat(nodes, fresh))
        left = np.where(have > 0, walkers - fresh, 0)
        on = left > 0
        nodes, walkers = spread(tree, options, nodes[on], left[on])
    empty = [np.zeros(0, dtype=np.int64)]
    return Selection(
        levels, np.concatenate(parents + empty), np.concatenate(ends + empty), np.concatenate(end_counts + empty)
    )


def spread(tree: Tree, options: SearchOptions, nodes: Index, walkers: Index) -> tuple[Index, Index]:
    """Spread the walkers of each node over its children: (children, walkers of each).

    Each walker goes where the score is highest, with the visits of those before it counted. Scores fall with visits, so
    these are simply the highest of all scores (child, 0, 1, 2, ... visits more), found without a loop over walkers.

    Decision: PUCT (Rosin, 2011; Silver et al., 2017), worth + exploration * share * sqrt(children * visits) / (1 +
    visits of the child). The factor sqrt(children) keeps exploring alive while children grow in number: without it the
    bonus of one of sqrt(visits) children would stand still. Chance: the outcome with the fewest visits for its weight.
    """
    if not len(nodes):
        return nodes, walkers
    kids, there = tree.families(nodes)
    visits = tree.visits[kids].astype(np.float64)
    chance = tree.chance[nodes]
    weight = np.where(there, tree.weight[kids], 0.0)
    worth = tree.worth(kids, options.by)
    if options.normalise:
        worth = (worth - tree.low) / (tree.high - tree.low) if tree.high > tree.low else np.zeros_like(worth)
    worth = np.where(there, worth, -np.inf)
    parents = (tree.visits[nodes] + walkers) * tree.count[nodes]
    bonus = weight / weight.sum(axis=1, keepdims=True) * (options.exploration * np.sqrt(parents))[:, None]

    def scores(rows: NDArray[np.bool_], more: int) -> Floats:
        """Scores with 0, 1, ... visits more: (rows, children, more)."""
        counted = visits[rows][:, :, None] + np.arange(more)
        table: Floats = worth[rows][:, :, None] + bonus[rows][:, :, None] / (1 + counted)
        if chance[rows].any():
            with np.errstate(divide="ignore"):
                seen = -(counted + 0.5) / weight[rows][:, :, None]
            table = np.where(chance[rows][:, None, None], seen, table)
        return table

    sent = np.zeros_like(kids)
    single = walkers == 1
    if single.any():
        sent[np.flatnonzero(single), scores(single, 1)[:, :, 0].argmax(axis=1)] = 1
    many = np.flatnonzero(~single)
    # A small table first: a larger one is needed only where a child took all that the table had for it.
    most = int(walkers[many].max(initial=0))
    columns = min(most, 8)
    while columns:
        given = highest(scores(~single, columns).reshape(len(many), -1), walkers[many])
        given = given.reshape(len(many), -1, columns).sum(axis=2)
        if columns == most or given.max() < columns:
            sent[many] = given
            break
        columns = min(most, 4 * columns)
    reached = sent > 0
    return kids[reached], sent[reached]


def highest(table: Floats, counts: Index) -> NDArray[np.bool_]:
    """Where the `counts` (n,) highest of each row of a table (n, m) are; among equals the first.

    As a stable argsort says, but values alone are sorted much faster.
    """
    last = np.sort(table, axis=1)[np.arange(len(table)), np.maximum(table.shape[1] - counts, 0)][:, None]
    above, equal = table > last, table == last
    left = counts[:, None] - above.sum(axis=1, keepdims=True)
    found: NDArray[np.bool_] = above | (equal & (np.cumsum(equal, axis=1) <= left))
    return found


def attach(tree: Tree, expand: Expand, options: SearchOptions, found: Selection) -> Index:
    """Expand all selected leaves, one call for each shape of state; the nodes that were drawn, new or not."""
    fresh: list[Index] = []
    kinds = tree.kind[found.parents]
    for kind in np.unique(kinds):
        parents = np.sort(found.parents[kinds == kind], kind="stable")
        _, sizes = np.unique(parents, return_counts=True)
        slots = tree.draws[parents] + ramps(sizes)
        keys = child_keys(tree.key[parents], slots)
        leaves = Leaves(tree.state(parents), keys, slots, tree.chance[parents], tree.depth[parents])
        with torch.no_grad():
            children = expand(leaves)
        tree.calls += 1
        fresh.append(enter(tree, options, parents, leaves, children))
    return np.unique(np.concatenate(fresh))


def enter(tree: Tree, options: SearchOptions, parents: Index, leaves: Leaves, children: Children) -> Index:
    """Check what `expand` gave and make nodes of it."""
    count = len(leaves)
    rewards = column("rewards", children.rewards, count)
    values = column("values", children.values, count)
    weights = np.ones(count) if children.weights is None else column("weights", children.weights, count)
    if (weights <= 0).any():
        raise ValueError("expand gave weights of 0 or less, expected prior weights above 0")
    no = torch.zeros(count, dtype=torch.bool)
    ended = column("ended", no if children.ended is None else children.ended, count).astype(np.bool_)
    chance = column("chance", no if children.chance is None else children.chance, count).astype(np.bool_)
    batches = {len(tensor) for tensor in tensors(children.states)}
    if batches != {count}:
        raise ValueError(f"expand gave states of batch {sorted(batches)} for {count} leaves, expected one for each")
    depth = leaves.depth + 1
    if options.depth is not None:
        ended = ended | (depth >= options.depth)
    drawn, labels = np.full(count, -1), np.full(count, -1)  # the node of each draw
    first = np.arange(count)
    if children.labels is not None:
        labels = column("labels", children.labels, count).astype(np.int64)
        kids, there = tree.families(parents)
        same = there & (tree.label[kids] == labels[:, None])
        known = same.any(axis=1)
        drawn[known] = kids[known, same[known].argmax(axis=1)]
        _, first, back = np.unique(np.stack([parents, labels]), axis=1, return_index=True, return_inverse=True)
        new = ~known[first]
        numbers = np.where(new, tree.size + np.cumsum(new) - 1, -1)
        drawn = np.where(known, drawn, numbers[back.reshape(-1)])
        first = first[new]
    else:
        drawn = tree.size + first
    states = children.states if len(first) == count else children.states[torch.from_numpy(first)]
    nodes = tree.append(
        states, len(first), parent=parents[first], slot=leaves.slots[first], depth=depth[first], key=leaves.keys[first],
        best=values[first], estimate=values[first], reward=rewards[first], weight=0.0, chance=chance[first],
        discount=np.where(chance[first], 1.0, options.discount), ended=ended[first], label=labels[first],
    )  # fmt: skip
    tree.adopt(parents[first], nodes)
    np.add.at(tree.weight, drawn, weights)
    np.add.at(tree.draws, parents, 1)
    np.add.at(tree.over, parents, tree.ended[drawn])
    # A child that is known already is visited once more, with what is known of it.
    known_already = tree.visits[drawn] > 0
    mean = tree.total[drawn] / np.maximum(tree.visits[drawn], 1)
    np.add.at(tree.new_visits, drawn, 1)
    np.add.at(tree.new_total, drawn, np.where(known_already, mean, tree.estimate[drawn]))
    return drawn


def column(name: str, tensor: Tensor, count: int) -> Floats:
    """One finite number for each leaf, or an error that says what it is instead."""
    if tensor.shape != (count,):
        raise ValueError(f"expand gave {name} of shape {tuple(tensor.shape)}, expected ({count},): one for each leaf")
    numbers: Floats = tensor.detach().cpu().numpy().astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"expand gave {name} that are NaN or infinite")
    return numbers


def back_up(tree: Tree, options: SearchOptions, found: Selection, fresh: Index) -> None:
    """Carry visits and returns from the new nodes and the ends up to the root, and renew the best values."""
    tree.new_visits[found.ends] += found.end_counts
    tree.new_total[found.ends] += found.end_counts * tree.estimate[found.ends]
    height = tree.depth[fresh]
    for depth in range(len(found.levels), -1, -1):
        here = fresh[height == depth]
        if depth < len(found.levels):
            inner = found.levels[depth]
            renew(tree, options, inner[tree.count[inner] > 0])
            here = np.union1d(inner, here)
        visits, total = tree.new_visits[here], tree.new_total[here]
        tree.visits[here] += visits
        tree.total[here] += total
        tree.new_visits[here], tree.new_total[here] = 0, 0.0
        if depth == 0:
            break
        parents = tree.parent[here]
        np.add.at(tree.new_visits, parents, visits)
        np.add.at(tree.new_total, parents, tree.reward[here] * visits + tree.discount[here] * total)
        worth = tree.worth(here[~tree.chance[parents]], options.by)
        if not len(worth):
            continue
        tree.low, tree.high = min(tree.low, worth.min()), max(tree.high, worth.max())


def renew(tree: Tree, options: SearchOptions, nodes: Index) -> None:
    """Back up the best values of nodes whose children are up to date."""
    if not len(nodes):
        return
    kids, there = tree.families(nodes)
    worth = tree.worth(kids)
    chance = tree.chance[nodes]
    trusted = there
    if options.trust > 0:
        visits = np.where(there, tree.visits[kids], 0)
        trusted = there & (visits >= options.trust * visits.max(axis=1, keepdims=True))
    best = np.where(trusted, worth, -np.inf).max(axis=1)
    if options.keep_estimates:
        best = np.maximum(best, tree.estimate[nodes])
    if chance.any():
        weight = np.where(there, tree.weight[kids], 0.0)
        best = np.where(chance, (weight * worth).sum(axis=1) / weight.sum(axis=1), best)
    tree.best[nodes] = best


def choose(tree: Tree, node: int = 0, by: By = By.BEST, trust: float = 0.0) -> int:
    """The child to take from a node; among equals the most visited, then the first.

    trust: only children with this share of the most visited one's visits can be chosen.
    """
    children = tree.children(node)
    if not len(children):
        raise ValueError(f"node {node} has no children yet: search before you choose")
    visits = tree.visits[children]
    worth = np.where(visits >= trust * visits.max(), tree.worth(children, by), -np.inf)
    return int(children[np.lexsort((-np.arange(len(children)), visits, worth))[-1]])


def principal_path(tree: Tree, by: By = By.BEST, trust: float = 0.0) -> list[int]:
    """Nodes from the root down: the chosen decision, and of outcomes the likeliest (the most visited)."""
    path = [0]
    while tree.count[path[-1]]:
        node = path[-1]
        path.append(choose(tree, node, By.VISITS) if tree.chance[node] else choose(tree, node, by, trust))
    return path


def choice_law(tree: Tree, strength: float, by: By = By.BEST) -> Floats:
    """Probabilities of the root's children (n,): prior weight times exp(strength * expected return), normalised.

    The expectation is inside the exponential; tilting by the returns themselves would choose like a gambler. By.BEST is
    the mean over outcomes at a chance node; By.MEAN is diluted by what nodes were thought worth when they were new.
    """
    children = tree.children(0)
    if not len(children):
        raise ValueError("the root has no children yet: search before you choose")
    worth = tree.worth(children, by)
    law = tree.weight[children] * np.exp(strength * (worth - worth.max()))
    probabilities: Floats = law / law.sum()
    return probabilities


def reroot(tree: Tree, node: int, state: State | None = None) -> Tree:
    """A new tree of what lies under `node`, which becomes the root; keys, values and visits stay as they are.

    state: what the root holds from now on, for example the posterior after the true outcome. What was imagined below
    stays imagined from the old state; new children of the root come from the new one.
    """
    if not 0 <= node < len(tree):
        raise ValueError(f"node {node} is not in a tree of {len(tree)} nodes")
    kept = np.zeros(len(tree), dtype=np.bool_)
    level = np.array([node])
    while len(level):
        kept[level] = True
        kids, there = tree.families(level)
        level = kids[there]
    nodes = np.flatnonzero(kept)
    new = Tree()
    new._reserve(len(nodes))
    for name in COLUMNS:
        getattr(new, name)[: len(nodes)] = getattr(tree, name)[nodes]
    new.size = len(nodes)
    number = np.cumsum(kept) - 1
    new.parent[1 : new.size] = number[new.parent[1 : new.size]]
    new.depth[: new.size] -= tree.depth[node]
    new.parent[0], new.slot[0], new.reward[0], new.discount[0], new.weight[0] = -1, 0, 0.0, 1.0, 1.0
    new.label[0] = 0
    new.first[:] = new.room[:] = new.count[:] = 0
    for kind, rows in enumerate(tree.states):
        here = np.flatnonzero(new.kind[: new.size] == kind)
        new.states.append(Rows(rows.like))
        new.row[here] = new.states[-1].append(rows.gather(tree.row[nodes[here]]))
    if new.size > 1:
        order = np.argsort(new.parent[1 : new.size], kind="stable") + 1
        new.adopt(new.parent[order], order)
        nodes = np.arange(1, new.size)
        worth = new.worth(nodes[~new.chance[new.parent[nodes]]])
        new.low, new.high = worth.min(initial=np.inf), worth.max(initial=-np.inf)
    new.walks = int(new.visits[0]) - 1
    if state is not None:
        new.kind[0], rows_of_root = new._put(state)
        new.row[0] = rows_of_root[0]
    return new
