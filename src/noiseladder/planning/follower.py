"""Roads and body without a network: what the stories do, done directly. The ablation of everything that is learned."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .knowledge import Knowledge


@dataclass(frozen=True)
class Follower:
    """Goes along the recorded roads by the learned body law, for `steps` steps before it looks again.

    It has one way of moving, no distribution: it cannot be guided, asked for another future, or told what is likely.
    """

    knowledge: Knowledge
    steps: int = 8

    def plan(self, observation: Tensor, goal: Tensor) -> Tensor:
        """observation (B, O), goal (B, P) -> actions (B, steps, P)."""
        stories = self.knowledge.stories
        observation, goal = observation.float(), goal.float()
        way = self.knowledge.roads.way(observation[:, : self.knowledge.body.axes], goal, stories.spacing)
        return stories.follow(way, observation, self.steps).actions
