"""How the body answers to actions, learned from a recording: a law of two or three numbers, exact off contact."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .recordings import Recording

ROUNDS = 6
"""Of fitting and leaving out what does not fit: touching a wall is not the body's own law."""


@dataclass(frozen=True)
class Body:
    """Position and, if the body has one, velocity on P axes that do not mix.

    velocity' = keep * clip(velocity, -limit, limit) + push * action; position' = position + pace * velocity'.
    A body without velocity has position' = position + push * action: keep, pace and limit are then 0, 1 and None.
    pace: position per step and unit of velocity. limit: the fastest the recording knows. misfit: median of the error of
    one step's position and velocity, in units of their mean change: 0 to rounding where the law is exact.
    """

    axes: int
    keep: float
    push: float
    pace: float
    limit: float | None
    misfit: float

    def step(self, observation: Tensor, action: Tensor) -> Tensor:
        """(B, O), (B, P) -> the next observation (B, O), where nothing is in the way."""
        position, velocity = observation[..., : self.axes], observation[..., self.axes :]
        action = action.clamp(-1, 1)
        if self.limit is None:
            return position + self.push * action
        velocity = self.keep * velocity.clamp(-self.limit, self.limit) + self.push * action
        return torch.cat([position + self.pace * velocity, velocity], dim=-1)

    def toward(self, observation: Tensor, target: Tensor, softness: float = 0.24) -> Tensor:
        """The action (B, P) of going to rest at a target (B, P) about as fast as the body can, axis by axis.

        The speed from which it can still brake in the distance left, sqrt(2 push distance / pace), rounded off near
        the target: `softness` is the speed, as a share of the limit, below which braking is gentle.
        """
        error = target - observation[..., : self.axes]
        if self.limit is None:
            return (error / self.push).clamp(-1, 1)
        brake = 2 * 0.97 * self.push / self.pace
        gentle = softness * self.limit
        speed = error.sign() * ((brake * error.abs() + gentle**2).sqrt() - gentle)
        speed = speed.clamp(-self.limit, self.limit)
        hold = (1 - self.keep) / self.push * speed
        return (0.5 * (speed - observation[..., self.axes :]) / self.push + hold).clamp(-1, 1)

    def at_rest(self, position: Tensor) -> Tensor:
        """Positions (B, P) as observations (B, O) without motion."""
        return position if self.limit is None else torch.cat([position, torch.zeros_like(position)], dim=-1)

    @classmethod
    def learn(cls, recording: Recording) -> Body:
        """Fit the law to a recording by least squares, again and again without the steps that do not fit.

        The observation must be positions, or positions and then their velocities, one of each for each action.
        Raises ValueError where it is neither, or where the law explains less than half of the steps.
        """
        observations = torch.from_numpy(recording.observations).double()
        actions = torch.from_numpy(recording.actions).double().clamp(-1, 1)
        axes, size = actions.shape[1], observations.shape[1]
        if size not in (axes, 2 * axes):
            raise ValueError(
                f"observations have {size} values and actions {axes}: this body law needs positions, or positions and"
                f" their velocities, {axes} or {2 * axes} values"
            )
        follows = torch.from_numpy(~recording.ends[:-1])
        before, after, acted = observations[:-1][follows], observations[1:][follows], actions[:-1][follows]
        moved = after[:, :axes] - before[:, :axes]
        typical = moved.abs().mean().item()
        if size == axes:
            push, misfit = _fit(acted.flatten()[:, None], moved.flatten())
            return cls(axes, 0.0, push[0].item(), 1.0, None, _checked(misfit / typical))
        velocity, next_velocity = before[:, axes:], after[:, axes:]
        # The world may clip speeds; its law is read where it does not.
        limit = velocity.abs().max().item()
        slow = (velocity.abs() < 0.8 * limit).flatten()
        pair = torch.stack([velocity.flatten(), acted.flatten()], dim=1)
        law, unexplained = _fit(pair[slow], next_velocity.flatten()[slow])
        change = (next_velocity - velocity).abs().mean().item()
        if not law[1].item() * acted.abs().mean().item() > 0.05 * change:
            raise ValueError(
                f"velocities do not answer to the actions on their axes (a whole action changes them by {law[1]:.2g}, a"
                f" usual step by {change:.2g}): give observations [positions, velocities] and actions on the same axes"
            )
        pace, misfit = _fit(next_velocity.flatten()[:, None], moved.flatten())
        limit = _speed_limit(velocity, acted, next_velocity, law, limit)
        misfit = max(misfit / typical, unexplained / change)
        return cls(axes, law[0].item(), law[1].item(), pace[0].item(), limit, _checked(misfit))


def _fit(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, float]:
    """Least squares without the rows that do not fit: weights, and the median error."""
    chosen = torch.ones(len(inputs), dtype=torch.bool)
    for _ in range(ROUNDS):
        weights = torch.linalg.lstsq(inputs[chosen], outputs[chosen, None]).solution[:, 0]
        error = (outputs - inputs @ weights).abs()
        # Half of all rows always stay; beyond them what is as good as the median, and rounding.
        chosen = error <= 4 * error.median() + 1e-9
    return weights, error.median().item()


def _speed_limit(velocity: Tensor, acted: Tensor, next_velocity: Tensor, law: Tensor, fastest: float) -> float:
    """Where the world clips speeds, if the recording shows it; otherwise the fastest speed there is."""
    before = (next_velocity - law[1] * acted) / law[0] * velocity.sign()  # what the step made of the speed
    slowed = (velocity.abs() > 0.9 * fastest) & (velocity.abs() - before > 1e-3 * fastest)
    # Walls slow a body down to any speed, a limit always to the same one.
    speeds = before[slowed].sort().values
    alike = torch.searchsorted(speeds, speeds + 1e-3 * fastest, right=True) - torch.arange(len(speeds))
    if len(speeds) < 20 or int(alike.max()) < max(20, len(speeds) // 4):
        return fastest
    first = int(alike.argmax())
    limit = speeds[first : first + int(alike[first])].median().item()
    # And whoever is faster than a limit is slowed down by it.
    escaped = before[velocity.abs() > 1.002 * limit] > 1.002 * limit
    return fastest if bool(escaped.any()) and escaped.double().mean().item() > 0.1 else limit


def _checked(misfit: float) -> float:
    if not misfit < 0.5:
        raise ValueError(
            f"half of the recorded steps differ from the body law by {misfit:.2f} mean steps or more: positions must"
            " come first in the observation and velocities second, one for each action"
        )
    return misfit
