"""
One client of protocol v3, from its hello to its end.

Requests are carried out in the order in which they come, each at once and without a
task; only a resume that has to ask the stream waits, and what the client asks
meanwhile waits behind it. Nothing is ever dropped silently: what the client cannot
have is told as a gap, and what it can have follows its position.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from edge.clients.close_codes import CloseCode
from edge.clients.outlet import Outlet
from edge.clients.registry import HEARTBEAT_SECONDS
from edge.clients.sender import Sender
from edge.door.admission import TokenBucket
from edge.door.gate import Login
from edge.door.tokens import AuthError
from edge.news.log import Recovery
from edge.parts import EdgeParts
from edge.positions import NewsPosition
from edge.stream.messages import (
    Ack,
    Error,
    Gap,
    GoingAway,
    Heartbeat,
    Hello,
    Limits,
    Listing,
    Message,
    Pong,
    Positions,
    SnapshotEnd,
    encode,
)
from edge.stream.news import NewsChannel, parse_filter, parse_since
from edge.stream.prices import PriceChannel
from edge.stream.requests import (
    MAX_SYMBOLS_PER_REQUEST,
    Auth,
    BadRequestError,
    Channel,
    List,
    NotARequestError,
    Ping,
    Rejected,
    Request,
    RequestId,
    Resume,
    Subscribe,
    Subscription,
    Unsubscribe,
    parse_request,
)
from edge.stream.status import StatusChannel
from feedmesh.clock import iso, now_ns


__all__ = ["PROTOCOL", "StreamSession"]

PROTOCOL = "feedmesh.v1.json"

_REQUESTS_PER_SECOND = 100
_MAX_ERRORS = 20
# As many may wait for the stream; who asks more is heard more slowly.
_MAX_WAITING = 20
_PAUSE_SECONDS = 1.0


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
        "_news",
        "_outlet",
        "_parts",
        "_prices",
        "_requests",
        "_sender",
        "_status",
        "_waiting",
    )

    def __init__(
        self, outlet: Outlet, parts: EdgeParts, login: Login, *, arrays: bool
    ) -> None:
        self._outlet = outlet
        self._parts = parts
        self._login = login
        self._sender = Sender(outlet, arrays=arrays)
        self._prices = PriceChannel(parts, self._sender)
        self._news = NewsChannel(parts, self._sender, self._lost_news)
        self._status = StatusChannel(parts, self._sender)
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
        self._prices.suspend()

    def resumed(self) -> None:
        """Tell the client what it missed, and go on."""
        self._blocked_since = None
        missed = self._prices.resume()
        for gap in self._prices.gaps(missed):
            self._say(gap)
        self._prices.catch_up(missed)
        self._status.catch_up()
        self._parts.flusher.soon(self._sender)
        self._news.pump()

    def lost(self) -> None:
        """Forget the client."""
        self._parts.clients.remove(self)
        self._prices.close()
        self._news.close()
        self._status.close()
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
        if self._sender.blocked or self._sender.buffer:
            return
        self._say(Heartbeat(iso(now_ns()), self._sender.conflated, self._positions()))

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
        self._parts.flusher.now_if_much(self._sender)

    def _authenticate(self, request: Auth) -> None:
        self._login.present(request.token)
        # A newer token may allow less than the one before.
        identity = self._login.identity
        prices = identity.may_use("prices")
        gone = self._prices.keep(lambda name: prices and identity.may_see(name))
        if not identity.may_use("news"):
            self._news.close()
        if not identity.may_use("status"):
            self._status.close()
        rejected = [Rejected(symbol, "not_available") for symbol in gone]
        self._say(Ack("auth", id=request.id, rejected=rejected or None))

    def _carry_out(self, request: Request) -> None:
        _ = self._login.identity
        match request:
            case Subscribe():
                self._subscribe_all("subscribe", request.id, [request])
            case Resume():
                self._subscribe_all("resume", request.id, request.subscriptions)
            case Unsubscribe():
                self._unsubscribe(request)
            case List():
                listed = self._prices.listed() + self._news.listed()
                self._say(Listing(request.id, listed + self._status.listed()))
            case Ping():
                self._say(Pong(request.id, iso(now_ns())))

    def _subscribe_all(
        self, op: str, request_id: RequestId, subscriptions: list[Subscription]
    ) -> None:
        # Nothing is begun unless all of it can be.
        for wanted in subscriptions:
            self._check(wanted)
        for index, wanted in enumerate(subscriptions):
            if wanted.channel == "prices":
                self._open_prices(op, request_id, wanted)
            elif wanted.channel == "status":
                self._say(Ack(op, id=request_id, channel="status"))
                self._status.subscribe()
            elif wanted.since is None:
                self._open_news(op, request_id, wanted)
            else:
                rest = subscriptions[index + 1 :]
                self._waiting = deque()
                self._chore = self._parts.chores.start(
                    partial(self._recover_news, op, request_id, wanted, rest)
                )
                return

    def _check(self, wanted: Subscription) -> None:
        if not self._login.identity.may_use(wanted.channel):
            raise BadRequestError("not_available", "this channel is not for you")
        if wanted.channel == "news":
            parse_filter(wanted)
        elif wanted.channel == "prices":
            self._prices.check(wanted)

    def _open_prices(
        self, op: str, request_id: RequestId, wanted: Subscription
    ) -> None:
        opening = self._prices.subscribe(wanted, self._login.identity)
        if opening.rejected:
            self._parts.metrics.request_errors.labels("stream").inc()
        self._say(
            Ack(
                op,
                id=request_id,
                channel="prices",
                accepted=opening.accepted,
                rejected=opening.rejected,
                max_rate_hz=opening.rate_hz,
                recovered=opening.recovered,
                reason=opening.reason,
            )
        )
        if opening.recovered is not None:
            self._parts.metrics.resumes.labels(
                "prices", opening.reason or "recovered"
            ).inc()
        self._prices.send(opening.updates)
        self._end_of_snapshot("prices", request_id)

    def _open_news(self, op: str, request_id: RequestId, wanted: Subscription) -> None:
        self._news.subscribe(parse_filter(wanted))
        self._say(Ack(op, id=request_id, channel="news"))
        if wanted.snapshot:
            self._news.snapshot()
        self._end_of_snapshot("news", request_id)

    async def _recover_news(
        self,
        op: str,
        request_id: RequestId,
        wanted: Subscription,
        rest: list[Subscription],
    ) -> None:
        since = parse_since(wanted)
        if since is None:
            recovery = Recovery(False, "bad_position")
        else:
            recovery = await self._news.recovery(since)
        begin = partial(self._begin_news, op, request_id, wanted, since, recovery)
        self._attempt(request_id, begin)
        waiting, self._waiting, self._chore = self._waiting, None, None
        self._attempt(request_id, partial(self._subscribe_all, op, request_id, rest))
        for request in waiting or ():
            self._take(request)

    def _begin_news(
        self,
        op: str,
        request_id: RequestId,
        wanted: Subscription,
        since: NewsPosition | None,
        recovery: Recovery,
    ) -> None:
        # Meanwhile a newer token may have taken the news away.
        self._check(wanted)
        self._parts.metrics.resumes.labels("news", recovery.reason or "recovered").inc()
        self._news.subscribe(parse_filter(wanted))
        self._say(
            Ack(
                op,
                id=request_id,
                channel="news",
                recovered=recovery.complete,
                reason=recovery.reason or None,
            )
        )
        if since is not None and recovery.complete:
            done = partial(self._end_of_snapshot, "news", request_id)
            self._news.replay(since, done)
        else:
            if wanted.snapshot is not False:
                self._news.snapshot()
            self._end_of_snapshot("news", request_id)

    def _unsubscribe(self, request: Unsubscribe) -> None:
        accepted = None
        if request.channel == "prices":
            accepted = self._prices.unsubscribe(request.symbols)
        elif request.channel == "news":
            self._news.close()
        else:
            self._status.close()
        self._say(
            Ack(
                "unsubscribe", id=request.id, channel=request.channel, accepted=accepted
            )
        )

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

    def _positions(self) -> Positions:
        news = self._news.position
        return Positions(
            prices=self._parts.tape.positions() if self._prices.active else None,
            news=news.token() if news is not None else None,
        )

    def _end_of_snapshot(self, channel: Channel, request_id: RequestId) -> None:
        positions = self._positions()
        if channel == "prices":
            positions = Positions(prices=self._parts.tape.positions())
        elif channel == "news":
            positions = Positions(news=positions.news)
        self._say(SnapshotEnd(channel, request_id, positions))

    def _lost_news(self, after: NewsPosition, to: NewsPosition, reason: str) -> None:
        self._say(Gap("news", reason, after=after.token(), to=to.token()))

    def _refuse(self, request_id: RequestId, code: str, text: str) -> None:
        self._parts.metrics.request_errors.labels("stream").inc()
        self._say(Error(request_id, code, text))
        self._errors += 1
        if self._errors >= _MAX_ERRORS:
            self._close(CloseCode.BROKEN, "too many errors")

    def _say(self, message: Message) -> None:
        self._sender.put(encode(message))
        self._parts.flusher.soon(self._sender)

    def _close(self, code: int, reason: str) -> None:
        self._parts.metrics.closed.labels(int(code)).inc()
        self._sender.flush()
        self._outlet.close(code, reason)
