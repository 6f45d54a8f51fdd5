"""Random shooting: plans grown by the tree's own proposals, drawn at random and never compared on the way.

What a tree is worth shows against this and not only against the best of n plans along one road: both may turn
wherever the tree may, but only the tree spends its calls where it has seen that they pay.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from .keyed_noise import child_keys, uniform
from .planner import Plan
from .search import Leaves
from .tree_planner import TreePlanner

TURN = 4
"""Stream of a plan's random turns; those below it belong to the tree."""


class Shooting:
    """Grows `count` plans of `depth` nodes for each episode, and does the best of all their beginnings.

    tree: says how plans are grown and judged; its budget is not used. As many nodes are expanded as by a tree whose
    budget is count * depth. What is beyond a gate is drawn at random too.
    """

    def __init__(self, tree: TreePlanner, count: int = 16, depth: int = 24) -> None:
        if count < 1 or depth < 1:
            raise ValueError(f"{count} plans of {depth} nodes: expected at least 1 of each")
        self.tree, self.count, self.depth = tree, count, depth

    def reset(self, episodes: int) -> None:
        """New episodes begin."""
        self.tree.reset(episodes)

    def plan(self, observation: Tensor, goal: Tensor) -> Plan:
        """observation (B, O), goal (B, P) -> plans, all as long as the shortest. Raises ValueError as Planner does."""
        self.tree.checks.check(observation, goal)
        keys = self.tree.keys.next(len(observation))
        found = []
        for row in range(len(observation)):
            part = slice(row, row + 1)
            proposals, root = self.tree.root(row, observation[part].float(), goal[part].float(), keys[part])
            states = root.state(np.zeros(self.count, dtype=np.int64))
            names = child_keys(keys[part].repeat(self.count), np.arange(self.count))
            chance = np.zeros(self.count, dtype=np.bool_)
            best, value = None, -np.inf
            for depth in range(self.depth):
                slots = (uniform(names, stream=TURN)[:, 0] * proposals.turns).astype(np.int64)
                if proposals.jumps is not None:
                    exits = (uniform(names, stream=TURN)[:, 0] * len(proposals.jumps.exits)).astype(np.int64)
                    slots = np.where(chance, exits, slots)
                names = child_keys(names, slots)
                children = proposals(Leaves(states, names, slots, chance, np.full(self.count, depth)))
                states = children.states
                chance = chance & False if children.chance is None else children.chance.numpy()
                highest = int(children.values.argmax())
                if float(children.values[highest]) > value:
                    best, value = states.tokens[highest], float(children.values[highest])  # type: ignore[attr-defined]
            assert best is not None
            found.append(best)
        return self.tree.told(observation.float(), goal.float(), found)
