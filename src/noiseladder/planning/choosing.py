"""Choosing among plans instead of following gradients: the best of n, and particles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.guidance import check_scale
from noiseladder.diffusion.particles import particles
from noiseladder.diffusion.sampling import Step
from noiseladder.diffusion.scheduling_matrix import full_sequence
from noiseladder.diffusion.state import State

from .energies import Energy
from .guides import OfTokens
from .knowledge import Knowledge
from .planner import Context, Guide, Plan, Planner


class BestOf:
    """Samples `count` plans for each observation in one batch and takes the one of lowest energy."""

    def __init__(self, planner: Planner, energy: Energy, count: int = 16) -> None:
        if count < 1:
            raise ValueError(f"best of {count} plans: expected at least 1")
        self.planner, self.energy, self.count = planner, energy, count

    def reset(self, episodes: int) -> None:
        """Forget the last plan: new episodes begin."""
        self.planner.reset(self.count * episodes)

    def plan(self, observation: Tensor, goal: Tensor) -> Plan:
        """observation (B, O), goal (B, P) -> the best plans (B, ...). Raises ValueError as `Planner.plan` does."""
        self.planner.check(observation, goal)
        each = torch.arange(len(observation)).repeat_interleave(self.count)
        found = self.planner.plan(observation[each], goal[each])
        context = Context(observation.float(), goal.float(), self.planner.knowledge)
        with torch.no_grad():
            energy = OfTokens(self.energy, context)(found.tokens).view(len(observation), self.count)
        chosen = energy.argmin(dim=1) + self.count * torch.arange(len(observation))
        # All of the next plans begin from what is really done.
        self.planner.last = rows(found, chosen.repeat_interleave(self.count))
        return rows(found, chosen)


class ParticlePlanner(Planner):
    """Samples plans tilted by exp(-scale * energy) with `count` particles each, and does one drawn by its weight.

    Unbiased where gradients are not (`diffusion.particles`); the other arguments are those of `Planner`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        knowledge: Knowledge,
        energy: Energy,
        count: int = 16,
        scale: float = 1.0,
        horizon: int | None = None,
        execute: int = 1,
        steps: int = 4,
        matrix: Callable[[int, int], Tensor] = full_sequence,
        road: bool = True,
        guide: Guide | None = None,
        seed: int = 0,
    ) -> None:
        if count < 2:
            raise ValueError(f"{count} particles: expected at least 2, for one alone has nothing to be weighed against")
        check_scale(scale)
        super().__init__(denoiser, knowledge, horizon, execute, steps, matrix, road, guide, seed=seed)
        self.energy, self.count, self.scale = energy, count, scale
        # Of choices and renewed noise; the noise that plans begin with belongs to their episodes.
        self.generator = Generator().manual_seed(seed)

    def reset(self, episodes: int) -> None:
        """Forget the last plan: new episodes begin."""
        super().reset(self.count * episodes)

    def sample(self, condition: Tensor, state: State, context: Context) -> Tensor:
        """Tokens (B, T, D) of plans with this condition (B, T, C) after this state."""
        episodes, horizon = condition.shape[:2]
        *_, last = particles(
            self.guided(context, horizon),
            self.noise(episodes * self.count, horizon).unflatten(0, (episodes, self.count)),
            self.matrix(horizon, self.steps),
            OfTokens(self.energy, context),
            Step(eta=1.0, generators=self.generator),
            self.generator,
            self.scale,
            condition,
            state,
        )
        return last.draw(self.generator)


def rows(plan: Plan, chosen: Tensor) -> Plan:
    """Some plans of a batch."""
    return Plan(**{field.name: getattr(plan, field.name)[chosen] for field in fields(plan)})
