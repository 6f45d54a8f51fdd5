"""A planner samples what it will do and what will come of it, does the beginning, looks, and plans again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noiseladder.diffusion.denoiser import Denoiser, Denoises
from noiseladder.diffusion.sampling import DDIM, Step, final, sample
from noiseladder.diffusion.scheduling_matrix import full_sequence
from noiseladder.diffusion.state import State

from .keyed_noise import EpisodeKeys, child_keys, normal
from .knowledge import Knowledge
from .pinned import Pinned
from .plan_tokens import on_way

Guide = Callable[[Denoises, "Context"], Denoises]
"""Wraps the denoiser for one plan: guidance is a denoiser around a denoiser."""


@dataclass(frozen=True)
class Context:
    """What a guide is told: where plans begin (B, O), their goals (B, G) and the knowledge to read tokens with.

    first: (B, 1, D), a plan's first token, of which the landing is known, where tokens begin with their observation.
    """

    observation: Tensor
    goal: Tensor
    knowledge: Knowledge
    first: Tensor | None = None

    def positions(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T, D) -> positions (B, T K, P), differentiable."""
        axes = self.knowledge.tokens.axes
        repeats = len(tokens) // len(self.observation)
        return self.knowledge.tokens.positions(tokens, self.observation[:, :axes].repeat_interleave(repeats, dim=0))


@dataclass(frozen=True)
class Plan:
    """tokens (B, T, D), positions (B, T K, P), rewards (B, T); actions (B, h, A), those to do before planning again.

    way: (B, n, P), the road that was the condition.
    """

    tokens: Tensor
    positions: Tensor
    rewards: Tensor
    actions: Tensor
    way: Tensor


class Planner:
    """Plans with a causal denoiser; `plan(observation, goal)` is all that an evaluator needs.

    horizon: tokens in a plan, or None for as many as the way to the goal takes. execute: tokens to do before planning
    again. steps: denoising steps. matrix: (tokens, steps) -> scheduling matrix. road: whether the way along recorded
    roads is the plan's condition; without it the model follows its own mind and `guide`. guide: wraps the denoiser.
    warm: the level to which the rest of the last plan is noised to begin the next one, None to begin from noise;
    `reset` forgets the last plan. seed: of all noise.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        knowledge: Knowledge,
        horizon: int | None = None,
        execute: int = 1,
        steps: int = 2,
        matrix: Callable[[int, int], Tensor] = full_sequence,
        road: bool = True,
        guide: Guide | None = None,
        warm: float | None = None,
        step: Step = DDIM,
        seed: int = 0,
    ) -> None:
        if execute < 1 or steps < 1 or (horizon is not None and horizon < execute):
            raise ValueError(
                f"horizon {horizon}, execute {execute}, steps {steps}: expected at least 1 step, and a horizon that is"
                " as long as what is executed"
            )
        if warm is not None and not 0 < warm <= 1:
            raise ValueError(f"warm is {warm}, expected a level in (0, 1], or None to plan from pure noise")
        self.denoiser, self.knowledge = denoiser, knowledge
        self.horizon, self.execute, self.steps, self.matrix = horizon, execute, steps, matrix
        self.road, self.guide, self.warm, self.step = road, guide, warm, step
        self.keys = EpisodeKeys(seed)
        self.last: Plan | None = None

    def reset(self, episodes: int) -> None:
        """Forget the last plan: new episodes begin."""
        self.keys.reset(episodes)
        self.last = None

    def plan(self, observation: Tensor, goal: Tensor) -> Plan:
        """observation (B, O), goal (B, P) -> a plan. Raises ValueError for what does not fit or was never visited."""
        condition, state, context, way = self.ask(observation, goal)
        return self.keep(self.sample(condition, state, context), context, way)

    def watch(self, observation: Tensor, goal: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """`plan`, seen at every row of its matrix: levels of the tokens (T,) and positions (B, T K, P), first noise.

        The plan itself is in `last` when the iterator has ended.
        """
        condition, state, context, way = self.ask(observation, goal)
        matrix, rows = self.rows(condition, state, context)
        for levels, found in zip(matrix, rows, strict=True):
            yield levels, context.positions(found)
        self.keep(found, context, way)

    def ask(self, observation: Tensor, goal: Tensor) -> tuple[Tensor, State, Context, Tensor]:
        """What a plan is sampled with: condition (B, T, C), the state after what is known, context, and the way."""
        self.check(observation, goal)
        tokens, stories = self.knowledge.tokens, self.knowledge.stories
        observation, goal = observation.float(), goal.float()
        position = observation[:, : tokens.axes]
        way = self.knowledge.roads.way(position, goal, stories.spacing)
        horizon = self.horizon or math.ceil(way.shape[1] * stories.spacing / tokens.stride) + 1
        condition, off = road_ahead(self.knowledge, way, observation, horizon)
        if not self.road:
            condition, off = torch.zeros_like(condition), torch.zeros_like(off)
        known, levels = tokens.known(observation, off)
        if tokens.observation_first:
            state = self.denoiser.initial_state(len(observation))
            return condition, state, Context(observation, goal, self.knowledge, known), way
        with torch.no_grad():
            state = self.denoiser.observe(known, condition[:, :1], None, levels)
        return condition, state, Context(observation, goal, self.knowledge), way

    def keep(self, found: Tensor, context: Context, way: Tensor) -> Plan:
        """Tokens (B, T, D) read as a plan, which becomes the last one."""
        tokens = self.knowledge.tokens
        self.last = Plan(
            found,
            context.positions(found),
            tokens.reward(found),
            tokens.actions(found)[:, : self.execute * tokens.steps],
            way,
        )
        return self.last

    def sample(self, condition: Tensor, state: State, context: Context) -> Tensor:
        """Tokens (B, T, D) of plans with this condition (B, T, C) after this state."""
        return final(self.rows(condition, state, context)[1])

    def rows(self, condition: Tensor, state: State, context: Context) -> tuple[Tensor, Iterator[Tensor]]:
        """The scheduling matrix of these plans, and their tokens (B, T, D) at each row of it."""
        count, horizon = condition.shape[:2]
        noise, denoiser = self.noise(count, horizon), self.guided(context, horizon)
        matrix, given = self.matrix(horizon, self.steps), None
        if self.warm is not None and self.last is not None and len(self.last.tokens) == count:
            kept = self.last.tokens[:, self.execute :][:, :horizon]
            again = kept.shape[1]
            if again:
                given = torch.arange(horizon) < again
                matrix = torch.where(given, matrix * self.warm, matrix)
                levels = torch.full((count, again), self.warm)
                noise[:, :again] = self.denoiser.schedule.mix(kept, noise[:, :again], levels)
        return matrix, sample(denoiser, noise, matrix, condition, state, self.step, given)

    def guided(self, context: Context, horizon: int) -> Denoises:
        """The denoiser of plans of `horizon` tokens: it knows what is known, and is guided if that is wanted."""
        denoiser: Denoises = self.denoiser
        if context.first is not None:
            known = torch.nn.functional.pad(context.first, (0, 0, 0, horizon - 1))
            where = torch.zeros_like(known, dtype=torch.bool)
            where[:, 0, self.knowledge.tokens.parts[0] :] = True
            denoiser = Pinned(denoiser, known, where)
        return denoiser if self.guide is None else self.guide(denoiser, context)

    def noise(self, count: int, horizon: int) -> Tensor:
        """Noise (B, T, D) that belongs to an episode, the number of its plan and the token, whatever the batch.

        Also however long the plan: in a batch it is as long as the longest.
        """
        keys = child_keys(self.keys.next(count).repeat(horizon), np.tile(np.arange(horizon), count))
        return normal(keys, (self.knowledge.tokens.size,)).view(count, horizon, -1)

    def check(self, observation: Tensor, goal: Tensor) -> None:
        """Raise ValueError unless these are finite observations and goals of the shapes that were learned."""
        tokens = self.knowledge.tokens
        for name, given, wanted in (("observation", observation, tokens.observation_size), ("goal", goal, tokens.axes)):
            if given.ndim != 2 or given.shape[1] != wanted:
                raise ValueError(
                    f"{name} has shape {tuple(given.shape)}, expected (B, {wanted}): the model was trained on"
                    f" {self.knowledge.source or 'another recording'}"
                )
            if not bool(torch.isfinite(given).all()):
                raise ValueError(f"{name} holds NaN or infinite values: a plan begins with what is known")
        if len(observation) != len(goal):
            raise ValueError(f"{len(observation)} observations and {len(goal)} goals: give one goal for each")


def road_ahead(knowledge: Knowledge, way: Tensor, observation: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """The road ahead of observations (B, O) along ways (B, n, P), about as fast as the body can: conditions (B, T, C),
    and the vectors to the road (B, P)."""
    spacing, axes = knowledge.stories.spacing, knowledge.tokens.axes
    progress = expected_progress(knowledge, way, observation, tokens)
    return knowledge.tokens.condition(way, progress, spacing), on_way(way, progress[:, :1])[:, 0] - observation[
        :, :axes
    ]


def expected_progress(knowledge: Knowledge, way: Tensor, observation: Tensor, tokens: int) -> Tensor:
    """Where on ways (B, n, P) a body that begins at observations (B, O) is when each token begins: indices (B, T).

    Each axis has its own full speed, so a piece of the way takes as long as its longest axis; and a body with inertia
    has to gather speed first.
    """
    body, known = knowledge.body, knowledge.tokens
    pieces = (way[:, 1:] - way[:, :-1]).abs().amax(-1)
    marks = torch.cat([torch.zeros_like(pieces[:, :1]), pieces.cumsum(1)], dim=1)
    time = known.steps * torch.arange(tokens, dtype=way.dtype).expand(len(way), -1)
    distance = known.speed * time
    if body.limit is not None:
        ahead = way[:, min(5, way.shape[1] - 1)] - way[:, 0]
        along = ahead / ahead.abs().amax(1, keepdim=True).clamp(min=1e-6)
        share = along.pow(2).sum(1, keepdim=True).clamp(min=1)
        speed = (observation[:, body.axes :] * along).sum(1, keepdim=True) / share
        speed = speed.clamp(-body.limit, body.limit)
        gathering = time.clamp(max=(body.limit - speed) / body.push)
        gathered = body.pace * (speed * gathering + 0.5 * body.push * gathering**2)
        distance = (gathered + known.speed * (time - gathering)).clamp(min=0)
    progress: Tensor = torch.searchsorted(marks, distance.contiguous()).clamp(max=way.shape[1] - 1)
    return progress
