"""The token of a plan is an action and its consequence, for several steps at once: [a, r, o'].

The observation before the first action is known already, so it does not belong to the token (Chen et al., 2024).
`observation_first` is the other layout, Diffuser's [o, a, r] (Janner et al., 2022), to compare with. The
condition of a token is the road ahead: some points of a way, seen from the point of it that the body has reached.
At a goal all of these are 0, so one more value says that there is a road: 1, or 0 where none is told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .stories import Story, end_of

WAVES = 4


@dataclass(frozen=True)
class PlanTokens:
    """Values of a token, each of about unit size.

    steps: K world steps in a token. axes: P of positions, actions and, where `limit` is above 0, velocities. speed:
    distance of one step at full speed; limit: the highest velocity, 0 without inertia. middle: (P,), extent: where
    positions are. near: a reward is to be this close to the goal. reaches: how far ahead the points of the road are
    that a condition shows, in full-speed tokens. observation_first: the landing is where the token began, which is
    known of a plan's first token and sampled with the actions of the others.

    A token: K actions, the share of its steps that are near the goal, K positions from where it began, then the
    landing: its last position as it is and in sines of several wavelengths, its velocity, and how far it is off the
    road.
    """

    steps: int
    axes: int
    speed: float
    limit: float
    middle: tuple[float, ...]
    extent: float
    near: float
    reaches: tuple[float, ...] = (0.75, 1.5, 2.5, 4.0)
    observation_first: bool = False

    @property
    def stride(self) -> float:
        """Distance of one token at full speed."""
        return self.steps * self.speed

    @property
    def observation_size(self) -> int:
        """Values of an observation: positions and, if there are any, velocities."""
        return self.axes * (2 if self.limit else 1)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Values of actions, reward, path and landing."""
        landing = self.axes * (2 + 2 * WAVES + (1 if self.limit else 0))
        return self.steps * self.axes, 1, self.steps * self.axes, landing

    @property
    def size(self) -> int:
        """Values of a token."""
        return sum(self.sizes)

    @property
    def parts(self) -> tuple[int, ...]:
        """Parts with noise levels of their own: all before the landing, and the landing."""
        return sum(self.sizes[:3]), self.sizes[3]

    @property
    def condition_size(self) -> int:
        """Values of a condition."""
        return len(self.reaches) * self.axes + 2

    def of_story(self, story: Story, first: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, D) and conditions (B, T, C) of the stories from step `first` (B,) on, which may be -steps.

        Before its story begins a body stays where it is: so a plan can begin where the story does. The first token's
        condition is the second's: it stands for the observation that a plan begins with.
        """
        count, steps, axes = len(first), self.steps, self.axes
        when = first[:, None] + torch.arange(tokens * steps)
        rows = torch.arange(count)[:, None]
        begun, passed = when >= 0, (when + 1).clamp(min=0)
        after = story.observations[rows, passed]
        begin = when[:, ::steps].clamp(min=0)
        goal = story.way[:, -1]
        seen = begin if self.observation_first else passed[:, steps - 1 :: steps]
        landing = story.observations[rows, seen]
        values = self.join(
            actions=torch.where(begun[..., None], story.actions[rows, when.clamp(min=0)], 0.0),
            near=((after[..., :axes] - goal[:, None]).norm(dim=-1) <= self.near).float(),
            path=(after[..., :axes].unflatten(1, (tokens, steps)) - story.observations[rows, begin][:, :, None, :axes]),
            landing=landing,
            off=on_way(story.way, story.progress[rows, seen]) - landing[..., :axes],
        )
        conditions = self.condition(story.way, story.progress[rows, begin], story.spacing)
        if not self.observation_first:
            # The first token stands for what is known before a plan; all that is known then is the road from there on.
            conditions[:, 0] = conditions[:, min(1, tokens - 1)]
        return values, conditions

    def join(self, actions: Tensor, near: Tensor, path: Tensor, landing: Tensor, off: Tensor) -> Tensor:
        """actions (B, T K, P), near (B, T K), path (B, T, K, P), landing (B, T, O), off (B, T, P) -> (B, T, D)."""
        tokens = landing.shape[1]
        rewards = 2 * near.unflatten(1, (tokens, self.steps)).mean(-1, keepdim=True) - 1
        return torch.cat(
            [
                actions.unflatten(1, (tokens, self.steps)).flatten(2) / 0.6,
                rewards,
                path.flatten(2) / (0.5 * self.stride),
                self.landing(landing, off),
            ],
            dim=-1,
        )

    def landing(self, observation: Tensor, off: Tensor) -> Tensor:
        """Observations (..., O) and the vectors to the road (..., P) as the last part of a token."""
        position = (observation[..., : self.axes] - torch.tensor(self.middle)) / self.extent
        angles = position[..., None] * (math.pi * 2.0 ** torch.arange(WAVES))
        pieces = [2 * position, angles.sin().flatten(-2), angles.cos().flatten(-2), off / (0.25 * self.stride)]
        if self.limit:
            pieces.append(observation[..., self.axes :] / (0.5 * self.limit))
        return torch.cat(pieces, dim=-1)

    def condition(self, way: Tensor, progress: Tensor, spacing: float) -> Tensor:
        """The road ahead of points `progress` (B, T) of ways (B, n, P): (B, T, C); zeros stand for no road at all."""
        here = on_way(way, progress)
        last = way.shape[1] - 1
        seen = [
            (on_way(way, (progress + round(reach * self.stride / spacing)).clamp(max=last)) - here)
            / (reach * self.stride)
            for reach in self.reaches
        ]
        left = (end_of(way, spacing)[:, None] - progress).clamp(min=0) * spacing / (max(self.reaches) * self.stride)
        left = 2 * left.clamp(max=1)[..., None]
        return torch.cat([*seen, left, torch.ones_like(left)], dim=-1)

    def untold(self, tokens: Tensor, condition: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, D) and conditions (B, T, C) whose `rows` (B,) bool are not told their road.

        How far a landing is off the road goes with it: who is exactly on it has mostly arrived.
        """
        tokens = tokens.clone()
        first = self.parts[0] + self.axes * (1 + 2 * WAVES)
        off = tokens[..., first : first + self.axes]
        off[rows] = 0.0
        return tokens, torch.where(rows[:, None, None], 0.0, condition)

    def known(self, observation: Tensor, off: Tensor) -> tuple[Tensor, Tensor]:
        """What is known before a plan, an observation (B, O), as a token (B, 1, D) and its levels (B, 1, D).

        What led to it is not known: level 1.
        """
        before, landing = self.parts
        token = torch.cat([observation.new_zeros(len(observation), before), self.landing(observation, off)], dim=1)
        levels = torch.cat([torch.ones(before), torch.zeros(landing)]).to(observation)
        return token[:, None], levels.expand(len(observation), 1, -1)

    def actions(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T, D) -> actions (B, T K, P)."""
        actions: Tensor = (0.6 * tokens[..., : self.sizes[0]]).unflatten(-1, (self.steps, self.axes)).flatten(1, 2)
        return actions

    def reward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T, D) -> (B, T), steps near the goal in each token."""
        return self.steps * (tokens[..., self.sizes[0]] + 1) / 2

    def velocity(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T, D) -> velocities at their landings (B, T, P); of a body that has none, none (B, T, 0)."""
        return 0.5 * self.limit * tokens[..., self.size - (self.axes if self.limit else 0) :]

    def moved(self, tokens: Tensor, shift: Tensor) -> Tensor:
        """Tokens (B, T, D) that begin somewhere else by `shift` (B, P): the first one's path leads there first."""
        first = self.sizes[0] + self.sizes[1]
        path = slice(first, first + self.sizes[2])
        tokens = tokens.clone()
        tokens[:, 0, path] += (shift / (0.5 * self.stride)).repeat(1, self.steps)
        return tokens

    def thrown(self, tokens: Tensor, shift: Tensor) -> Tensor:
        """Tokens (B, T, D) whose very last step leads somewhere else by `shift` (B, P)."""
        last = self.sizes[0] + self.sizes[1] + self.sizes[2] - self.axes
        tokens = tokens.clone()
        tokens[:, -1, last : last + self.axes] += shift / (0.5 * self.stride)
        return tokens

    def positions(self, tokens: Tensor, start: Tensor) -> Tensor:
        """Tokens (B, T, D) after positions (B, P) -> positions (B, T K, P), differentiable."""
        first = self.sizes[0] + self.sizes[1]
        path = tokens[..., first : first + self.sizes[2]].unflatten(-1, (self.steps, self.axes)) * (0.5 * self.stride)
        begins = torch.cat([torch.zeros_like(path[:, :1, -1]), path[:, :-1, -1].cumsum(1)], dim=1)
        positions: Tensor = (path + begins[:, :, None] + start[:, None, None]).flatten(1, 2)
        return positions


def on_way(way: Tensor, index: Tensor) -> Tensor:
    """Points (B, T, P) of ways (B, n, P) at `index` (B, T)."""
    return way.gather(1, index[..., None].expand(-1, -1, way.shape[-1]))
