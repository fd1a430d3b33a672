"""
What one client of protocol v3 is subscribed to, and up to where it has everything.

The three channels of a client, and what each request does to them; no I/O. What must
ask the stored log is left to the session, which waits for the answer and comes back
with it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from edge.clients.sender import Sender
from edge.door.tokens import Identity
from edge.news.log import Recovery
from edge.parts import EdgeParts
from edge.positions import NewsPosition
from edge.stream.messages import (
    Ack,
    Gap,
    Listed,
    Message,
    Positions,
    SnapshotEnd,
)
from edge.stream.news import NewsChannel, parse_filter, parse_since
from edge.stream.prices import PriceChannel
from edge.stream.requests import (
    BadRequestError,
    Channel,
    Rejected,
    RequestId,
    Subscription,
    Unsubscribe,
)
from edge.stream.status import StatusChannel


__all__ = ["Opening", "Subscriptions"]


class Opening(NamedTuple):
    """
    A request that opens subscriptions, one after the other.

    Attributes:
        op: Which request it is.
        id: As the client gave it.
        wanted: What is still to be opened.
    """

    op: str
    id: RequestId
    wanted: list[Subscription]

    @property
    def rest(self) -> Opening:
        """All but the first."""
        return self._replace(wanted=self.wanted[1:])


class Subscriptions:
    """
    The subscriptions of one client.

    Args:
        parts: The rest of the edge.
        sender: Where prices, news and status go.
        say: Tells the client something else.
        identity: Returns who the client is now.
    """

    __slots__ = (
        "_identity",
        "_news",
        "_parts",
        "_prices",
        "_prices_to_come",
        "_say",
        "_status",
    )

    def __init__(
        self,
        parts: EdgeParts,
        sender: Sender,
        say: Callable[[Message], None],
        identity: Callable[[], Identity],
    ) -> None:
        self._parts = parts
        self._say = say
        self._identity = identity
        self._prices = PriceChannel(parts, sender)
        self._news = NewsChannel(parts, sender, self._lost_news)
        self._status = StatusChannel(parts, sender)
        self._prices_to_come = False

    @property
    def positions(self) -> Positions:
        """Up to where the client has everything of what it is subscribed to."""
        return Positions(
            prices=self._price_positions() if self._prices.active else None,
            news=self._news_position(),
        )

    def open(self, opening: Opening) -> Opening:
        """
        Open what can be opened at once; return what is left.

        The first that is left has a position in the log: :meth:`recovery` says
        whether it holds, and :meth:`recovered` opens it.

        Raises:
            BadRequestError: If one makes no sense or is not allowed; then none is open.
        """
        self._prices_to_come = False
        for wanted in opening.wanted:
            self._check(wanted)
        while opening.wanted:
            first, rest = opening.wanted[0], opening.rest
            self._prices_to_come = any(
                wanted.channel == "prices" for wanted in rest.wanted
            )
            if first.channel == "prices":
                self._open_prices(opening, first)
            elif first.channel == "status":
                self._say(Ack(opening.op, id=opening.id, channel="status"))
                self._status.subscribe()
            elif first.since is None:
                self._open_news(opening, first)
            else:
                break
            opening = rest
        return opening

    async def recovery(self, opening: Opening) -> Recovery:
        """Return whether the first of *opening* can have all news that it missed."""
        since = parse_since(opening.wanted[0])
        if since is None:
            return Recovery(False, "bad_position")
        return await self._parts.news.recovery(since)

    def recovered(self, opening: Opening, recovery: Recovery) -> None:
        """
        Open the first of *opening*, of which *recovery* was said.

        Raises:
            BadRequestError: If a newer token has taken the news away meanwhile.
        """
        wanted = opening.wanted[0]
        self._check(wanted)
        self._parts.metrics.resumes.labels("news", recovery.reason or "recovered").inc()
        self._news.subscribe(parse_filter(wanted))
        self._say(
            Ack(
                opening.op,
                id=opening.id,
                channel="news",
                recovered=recovery.complete,
                reason=recovery.reason or None,
            )
        )
        since = parse_since(wanted)
        if since is not None and recovery.complete:
            self._news.replay(since, partial(self._end_of_news, opening.id))
        else:
            if wanted.snapshot is not False:
                self._news.snapshot()
            self._end_of_news(opening.id)

    def end(self, request: Unsubscribe) -> None:
        """
        End what *request* names.

        Raises:
            BadRequestError: If it makes no sense.
        """
        accepted = None
        if request.channel == "prices":
            accepted = self._prices.unsubscribe(request.symbols)
        elif request.symbols is not None:
            raise BadRequestError("bad_request", "only prices end by symbol")
        elif request.channel == "news":
            self._news.close()
        else:
            self._status.close()
        channel = request.channel
        self._say(Ack("unsubscribe", id=request.id, channel=channel, accepted=accepted))

    def listed(self) -> list[Listed]:
        """Return what is subscribed."""
        return self._prices.listed() + self._news.listed() + self._status.listed()

    def keep(self, identity: Identity) -> list[Rejected]:
        """End what *identity* may not have; return the symbols that are gone."""
        prices = identity.may_use("prices")
        gone = self._prices.keep(lambda name: prices and identity.may_see(name))
        if not identity.may_use("news"):
            self._news.close()
        if not identity.may_use("status"):
            self._status.close()
        return [Rejected(symbol, "not_available") for symbol in gone]

    def suspend(self) -> None:
        """Let updates pass by: the client does not read."""
        self._prices.suspend()

    def resume(self) -> None:
        """Tell the client what it missed while it did not read, and go on."""
        missed = self._prices.resume()
        for gap in self._prices.gaps(missed):
            self._say(gap)
        self._prices.catch_up(missed)
        self._status.catch_up()

    def pump(self) -> None:
        """Hand on the news for which there is room by now."""
        self._news.pump()

    def close(self) -> None:
        """End all."""
        self._prices.close()
        self._news.close()
        self._status.close()

    def _check(self, wanted: Subscription) -> None:
        if not self._identity().may_use(wanted.channel):
            raise BadRequestError("not_available", "this channel is not for you")
        if wanted.channel == "news":
            parse_filter(wanted)
        elif wanted.channel == "prices":
            self._prices.check(wanted)
        else:
            self._status.check(wanted)

    def _open_prices(self, opening: Opening, wanted: Subscription) -> None:
        opened = self._prices.subscribe(wanted, self._identity())
        metrics = self._parts.metrics
        if opened.rejected:
            metrics.request_errors.labels("stream").inc()
        self._say(
            Ack(
                opening.op,
                id=opening.id,
                channel="prices",
                accepted=opened.accepted,
                rejected=opened.rejected,
                max_rate_hz=opened.rate_hz,
                recovered=opened.recovered,
                reason=opened.reason,
            )
        )
        if opened.recovered is not None:
            metrics.resumes.labels("prices", opened.reason or "recovered").inc()
        self._prices.send(opened.updates)
        self._end("prices", opening.id, Positions(prices=self._price_positions()))

    def _open_news(self, opening: Opening, wanted: Subscription) -> None:
        self._news.subscribe(parse_filter(wanted))
        self._say(Ack(opening.op, id=opening.id, channel="news"))
        if wanted.snapshot:
            self._news.snapshot()
        self._end_of_news(opening.id)

    def _end_of_news(self, request_id: RequestId) -> None:
        self._end("news", request_id, Positions(news=self._news_position()))

    def _end(
        self, channel: Channel, request_id: RequestId, positions: Positions
    ) -> None:
        self._say(SnapshotEnd(channel, request_id, positions))

    def _price_positions(self) -> list[str] | None:
        # They are of a feed, whatever its symbols: with more of the same request to
        # come, they would claim what has not been sent yet.
        return None if self._prices_to_come else self._parts.tape.positions()

    def _news_position(self) -> str | None:
        position = self._news.position
        return None if position is None else position.token()

    def _lost_news(self, after: NewsPosition, to: NewsPosition, reason: str) -> None:
        self._say(Gap("news", reason, after=after.token(), to=to.token()))
