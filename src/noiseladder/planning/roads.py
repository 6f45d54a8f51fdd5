"""Where the recording has been and how it got from place to place: ways, and how long they are, between any two points.

A place is a small square that the recording visited; a road joins two places where the recording went from one to the
other within a few steps. Shortest ways along roads join pieces that no trajectory ever joined. No map is asked: what
was never visited does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .recordings import Recording

STEPS_PER_PLACE = 6.0
"""A place is as wide as the recorded body goes in this many usual steps: roads of two or three places are common."""
FEWEST_VISITS = 3
LEAP = 8.0
"""Mean steps' length at once is no motion: something carried the body away."""
FAR = 4.0
"""Places' width from the nearest place is off all roads."""


@dataclass(frozen=True)
class Roads:
    """Places and the shortest ways between them.

    centres: (N, P), where the recording was on average in each place. roads: (N, N), length of a direct road or inf.
    ways: (N, N), length of the shortest way. size: width of a place, in the units of the positions.
    """

    centres: Tensor
    roads: Tensor
    ways: Tensor
    size: float

    @classmethod
    def learn(cls, recording: Recording, axes: int = 2, size: float | None = None) -> Roads:
        """Read places and roads off a recording; the first `axes` values of an observation are its position.

        Raises ValueError where the recording never moves, or visits fewer than two places.
        """
        position = torch.from_numpy(recording.observations[:, :axes]).double()
        ends = torch.from_numpy(recording.ends)
        lengths = (position[1:] - position[:-1]).norm(dim=1)[~ends[:-1]]
        step = lengths[lengths > 0].median().item() if bool((lengths > 0).any()) else 0.0
        if not step > 0:
            raise ValueError("the recorded positions never change: there are no roads to learn from it")
        size = STEPS_PER_PLACE * step if size is None else size
        place, centres = _places(position, size)
        if len(centres) < 2:
            raise ValueError(f"the recording visits {len(centres)} places of width {size:.3g}: give a smaller size")
        # A body that is carried away begins anew elsewhere: no road of its own choice leads there.
        carried = torch.zeros_like(ends)
        carried[:-1] = (position[1:] - position[:-1]).norm(dim=1) > LEAP * step
        trajectory = (ends | carried).long().cumsum(0) - (ends | carried).long()
        lags = [round(STEPS_PER_PLACE * share) for share in (0.5, 1.0, 1.5, 2.0)]
        # As precise as a file keeps them: then ways from a file are the same to the bit.
        roads = _roads(place, centres, trajectory, lags).float()
        ways = shortest(roads)
        # What cannot be left or entered, from most other places, is a corner seen in passing: no place to be.
        both_ways = torch.isfinite(ways) & torch.isfinite(ways.T)
        kept = both_ways[int(both_ways.sum(1).argmax())]
        return cls(centres[kept].float(), roads[kept][:, kept], ways[kept][:, kept], size)

    def place(self, position: Tensor) -> Tensor:
        """(..., P) -> (...) the nearest place."""
        return torch.cdist(position.reshape(-1, position.shape[-1]), self.centres).argmin(1).view(position.shape[:-1])

    def apart(self, position: Tensor) -> Tensor:
        """(..., P) -> (...) the distance to the nearest place; beyond FAR * size it is off all roads."""
        apart: Tensor = (self.centres[self.place(position)] - position).norm(dim=-1)
        return apart

    def length(self, position: Tensor, goal: Tensor) -> Tensor:
        """(B, P), (B, P) -> (B,), length of the shortest way between them; inf where there is none.

        Smooth enough to differentiate by the position: the way through each place nearby, the near and short ones
        counting most.
        """
        end = self.place(goal)
        softness = 0.25 * self.size
        onward = self.ways[:, end].T + (self.centres[end] - goal).norm(dim=1, keepdim=True)
        through = -softness * torch.logsumexp(-(self.leaving(position) + onward) / softness, dim=1)
        direct = (position - goal).norm(dim=1)
        return torch.where(direct < 1.5 * self.size, direct, through)

    def leaving(self, position: Tensor) -> Tensor:
        """(B, P) -> (B, N), what it costs to get to each place nearby; inf for the others.

        Far places would be reached through walls: leaving costs much more than the way itself, and whatever the detour,
        only places about as near as the nearest are left to.
        """
        apart = torch.cdist(position, self.centres)
        around = apart + 4 * (apart - 1.5 * self.size).relu()
        return around.masked_fill(apart > apart.amin(1, keepdim=True) + 2 * self.size, torch.inf)

    def way(self, position: Tensor, goal: Tensor, spacing: float) -> Tensor:
        """(B, P), (B, P) -> points (B, n, P), `spacing` apart, along the shortest way, rounded at its corners.

        All ways are as long as the longest: the others end in many copies of their goal. Raises ValueError where no
        way leads from a position to its goal, or one of them is far from all that was visited.
        """
        here, end = self.place(position), self.place(goal)
        apart = torch.maximum((self.centres[here] - position).norm(dim=1), (self.centres[end] - goal).norm(dim=1))
        lost = ~torch.isfinite(self.ways[here, end]) | (apart > FAR * self.size)
        if bool(lost.any()):
            row = int(lost.nonzero()[0, 0])
            raise ValueError(
                f"nothing recorded leads from {position[row].tolist()} to {goal[row].tolist()}: record more, or choose"
                " a start and a goal that were visited"
            )
        # The nearest place may lie behind: its road leads back, and from there another's leads forth, so that a body
        # could stand between the two for ever. A way begins at the place nearby from which the goal is nearest; it must
        # be about as near as the nearest, or there may be a wall between.
        leaving = self.leaving(position)
        beside = torch.cdist(position, self.centres)
        beside = beside <= (beside.amin(1, keepdim=True) + 0.5 * self.size).clamp(min=self.size)
        begin = (leaving.masked_fill(~beside, torch.inf) + self.ways[:, end].T).argmin(1)
        ahead = (begin != here) & (begin != end) & (here != end)
        points, hops = [position, torch.where(ahead[:, None], self.centres[begin], position)], 0
        here = torch.where(ahead, begin, here)
        while bool((here != end).any()) and hops < len(self.centres):
            here = torch.where(here == end, here, (self.roads[here] + self.ways[:, end].T).argmin(1))
            points.append(torch.where((here == end)[:, None], goal, self.centres[here]))
            hops += 1
        points.append(goal)
        line = resampled(torch.stack(points, dim=1), spacing)
        return _rounded(line, position, goal, round(2.4 * self.size / spacing))

    def anywhere(self, count: int, generator: Generator) -> Tensor:
        """Random points of random places, (count, P)."""
        chosen = torch.randint(len(self.centres), (count,), generator=generator)
        shift = torch.rand(count, self.centres.shape[1], generator=generator) - 0.5
        return self.centres[chosen] + 0.6 * self.size * shift


def _places(position: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """The place of each step, -1 where it was hardly ever visited, and the mean position of each place."""
    square = ((position - position.min(0).values) / size).floor().long()
    extent = square.max(0).values + 1
    number = square[:, 0]
    for axis in range(1, square.shape[1]):
        number = number * extent[axis] + square[:, axis]
    _, place, visits = torch.unique(number, return_inverse=True, return_counts=True)
    centres = torch.zeros(len(visits), position.shape[1], dtype=position.dtype).index_add_(0, place, position)
    centres = centres / visits[:, None]
    often = visits >= FEWEST_VISITS
    renumbered = torch.where(often, often.long().cumsum(0) - 1, -1)
    return renumbered[place], centres[often]


def _roads(place: Tensor, centres: Tensor, trajectory: Tensor, lags: list[int]) -> Tensor:
    """(N, N): how far two places are apart that the recording joined within few steps, inf for others."""
    count = len(centres)
    roads = torch.full((count, count), torch.inf, dtype=centres.dtype)
    for lag in sorted({max(1, lag) for lag in lags}):
        joined = (trajectory[lag:] == trajectory[:-lag]) & (place[lag:] >= 0) & (place[:-lag] >= 0)
        pairs = torch.unique(place[:-lag][joined] * count + place[lag:][joined])
        first, second = pairs // count, pairs % count
        roads[first, second] = (centres[first] - centres[second]).norm(dim=1)
    return roads.fill_diagonal_(torch.inf)


def shortest(roads: Tensor) -> Tensor:
    """All shortest ways (Floyd, 1962)."""
    ways = roads.clone().fill_diagonal_(0.0)
    for through in range(len(ways)):
        torch.minimum(ways, ways[:, through, None] + ways[None, through], out=ways)
    return ways


def resampled(points: Tensor, spacing: float) -> Tensor:
    """The same lines (B, n, P) with points `spacing` apart."""
    lengths = (points[:, 1:] - points[:, :-1]).norm(dim=-1)
    marks = torch.cat([torch.zeros_like(lengths[:, :1]), lengths.cumsum(1)], dim=1)
    count = int(marks[:, -1].max().item() / spacing) + 2
    wanted = (spacing * torch.arange(count, dtype=points.dtype)).expand(len(points), -1).contiguous()
    after = torch.searchsorted(marks, wanted).clamp(1, points.shape[1] - 1)
    start, length = marks.gather(1, after - 1), lengths.gather(1, after - 1)
    share = ((wanted - start) / length.clamp(min=1e-9)).clamp(0, 1)[..., None]
    index = after[..., None].expand(-1, -1, points.shape[-1])
    return torch.lerp(points.gather(1, index - 1), points.gather(1, index), share)


def _rounded(points: Tensor, first: Tensor, last: Tensor, window: int) -> Tensor:
    """Moving average over about `window` points; the ends stay where they are.

    All of the last points are passed: a way does not depend on the longer ones in its batch.
    """
    half = max(1, window // 2)
    padded = torch.cat([first[:, None].expand(-1, half, -1), points, last[:, None].expand(-1, 2 * half, -1)], dim=1)
    mean = torch.nn.functional.avg_pool1d(padded.transpose(1, 2), 2 * half + 1, stride=1).transpose(1, 2)
    return torch.cat([first[:, None], mean, last[:, None]], dim=1)
