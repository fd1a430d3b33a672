"""
A client's socket without a task, a queue or ASGI between it and us.

uvicorn's own WebSocket protocol does the handshake and the frames of the protocol,
and FastAPI does the routing. Once an endpoint has accepted a client, it *attaches* a
session and returns: from then on, messages go straight to the session, whole frames
straight to the transport, and what the request needed in memory is let go.

The transport never refuses a write; whether a client keeps up is told by
``pause_writing`` and ``resume_writing``. A client that does not read may not ask
either: nothing is read from it until it takes bytes again.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio.transports import BaseTransport
from typing import Any, Final, Protocol, cast

from fastapi import WebSocket
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from edge.clients.close_codes import CloseCode


__all__ = ["EdgeProtocol", "Outlet", "Session", "outlet_of"]

logger = logging.getLogger(__name__)

_EXTENSION = "feedmesh.outlet"
# What may wait in user space for one client; the kernel's send buffer comes on top.
_HIGH_WATER = 64 * 1024
_LOW_WATER = 16 * 1024
# How long a client has to answer a close frame.
_CLOSE_SECONDS = 2.0
# Parts of no bytes reach no limit of size.
_MAX_PARTS = 1024
_MESSAGE_SECONDS = 10.0


class Session(Protocol):
    """One client, as its socket sees it."""

    def received(self, text: str | None) -> None:
        """Take a message; None stands for a binary one."""

    def blocked(self) -> None:
        """Note that the client takes no more for now."""

    def resumed(self) -> None:
        """Note that the client takes bytes again."""

    def lost(self) -> None:
        """Note that the client is gone."""


class _Nobody:
    """The session of a socket that has none yet, or none any more."""

    def received(self, text: str | None) -> None: ...
    def blocked(self) -> None: ...
    def resumed(self) -> None: ...
    def lost(self) -> None: ...


_NOBODY: Final = _Nobody()


class _NoQueue:
    """Takes what uvicorn would tell an endpoint that has long returned."""

    def put_nowait(self, _: object) -> None: ...


_NO_QUEUE: Final = cast("asyncio.Queue[Any]", _NoQueue())


class EdgeProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, of which an endpoint can let go."""

    _session: Session = _NOBODY
    # What came before we answered the handshake.
    _early = b""
    _message_began = 0.0

    def connection_made(self, transport: BaseTransport) -> None:
        """Set how much may wait for a client before it counts as slow."""
        super().connection_made(transport)
        self._unheard: list[str] = []
        self.transport.set_write_buffer_limits(_HIGH_WATER, _LOW_WATER)
        self.outlet = Outlet(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the session, and let go of it."""
        super().connection_lost(exc)
        session, self._session = self._session, _NOBODY
        session.lost()

    def data_received(self, data: bytes) -> None:
        """Take bytes; those that come too early wait until there is a session."""
        if self.handshake_initiated and self._session is _NOBODY:
            self._early += data
            self.transport.pause_reading()
        else:
            super().data_received(data)

    def handle_connect(self, event: Request) -> None:
        """Offer the outlet to the endpoint."""
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            cast("dict[str, Any]", scope["extensions"])[_EXTENSION] = self.outlet

    async def run_asgi(self) -> None:
        """Run the endpoint; the socket outlives it if it has attached a session."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except Exception:
            logger.exception("an endpoint failed")
            self.send_500_response()
        if self._session is _NOBODY and self.close_timer is None:
            self.transport.close()

    def attach(self, session: Session) -> None:
        """Give the socket to *session*; the endpoint may return."""
        self._session = session
        self.queue = _NO_QUEUE
        del self.scope, self.request, self.response
        if self.disconnected:
            self._session = _NOBODY
            session.lost()
        elif self._early and not self.transport.is_closing():
            early = self._early
            del self._early
            self._listen()
            self.data_received(early)

    def handle_cont(self, event: Frame) -> None:
        """Add a part to a message, unless it has too many or takes too long."""
        if len(self.frames) == 1:
            self._message_began = self.loop.time()
        late = self.loop.time() > self._message_began + _MESSAGE_SECONDS
        if late or len(self.frames) >= _MAX_PARTS:
            self.frames.clear()
            self.close(CloseCode.TOO_LARGE, "a message without end")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Pass a whole message on to the session."""
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type != "text":
            self._session.received(None)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.close(1007, "text must be UTF-8")
            return
        if self.outlet.blocked:
            # One read may bring thousands of messages. No answer is made before the
            # client has taken those to the messages before.
            self._unheard.append(text)
        else:
            self._session.received(text)

    def pause_writing(self) -> None:
        """Note that the client takes no more for now; hear nothing from it either."""
        super().pause_writing()
        self.outlet.blocked = True
        if self._session is not _NOBODY:
            self.transport.pause_reading()
            self._session.blocked()

    def resume_writing(self) -> None:
        """Note that the client takes bytes again."""
        super().resume_writing()
        self.outlet.blocked = False
        if self.pong_timer is not None:
            self._await_pong()
        if self._session is not _NOBODY:
            self._session.resumed()
            while self._unheard and not self.outlet.blocked and not self.close_sent:
                self._session.received(self._unheard.pop(0))
            self._listen()

    def close(self, code: int, reason: str) -> None:
        """Say goodbye; what waits for the client goes first, within a limit."""
        if self.close_sent or self.transport.is_closing():
            return
        self.stop_keepalive()
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.outlet.blocked:
            self.transport.resume_reading()
        # The answer ends the connection, see handle_close of the base class.
        self.close_timer = self.loop.call_later(_CLOSE_SECONDS, self.transport.abort)

    def handle_close(self, event: Frame) -> None:
        """Answer a close, or take the answer to ours."""
        super().handle_close(event)
        self._linger()

    def handle_parser_exception(self) -> None:
        """Close for a violation of the protocol."""
        super().handle_parser_exception()
        self._linger()

    def keepalive_timeout(self) -> None:
        """Close for a ping that was not answered."""
        if self.outlet.blocked:
            # Its answer would not be heard; how long it may stay so has its own limit.
            self._await_pong()
        else:
            super().keepalive_timeout()
            self._linger()

    def hold(self, seconds: float) -> None:
        """Hear nothing from the client for *seconds*."""
        self.transport.pause_reading()
        self.loop.call_later(seconds, self._listen)

    def _listen(self) -> None:
        if not self.outlet.blocked and not self.transport.is_closing():
            self.transport.resume_reading()

    def _await_pong(self) -> None:
        if self.pong_timer is not None:
            self.pong_timer.cancel()
        assert self.ping_timeout is not None
        self.pong_timer = self.loop.call_later(
            self.ping_timeout, self.keepalive_timeout
        )

    def _linger(self) -> None:
        # A closed transport still waits for a client that takes no bytes.
        self.loop.call_later(_CLOSE_SECONDS, self.transport.abort)


class Outlet:
    """
    Where the frames of one client leave.

    Attributes:
        blocked: Whether so much waits already that nothing should be added.
    """

    __slots__ = ("_protocol", "blocked")

    def __init__(self, protocol: EdgeProtocol) -> None:
        self._protocol = protocol
        self.blocked = False

    def attach(self, session: Session) -> None:
        """Give the client to *session*; the endpoint should return."""
        self._protocol.attach(session)

    def write(self, frames: bytes | memoryview) -> None:
        """Write whole frames; nothing happens once the connection is closing."""
        protocol = self._protocol
        if not protocol.close_sent and not protocol.transport.is_closing():
            protocol.transport.write(frames)

    def hold(self, seconds: float) -> None:
        """Hear nothing from the client for *seconds*."""
        self._protocol.hold(seconds)

    def close(self, code: int, reason: str) -> None:
        """Close the connection with *code*; abort it if that takes too long."""
        self._protocol.close(code, reason)

    def abort(self) -> None:
        """End the connection at once, dropping what still waits for the client."""
        self._protocol.transport.abort()


def outlet_of(websocket: WebSocket) -> Outlet:
    """Return the outlet of an accepted *websocket*."""
    outlet = websocket.scope["extensions"][_EXTENSION]
    assert isinstance(outlet, Outlet)
    return outlet
