"""
The REST routes below ``/api/v3``: the twins of what the stream says.

Every answer has a position, so a client may ask here and go on there, or the other way
round, without a gap; and an ETag, so that asking again costs little. Names of query
parameters that are not known are ignored, an ``Accept`` that excludes JSON as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Path, Query, Request, Response

from edge.news.items import NewsFilter
from edge.positions import NewsPosition, parse_gap_position, parse_news_position
from edge.rest.answers import Waiters, answer
from edge.rest.freshness import Freshness
from edge.rest.gaps import Gaps, find_gaps, gaps_answer, parse_feeds
from edge.rest.models import (
    GapsAnswer,
    NewsAnswer,
    PriceAnswer,
    PricesAnswer,
    StatusAnswer,
)
from edge.rest.news import (
    MAX_ITEMS,
    Found,
    NewsPage,
    StoredNews,
    newest_news,
    news_after,
    news_answer,
    parse_filter,
    parse_news_mark,
    parse_since,
)
from edge.rest.openapi import answers
from edge.rest.parameters import parse_start
from edge.rest.prices import (
    MAX_SYMBOLS,
    MaySee,
    PriceRows,
    Prices,
    Tape,
    parse_price_marks,
    parse_symbol_list,
)
from edge.rest.problems import ProblemError, shown
from edge.rest.status import status_body, status_mark
from feedmesh.errors import BusError
from feedmesh.status import FeedFrame
from feedmesh.symbols import parse_symbol


__all__ = ["Feeds", "RestParts", "rest_v3"]

_RETRY = {"retry-after": "2"}


def _query(text: str, *, most: int | None = None) -> Any:
    return Query(description=text, ge=None if most is None else 1, le=most)


Symbols = Annotated[
    list[str] | None,
    _query("Of prices: up to 1,000, comma-separated or repeated; none means all."),
]
MinPosition = Annotated[
    list[str] | None,
    _query("Positions that the client has seen, comma-separated or repeated."),
]
MinSeq = Annotated[list[str] | None, _query("The same as `min_position`.")]
Limit = Annotated[int, _query("Values on a page.", most=MAX_SYMBOLS)]
Cursor = Annotated[str | None, _query("`next_cursor` of the page before.")]
PageCursor = Annotated[
    str | None, _query("`next` of the page before; it takes the place of `since`.")
]
NewsLimit = Annotated[int, _query("Items on a page.", most=MAX_ITEMS)]
Types = Annotated[
    list[str] | None, _query("Types of news, comma-separated or repeated.")
]
Codes = Annotated[
    list[str] | None,
    _query("Items that name one of these stocks, comma-separated or repeated."),
]
Since = Annotated[
    str | None,
    _query("A position, or an instant with its zone; `+` is written as `%2B`."),
]
NewsMinPosition = Annotated[
    str | None, _query("A position in the news that the client has seen.")
]
NewsMinSeq = Annotated[str | None, _query("The same as `min_position`.")]
GapLimit = Annotated[int, _query("Gaps on a page.", most=MAX_ITEMS)]
FeedNames = Annotated[
    list[str] | None, _query("Names of feeds, comma-separated or repeated.")
]
Symbol = Annotated[str, Path(description="In upper or lower case.")]


class Feeds(Protocol):
    """Who knows how the feeds are."""

    def feeds(self) -> dict[str, FeedFrame]:
        """Return each feed's status, ``unknown`` for a silent one."""


@dataclass(frozen=True)
class RestParts:
    """
    Everything that these routes need.

    Attributes:
        cache: The newest prices.
        tape: How far the prices of each feed have come.
        news: The log.
        find_instant: Finds an instant, in nanoseconds since the epoch, in the log.
        feeds: How the feeds are.
        gaps: When data may be missing.
        freshness: Whether the edge is cut off.
        edge: Returns what this edge says of itself.
        may_see: Returns what tells which symbols are for the client of a request;
            None if all are.
        waiters: Requests that wait for a position.
    """

    cache: Prices
    tape: Tape
    news: StoredNews
    find_instant: Callable[[int], Awaitable[Found]]
    feeds: Feeds
    gaps: Gaps
    freshness: Freshness
    edge: Callable[[], dict[str, Any]]
    may_see: Callable[[Request], MaySee | None] = lambda _: None
    waiters: Waiters = field(default_factory=Waiters)


def rest_v3(parts: RestParts) -> APIRouter:
    """Return the routes that serve *parts*."""
    router = APIRouter(prefix="/api/v3", tags=["v3"])
    _add_prices(router, parts)
    _add_news(router, parts)
    _add_gaps(router, parts)
    _add_status(router, parts)
    return router


def _add_prices(router: APIRouter, parts: RestParts) -> None:
    def states() -> dict[str, str]:
        return {name: frame.state for name, frame in parts.feeds.feeds().items()}

    rows = PriceRows(parts.cache, parts.tape, states)

    async def reach(min_position: MinPosition, min_seq: MinSeq) -> None:
        marks = parse_price_marks([*(min_position or ()), *(min_seq or ())])
        await parts.waiters.until(lambda: rows.seen(marks))

    @router.get(
        "/prices",
        summary="Newest prices, by symbol",
        responses=answers(PricesAnswer, 422, 503),
    )
    async def prices(
        request: Request,
        symbols: Symbols = None,
        limit: Limit = MAX_SYMBOLS,
        cursor: Cursor = None,
        min_position: MinPosition = None,
        min_seq: MinSeq = None,
    ) -> Response:
        """
        The values of `symbols` (comma-separated or repeated, up to 1,000), or of all
        that are cached; in the order of symbols, page by page.

        With `min_position` (`min_seq` is the same) the answer is as new as that
        position: the edge waits up to two seconds for it, then answers 503.
        """
        names = parse_symbol_list(symbols)
        age = parts.freshness.age()
        await reach(min_position, min_seq)
        stale = age is not None
        page = rows.page(names, limit, cursor, parts.may_see(request))
        mark = rows.mark(page, stale)
        return answer(request, lambda: rows.body(page, stale), mark, age)

    @router.get(
        "/prices/{symbol:path}",
        summary="The newest price of a symbol",
        responses=answers(PriceAnswer, 404, 422, 503),
    )
    async def price(
        request: Request,
        symbol: Symbol,
        min_position: MinPosition = None,
        min_seq: MinSeq = None,
    ) -> Response:
        """
        One value; 404 if there is none, whatever the reason.

        With `min_position` (`min_seq` is the same) the answer is as new as that
        position: the edge waits up to two seconds for it, then answers 503.
        """
        age = parts.freshness.age()
        await reach(min_position, min_seq)
        name = _symbol(symbol)
        entry = None if name is None else rows.entry(name, parts.may_see(request))
        if entry is None:
            raise ProblemError("unknown_symbol", f"no value of {shown(symbol)}")
        stale = age is not None
        mark = rows.mark_one(entry, stale)
        return answer(request, lambda: rows.one(entry, stale), mark, age)


def _add_news(router: APIRouter, parts: RestParts) -> None:
    log = parts.news

    def seen(mark: NewsPosition) -> bool:
        end = log.position
        return end.stream == mark.stream and end >= mark

    async def page(since: str | None, wanted: NewsFilter, limit: int) -> NewsPage:
        if since is None:
            return newest_news(log, wanted, limit)
        start = await parse_since(since, parts.find_instant)
        after = start.position
        if start.by_instant:
            # The stream may be ahead of what this edge has read.
            end = log.position
            after = min(after, end) if after.stream == end.stream else after
        elif after.stream == log.position.stream:
            # Another edge may have been ahead of this one.
            await parts.waiters.may_be(lambda: seen(after))
        found = await news_after(log, after, wanted, limit, parts.waiters)
        return found if start.complete else found._replace(lost="expired")

    @router.get(
        "/news",
        summary="News items, oldest first",
        responses=answers(NewsAnswer, 422, 503),
    )
    async def news(
        request: Request,
        limit: NewsLimit = 100,
        types: Types = None,
        symbols: Codes = None,
        since: Since = None,
        cursor: PageCursor = None,
        min_position: NewsMinPosition = None,
        min_seq: NewsMinSeq = None,
    ) -> Response:
        """
        The newest items; or, with `since` (a position, or an instant as RFC 3339 has
        it), what was stored after it. `types` and `symbols` (comma-separated or
        repeated) leave out the rest; without `since` they choose among the items that
        this edge has in memory, some thousands. The next page is asked for with the
        same query and its `next` as `cursor`, or as `since`.

        With `min_position` (`min_seq` is the same) the answer is as new as that
        position: the edge waits up to two seconds for it, then answers 503.
        """
        wanted = parse_filter(types, symbols)
        start = parse_start(since, cursor, parse_news_position)
        age = parts.freshness.age()
        marks = [parse_news_mark(text) for text in (min_position, min_seq) if text]
        await parts.waiters.until(lambda: all(seen(mark) for mark in marks))
        try:
            found = await page(start, wanted, limit)
        except BusError:
            raise ProblemError("log_unavailable", "try again", headers=_RETRY) from None
        return news_answer(request, found, age)


def _add_gaps(router: APIRouter, parts: RestParts) -> None:
    @router.get(
        "/gaps",
        summary="When data of the feeds may be missing",
        responses=answers(GapsAnswer, 422, 503),
    )
    async def gaps(
        request: Request,
        feed: FeedNames = None,
        since: Since = None,
        cursor: PageCursor = None,
        limit: GapLimit = 100,
    ) -> Response:
        """
        The newest gaps, each once, in the order in which they were last told: when they
        began, or when they ended. One that lasts has no end: `to` is null.

        With `since`, a position, those that were told after it; or, with an instant,
        those that lasted then or later.
        """
        names = parse_feeds(feed)
        start = parse_start(since, cursor, parse_gap_position)
        age = parts.freshness.age()
        if not parts.gaps.position.stream:
            raise ProblemError("log_unavailable", "try again", headers=_RETRY)
        page = await find_gaps(parts.gaps, start, names, limit, parts.waiters)
        return gaps_answer(request, page, age)


def _add_status(router: APIRouter, parts: RestParts) -> None:
    @router.get(
        "/status",
        summary="How the feeds are, and this edge",
        responses=answers(StatusAnswer),
    )
    async def status(request: Request) -> Response:
        """
        Every feed with its links, and this edge. It always answers: an edge that is
        cut off says so here.
        """
        age = parts.freshness.look()
        stale = age is not None
        feeds, edge = parts.feeds.feeds(), parts.edge()

        def body() -> bytes:
            news = parts.news.position.token()
            return status_body(feeds, edge, parts.tape.positions(), news, stale)

        return answer(request, body, status_mark(feeds, edge, stale), age)


def _symbol(text: str) -> str | None:
    try:
        return parse_symbol(text)
    except ValueError:
        return None
