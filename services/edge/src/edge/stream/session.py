"""
One client of protocol v3, from its hello to its end.

Requests are carried out in the order in which they come, each at once and without a
task; only a resume that has to ask the stream waits, and what the client asks
meanwhile waits behind it. What a client is subscribed to is in ``subscriptions.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from edge.clients.close_codes import CloseCode
from edge.clients.outlet import Outlet
from edge.clients.registry import HEARTBEAT_SECONDS
from edge.clients.sender import Sender
from edge.door.admission import TokenBucket
from edge.door.login import Login
from edge.door.tokens import AuthError
from edge.parts import EdgeParts
from edge.stream.messages import (
    Ack,
    Error,
    GoingAway,
    Heartbeat,
    Hello,
    Limits,
    Listing,
    Message,
    Pong,
    encode,
)
from edge.stream.requests import (
    MAX_SYMBOLS_PER_REQUEST,
    Auth,
    BadRequestError,
    List,
    NotARequestError,
    Ping,
    Request,
    RequestId,
    Resume,
    Subscribe,
    Unsubscribe,
    parse_request,
)
from edge.stream.subscriptions import Opening, Subscriptions
from feedmesh.clock import iso, now_ns


__all__ = ["PROTOCOL", "StreamSession"]

logger = logging.getLogger(__name__)

PROTOCOL = "feedmesh.v1.json"

_REQUESTS_PER_SECOND = 100
_MAX_ERRORS = 20
# As many may wait for the stream; who asks more is heard more slowly.
_MAX_WAITING = 20
_PAUSE_SECONDS = 1.0
_RETRY_MS = 1000


class StreamSession:
    """
    A client of protocol v3.

    Args:
        outlet: Its socket.
        parts: The rest of the edge.
        login: Who it is.
        arrays: Whether it takes JSON arrays of messages.
    """

    endpoint = "stream"

    __slots__ = (
        "_blocked_since",
        "_chore",
        "_errors",
        "_login",
        "_outlet",
        "_parts",
        "_requests",
        "_sender",
        "_subscriptions",
        "_waiting",
    )

    def __init__(
        self, outlet: Outlet, parts: EdgeParts, login: Login, *, arrays: bool
    ) -> None:
        self._outlet = outlet
        self._parts = parts
        self._login = login
        self._sender = Sender(outlet, arrays=arrays)
        self._subscriptions = Subscriptions(
            parts, self._sender, self._say, lambda: login.identity
        )
        self._requests = TokenBucket(_REQUESTS_PER_SECOND, _REQUESTS_PER_SECOND)
        self._errors = 0
        self._blocked_since: float | None = None
        # A request that waits for the stream, and those that came after it.
        self._chore: asyncio.Task[None] | None = None
        self._waiting: deque[Request] | None = None
        parts.clients.add(self)
        self._say(self._hello())

    # What the socket says.

    def received(self, text: str | None) -> None:
        """Carry out a request, or say what is wrong with it."""
        if text is None:
            self._close(CloseCode.NOT_TEXT, "messages are text")
        elif not self._requests.take():
            self._close(CloseCode.TOO_FAST, "too many requests")
        else:
            try:
                request = parse_request(text)
            except NotARequestError:
                self._refuse(None, "not_a_request", "a message is an object with op")
                self._close(CloseCode.BROKEN, "not a request")
            except BadRequestError as error:
                if self._login.needed:
                    self._close(CloseCode.UNAUTHENTICATED, "")
                else:
                    self._refuse(error.id, error.code, str(error))
            else:
                self._take(request)

    def blocked(self) -> None:
        """Note since when the client takes no bytes; let updates pass by."""
        self._blocked_since = asyncio.get_running_loop().time()
        self._subscriptions.suspend()

    def resumed(self) -> None:
        """Tell the client what it missed, and go on."""
        self._blocked_since = None
        self._subscriptions.resume()
        self._parts.flusher.soon(self._sender)
        self._subscriptions.pump()

    def lost(self) -> None:
        """Forget the client."""
        self._parts.clients.remove(self)
        self._subscriptions.close()
        self._parts.flusher.discard(self._sender)
        if self._chore is not None:
            self._chore.cancel()

    # What the edge asks of every client.

    def stuck_since(self) -> float | None:
        """Return the loop time since which it takes no bytes; None if it does."""
        return self._blocked_since

    def check_login(self) -> None:
        """End the connection if the client's time is up."""
        if self._login.overdue():
            self._close(CloseCode.UNAUTHENTICATED, "")

    def evict(self) -> None:
        """End the connection of a client that takes no bytes."""
        self._parts.metrics.closed.labels(CloseCode.DOES_NOT_READ.value).inc()
        self._outlet.close(CloseCode.DOES_NOT_READ, "does not read")

    def heartbeat(self) -> None:
        """Say that all is well, and up to where the client has everything."""
        # The position must not pass what waits in a lane.
        self._parts.hub.flush()
        if self._sender.blocked:
            return
        positions = self._subscriptions.positions
        self._say(Heartbeat(iso(now_ns()), self._sender.conflated, positions))

    def going_away(self, reconnect_after_ms: int) -> None:
        """Say that the edge will close, and when to come back."""
        self._say(GoingAway(reconnect_after_ms))

    def close_for_restart(self) -> None:
        """Close the connection; the client may come back with its positions."""
        self._close(CloseCode.GOING_AWAY, "edge restarts; come back and resume")

    # Requests, in order.

    def _take(self, request: Request) -> None:
        if isinstance(request, Auth):
            # At once: the old token may not last until what waits is done.
            self._attempt(request.id, partial(self._authenticate, request))
        elif self._waiting is not None:
            self._waiting.append(request)
            if len(self._waiting) >= _MAX_WAITING:
                self._outlet.hold(_PAUSE_SECONDS)
        else:
            self._attempt(request.id, partial(self._carry_out, request))

    def _attempt(self, request_id: RequestId, work: Callable[[], None]) -> None:
        try:
            work()
        except AuthError:
            self._close(CloseCode.UNAUTHENTICATED, "")
        except BadRequestError as error:
            self._refuse(request_id, error.code, str(error))
        except Exception:
            self._failed(request_id)
        self._parts.flusher.now_if_much(self._sender)

    def _failed(self, request_id: RequestId) -> None:
        # A fault of ours in one request must not cost the client its connection.
        logger.exception("a request failed")
        self._refuse(request_id, "internal_error", "try again", _RETRY_MS)

    def _authenticate(self, request: Auth) -> None:
        self._login.present(request.token)
        # A newer token may allow less than the one before.
        rejected = self._subscriptions.keep(self._login.identity)
        self._say(Ack("auth", id=request.id, rejected=rejected or None))

    def _carry_out(self, request: Request) -> None:
        _ = self._login.identity
        match request:
            case Subscribe():
                self._open(Opening("subscribe", request.id, [request]))
            case Resume():
                self._open(Opening("resume", request.id, request.subscriptions))
            case Unsubscribe():
                self._subscriptions.end(request)
            case List():
                self._say(Listing(request.id, self._subscriptions.listed()))
            case Ping():
                self._say(Pong(request.id, iso(now_ns())))

    def _open(self, opening: Opening) -> None:
        left = self._subscriptions.open(opening)
        if left.wanted:
            self._waiting = deque()
            self._chore = self._parts.chores.start(partial(self._recover, left))

    async def _recover(self, opening: Opening) -> None:
        try:
            recovery = await self._subscriptions.recovery(opening)
        except Exception:
            self._failed(opening.id)
        else:
            begin = partial(self._subscriptions.recovered, opening, recovery)
            self._attempt(opening.id, begin)
        waiting, self._waiting, self._chore = self._waiting, None, None
        self._attempt(opening.id, partial(self._open, opening.rest))
        for request in waiting or ():
            self._take(request)

    # What the client is told.

    def _hello(self) -> Hello:
        settings = self._parts.settings
        return Hello(
            protocol=PROTOCOL,
            edge=settings.edge_name,
            at=iso(now_ns()),
            heartbeat_ms=HEARTBEAT_SECONDS * 1000,
            auth=self._login.needed,
            limits=Limits(
                max_symbols=settings.edge_max_symbols,
                max_symbols_per_request=MAX_SYMBOLS_PER_REQUEST,
                max_message_bytes=settings.edge_max_message,
                max_requests_per_second=_REQUESTS_PER_SECOND,
                replay_messages=settings.edge_replay,
            ),
            feeds={
                feed: frame.state for feed, frame in self._parts.status.feeds().items()
            },
        )

    def _refuse(
        self,
        request_id: RequestId,
        code: str,
        text: str,
        retry_after_ms: int | None = None,
    ) -> None:
        self._parts.metrics.request_errors.labels("stream").inc()
        temporary = retry_after_ms is not None
        self._say(Error(request_id, code, text, temporary, retry_after_ms))
        # What may succeed later is no fault of the client's.
        self._errors += not temporary
        if self._errors >= _MAX_ERRORS:
            self._close(CloseCode.BROKEN, "too many errors")

    def _say(self, message: Message) -> None:
        self._sender.put(encode(message))
        self._parts.flusher.soon(self._sender)

    def _close(self, code: int, reason: str) -> None:
        self._parts.metrics.closed.labels(int(code)).inc()
        self._sender.flush()
        self._outlet.close(code, reason)
