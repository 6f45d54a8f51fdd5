"""Seats for players: so many at a time, and the walk of a lost connection is kept for a while."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from .walk import Walk


@dataclass(eq=False)
class Seat:
    """A walk and the one who may play it; `lost` when another connection has taken it over."""

    key: str
    walk: Walk
    lost: bool = False
    left: float = 0.0
    """When it was parked, by the monotonic clock."""


class Full(Exception):
    """All seats are taken."""


class Seats:
    """At most `players` seats are taken and as many parked, each for at most `parked` seconds."""

    def __init__(self, players: int, parked: float, make: Callable[[], Walk]) -> None:
        self._players, self._kept, self._make = players, parked, make
        self._taken: dict[str, Seat] = {}
        self._parked: OrderedDict[str, Seat] = OrderedDict()

    def __len__(self) -> int:
        """Players there are now."""
        return len(self._taken)

    def take(self, key: str) -> Seat:
        """The seat of this key, with its walk, if it is still there, or a new one; raises Full.

        A key is as good as its walk's owner: whose connection broke comes back before the server has noticed.
        """
        self._sweep()
        old = self._taken.get(key)
        if old is not None:
            old.lost = True
            seat = Seat(old.key, old.walk)
        elif len(self._taken) >= self._players:
            raise Full(f"all {self._players} places are taken: try again in a while")
        elif (parked := self._parked.pop(key, None)) is not None:
            seat = Seat(parked.key, parked.walk)
        else:
            seat = Seat(secrets.token_urlsafe(16), self._make())
        self._taken[seat.key] = seat
        return seat

    def leave(self, seat: Seat) -> None:
        """Give a seat back; its walk is kept for a while."""
        if self._taken.get(seat.key) is not seat:
            return  # taken over
        del self._taken[seat.key]
        seat.left = time.monotonic()
        self._parked[seat.key] = seat
        self._sweep()

    def _sweep(self) -> None:
        now = time.monotonic()
        while self._parked:
            oldest = next(iter(self._parked.values()))
            if len(self._parked) <= self._players and now - oldest.left < self._kept:
                break
            self._parked.popitem(last=False)
