"""How much of everything one server gives: players, seconds, messages a second."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Times in seconds.

    players: at a time. waiting: connections that have not entered yet. connections: open sockets of any kind.
    enter: to say who one is. idle: without a question. session: of one connection, so that others get their turn in
    public. answer: for a page to take an answer. parked: that the walk of a lost connection is kept. questions: a
    second and player; who asks faster is read more slowly. mistakes: questions in a row that are none, before the door
    closes.
    """

    players: int = 8
    waiting: int = 16
    connections: int = 64
    enter: float = 10.0
    idle: float = 120.0
    session: float = 7200.0
    answer: float = 20.0
    parked: float = 600.0
    questions: float = 150.0
    mistakes: int = 10

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}, expected more than 0")


class Pace:
    """Lets `rate` things a second through, and a second's worth at once; says how long to wait before the next."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._left = rate
        self._looked = time.monotonic()

    def wait(self) -> float:
        """Count one thing; returns seconds to wait before it, 0 if it is not too fast."""
        now = time.monotonic()
        self._left = min(self._rate, self._left + (now - self._looked) * self._rate)
        self._looked = now
        self._left -= 1
        return max(0.0, -self._left / self._rate)
