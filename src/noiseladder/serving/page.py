"""The page and its websocket: each player asks, is answered, and only then is heard again, so no queue can grow."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .door import Door
from .film import film, formats
from .limits import Limits, Pace
from .messages import Back, Dream, Enter, Film, Follow, Look, Question, Record, Reset, Step, packed, parse
from .playground import Playground
from .seats import Full, Seat, Seats
from .turns import Turns
from .walk import Shown, Walk, longest_film

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response, WebSocket

log = logging.getLogger("noiseladder.serving")

REFUSED, FULL, ASLEEP, TAKEN_OVER, OVER, TOO_MANY_MISTAKES, TOO_SLOW = range(4001, 4008)
"""Why a connection ends, as websocket close codes; the page tells them apart."""

_FILES = MappingProxyType(
    {
        "/": ("index.html", "text/html; charset=utf-8"),
        "/play.css": ("play.css", "text/css; charset=utf-8"),
        "/play.js": ("play.js", "text/javascript; charset=utf-8"),
        "/icon.svg": ("icon.svg", "image/svg+xml"),
    }
)
_HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self';"
            " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }
)


def make_app(playground: Playground, door: Door, limits: Limits | None = None) -> FastAPI:
    """The application: four files, and a websocket at /world. Raises ImportError without FastAPI."""
    need_serving()
    from fastapi import FastAPI
    from starlette.routing import Route, WebSocketRoute

    house = House(playground, door, limits or Limits())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        house.turns.close()

    static = files("noiseladder.serving") / "static"
    pages = [
        Route(path, _answer(door, (static / name).read_bytes(), kind), methods=["GET"])
        for path, (name, kind) in _FILES.items()
    ]
    app = FastAPI(
        title="noiseladder",
        routes=[*pages, WebSocketRoute("/world", house.welcome)],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )
    app.state.house = house
    return app


def need_serving() -> None:
    """Raise ImportError with what to do when a page cannot be served here."""
    try:
        import fastapi
        import uvicorn
        import websockets  # noqa: F401
    except ImportError as error:
        raise ImportError("the page needs FastAPI, uvicorn and websockets: pip install 'noiseladder[play]'") from error
    del fastapi, uvicorn


def _answer(door: Door, content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    from fastapi import Response

    async def answer(request: Request) -> Response:
        if not door.knows(request.headers.get("host")):
            return Response("this page does not go by that name", 421, dict(_HEADERS), "text/plain; charset=utf-8")
        return Response(content, 200, dict(_HEADERS), kind)

    return answer


class Closing(Exception):
    """The connection is to end, for a reason that the page shows."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Gone(Exception):
    """The player has gone."""


class House:
    """Everything that the players of one server share."""

    def __init__(self, playground: Playground, door: Door, limits: Limits) -> None:
        self.playground, self.door, self.limits = playground, door, limits
        self.turns = Turns()
        self.seats = Seats(limits.players, limits.parked, lambda: Walk(playground))
        self.waiting = 0
        """Connections that have not said yet who they are."""
        self._described = playground.described()

    async def welcome(self, socket: WebSocket) -> None:
        """One connection, from its first word to its last."""
        headers = socket.headers
        if not self.door.admits(headers.get("origin"), headers.get("host")) or self.waiting >= self.limits.waiting:
            await socket.close(1008)  # before it was accepted: the browser gets 403
            return
        self.waiting += 1
        seat: Seat | None = None
        connection = Connection(socket, self.limits)
        try:
            try:
                seat = await self._enter(connection)
            finally:
                self.waiting -= 1
            await self._play(connection, seat)
        except Gone:
            pass
        except Closing as closing:
            await connection.close(closing.code, closing.reason)
        finally:
            if seat is not None:
                self.seats.leave(seat)

    async def _enter(self, connection: Connection) -> Seat:
        await connection.socket.accept()
        question = await connection.question(self.limits.enter)
        if not isinstance(question, Enter):
            raise Closing(REFUSED, "the first question must be: enter")
        if not self.door.opens_for(question.token):
            raise Closing(REFUSED, "this page is public and needs its token: open the address that was printed")
        try:
            return self.seats.take(question.walk)
        except Full as full:
            raise Closing(FULL, str(full)) from None

    async def _play(self, connection: Connection, seat: Seat) -> None:
        walk, began = seat.walk, asyncio.get_running_loop().time()
        await connection.tell(
            {
                "kind": "entered",
                **self._described,
                "walk": seat.key,
                "number": walk.number,
                "formats": formats(),
                "sliders": walk.sliders(),
                "longestFilm": longest_film(self.playground.rate),
            }
        )
        while True:
            left = began + self.limits.session - asyncio.get_running_loop().time()
            if left <= 0:
                raise Closing(OVER, "your time is over, so that others get a turn: come in again")
            question = await connection.question(self.limits.idle)
            if seat.lost:
                raise Closing(TAKEN_OVER, "this walk goes on in another window")
            try:
                await connection.answer(await self._answer(question, walk))
            except ValueError as error:
                await connection.refuse(str(error))
            except (Gone, Closing):
                raise
            except Exception as error:
                log.exception("a player's request failed: %s", type(question).__name__)
                await connection.refuse(
                    f"the world stumbled ({type(error).__name__}): begin again at a real frame. Nobody else noticed"
                )

    async def _answer(self, question: Question, walk: Walk) -> Mapping[str, Any] | bytes:
        """JSON or bytes."""
        match question:
            case Reset(opening):
                return self._frame(await self.turns.take(partial(walk.reset, opening)))
            case Step(action):
                return self._frame(await self.turns.take(partial(walk.step, action)))
            case Follow():
                return self._frame(await self.turns.take(walk.follow))
            case Back():
                return self._frame(await self.turns.take(walk.back))
            case Look():
                return self._frame(await self.turns.take(walk.look))
            case Dream(values):
                return {"kind": "dreaming", "sliders": walk.slide(values)}
            case Record():
                walk.record()
                return {"kind": "recording"}
            case Film(format):
                frames, rate = walk.film(), self.playground.rate
                return packed(
                    {"kind": "film", "format": format}, await self.turns.film(partial(film, frames, rate, format))
                )
            case Enter():
                raise ValueError("you are in already")

    def _frame(self, shown: Shown) -> bytes:
        return packed({**shown.header(), "players": len(self.seats)}, *shown.pixels())


class Connection:
    """One websocket, read one question at a time and not faster than is allowed."""

    def __init__(self, socket: WebSocket, limits: Limits) -> None:
        self.socket, self._limits = socket, limits
        self._pace, self._mistakes = Pace(limits.questions), 0

    async def question(self, patience: float) -> Question:
        """The next question; what is none is refused here. Raises Gone or Closing."""
        while True:
            if (wait := self._pace.wait()) > 0:
                await asyncio.sleep(wait)
            try:
                message = await asyncio.wait_for(self.socket.receive(), patience)
            except TimeoutError:
                raise Closing(ASLEEP, f"nothing was asked for {patience:.0f} seconds") from None
            if message["type"] == "websocket.disconnect":
                raise Gone
            text = message.get("text")
            try:
                if text is None:
                    raise ValueError("a question must be text, not bytes")
                question = parse(text)
            except ValueError as error:
                await self.refuse(str(error))
            else:
                return question

    async def answer(self, content: Mapping[str, Any] | bytes) -> None:
        """Answer a question that was one."""
        self._mistakes = 0
        if isinstance(content, bytes):
            await self._send(self.socket.send_bytes(content))
        else:
            await self.tell(content)

    async def tell(self, content: Mapping[str, Any]) -> None:
        """Send JSON."""
        await self._send(self.socket.send_text(json.dumps(content, allow_nan=False)))

    async def refuse(self, sentence: str) -> None:
        """Say what was wrong; after too many mistakes in a row, raise Closing."""
        self._mistakes += 1
        if self._mistakes > self._limits.mistakes:
            raise Closing(TOO_MANY_MISTAKES, "too many questions that are none")
        await self.tell({"kind": "refused", "why": sentence[:300]})

    async def close(self, code: int, reason: str) -> None:
        """End the connection, if it is still there."""
        with suppress(Exception):
            # A reason has room for 123 bytes.
            await asyncio.wait_for(
                self.socket.close(code, reason.encode()[:123].decode(errors="ignore")), self._limits.answer
            )

    async def _send(self, sending: Awaitable[None]) -> None:
        from fastapi import WebSocketDisconnect

        try:
            await asyncio.wait_for(sending, self._limits.answer)
        except TimeoutError:
            raise Closing(TOO_SLOW, "answers were not taken in time") from None
        except (WebSocketDisconnect, RuntimeError, OSError) as error:
            raise Gone from error
