"""What is wanted of a plan, as plain torch functions of where it leads: low is good, one number for each plan.

An energy takes an `Outlook` and returns (B,). Yours may be any function of it:
`lambda outlook: outlook.positions[:, -1].norm(dim=-1)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .knowledge import Knowledge
from .planner import Context
from .roads import FAR


@dataclass(frozen=True)
class Outlook:
    """Where plans lead: positions (B, S, P) after each of S steps, rewards (B, T) of each token as the model foresees
    them, in steps near the goal, goal (B, P), and what the planner knows."""

    positions: Tensor
    rewards: Tensor
    goal: Tensor
    knowledge: Knowledge

    @property
    def landings(self) -> Tensor:
        """Where each token ends: (B, T, P)."""
        steps = self.knowledge.tokens.steps
        return self.positions[:, steps - 1 :: steps]


Energy = Callable[[Outlook], Tensor]
"""Low where a plan is wanted; each plan by itself, never a mean over the batch."""


def outlook(tokens: Tensor, context: Context) -> Outlook:
    """What tokens (B n, T, D) of n plans for each of the context's B say, differentiable."""
    repeats = len(tokens) // len(context.goal)
    return Outlook(
        context.positions(tokens),
        context.knowledge.tokens.reward(tokens),
        context.goal.repeat_interleave(repeats, dim=0),
        context.knowledge,
    )


@dataclass(frozen=True)
class ToGoal:
    """How far tokens [start:stop] end from the goal, on average, in tokens at full speed; by default the last one.

    roads: along the recorded roads, which go around walls; False: straight through them.
    """

    start: int | None = -1
    stop: int | None = None
    roads: bool = True

    def __call__(self, outlook: Outlook) -> Tensor:
        """(B,)."""
        ends = part(outlook.landings, self.start, self.stop)
        return left(outlook, ends, self.roads).mean(dim=1) / outlook.knowledge.tokens.stride


@dataclass(frozen=True)
class Value:
    """Minus the sum of rewards of tokens [start:stop]: of one token, of a window, or (by default) of all the rest.

    reward: positions (B, S, P) -> (B, S), yours, for every step; None: what the model foresees, steps near the goal.
    """

    start: int | None = None
    stop: int | None = None
    reward: Callable[[Tensor], Tensor] | None = None

    def __call__(self, outlook: Outlook) -> Tensor:
        """(B,)."""
        if self.reward is None:
            return -part(outlook.rewards, self.start, self.stop).sum(dim=1)
        steps = outlook.knowledge.tokens.steps
        rewards = self.reward(outlook.positions)
        if rewards.shape != outlook.positions.shape[:2]:
            raise ValueError(
                f"the reward returned shape {tuple(rewards.shape)}, expected {tuple(outlook.positions.shape[:2])}: one"
                " number for each plan and step"
            )
        return -part(rewards.unflatten(1, (-1, steps)).sum(dim=2), self.start, self.stop).sum(dim=1)


@dataclass(frozen=True)
class Arrival:
    """Expected steps until the goal is near: those of the plan, and beyond its end the road left at some speed.

    softness: width, in full-speed tokens, of the edge of "near". pace: the share of full speed at which the road left
    is taken; below 1, as walking takes longer than a plan hopes.
    """

    softness: float = 0.25
    pace: float = 0.7
    roads: bool = True

    def __post_init__(self) -> None:
        check_above_zero(softness=self.softness, pace=self.pace)

    def __call__(self, outlook: Outlook) -> Tensor:
        """(B,)."""
        still = missing(outlook, self.softness)
        return still.sum(dim=1) + still[:, -1] * beyond(outlook, self.pace, self.roads)


@dataclass(frozen=True)
class Away:
    """Expected steps that are not spent near the goal, be it before the plan arrives or after it has left again.

    As `Arrival`, but who has arrived is asked to stay. softness, pace, roads: as there.
    """

    softness: float = 0.25
    pace: float = 0.7
    roads: bool = True

    def __post_init__(self) -> None:
        check_above_zero(softness=self.softness, pace=self.pace)

    def __call__(self, outlook: Outlook) -> Tensor:
        """(B,)."""
        away = outside(outlook, self.softness)
        return away.sum(dim=1) + away[:, -1] * beyond(outlook, self.pace, self.roads)


@dataclass(frozen=True)
class Obstacle:
    """How deep a plan goes into a circle that no recording knows, summed over steps, in radii.

    centre: (P) numbers. margin: how much wider the circle is taken.
    """

    centre: tuple[float, ...]
    radius: float
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not self.radius > 0 or not self.margin >= 0:
            raise ValueError(f"radius is {self.radius}, margin {self.margin}: expected a radius above 0, a margin >= 0")

    def __call__(self, outlook: Outlook) -> Tensor:
        """(B,)."""
        apart = (outlook.positions - point(self.centre, outlook)).norm(dim=-1)
        depth: Tensor = ((self.radius + self.margin - apart) / self.radius).relu().sum(dim=1)
        return depth


@dataclass(frozen=True)
class Blocked:
    """`cost` for coming into a circle at all, once: a wall that no recording knows.

    Unlike an `Obstacle` it does not matter how deep or how long: no plan that is blocked is better for being quick.
    softness: width of its edge, in the units of the centre.
    """

    centre: tuple[float, ...]
    radius: float
    cost: float
    softness: float = 0.02

    def __post_init__(self) -> None:
        check_above_zero(radius=self.radius, softness=self.softness)

    def __call__(self, outlook: Outlook) -> Tensor:
        """(B,)."""
        apart = (outlook.positions - point(self.centre, outlook)).norm(dim=-1)
        return self.cost * torch.sigmoid((self.radius - apart) / self.softness).amax(dim=1)


@dataclass(frozen=True)
class WayPoints:
    """How far each point is from where the plan comes nearest to it, summed, in full-speed tokens; 0 within `near`."""

    points: tuple[tuple[float, ...], ...]
    near: float = 0.0

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("no points were given: give at least one way-point, each a tuple of coordinates")
        if not self.near >= 0:
            raise ValueError(f"near is {self.near}, expected 0 or more")

    def __call__(self, outlook: Outlook) -> Tensor:
        """(B,)."""
        missed = [nearest(outlook, where) - self.near for where in self.points]
        return torch.stack(missed, dim=1).relu().sum(dim=1) / outlook.knowledge.tokens.stride


@dataclass(frozen=True)
class Gold:
    """Minus `worth` for coming within `near` of a place once; softness: width of that edge, in the same units.

    Unlike a way-point it need not be visited: whether the detour pays is for the planner to find out. after: whether
    it counts when it is taken after the goal was reached, where it would cost nothing (as soft as `Arrival` is).
    """

    place: tuple[float, ...]
    worth: float
    near: float
    softness: float = 0.05
    after: bool = False

    def __post_init__(self) -> None:
        check_above_zero(near=self.near, softness=self.softness)

    def __call__(self, outlook: Outlook) -> Tensor:
        """(B,)."""
        apart = (outlook.positions - point(self.place, outlook)).norm(dim=-1)
        taken = torch.sigmoid((self.near - apart) / self.softness)
        if not self.after:
            there = (outlook.positions - outlook.goal[:, None]).norm(dim=-1) <= outlook.knowledge.tokens.near
            # `Arrival` lets a plan arrive a little outside: what comes after that is late as well.
            taken = (taken * missing(outlook, 0.25)).masked_fill(there.cumsum(dim=1) > 0, 0.0)
        return -self.worth * taken.amax(dim=1)


@dataclass(frozen=True)
class Onward:
    """Another energy, of a plan that then goes on along the recorded road to the goal.

    A plan is told what lies ahead of it, a wall that no road knows or gold, before it has come there, and without a
    call of the network. pace: the share of full speed at which it goes on. What follows a plan does not move smoothly
    with it: this is for choosing among plans (best of n, tree), its gradient is that of the plan alone.
    """

    energy: Energy
    pace: float = 0.7

    def __post_init__(self) -> None:
        check_above_zero(pace=self.pace)

    def __call__(self, outlook: Outlook) -> Tensor:
        """(B,)."""
        tokens, roads = outlook.knowledge.tokens, outlook.knowledge.roads
        ends, goal = outlook.positions[:, -1].detach(), outlook.goal
        led = (roads.apart(ends) <= FAR * roads.size) & roads.ways[roads.place(ends), roads.place(goal)].isfinite()
        if not bool(led.any()):
            return self.energy(outlook)
        way = roads.way(ends[led], goal[led], self.pace * tokens.speed)[:, 1:]
        count = -(-way.shape[1] // tokens.steps) * tokens.steps
        # From where no road leads on, a plan stays where it is.
        ahead = ends[:, None].repeat(1, count, 1)
        ahead[led] = torch.cat([way, way[:, -1:].expand(-1, count - way.shape[1], -1)], dim=1)
        near = ((ahead - goal[:, None]).norm(dim=-1) <= tokens.near).to(outlook.rewards)
        rewards = near.unflatten(1, (-1, tokens.steps)).sum(dim=2)
        return self.energy(
            replace(
                outlook,
                positions=torch.cat([outlook.positions, ahead], dim=1),
                rewards=torch.cat([outlook.rewards, rewards], dim=1),
            )
        )


@dataclass(frozen=True)
class Total:
    """The weighted sum of energies, each a pair (weight, energy)."""

    parts: tuple[tuple[float, Energy], ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("no energies were given: give at least one pair (weight, energy)")

    def __call__(self, outlook: Outlook) -> Tensor:
        """(B,)."""
        return torch.stack([weight * energy(outlook) for weight, energy in self.parts]).sum(dim=0)


def check_above_zero(**values: float) -> None:
    """Raise ValueError for a width or a speed that nothing can have."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} is {value}, expected a number above 0")


def outside(outlook: Outlook, softness: float) -> Tensor:
    """(B, S) how far each step is from being near the goal: 1 outside, 0 near, smooth between.

    softness: width of the edge of "near", in full-speed tokens.
    """
    tokens = outlook.knowledge.tokens
    apart = (outlook.positions - outlook.goal[:, None]).norm(dim=-1)
    return torch.sigmoid((apart - tokens.near) / (softness * tokens.stride))


def missing(outlook: Outlook, softness: float) -> Tensor:
    """(B, S) how little a plan has been at its goal up to each step: 1 before, 0 after, smooth between."""
    return outside(outlook, softness).cumprod(dim=1)


def beyond(outlook: Outlook, pace: float, roads: bool) -> Tensor:
    """(B,) steps from a plan's end until the goal is near, at this share of full speed."""
    tokens = outlook.knowledge.tokens
    far = (left(outlook, outlook.positions[:, -1:], roads)[:, 0] - tokens.near).clamp(min=0)
    return far / (pace * tokens.speed)


def left(outlook: Outlook, positions: Tensor, roads: bool) -> Tensor:
    """Distance (B, T) from positions (B, T, P) to the goal, along the roads or straight."""
    if not roads:
        distance: Tensor = (positions - outlook.goal[:, None]).norm(dim=-1)
        return distance
    goal = outlook.goal.repeat_interleave(positions.shape[1], dim=0)
    return outlook.knowledge.roads.length(positions.flatten(0, 1), goal).view(positions.shape[:2])


def nearest(outlook: Outlook, where: tuple[float, ...]) -> Tensor:
    """(B,) how close plans come to a place."""
    closest: Tensor = (outlook.positions - point(where, outlook)).norm(dim=-1).amin(dim=1)
    return closest


def point(where: tuple[float, ...], outlook: Outlook) -> Tensor:
    """A user's place as a tensor (P,)."""
    axes = outlook.positions.shape[-1]
    if len(where) != axes:
        raise ValueError(f"the place {where} has {len(where)} coordinates, expected {axes}")
    return outlook.positions.new_tensor(where)


def part(values: Tensor, start: int | None, stop: int | None) -> Tensor:
    """Tokens [start:stop] of (B, T, ...); ValueError where there are none."""
    found = values[:, start:stop]
    if not found.shape[1]:
        raise ValueError(f"the window [{start}:{stop}] holds none of the plan's {values.shape[1]} tokens")
    return found
