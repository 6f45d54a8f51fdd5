"""One thread runs the world, one request after the other: with one request a player, that is a round of one frame each.

Nobody can have two requests in the line, because a connection reads its next question only when the last is answered.
So first come, first served is fair, and the line is never longer than there are players.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class Turns:
    """The thread of the world, and another that makes films meanwhile."""

    def __init__(self) -> None:
        self._world = ThreadPoolExecutor(1, "world")
        self._films = ThreadPoolExecutor(1, "films")
        self._asked = 0
        self._begun = 0

    @property
    def waiting(self) -> int:
        """Requests in the line, without the one that is being met."""
        return self._asked - self._begun

    async def take(self, work: Callable[[], Result]) -> Result:
        """Run `work` in the thread of the world when its turn comes."""

        def begin() -> Result:
            self._begun += 1
            return work()

        self._asked += 1
        return await asyncio.get_running_loop().run_in_executor(self._world, begin)

    async def film(self, work: Callable[[], Result]) -> Result:
        """Run `work` in the thread of the films."""
        return await asyncio.get_running_loop().run_in_executor(self._films, work)

    def close(self) -> None:
        """Drop what waits. What runs is not waited for."""
        self._world.shutdown(wait=False, cancel_futures=True)
        self._films.shutdown(wait=False, cancel_futures=True)
