"""A plan that was gone through beforehand: planned again and again in the learned law of the body, then done blindly.

The actions of one long plan, done without looking, drift apart from what the plan foresees. Here each decision is made
from where the body law says that the body will be, so that the whole can be done without planning again. Walls are no
part of that law: it knows what the body does where nothing is in the way.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .knowledge import Knowledge
from .planner import Plan


class PlansAhead(Protocol):
    """Planners whose plans can be joined."""

    def plan(self, observation: Tensor, goal: Tensor) -> Plan:
        """observation (B, O), goal (B, P) -> plans."""
        ...

    def reset(self, episodes: int) -> None:
        """New episodes begin."""
        ...


class Rehearsed:
    """Lets a planner decide `decisions` times in a row, in its head."""

    def __init__(self, planner: PlansAhead, knowledge: Knowledge, decisions: int) -> None:
        if decisions < 1:
            raise ValueError(f"{decisions} decisions to rehearse: expected at least 1")
        self.planner, self.knowledge, self.decisions = planner, knowledge, decisions

    def reset(self, episodes: int) -> None:
        """New episodes begin."""
        self.planner.reset(episodes)

    def plan(self, observation: Tensor, goal: Tensor) -> Plan:
        """observation (B, O), goal (B, P) -> a plan whose actions are all to be done, and positions as the body law has
        them. Raises ValueError as the planner does."""
        known, observation = self.knowledge.tokens, observation.float()
        parts: list[Plan] = []
        positions: list[Tensor] = []
        for _ in range(self.decisions):
            parts.append(self.planner.plan(observation, goal))
            for action in parts[-1].actions.unbind(1):
                observation = self.knowledge.body.step(observation, action)
                positions.append(observation[:, : known.axes])
        done = [part.actions.shape[1] // known.steps for part in parts]
        return Plan(
            torch.cat([part.tokens[:, :count] for part, count in zip(parts, done, strict=True)], dim=1),
            torch.stack(positions, dim=1),
            torch.cat([part.rewards[:, :count] for part, count in zip(parts, done, strict=True)], dim=1),
            torch.cat([part.actions for part in parts], dim=1),
            parts[0].way,
        )
