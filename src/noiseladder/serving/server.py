"""A server for one playground: on this machine alone, or in public with a token."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .door import Door
from .limits import Limits
from .messages import LONGEST
from .page import make_app, need_serving
from .playground import Playground
from .sockets import bounded_protocols

if TYPE_CHECKING:
    import uvicorn

HERE, EVERYWHERE = "127.0.0.1", "0.0.0.0"
PORT = 8420


@dataclass(frozen=True)
class Address:
    """Where a page can be opened. token: of a public page, "" on this machine."""

    port: int
    token: str = ""

    @property
    def url(self) -> str:
        """What to open; the token comes after #, so that a browser tells it to no server but through the page."""
        if not self.token:
            return f"http://{HERE}:{self.port}/"
        return f"http://{_own_address()}:{self.port}/#{self.token}"


def _own_address() -> str:
    """The address of this machine that others are most likely to reach; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address that belongs to nobody, RFC 5737
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


def bind(port: int, public: bool) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises ValueError when the port is taken or not allowed."""
    if not 0 <= port <= 65535:
        raise ValueError(f"--port is {port}, expected 0 to 65535 (0 takes a free one)")
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a page that was just closed may come again
    try:
        listening.bind((EVERYWHERE if public else HERE, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise ValueError(f"port {port} is in use, perhaps by another page: choose another with --port") from error
        if error.errno == errno.EACCES:
            raise ValueError(f"port {port} may not be used by everybody: choose one above 1023 with --port") from error
        raise
    return listening


def serve(
    playground: Playground,
    port: int = PORT,
    token: str | None = None,
    limits: Limits | None = None,
    ready: Callable[[Address], object] = lambda address: None,
) -> None:
    """Serve the page until interrupted. token: of a public page; "" makes one; None serves this machine alone.

    ready: called with the address once the port is ours. Raises ValueError for a port in use or a token too short,
    ImportError without the extra.
    """
    need_serving()
    limits = limits or Limits()
    if token == "":
        token = secrets.token_urlsafe(24)
    if token is not None:
        Door(None, token)  # before anything listens
    with bind(port, token is not None) as listening:
        port = listening.getsockname()[1]
        door = Door.of_this_machine(port) if token is None else Door(None, token)
        server = make_server(playground, door, limits)
        ready(Address(port, token or ""))
        server.run(sockets=[listening])


def make_server(playground: Playground, door: Door, limits: Limits) -> uvicorn.Server:
    """A server that is not running yet, for a socket that is listening."""
    import uvicorn

    http, websocket = bounded_protocols(limits)
    config = uvicorn.Config(
        make_app(playground, door, limits),
        http=http,
        ws=websocket,
        ws_max_size=LONGEST,
        ws_per_message_deflate=False,
        log_level="error",  # what strangers send wrongly is no news,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)
