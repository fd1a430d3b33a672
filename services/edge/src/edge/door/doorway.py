"""
The raw HTTP side of the edge: who gets in, and for how long it may take.

uvicorn waits for ever for the rest of a request, takes one of any size, and answers
everything that is wrong with 400. This subclass of its h11 protocol gives each step a
time limit, puts :mod:`edge.door.http_rules` in front of h11, and counts every refusal
by its reason. h11 and not httptools, although that is faster and stricter by itself:
h11 hands over a request only when its head is complete, so limits, rules and the answer
are decided in one place, on bytes, before anything is allocated for the request; and it
stops parsing at the end of each request, so a pipeline cannot pile up work.

Nothing here is logged by request: whoever sends nonsense shall not fill our logs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import h11
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from edge.door.admission import TokenBucket, retry_after
from edge.door.http_rules import Refusal
from edge.door.strict_http import StrictConnection
from edge.metrics import EdgeMetrics
from edge.settings import Settings


__all__ = ["Doorway", "HttpProtocol", "open_doorway"]

logger = logging.getLogger(__name__)
# uvicorn warns of every bad request; they are counted instead.
logger.setLevel(logging.ERROR)

# How long, and for how many bytes, a refused client is heard out. To close a socket
# with unread bytes resets it, and a reset destroys the answer on its way.
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Doorway:
    """
    What all connections have in common.

    Attributes:
        settings: Limits.
        metrics: Counts.
        arrivals: Rations new WebSockets.
        sockets: Paths at which there is nothing but a WebSocket.
    """

    settings: Settings
    metrics: EdgeMetrics
    arrivals: TokenBucket
    sockets: frozenset[str]

    @property
    def max_connections(self) -> int:
        """How many sockets may be open at a time, of WebSockets and others."""
        return self.settings.edge_max_clients + self.settings.edge_spare_connections


def open_doorway(
    settings: Settings, metrics: EdgeMetrics, app: Starlette
) -> Callable[..., HttpProtocol]:
    """Return what uvicorn calls, as its ``http`` protocol, for each connection."""
    arrivals = TokenBucket(settings.edge_arrivals, settings.edge_arrivals_burst)
    sockets = frozenset(
        route.path for route in app.routes if isinstance(route, WebSocketRoute)
    )
    return partial(HttpProtocol, Doorway(settings, metrics, arrivals, sockets))


class HttpProtocol(H11Protocol):
    """One connection, until it is upgraded or closed."""

    def __init__(self, doorway: Doorway, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.logger = logger
        self.conn: StrictConnection = StrictConnection(
            doorway.settings.edge_hosts, doorway.sockets
        )
        self._doorway = doorway
        self._deadline: asyncio.TimerHandle | None = None
        self._unread_answer: asyncio.TimerHandle | None = None
        # What the client owes us: the rest of a head (IDLE), of a body, or nothing.
        self._owed: object = None
        self._refused = False
        self._lingering_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the client its first deadline; or send it away if we are full."""
        super().connection_made(transport)
        if len(self.connections) > self._doorway.max_connections:
            self._refuse(_full("too_many_connections"), linger=False)
        else:
            self._owe(h11.IDLE)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of all timers."""
        self._cancel_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless the client has had its answer already."""
        if not self._refused:
            super().data_received(data)
            return
        self._lingering_bytes += len(data)
        if self._lingering_bytes > _LINGER_BYTES:
            self.transport.abort()

    def handle_events(self) -> None:
        """Do what the bytes so far ask for, then see what is still to come."""
        super().handle_events()
        if self._refused or self.transport.get_protocol() is not self:
            return
        state = self.conn.their_state
        if state is h11.IDLE and not self.conn.trailing_data[0]:
            # Between two requests. uvicorn closes connections that stay so for long.
            state = h11.DONE
        if state is not self._owed:
            self._owe(state)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the socket to the WebSocket protocol, with all that came after."""
        if not self._doorway.arrivals.take():
            self._refuse(_full("too_many_at_once"))
            return
        self._cancel_timers()
        super().handle_websocket_upgrade(event)
        early = self.conn.trailing_data[0]
        if early and not self.transport.is_closing():
            successor = self.transport.get_protocol()
            assert isinstance(successor, asyncio.Protocol)
            successor.data_received(early)

    def send_400_response(self, msg: str) -> None:
        """Answer what `StrictConnection` refused."""
        assert self.conn.refusal is not None
        self._refuse(self.conn.refusal)

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read its answer."""
        super().pause_writing()
        self._unread_answer = self.loop.call_later(
            self._doorway.settings.edge_stuck, self._give_up
        )

    def resume_writing(self) -> None:
        """Note that the client reads."""
        super().resume_writing()
        if self._unread_answer is not None:
            self._unread_answer.cancel()

    def shutdown(self) -> None:
        """Close, after the answer that is being given."""
        if self._refused:
            # h11 knows nothing of the answer that was given past it.
            self.transport.abort()
        elif self._owed is h11.SEND_BODY:
            # There is nobody left to wait for the rest.
            self._refuse(_full("closing"), linger=False)
        else:
            super().shutdown()

    def _get_upgrade(self) -> bytes | None:
        return b"websocket" if self.conn.upgrade else None

    def _owe(self, state: object) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._owed = state
        if state in (h11.IDLE, h11.SEND_BODY):
            self._deadline = self.loop.call_later(
                self._doorway.settings.edge_handshake, self._too_slow
            )

    def _too_slow(self) -> None:
        part = "head" if self._owed is h11.IDLE else "body"
        text = f"the {part} of the request took too long"
        self._refuse(Refusal(408, f"slow_{part}", text), linger=False)

    def _give_up(self) -> None:
        self._doorway.metrics.refused.labels("unread_answer").inc()
        self.transport.abort()

    def _refuse(self, refusal: Refusal, *, linger: bool = True) -> None:
        self._doorway.metrics.refused.labels(refusal.reason).inc()
        self._cancel_timers()
        self._refused = True
        answerable = self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            # Whoever still works on an answer must not write it behind this one.
            cycle.disconnected = True
            cycle.message_event.set()
        if answerable:
            self.transport.write(refusal.answer())
        if not linger or not answerable:
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._deadline = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _cancel_timers(self) -> None:
        self._unset_keepalive_if_required()
        for timer in (self._deadline, self._unread_answer):
            if timer is not None:
                timer.cancel()


def _full(reason: str) -> Refusal:
    return Refusal(503, reason, "try again later", (("retry-after", retry_after()),))
