"""The laws of the bouncing world, held against frames that claim to show it: counts, sizes, motion, permanence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from math import nan

import torch
from torch import Tensor

from .bouncing import ACTIONS, NO_PUSH, PUSHED, BouncingWorld
from .bouncing_decoder import Decoded, decode

SHARE_OF_THE_NEWEST = 0.3
SPEED_BLOCK = 64  # frames over which a speed is taken
DOUBT = 0.05  # pixels a frame by which a velocity read off places that are right to PRECISION may be wrong


@dataclass(frozen=True)
class Tolerance:
    """How exact is lawful. place, radius: pixels; speed: pixels a frame; bar: of 255, on average over its pixels.

    place grows by a tenth of itself for every frame that a shape was out of sight. out_of_sight: frames that a shape
    may be late to come out from behind the bar.
    """

    place: float = 1.0
    radius: float = 0.5
    speed: float = 0.25
    bar: float = 12.0
    out_of_sight: int = 3


@dataclass(frozen=True)
class Lawfulness:
    """Where each law held, (T,) bool each.

    count: one piece of each colour, none only behind the bar, and each seen whole at some time of a film that is long
    enough to cross it. size: radii as at the start. motion: places follow from
    those before, the pushes and the wall rule. walls: no shape reaches through a wall. speed: the shapes that nobody
    pushes are as fast as at the start. permanence: what went behind the bar comes out when and where it must. bar: the
    bar is in its place.
    """

    count: Tensor
    size: Tensor
    motion: Tensor
    walls: Tensor
    speed: Tensor
    permanence: Tensor
    bar: Tensor

    @property
    def laws(self) -> dict[str, Tensor]:
        """By name."""
        return dict(vars(self))

    @property
    def lawful_frames(self) -> int:
        """Frames before the first that breaks a law."""
        return self.frames_before(*self.laws)

    def frames_before(self, *names: str) -> int:
        """Frames before the first that breaks one of the laws of these names."""
        broken = ~torch.stack([self.laws[name] for name in names]).all(0)
        return int(broken.int().argmax()) if broken.any() else len(broken)

    @property
    def shares(self) -> dict[str, float]:
        """Of each law, the share of frames in which it held."""
        return {name: held.double().mean().item() for name, held in self.laws.items()}


def judge(frames: Tensor, actions: Tensor, world: BouncingWorld, tolerance: Tolerance | None = None) -> Lawfulness:
    """Hold frames (T, size, size, 3) uint8 and the pushes that led to them, (T,) with -1 for none, against the laws.

    Sizes and speeds are measured against those of the first frames, in which each shape should be seen whole twice.
    """
    if actions.shape != frames.shape[:1] or not bool(((actions >= NO_PUSH) & (actions < len(ACTIONS))).all()):
        raise ValueError(
            f"actions have shape {tuple(actions.shape)}, expected ({len(frames)},) with numbers from -1 to"
            f" {len(ACTIONS) - 1}: what led to each frame"
        )
    if len(frames) == 0 or actions.is_floating_point():
        raise ValueError(f"{len(frames)} frames and actions of {actions.dtype}: expected at least 1, and whole numbers")
    tolerance = tolerance or Tolerance()
    seen = decode(frames, world)
    radius = _first_radii(seen, world)
    low, high = radius[:, None], world.size - radius[:, None]
    outside = torch.maximum(low - seen.position, seen.position - high).amax(-1)
    motion, permanence, velocity = _follow(seen, actions.tolist(), radius.tolist(), world, tolerance)
    overdue = (seen.pieces != 1) & ~seen.hidden
    # Behind the bar for longer than it takes to cross, and never seen before or after: that shape is not there.
    missing = len(frames) > _longest(world) and not bool(seen.whole.any(0).all())
    return Lawfulness(
        count=~overdue.any(-1) & ~missing,
        size=_held(seen, (seen.radius - radius).abs() <= tolerance.radius),
        motion=motion,
        walls=_held(seen, outside <= tolerance.radius),
        speed=_steady(velocity, tolerance.speed),
        permanence=permanence,
        bar=seen.bar_error <= tolerance.bar,
    )


def _held(seen: Decoded, lawful: Tensor) -> Tensor:
    """Of the shapes in full view, all; (T, 3) to (T,)."""
    return (lawful | ~seen.whole).all(-1)


def _first_radii(seen: Decoded, world: BouncingWorld) -> Tensor:
    """The median of the first few sights of each shape; a shape never seen whole gets the middle of all sizes."""
    radii = []
    for shape in range(3):
        sights = seen.radius[seen.whole[:, shape], shape][:9]
        radii.append(sights.median() if len(sights) else torch.tensor(sum(world.radii) / 2))
    return torch.stack(radii)


def _steady(velocity: Tensor, tolerance: float) -> Tensor:
    """Whether the median speed of every block is that of the first block in which the shape was seen; (T, 3, 2)."""
    lawful = torch.ones(len(velocity), dtype=torch.bool)
    free = [shape for shape in range(3) if shape != PUSHED]
    speed = velocity[:, free].abs().flatten(1)
    blocks = [block.nanmedian(0).values for block in speed.split(SPEED_BLOCK)]
    for column in range(speed.shape[1]):
        first = next((block[column] for block in blocks if not block[column].isnan()), None)
        if first is None:
            continue
        for number, block in enumerate(blocks):
            if (block[column] - first).abs() > tolerance:  # False for a block in which it was not seen
                lawful[number * SPEED_BLOCK : (number + 1) * SPEED_BLOCK] = False
    return lawful


@dataclass
class _Track:
    """What is known of one shape: where it was last, how fast, and for how long it has been out of sight."""

    position: list[float] | None = None
    velocity: list[float] | None = None
    others: list[tuple[list[float], list[float]]] = field(default_factory=list)  # where else it may be, out of sight
    unseen: int = 0
    late: int = 0
    doubtful: bool = True  # its velocity may have the wrong sign, for want of a second pair of frames


def _follow(
    seen: Decoded, actions: Sequence[int], radii: Sequence[float], world: BouncingWorld, tolerance: Tolerance
) -> tuple[Tensor, Tensor, Tensor]:
    """Predict every shape from frame to frame; (T,) motion held, (T,) permanence held, (T, 3, 2) velocities or NaN."""
    length = len(actions)
    motion, permanence = (torch.ones(length, dtype=torch.bool) for _ in range(2))
    velocity = [[[nan, nan] for _ in range(3)] for _ in range(length)]
    places, whole = seen.position.tolist(), seen.whole.tolist()
    left, right = world.bar
    longest = _longest(world)
    for shape in range(3):
        track, low, high = _Track(), radii[shape], world.size - radii[shape]
        for time in range(length):
            if track.velocity is not None and track.position is not None:
                start = (track.position, track.velocity)
                if track.unseen == 1:  # a push beside a wall makes much of a small error, so it has company from here
                    track.others = _around(track.position, track.velocity)
                push = actions[time] if shape == PUSHED else NO_PUSH
                track.others = [_moved(*other, push, low, high, world) for other in track.others]
                track.position, track.velocity = _moved(track.position, track.velocity, push, low, high, world)
            else:
                start = None
            here = places[time][shape] if whole[time][shape] else None
            if here is None:
                track.unseen += 1
                if track.velocity is None or track.position is None:
                    track.position = None
                    if shape != PUSHED and track.unseen > longest:
                        permanence[time] = False
                    continue
                # The dream is wrong when the shape must be beside the bar, by two pixels or more, and is not.
                radius, maybe = radii[shape], (track.position[0], *(position[0] for position, _ in track.others))
                in_view = all(x + radius < left - 2 or x - radius > right + 2 for x in maybe)
                track.late = track.late + 1 if in_view else 0
                if track.late > tolerance.out_of_sight:
                    permanence[time] = False
                continue
            if track.velocity is None or track.position is None:
                if track.position is not None and track.unseen == 0:
                    track.velocity = [b - a for a, b in zip(track.position, here)]
                    track.doubtful = True
                track.position, track.unseen, track.late = here, 0, 0
                continue
            allowed = tolerance.place * (1 + 0.1 * track.unseen)
            possible = [(track.position, track.velocity), *track.others]
            errors = [max(abs(a - b) for a, b in zip(position, here)) for position, _ in possible]
            error = min(errors)
            expected, track.others = possible[errors.index(error)][1], []
            if error > allowed and not track.doubtful:
                (permanence if track.unseen else motion)[time] = False
                track.velocity, track.position, track.unseen, track.late = None, here, 0, 0
                continue
            if track.unseen == 0 and start is not None:
                measured = [_measured(a, b, v, low, high) for a, b, v in zip(start[0], here, expected)]
                velocity[time][shape] = measured
                # Places are read to a few hundredths; the mean over some frames makes velocities as exact.
                share = 1.0 if track.doubtful else SHARE_OF_THE_NEWEST
                track.velocity = [v + share * (m - v) for v, m in zip(expected, measured)]
            else:
                track.velocity = expected
            # Out of sight it may have met a wall just before or just after: the next frame tells.
            track.position, track.doubtful, track.unseen, track.late = here, track.unseen > 0, 0, 0
    return motion, permanence, torch.tensor(velocity)


def _longest(world: BouncingWorld) -> float:
    """Frames that a shape may be out of full view, if its speed is not changed by pushes."""
    left, right = world.bar
    return (right - left + 2 + 2 * world.radii[1]) / world.speeds[0] + 2


def _around(position: list[float], velocity: list[float]) -> list[tuple[list[float], list[float]]]:
    """The same place with every velocity that what was seen leaves possible."""
    near = product(*((v - DOUBT, v, v + DOUBT) for v in velocity))
    return [(position, list(each)) for each in near if list(each) != velocity]


def _moved(
    position: list[float], velocity: list[float], push: int, low: float, high: float, world: BouncingWorld
) -> tuple[list[float], list[float]]:
    """A place and a velocity a frame later."""
    velocity = _pushed(velocity, push, world)
    moved = [_bounce(p + v, v, low, high) for p, v in zip(position, velocity)]
    return [place for place, _ in moved], [after for _, after in moved]


def _pushed(velocity: list[float], action: int, world: BouncingWorld) -> list[float]:
    if action == NO_PUSH:
        return velocity
    axis, sign = divmod(action, 2)
    changed = list(velocity)
    changed[axis] = max(-world.fastest, min(world.fastest, changed[axis] + (world.push if sign else -world.push)))
    return changed


def _bounce(position: float, velocity: float, low: float, high: float) -> tuple[float, float]:
    if position < low:
        return 2 * low - position, -velocity
    if position > high:
        return 2 * high - position, -velocity
    return position, velocity


def _measured(before: float, after: float, expected: float, low: float, high: float) -> float:
    """The velocity after a step, from the places before and after it: straight, or by way of a wall."""
    straight, by_low, by_high = after - before, after + before - 2 * low, after + before - 2 * high
    return min((straight, by_low, by_high), key=lambda velocity: abs(velocity - expected))
