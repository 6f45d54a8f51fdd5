"""Gates are where the recorded body was carried away: where they are, where they lead to, and how often.

A jump is a step much longer than any body's own (`roads.LEAP`); no road leads through it, because where it ends is
chance. Whether a gate is worth going to is a question of expectation: `expected_length` answers it by value iteration
on roads and gates, and the tree (`tree_planner`) by search with chance nodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .recordings import Recording
from .roads import FAR, LEAP, Roads

APART = 3.0
"""Jumps that begin, or end, within this many places' width of one another belong to one gate, or to one exit."""
FEWEST = 5
"""A gate that was entered less often is an accident."""
MOST = 4000
"""Jumps that are looked at."""
ROUNDS = 200


@dataclass(frozen=True)
class Jumps:
    """gates: (G, P), centres of where jumps begin. reach: (G,), how far from it they do. exits: (E, P). chances:
    (G, E), how often each gate leads to each exit; rows sum to 1. G and E may be 0."""

    gates: Tensor
    reach: Tensor
    exits: Tensor
    chances: Tensor

    @classmethod
    def none(cls, axes: int) -> Jumps:
        """Nobody is ever carried away."""
        return cls(torch.zeros(0, axes), torch.zeros(0), torch.zeros(0, axes), torch.zeros(0, 0))

    @classmethod
    def learn(cls, recording: Recording, roads: Roads) -> Jumps:
        """Read gates and exits off a recording whose roads are known."""
        axes = roads.centres.shape[1]
        position = torch.from_numpy(recording.observations[:, :axes]).float()
        follows = torch.from_numpy(~recording.ends[:-1])
        lengths = (position[1:] - position[:-1]).norm(dim=1)
        step = lengths[follows & (lengths > 0)].median()
        jumped = (follows & (lengths > LEAP * step)).nonzero()[:MOST, 0]
        if len(jumped) < FEWEST:
            return cls.none(axes)
        begins, ends = position[jumped], position[jumped + 1]
        gate, exit_ = together(begins, APART * roads.size), together(ends, APART * roads.size)
        table = torch.zeros(int(gate.max()) + 1, int(exit_.max()) + 1)
        table.index_put_((gate, exit_), torch.ones(len(gate)), accumulate=True)
        kept, led = table.sum(1) >= FEWEST, table[table.sum(1) >= FEWEST].sum(0) > 0
        entries = [begins[gate == number] for number in kept.nonzero()[:, 0].tolist()]
        # Not the mean: a gate is entered from where people come from, but it reaches as far on all sides.
        gates = torch.stack([(entry.amin(0) + entry.amax(0)) / 2 for entry in entries])
        reach = torch.stack([(entry - centre).norm(dim=1).max() for entry, centre in zip(entries, gates, strict=True)])
        exits = torch.stack([ends[exit_ == number].mean(0) for number in led.nonzero()[:, 0].tolist()])
        table = table[kept][:, led]
        return cls(gates, reach, exits, table / table.sum(1, keepdim=True))

    def __len__(self) -> int:
        """Number of gates."""
        return len(self.gates)

    def entered(self, position: Tensor) -> Tensor:
        """The gate that carries a body at (B, P) away, (B,); -1 where none does."""
        if not len(self):
            return torch.full((len(position),), -1)
        apart = torch.cdist(position, self.gates) - self.reach
        nearest = apart.argmin(1)
        return torch.where(apart.gather(1, nearest[:, None])[:, 0] <= 0, nearest, -1)

    def dead_ends(self, roads: Roads) -> Tensor:
        """(E,) bool: exits from which nobody was ever seen to get anywhere."""
        dead: Tensor = roads.apart(self.exits) > FAR * roads.size
        return dead

    def expected_length(self, roads: Roads, position: Tensor, goal: Tensor, lost: float = math.inf) -> Tensor:
        """(B, P), (B, P) -> (B,), expected length of the best way, jumps included: value iteration.

        lost: what it costs to end at an exit that leads nowhere, as a length.
        """
        length = roads.length(position, goal)
        if not len(self):
            return length
        count, gates, exits, dead = len(goal), len(self.gates), len(self.exits), self.dead_ends(roads)
        onward = roads.length(self.exits.repeat(count, 1), goal.repeat_interleave(exits, dim=0)).view(count, exits)
        onward = torch.where(dead, lost, onward)
        between = roads.length(self.exits.repeat_interleave(gates, dim=0), self.gates.repeat(exits, 1))
        between = torch.where(dead[:, None], torch.inf, between.view(exits, gates))

        def through(best: Tensor) -> Tensor:
            """What is expected at each gate, (B, G)."""
            return torch.where(self.chances > 0, self.chances * best[:, None], 0.0).sum(2)

        best = onward
        for _ in range(ROUNDS):
            best = torch.minimum(onward, (between + through(best)[:, None]).amin(2))
        to_gates = roads.length(position.repeat_interleave(gates, dim=0), self.gates.repeat(count, 1))
        return torch.minimum(length, (to_gates.view(count, gates) + through(best)).amin(1))


def together(points: Tensor, apart: float) -> Tensor:
    """(N, P) -> (N,) numbers of groups; points nearer than `apart` share one (single linkage)."""
    near = torch.cdist(points, points) < apart
    number = torch.arange(len(points))
    while True:
        lowest = torch.where(near, number, len(points)).amin(1)
        if torch.equal(lowest, number):
            group: Tensor = torch.unique(number, return_inverse=True)[1]
            return group
        number = lowest
