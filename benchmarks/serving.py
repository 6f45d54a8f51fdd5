"""How a page with eight players holds under load and under attack, on loopback: a table, then one line of JSON.

    .venv/bin/python benchmarks/serving.py [--quick] [--milliseconds 10]

A server of its own process plays a world whose every step costs `--milliseconds` of processor time, as a small dream
does (0: the true bouncing world alone). Players ask for the next frame as soon as they have one. Four rounds:

1. alone: one player.
2. eight: eight players, who should get an eighth each.
3. attacked: six players and one who takes two frames a second, while clients vanish in the middle of a question, ask
   and never read, send garbage, messages too long, pings without end, half of a request, and knock at a full house.
4. afterwards: everybody has gone; eight new players must find eight free places, and memory must be where it was.

Client and server share this machine's cores, so frames/s are a lower bound; the server's own processor time a frame is
quoted beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import statistics
import struct
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from websockets.asyncio.client import connect

from noiseladder.serving.limits import Limits
from noiseladder.serving.messages import unpacked
from noiseladder.serving.playground import Playground
from noiseladder.serving.server import serve
from noiseladder.video.clip import Frames
from noiseladder.video.true_bouncing import RATE, TrueBouncing

PLAYERS, HONEST = 8, 6


class CostlyWorld(TrueBouncing):
    """The true bouncing world, with as much arithmetic in each step as a small dream takes."""

    def __init__(self, milliseconds: float) -> None:
        super().__init__()
        self.seconds = milliseconds / 1000

    def step(self, action: int) -> Frames:
        matrix, end = torch.ones(256, 256), time.thread_time() + self.seconds
        while time.thread_time() < end:
            matrix @ matrix
        return super().step(action)


def run_server(milliseconds: float, tell: Connection) -> None:
    """The server's process."""
    torch.set_num_threads(1)
    world = CostlyWorld(milliseconds)
    playground = Playground("Load", "A world that costs.", world, [world.opening(seed) for seed in range(4)], RATE)
    # Who asks faster than an eye sees is slowed down; here it is the speed that is measured.
    limits = Limits(players=PLAYERS, questions=1e6)
    with contextlib.suppress(KeyboardInterrupt):
        serve(playground, 0, limits=limits, ready=lambda address: tell.send(address.port))


@dataclass
class Tally:
    """What one player got."""

    frames: int = 0
    waits: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Round:
    """One round: frames/s of all, the smallest share over the largest, waits in ms, the server's ms a frame."""

    frames_per_second: float
    fairness: float
    median: float
    slowest: float
    processor: float


class Server:
    """The server from outside: its port, memory and processor time."""

    def __init__(self, milliseconds: float) -> None:
        here, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=run_server, args=(milliseconds, there), daemon=True)
        self.process.start()
        if not here.poll(120):
            raise SystemExit("the server did not start")
        self.port = here.recv()

    @property
    def megabytes(self) -> float:
        """Resident memory."""
        text = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def seconds(self) -> float:
        """Processor time so far."""
        values = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")

    def socket(self) -> Any:
        """A websocket."""
        return connect(f"ws://127.0.0.1:{self.port}/world", compression=None, open_timeout=30, ping_interval=None)


async def ask(socket: Any, **question: Any) -> dict[str, Any]:
    """One question, one answer."""
    await socket.send(json.dumps(question))
    answer = await asyncio.wait_for(socket.recv(), 60)
    found: dict[str, Any] = json.loads(answer) if isinstance(answer, str) else unpacked(answer)[0]
    return found


async def enter(socket: Any) -> None:
    """Come in and begin."""
    assert (await ask(socket, ask="enter"))["kind"] == "entered"
    assert (await ask(socket, ask="reset"))["kind"] == "frame"


async def play(server: Server, tally: Tally, stop: asyncio.Event, pause: float = 0.0) -> None:
    """Ask for one frame after the other."""
    async with server.socket() as socket:
        await enter(socket)
        while not stop.is_set():
            began = time.perf_counter()
            header = await ask(socket, ask="step", action=random.randrange(5))
            assert header["kind"] == "frame", header
            tally.frames += 1
            tally.waits.append(time.perf_counter() - began)
            if pause:
                await asyncio.sleep(pause)


# Those who do harm


async def vanish(server: Server, counts: dict[str, int]) -> None:
    """Ask, and cut the wire without a word before the answer is there."""
    async with server.socket() as socket:
        await socket.send('{"ask": "enter"}')
        await socket.send('{"ask": "reset"}')
        await asyncio.sleep(random.random() / 20)
        socket.transport.abort()
    counts["vanished"] += 1


async def garbage(server: Server, counts: dict[str, int]) -> None:
    """Anything but questions, until the door closes."""
    shapes: list[Callable[[], str | bytes]] = [
        lambda: random.randbytes(random.randrange(200)),
        lambda: "".join(map(chr, random.choices(range(32, 1000), k=50))),
        lambda: "[" * random.randrange(4000),
        lambda: json.dumps({"ask": random.choice(["step", "dream", "film", "reset"]), "action": 10**30, "values": []}),
        lambda: '{"ask": "dream", "values": {"steps": NaN}}',
        lambda: "x" * 5000,
    ]
    async with server.socket() as socket:
        if random.random() < 0.7:
            await socket.send('{"ask": "enter"}')
        with contextlib.suppress(Exception):
            for _ in range(40):
                await socket.send(random.choice(shapes)())
                await asyncio.wait_for(socket.recv(), 5)
    counts["garbage"] += 1


async def raw(server: Server, counts: dict[str, int]) -> None:
    """Below the protocol: half of a request, a broken frame, pings without end and without reading an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    kind = random.randrange(4)
    if kind == 0:
        writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1")
    elif kind == 1:
        writer.write(random.randbytes(3000))
    else:
        writer.write(
            f"GET /world HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        # A ping is 0x89, a masked length, a mask; a broken frame has bits set that mean nothing.
        piece = b"\x89\xfd" + bytes(4) + bytes(125) if kind == 2 else struct.pack("!BBQ", 0xF1, 0xFF, 2**62)
        with contextlib.suppress(ConnectionError, TimeoutError):
            for _ in range(2000):
                writer.write(piece)
                await asyncio.wait_for(writer.drain(), 1)
    await asyncio.sleep(random.random() / 10)
    writer.transport.abort()
    counts["raw"] += 1


async def ask_and_never_read(server: Server, counts: dict[str, int]) -> None:
    """Ask for frames for a while and take none of them."""
    async with server.socket() as socket:
        await enter(socket)
        socket.transport.pause_reading()
        with contextlib.suppress(Exception):
            for _ in range(100):
                await socket.send('{"ask": "step", "action": 0}')
                await asyncio.sleep(0.005)
        socket.transport.abort()
    counts["never read"] += 1


async def knock(server: Server, counts: dict[str, int]) -> None:
    """Come to a house that may be full, stay for a moment."""
    with contextlib.suppress(Exception):
        async with server.socket() as socket:
            answer = await ask(socket, ask="enter")
            counts["let in" if answer.get("kind") == "entered" else "refused"] += 1
            await asyncio.sleep(random.random() / 10)
            return
    counts["refused"] += 1


async def attack(server: Server, counts: dict[str, int], stop: asyncio.Event) -> None:
    """One attacker, who tries everything in turn."""
    while not stop.is_set():
        harm = random.choice([vanish, garbage, raw, knock, ask_and_never_read])
        with contextlib.suppress(Exception):
            await harm(server, counts)
        await asyncio.sleep(0.01)


async def measure(
    server: Server, players: int, seconds: float, others: list[Callable[[asyncio.Event], Coroutine[Any, Any, None]]]
) -> Round:
    """Let players play, beside others, and count after a moment's start."""
    stop, tallies = asyncio.Event(), [Tally() for _ in range(players)]
    async with asyncio.TaskGroup() as group:
        for tally in tallies:
            group.create_task(play(server, tally, stop))
        for other in others:
            group.create_task(other(stop))
        while min(tally.frames for tally in tallies) < 3:
            await asyncio.sleep(0.02)
        for tally in tallies:
            tally.frames, tally.waits = 0, []
        began, spent = time.perf_counter(), server.seconds
        await asyncio.sleep(seconds)
        lasted, spent = time.perf_counter() - began, server.seconds - spent
        frames, waits = [tally.frames for tally in tallies], sorted(w for tally in tallies for w in tally.waits)
        stop.set()
    return Round(
        sum(frames) / lasted,
        min(frames) / max(frames),
        1e3 * statistics.median(waits),
        1e3 * waits[int(0.99 * (len(waits) - 1))],
        1e3 * spent / sum(frames),
    )


async def measure_all(server: Server, seconds: float) -> dict[str, Any]:
    """The four rounds."""
    alone = await measure(server, 1, seconds, [])
    eight = await measure(server, PLAYERS, seconds, [])
    await asyncio.sleep(1)
    before, counts = (
        server.megabytes,
        dict.fromkeys(("vanished", "garbage", "raw", "never read", "refused", "let in"), 0),
    )
    attacked = await measure(
        server,
        HONEST,
        2 * seconds,
        [lambda stop: play(server, Tally(), stop, pause=0.5), *[lambda stop: attack(server, counts, stop)] * 4],
    )
    await asyncio.sleep(2)
    afterwards = await measure(server, PLAYERS, 1.0, [])
    await asyncio.sleep(1)
    growth = server.megabytes - before
    print(f"{'round':12s} frames/s  fairness  wait ms, median and 99th percentile  server ms a frame")
    for name, found in (("alone", alone), ("eight", eight), ("attacked", attacked), ("afterwards", afterwards)):
        print(
            f"{name:12s} {found.frames_per_second:8.1f}  {found.fairness:8.2f}  {found.median:14.1f}"
            f" {found.slowest:19.1f}  {found.processor:17.2f}"
        )
    print(f"attacks: {', '.join(f'{number} {name}' for name, number in counts.items())}; memory {growth:+.1f} MB")
    return {
        "players": PLAYERS,
        "fps_alone": round(alone.frames_per_second, 1),
        "fps_eight": round(eight.frames_per_second, 1),
        "fairness_eight": round(eight.fairness, 3),
        "wait_p99_ms_eight": round(eight.slowest, 1),
        "fps_attacked": round(attacked.frames_per_second, 1),
        "fairness_attacked": round(attacked.fairness, 3),
        "wait_p99_ms_attacked": round(attacked.slowest, 1),
        "fps_afterwards": round(afterwards.frames_per_second, 1),
        "attacks": sum(counts.values()),
        "memory_growth_mb": round(growth, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seconds a round in place of ten")
    parser.add_argument("--milliseconds", type=float, default=10.0, help="processor time of a step of the world")
    options = parser.parse_args()
    random.seed(0)
    server = Server(options.milliseconds)
    try:
        found = asyncio.run(measure_all(server, 2.0 if options.quick else 10.0))
        assert server.process.is_alive()
    finally:
        server.process.terminate()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
