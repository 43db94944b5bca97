"""Who may stand in the door, and for how long: bounds on slow and idle HTTP connections.

A client that sends its request byte by byte, or takes its answer so, holds a connection and nothing else; with these bounds it
cannot hold it for long, and when there are too many, those that have waited longest without a whole request make room.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.gateway.settings import HttpSettings

_LOG: Final = logging.getLogger("everloop.gateway")
_GRACE_S: Final = 1.0
"""A body that is late gets a 408 from the application; only where nobody waits for it, the connection ends so much later."""
_REFUSAL: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s"
)


class Doorway:
    """What the connections of one server share."""

    def __init__(self, settings: HttpSettings, *, connections: int) -> None:
        self.settings, self.connections = settings, connections
        self.waiting: dict[Connection, None] = {}
        """Those whose next request is not whole; who has waited longest comes first."""

    def make_room(self) -> bool:
        """End the connection that has waited longest without a whole request; False where every one has sent one."""
        if not self.waiting:
            return False
        next(iter(self.waiting)).end()
        return True

    def __call__(self, **options: Any) -> Connection:
        """Return the protocol of a new connection, as uvicorn asks for one."""
        return Connection(self, **options)


class Connection(HttpToolsProtocol):
    """uvicorn's connection with a time limit on each thing that a client may be slow at."""

    def __init__(self, doorway: Doorway, **options: Any) -> None:
        super().__init__(**options)
        self._door, self._bounds = doorway, doorway.settings
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._head = 0
        """Bytes since the last whole head, at most: 0 while a body is read."""
        self._answering: RequestResponseCycle | None = None
        """The request that is being answered; those that came behind it on this connection wait."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection; where there are too many, another one or this one goes."""
        full = len(self.connections) >= self._door.connections
        room = not full or self._door.make_room()
        super().connection_made(transport)
        self._await_request()
        if not room:
            _LOG.warning("%d connections are busy: one more is refused", len(self.connections) - 1)
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; uvicorn tells the request that came last, and here the one being answered hears it too."""
        self._door.waiting.pop(self, None)
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()
        self.pipeline.clear()
        self._stop_reading()
        self._stop_writing()
        super().connection_lost(exc)

    def end(self) -> None:
        """Drop the connection, whatever is still to be sent: a client that does not read would keep it open."""
        self._door.waiting.pop(self, None)
        self.connections.discard(self)
        self.transport.abort()

    # From the client

    def data_received(self, data: bytes) -> None:
        """Read; a head has a bound."""
        self._head += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._reading is None and self.timeout_keep_alive_task is None and not self._busy:
            # An empty line between two requests ends the pause that keep-alive allows, and begins nothing.
            self._await_request()
        if self._head > self._bounds.max_head and self in self._door.waiting:
            body = b'{"type":"about:blank","title":"The head is too large","status":431}'
            self.transport.write(_REFUSAL % (len(body), body))
            self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins: its head has a time limit from here."""
        super().on_message_begin()
        self._await_request()

    def on_headers_complete(self) -> None:
        """The head is there: the body has a time limit from here."""
        self._head = 0
        self._limit_reading(self._bounds.body_timeout_s + _GRACE_S)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body, which is no part of a head."""
        self._head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole: whatever it waits for now is not its client."""
        self._head = 0
        self._door.waiting.pop(self, None)
        self._stop_reading()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The connection is idle: it may stay, and is among the first to go when others need room."""
        super().on_response_complete()
        if not self.transport.is_closing() and not self._busy:
            self._door.waiting[self] = None

    # To the client

    def pause_writing(self) -> None:
        """The client does not take its answer: it has a time limit from here."""
        super().pause_writing()
        self._stop_writing()
        self._writing = self.loop.call_later(self._bounds.write_timeout_s, self.end)

    def resume_writing(self) -> None:
        """The client has taken some."""
        super().resume_writing()
        self._stop_writing()

    def timeout_keep_alive_handler(self) -> None:
        """The pause between two requests is over."""
        self.end()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def _busy(self) -> bool:
        return bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)

    def _await_request(self) -> None:
        self._door.waiting.setdefault(self)
        self._limit_reading(self._bounds.head_timeout_s)

    def _limit_reading(self, limit_s: float) -> None:
        self._stop_reading()
        self._reading = self.loop.call_later(limit_s, self.end)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _stop_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
