"""A token of a policy is what is seen and what is done next: the cameras, the state, a chunk of actions, the end.

Each sense is a part of the token with a noise level of its own, and so are the actions: a camera that is missing is
its part at level 1, acting is denoising the actions, and perhaps a waypoint after them, while the senses are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from noiseladder.diffusion.batch import Batch

ACTIONS = "actions"
STATE = "state"
"""The sense that is no camera."""
AFTER = 2  # tokens after the end that are learned from: that it is over
SMALLEST_SCALE = 0.02  # of a sense's largest: what hardly ever changes is not blown up


@dataclass(frozen=True)
class Trace:
    """An episode as numbers. seen: sense -> (T, size). actions: (T, A), row t was done after seeing row t.

    jolts: steps that nobody should imitate: something moved the hand without being seen before, and what is done next
    answers to it; or whoever showed the way went astray.
    """

    seen: Mapping[str, Tensor]
    actions: Tensor
    jolts: tuple[int, ...] = ()


@dataclass(frozen=True)
class PolicyTokens:
    """Values of a token, each of about unit size.

    senses, sizes: names and sizes of what is seen, in order. chunk: K actions in a token. action_size: A values of an
    action; zero has to mean "stay as you are". middle, scale: (D,), of tokens (..., D). moves: how many of an action's
    first values are moves that add up. waypoint: whether a token ends with where the moves lead until one of the other
    values changes, a gripper say, or the end comes.

    A token: the senses, K actions, how many of them come after the end, and the waypoint. Moves are written as where
    they have led since the token began: what has to be right within a centimetre is the place that a hand comes to, and
    small errors of single moves would add up. The waypoint is asked for with the actions and never remembered, as
    nobody knows it before it is reached: on the way there it teaches what matters, where to close.
    """

    senses: tuple[str, ...]
    sizes: tuple[int, ...]
    chunk: int
    action_size: int
    middle: Tensor
    scale: Tensor
    moves: int = 0
    waypoint: bool = False

    @classmethod
    def fit(cls, traces: Sequence[Trace], chunk: int, moves: int = 0, waypoint: bool = False) -> PolicyTokens:
        """The layout of these episodes, and what is usual in them. Raises ValueError where there is nothing to fit."""
        if not traces or chunk < 1:
            raise ValueError(f"{len(traces)} episodes and chunks of {chunk} actions: expected at least 1 of both")
        if not 0 <= moves <= traces[0].actions.shape[1]:
            raise ValueError(f"{moves} moves in an action of {traces[0].actions.shape[1]} values: expected at most all")
        senses = tuple(traces[0].seen)
        together = {name: torch.cat([trace.seen[name] for trace in traces]) for name in senses}
        actions = torch.cat([trace.actions for trace in traces])
        middle, scale = [], []
        for values in (*together.values(), actions):
            deviation = values.std(0)
            middle.append(values.mean(0))
            scale.append(deviation.clamp(min=SMALLEST_SCALE * float(deviation.max()) + 1e-6))
        # One scale for the places of a chunk: a centimetre is a centimetre, at its beginning and at its end.
        if moves:
            led = torch.cat([_led(trace.actions[:, :moves], chunk) for trace in traces])
            scale[-1][:moves] = led.std(0).clamp(min=1e-6)
        waypoint = waypoint and moves > 0  # actions that are places say themselves where they lead
        ways = torch.cat([_way(trace.actions, moves, scale[-1][moves:])[0] for trace in traces])[:, : moves * waypoint]
        way_scale = (ways - ways.mean(0)).square().mean(0).sqrt()
        if waypoint:
            way_scale = way_scale.clamp(min=SMALLEST_SCALE * float(way_scale.max()) + 1e-6)
        # Zero stays zero: it is what is done when nothing is.
        return cls(
            senses,
            tuple(values.shape[1] for values in together.values()),
            chunk,
            actions.shape[1],
            torch.cat([*middle[:-1], torch.zeros(chunk * actions.shape[1]), torch.tensor([0.5]), 0 * ways[0]]),
            torch.cat([*scale[:-1], scale[-1].repeat(chunk), torch.tensor([0.5]), way_scale]),
            moves,
            waypoint,
        )

    @property
    def parts(self) -> tuple[int, ...]:
        """Sizes of the parts with noise levels of their own: each sense, the actions with the end, the waypoint."""
        return *self.sizes, self.chunk * self.action_size + 1, *([self.moves] if self.waypoint else [])

    @property
    def size(self) -> int:
        """Values of a token."""
        return sum(self.parts)

    @property
    def seen_size(self) -> int:
        """Values of all senses."""
        return sum(self.sizes)

    @property
    def ending(self) -> int:
        """Which value of a token says how much of it comes after the end."""
        return self.seen_size + self.chunk * self.action_size

    @property
    def cameras(self) -> Tensor:
        """Which senses are pictures, (S,) bool: all but the state."""
        return torch.tensor([name != STATE for name in self.senses])

    def spread(self, levels: Tensor) -> Tensor:
        """Levels (..., P), one for each part, as levels (..., D), one for each value."""
        return levels.repeat_interleave(torch.tensor(self.parts, device=levels.device), dim=-1)

    def known(self, seen: Mapping[str, Tensor | None]) -> tuple[Tensor, Tensor]:
        """Senses (B, size), None for one that is missing -> tokens (B, 1, D) without actions, levels (B, 1, P).

        What is missing and what is not done yet is at level 1, the rest at 0.
        """
        given = next(values for values in seen.values() if values is not None)
        pieces, levels = [], []
        for name, size in zip(self.senses, self.sizes):
            values = seen.get(name)
            pieces.append(given.new_zeros(len(given), size) if values is None else values)
            levels.append(1.0 if values is None else 0.0)
        pieces.append(given.new_zeros(len(given), self.size - self.seen_size))
        token = (torch.cat(pieces, dim=1) - self.middle) / self.scale
        levels += [1.0] * (len(self.parts) - len(self.senses))
        return token[:, None], given.new_tensor(levels).expand(len(given), 1, -1)

    def seen(self, tokens: Tensor) -> dict[str, Tensor]:
        """Tokens (..., D) -> each sense (..., size) in its own units."""
        values = tokens * self.scale + self.middle
        return dict(zip(self.senses, values[..., : self.seen_size].split(self.sizes, dim=-1)))

    def actions(self, tokens: Tensor) -> Tensor:
        """Tokens (..., D) -> actions (..., K, A)."""
        values = (tokens * self.scale + self.middle)[..., self.seen_size : self.ending]
        actions: Tensor = values.unflatten(-1, (self.chunk, self.action_size))
        places = actions[..., : self.moves]
        before = torch.cat([torch.zeros_like(places[..., :1, :]), places[..., :-1, :]], dim=-2)
        return torch.cat([places - before, actions[..., self.moves :]], dim=-1)

    def deeds(self, actions: Tensor) -> Tensor:
        """Actions (..., K, A) -> their part of a token, (..., K A); the inverse of `actions`."""
        places = actions[..., : self.moves].cumsum(-2)
        written = torch.cat([places, actions[..., self.moves :]], dim=-1).flatten(-2)
        done = slice(self.seen_size, self.ending)
        return (written - self.middle[done]) / self.scale[done]

    def written(self, token: Tensor, actions: Tensor) -> Tensor:
        """Tokens (B, 1, D) with actions (B, K, A) in them, which the episode outlasts.

        Raises ValueError for actions of another shape, or that are not finite.
        """
        if not bool(torch.isfinite(actions).all()):
            raise ValueError("the actions hold NaN or infinite values: expected what was really done")
        if tuple(actions.shape) != (len(token), self.chunk, self.action_size):
            raise ValueError(
                f"actions have shape {tuple(actions.shape)}, expected {(len(token), self.chunk, self.action_size)}:"
                " episodes, steps between two looks, values of an action"
            )
        goes_on = (-self.middle[self.ending :] / self.scale[self.ending :]).expand(len(token), -1)
        deeds = torch.cat([self.deeds(actions), goes_on], dim=-1)[:, None]
        return torch.cat([token[..., : self.seen_size], deeds], dim=-1)

    def over(self, tokens: Tensor) -> Tensor:
        """Tokens (..., D) -> (...), the share of the chunk that comes after the end, about 0 to 1."""
        return tokens[..., self.ending] * self.scale[self.ending] + self.middle[self.ending]

    def table(self, traces: Sequence[Trace]) -> Table:
        """The episodes as one table to cut sequences from. Before its beginning and after its end nothing moves."""
        before, after = self.chunk - 1, (AFTER + 1) * self.chunk
        seen, actions, ways, clear, jolted, starts, row = [], [], [], [], [], [], 0
        for trace in traces:
            length = len(trace.actions)
            steps = torch.arange(-before, length + after).clamp(0, length - 1)
            values = torch.cat([trace.seen[name] for name in self.senses], dim=1)
            seen.append(values[steps])
            still = trace.actions.new_zeros(1, self.action_size)
            actions.append(torch.cat([still.expand(before, -1), trace.actions, still.expand(after, -1)]))
            usual = self.scale[self.seen_size + self.moves : self.seen_size + self.action_size]
            way, there = _way(trace.actions, self.moves, usual)
            ways.append(torch.cat([way[:1].expand(before, -1), way, 0 * way[:1].expand(after, -1)]))
            shaken = torch.zeros(before + length + after, dtype=torch.bool)
            shaken[[before + step for step in trace.jolts]] = True
            jolted.append(shaken)
            moved = torch.cat([torch.zeros(1), shaken[before:].cumsum(0)])
            calm = moved[(there - 1).clamp(min=0)] <= moved[:length]
            clear.append(torch.cat([calm[:1].expand(before), calm, calm.new_ones(after)]))
            starts.append(row + before)
            row += before + length + after
        return Table(
            self,
            (torch.cat(seen) - self.middle[: self.seen_size]) / self.scale[: self.seen_size],
            torch.cat(actions),
            torch.cat(ways)[:, : self.moves * self.waypoint] / self.scale[self.ending + 1 :],
            torch.cat(clear),
            torch.cat(jolted),
            torch.tensor(starts),
            torch.tensor([len(trace.actions) for trace in traces]),
        )


@dataclass(frozen=True)
class Table:
    """Episodes row by row: seen (R, F) of unit size, actions (R, A) as they were; starts, lengths: (E,), in rows.

    ways: (R, M) of unit size, the waypoints, M 0 without. clear: (R,) bool, whether nothing moved the hand on the way
    there. jolted: (R,) bool, steps in which the hand was moved by something that had not been seen.
    """

    tokens: PolicyTokens
    seen: Tensor
    actions: Tensor
    ways: Tensor
    clear: Tensor
    jolted: Tensor
    starts: Tensor
    lengths: Tensor

    def cut(self, episodes: Tensor, first: Tensor, tokens: int) -> Batch:
        """Sequences (B, T, D) of episodes (B,) from their steps `first` (B,) on, which may lie a chunk - 1 before 0.

        The condition (B, T, 1) is the share of a token that lies in the episode for the one with which it begins, and
        0 for all others: a memory which reaches back to the beginning differs from one that does not, and a token
        whose first steps come before the beginning from one in which somebody waits. The mask (B, T, D) of the senses
        ends with the episode, that of the actions a token later; nor do actions count that answer to a jolt within
        their own token: whoever learned from them would answer to jolts that never came. A waypoint does not count
        where a jolt comes before it is reached: where the moves led is not where they were meant to lead.
        """
        chunk = self.tokens.chunk
        step = first[:, None] + chunk * torch.arange(tokens)
        length = self.lengths[episodes][:, None]
        real = step < length + (AFTER - 1) * chunk
        row = self.starts[episodes][:, None] + torch.minimum(step, length + (AFTER - 1) * chunk)
        rows = row[..., None] + torch.arange(chunk)
        late = (step[..., None] + torch.arange(chunk) >= length[..., None]).float().mean(-1, keepdim=True)
        ending = self.tokens.ending
        over = (late - self.tokens.middle[ending]) / self.tokens.scale[ending]
        values = torch.cat([self.seen[row], self.tokens.deeds(self.actions[rows]), over, self.ways[row]], dim=-1)
        begins = torch.zeros(*step.shape, 1)
        begins[:, 0, 0] = torch.where(first <= 0, 1 + first / chunk, 0.0)
        mask = real[..., None].repeat(1, 1, values.shape[-1])
        mask[..., : self.tokens.seen_size] &= (step < length)[..., None]  # nobody looked after the end
        mask[..., self.tokens.seen_size :] &= ~self.jolted[rows[..., :-1]].any(-1, keepdim=True)
        mask[..., ending + 1 :] &= self.clear[row][..., None]
        return Batch(values, begins, mask)

    def draw(self, count: int, tokens: int, begin: float, generator: torch.Generator) -> Batch:
        """Random sequences: a share `begin` from the beginning of an episode, the others from anywhere in it."""
        episodes = torch.randint(len(self.starts), (count,), generator=generator)
        # Half of the beginnings are what acting begins with, the others bring every phase of the tokens after them.
        early = -torch.randint(self.tokens.chunk, (count,), generator=generator)
        early[torch.rand(count, generator=generator) < 0.5] = 0
        later = (torch.rand(count, generator=generator) * self.lengths[episodes]).long().clamp(min=1)
        begins = torch.rand(count, generator=generator) < begin
        return self.cut(episodes, torch.where(begins, early, later), tokens)


def _led(moves: Tensor, chunk: int) -> Tensor:
    """Moves (T, A) -> where up to `chunk` of them have led, from every step on, (n, A)."""
    places = torch.cat([torch.zeros_like(moves[:1]), moves.cumsum(0)])
    return torch.cat([places[k:] - places[:-k] for k in range(1, min(chunk, len(moves)) + 1)])


def _way(actions: Tensor, moves: int, usual: Tensor) -> tuple[Tensor, Tensor]:
    """Where the moves of actions (T, A) lead until a value that is no move changes, (T, moves), and when that is, (T,).

    It changes where it crosses the middle of its range, if that is wider than its usual deviation (A - moves,): what
    trembles about one value does not change. Without any change, or after the last, until the end.
    """
    others, steps = actions[:, moves:], torch.arange(len(actions))
    high = others.bool()
    if others.shape[1]:
        highest, lowest = others.amax(0), others.amin(0)
        high = (others > (highest + lowest) / 2) & (highest - lowest > usual)
    changes = (high[1:] != high[:-1]).any(1).nonzero()[:, 0] + 1
    changes = torch.cat([changes, torch.tensor([len(actions)])])
    there = changes[torch.searchsorted(changes, steps)]
    places = torch.cat([torch.zeros_like(actions[:1, :moves]), actions[:, :moves].cumsum(0)])
    return places[there] - places[steps], there
