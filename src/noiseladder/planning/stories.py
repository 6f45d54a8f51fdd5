"""Stories are what the recorded body could have done: its own ways, taken at its own full speed.

The recording says where one can go (`roads`) and how the body answers (`body`). A story goes from anywhere to anywhere
along the recorded roads with actions that the learned body law turns into motion; then it rests at its end. Learning
from stories instead of from the recording itself is what makes a planner faster than its demonstrator. No map, no
simulator and no demonstrator has a part in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .body import Body
from .recordings import Recording
from .roads import Roads, resampled

SIGHT = 24
"""How many points of its way ahead a body looks for the nearest one; no step goes further."""


@dataclass(frozen=True)
class Story:
    """B stories of S steps: observations (B, S + 1, O), actions (B, S, A), and the way they took.

    way: (B, n, P) points, `spacing` apart, their goal at the end. progress: (B, S + 1) the index of the nearest point.
    """

    observations: Tensor
    actions: Tensor
    way: Tensor
    progress: Tensor
    spacing: float


@dataclass(frozen=True)
class Stories:
    """Tells stories.

    roads, body: learned from one recording. sight: how far ahead on its way the body aims, as a range in braking
    distances (or, without inertia, in steps). softness: see `Body.toward`. wobble: standard deviation of the noise on
    actions, which teaches how to come back. kicks: chance of a random velocity in a step.
    """

    roads: Roads
    body: Body
    sight: tuple[float, float] = (1.5, 2.0)
    softness: float = 0.24
    wobble: float = 0.05
    kicks: float = 0.004

    @property
    def top_speed(self) -> float:
        """Way of one step at full speed along an axis."""
        return self.body.push if self.body.limit is None else self.body.pace * self.body.limit

    @property
    def spacing(self) -> float:
        """Distance between two points of a way: one step at full speed."""
        return self.top_speed

    @property
    def braking(self) -> float:
        """What `sight` counts in: the way from full speed to rest, or five steps of a body without inertia."""
        if self.body.limit is None:
            return 2.5 * self.top_speed
        return self.body.pace * self.body.limit**2 / (2 * self.body.push)

    def tell(self, count: int, steps: int, generator: Generator) -> Story:
        """Stories between random points: half begin in motion, all a little off the road, a third near their goal."""
        start, goal = self.roads.anywhere(count, generator), self.roads.anywhere(count, generator)
        way = self.roads.way(start, goal, self.spacing)
        left = (4 * self.braking * torch.rand(count, generator=generator) / self.spacing).long()
        near = torch.rand(count, generator=generator) < 1 / 3
        progress = torch.where(near, (end_of(way, self.spacing) - left).clamp(min=0), 0)
        begin = way[torch.arange(count), progress]
        begin = self.body.at_rest(begin + 0.5 * self.roads.size * torch.randn(begin.shape, generator=generator))
        return self.follow(way, self.kicked(begin, 0.5, generator), steps, generator, progress)

    def follow(
        self,
        way: Tensor,
        observation: Tensor,
        steps: int,
        generator: Generator | None = None,
        progress: Tensor | None = None,
    ) -> Story:
        """Go along ways (B, n, P) from observations (B, O), `progress` (B,) points on. Without a generator there is
        neither wobble nor kick."""
        count, last = len(way), way.shape[1] - 1
        low, high = self.sight
        share = torch.full((count,), 0.5) if generator is None else torch.rand(count, generator=generator)
        ahead = ((low + (high - low) * share) * self.braking / self.spacing).round().long()
        rows = torch.arange(count)
        progress = torch.zeros(count, dtype=torch.long) if progress is None else progress
        observations, actions, passed = [observation], [], [progress]
        progress = nearest_ahead(way, progress, observation[:, : self.body.axes])
        for _ in range(steps):
            target = way[rows, (progress + ahead).clamp(max=last)]
            action = self.body.toward(observation, target, self.softness)
            if generator is not None:
                action = (action + self.wobble * torch.randn(action.shape, generator=generator)).clamp(-1, 1)
            observation = self.body.step(observation, action)
            if generator is not None:
                observation = self.kicked(observation, self.kicks, generator)
            observations.append(observation)
            actions.append(action)
            progress = nearest_ahead(way, progress, observation[:, : self.body.axes])
            passed.append(progress)
        return Story(torch.stack(observations, 1), torch.stack(actions, 1), way, torch.stack(passed, 1), self.spacing)

    def recorded(self, recording: Recording, count: int, steps: int, generator: Generator) -> Story:
        """Pieces of the recording as they are, each with its own smoothed path as its way: the ablation of telling.

        Raises ValueError where no trajectory is `steps` steps long.
        """
        starts = torch.tensor([s for piece in recording.trajectories() for s in range(piece.start, piece.stop - steps)])
        if not len(starts):
            raise ValueError(f"no recorded trajectory is longer than {steps} steps: ask for fewer")
        rows = starts[torch.randint(len(starts), (count,), generator=generator)][:, None] + torch.arange(steps + 1)
        observations = torch.from_numpy(recording.observations)[rows]
        position = observations[..., : self.body.axes]
        window = 15
        padded = torch.nn.functional.pad(position.transpose(1, 2), (window, window), mode="replicate")
        path = torch.nn.functional.avg_pool1d(padded, 2 * window + 1, stride=1).transpose(1, 2)
        way = resampled(path, self.spacing)
        progress = [torch.zeros(count, dtype=torch.long)]
        for now in position.unbind(1)[1:]:
            progress.append(nearest_ahead(way, progress[-1], now))
        actions = torch.from_numpy(recording.actions)[rows[:, :-1]].clamp(-1, 1)
        return Story(observations, actions, way, torch.stack(progress, 1), self.spacing)

    def kicked(self, observation: Tensor, chance: float, generator: Generator) -> Tensor:
        """Some observations with a random velocity; a body without one stays as it is."""
        if self.body.limit is None:
            return observation
        velocity = self.body.limit * (2 * torch.rand(observation[:, self.body.axes :].shape, generator=generator) - 1)
        moved = torch.cat([observation[:, : self.body.axes], velocity], dim=1)
        return torch.where(torch.rand(len(observation), 1, generator=generator) < chance, moved, observation)


def nearest_ahead(way: Tensor, progress: Tensor, position: Tensor) -> Tensor:
    """The index of the nearest of the next points of the way (B, n, P): progress (B,) never goes back."""
    ahead = (progress[:, None] + torch.arange(SIGHT)).clamp(max=way.shape[1] - 1)
    points = way.gather(1, ahead[..., None].expand(-1, -1, way.shape[2]))
    return ahead.gather(1, (points - position[:, None]).norm(dim=-1).argmin(1, keepdim=True))[:, 0]


def end_of(way: Tensor, spacing: float) -> Tensor:
    """(B,) the index at which each way (B, n, P) has come to its goal; copies of the goal follow."""
    before = (way - way[:, -1:]).norm(dim=-1) > 0.5 * spacing
    end: Tensor = (way.shape[1] - before.flip(1).int().argmax(1)) * before.any(1)
    return end
