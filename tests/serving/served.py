"""A page that is really served, on a free port of 127.0.0.1, and players that talk to it without a browser."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from noiseladder.serving.door import Door
from noiseladder.serving.limits import Limits
from noiseladder.serving.messages import unpacked
from noiseladder.serving.playground import Playground
from noiseladder.serving.server import bind, make_server
from noiseladder.video.clip import Frames
from noiseladder.video.playable import Opening

SIZE = 8


@dataclass(frozen=True)
class Dreaming:
    """As that of a world model."""

    steps: int = 2
    stabilization: float = 0.05


def picture(number: int, actions: int = 0) -> Frames:
    """A frame on which numbers can be read: how many steps, and the sum of the actions since the reset."""
    frame = np.zeros((SIZE, SIZE, 3), np.uint8)
    frame[0, 0] = divmod(number, 256)[0], number % 256, actions % 256
    return frame


@dataclass
class CountingWorld:
    """A world that counts its steps and adds up its actions; action 3 breaks it, `seconds` is what a step takes.

    gate: a step waits until it is open.
    """

    seconds: float = 0.0
    dreaming: Any = field(default_factory=Dreaming)
    actions: Sequence[str] = ("turn left", "turn right", "forward", "break")
    levels: tuple[float, ...] = ()
    state: tuple[int, int] = (0, 0)
    gate: threading.Event = field(default_factory=threading.Event)
    blocked: bool = False
    actions_taken: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def reset(self, frames: Frames, actions: Any, seed: int) -> Frames:
        self.state, self.levels = (0, 0), ()
        return picture(0)

    def step(self, action: int) -> Frames:
        time.sleep(self.seconds)
        self.blocked = not self.gate.is_set()
        self.gate.wait(30)
        self.blocked = False
        self.actions_taken.append(action)
        number, total = self.state
        self.state = (number + 1, total + action)
        if action == 3:
            self.state = (99, 99)
            raise ZeroDivisionError("this world is broken")
        self.levels = tuple(np.linspace(1, 0, self.dreaming.steps + 1).tolist())
        return picture(*self.state)

    @property
    def calls(self) -> int:
        return len(self.levels) - 1

    def snapshot(self) -> tuple[int, int]:
        return self.state

    def restore(self, snapshot: tuple[int, int]) -> None:
        self.state = snapshot


def opening(later: int = 0) -> Opening:
    if not later:
        return Opening(picture(0)[None], np.array([-1]))
    frames = np.stack([picture(number + 1, 200) for number in range(later)])
    return Opening(picture(0)[None], np.array([-1]), frames, np.arange(later) % 3)


def counting(seconds: float = 0.0, openings: Sequence[Opening] = (), rate: float = 20.0) -> Playground:
    return Playground("Counting", "A world that counts.", CountingWorld(seconds), openings or [opening()], rate)


@dataclass
class Served:
    """A running page."""

    port: int
    server: Any

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def house(self) -> Any:
        return self.server.config.app.state.house

    def socket(self, **options: Any) -> AbstractContextManager[ClientConnection]:
        """A bare connection; origin= pretends to be a page."""
        return connect(f"ws://127.0.0.1:{self.port}/world", open_timeout=20, close_timeout=2, **options)

    def player(self, token: str = "", walk: str = "", **options: Any) -> Player:
        return Player(self.socket(**options), token, walk)

    def stop(self) -> None:
        self.server.should_exit = True


class Player:
    """Somebody who has entered."""

    def __init__(self, socket: AbstractContextManager[ClientConnection], token: str = "", walk: str = "") -> None:
        self.socket = socket.__enter__()  # ends with `leave`
        self.entered = self.ask("enter", token=token, walk=walk)
        self.pixels = b""

    def ask(self, ask: str, **values: Any) -> dict[str, Any]:
        """The answer to a question; of a frame the header, its pixels are kept."""
        self.socket.send(json.dumps({"ask": ask, **values}))
        return self.hear()

    def hear(self) -> dict[str, Any]:
        answer = self.socket.recv(timeout=30)
        if isinstance(answer, str):
            told: dict[str, Any] = json.loads(answer)
            return told
        header, self.pixels = unpacked(answer)
        return header

    @property
    def read(self) -> tuple[int, int]:
        """The numbers on the last frame of a counting world."""
        high, low, total = self.pixels[:3]
        return 256 * high + low, total

    def leave(self) -> None:
        self.socket.close()

    def __enter__(self) -> Player:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


def until(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return true()


def closing(socket: ClientConnection) -> tuple[int, str]:
    """Read until the connection ends; its code and reason."""
    try:
        while True:
            socket.recv(timeout=30)
    except ConnectionClosed as closed:
        return (0, "cut off") if closed.rcvd is None else (closed.rcvd.code, closed.rcvd.reason)


@contextmanager
def served(playground: Playground, limits: Limits | None = None, token: str = "", port: int = 0) -> Iterator[Served]:
    """Serve until the block ends."""
    with bind(port, public=False) as listening:
        port = listening.getsockname()[1]
        door = Door(None, token) if token else Door.of_this_machine(port)
        server = make_server(playground, door, limits or Limits())
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        patience = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive(), "the server ended before it had begun"
            assert time.monotonic() < patience, "the server does not start"
            time.sleep(0.01)
        try:
            yield Served(port, server)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive(), "the server does not stop"
