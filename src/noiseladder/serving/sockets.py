"""Connections below the page: how many, how long they may dawdle, and that none makes us keep what it does not read.

uvicorn counts neither open connections nor the seconds of a request that never ends, and answers pings of a client that
reads nothing; its two protocol classes are narrowed here.
"""

from __future__ import annotations

from typing import Any

from .limits import Limits

REQUEST_SECONDS = 30.0  # for all requests of one connection; a browser opens another
AT_ONCE = 16  # questions that may arrive together; an honest page sends one and waits
PIECES = 64  # of one message


def bounded_protocols(limits: Limits) -> tuple[Any, Any]:
    """uvicorn's classes for HTTP and websockets, within the limits."""
    from uvicorn.protocols.http.h11_impl import H11Protocol
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    http: Any = H11Protocol
    websocket: Any = WebSocketsSansIOProtocol

    class BoundedHTTP(http):  # type: ignore[misc]
        """HTTP on at most so many connections, each for a while."""

        end: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.abort()
                return
            self.end = self.loop.call_later(REQUEST_SECONDS, transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            self._cancel()
            super().connection_lost(exc)

        def handle_websocket_upgrade(self, event: Any) -> None:
            self._cancel()
            super().handle_websocket_upgrade(event)

        def _cancel(self) -> None:
            if self.end is not None:
                self.end.cancel()

    class BoundedWebSocket(websocket):  # type: ignore[misc]
        """A websocket that is not read while it does not read, and cut off when it does not for long."""

        stuck: Any = None

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.queue.qsize() > AT_ONCE or len(self.frames) > PIECES:
                self.transport.abort()

        def pause_writing(self) -> None:
            super().pause_writing()
            self.transport.pause_reading()
            # Only so is the connection gone: closing would wait for what is not read.
            self.stuck = self.loop.call_later(limits.answer, self.transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            self._unstick()
            super().connection_lost(exc)

        def _unstick(self) -> None:
            if self.stuck is not None:
                self.stuck.cancel()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._unstick()
            if not self.read_paused and not self.transport.is_closing():
                self.transport.resume_reading()

    return BoundedHTTP, BoundedWebSocket
