"""
News over REST: a page of the log, oldest first, and from where to go on.

Without ``since`` it is the newest items; with it, what came after a position or an
instant. Pages follow each other by position, so a page that the filter leaves empty
still leads on. An answer is complete only if nothing after ``since`` has been lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from fastapi import Request, Response

from edge.news.items import Hole, NewsFilter, StoredItem
from edge.news.log import Page, Recovery
from edge.positions import NewsPosition, parse_news_position
from edge.rest.answers import Waiters, page_answer
from edge.rest.parameters import (
    parse_instant,
    parse_names,
    parse_parameter,
    parse_word,
)
from feedmesh.clock import now_ns
from feedmesh.errors import BusError
from feedmesh.symbols import parse_symbol


__all__ = [
    "MAX_ITEMS",
    "Found",
    "NewsPage",
    "StoredNews",
    "newest_news",
    "news_after",
    "news_answer",
    "parse_filter",
    "parse_news_mark",
    "parse_since",
]

MAX_ITEMS = 500
# A filter that matches nothing must not make one request read the whole log.
_MAX_SCANNED = 5_000
_SCAN = 500
_RECENT = 4_000


class StoredNews(Protocol):
    """What is asked of the news log; see :class:`edge.news.log.NewsLog`."""

    @property
    def position(self) -> NewsPosition:
        """Where the log ends now."""

    def recent(self, limit: int) -> list[StoredItem]:
        """Return the newest items in memory, oldest first."""

    def in_memory(self, position: NewsPosition) -> bool:
        """Return whether all that comes after *position* is in memory."""

    def after(self, position: NewsPosition, limit: int) -> Page:
        """Return what comes after *position*, which must be in memory."""

    async def read(self, position: NewsPosition) -> Page:
        """Return what the stream has next; raise BusError if it does not answer."""

    async def recovery(self, position: NewsPosition) -> Recovery:
        """Return whether nothing after *position* is lost."""


class Found(NamedTuple):
    """
    Where an instant is in the log.

    Attributes:
        position: Of the last item stored before it.
        complete: Whether all that was stored from then on is still there.
        by_instant: Whether it was looked up, not given.
    """

    position: NewsPosition
    complete: bool
    by_instant: bool = True


class NewsPage(NamedTuple):
    """
    A part of the log.

    Attributes:
        items: In order.
        position: Up to where the log was read for it.
        more: Whether the log goes on.
        lost: Why something after where it starts is missing, in a word; or None.
    """

    items: list[StoredItem]
    position: NewsPosition
    more: bool
    lost: str | None = None


def newest_news(log: StoredNews, wanted: NewsFilter, limit: int) -> NewsPage:
    """Return the newest items that are *wanted*, of those in memory."""
    filtered = wanted != NewsFilter()
    items = log.recent(_RECENT if filtered else limit)
    found = [item for item in items if wanted.wants(item)]
    return NewsPage(found[-limit:], log.position, more=False)


async def news_after(
    log: StoredNews,
    start: NewsPosition,
    wanted: NewsFilter,
    limit: int,
    waiters: Waiters,
) -> NewsPage:
    """
    Return what comes after *start*, at most *limit* items that are *wanted*.

    Raises:
        BusError: If the stream must be asked and does not answer.
    """
    page = await _read_on(log, start, wanted, limit)
    # Asked after the reading, so that it covers what was lost while it went on.
    recovery = await log.recovery(start)
    match recovery.reason:
        case "stream_unavailable":
            raise BusError("the stream of news does not answer")
        case "stream_recreated":
            if not await waiters.may_be(lambda: log.position.stream != start.stream):
                raise BusError("the stream of news is being made anew")
            page = await _read_on(log, log.position._replace(sequence=0), wanted, limit)
        case "unknown_position":
            page = NewsPage([], log.position, more=False)
        case "too_far_behind":
            # Page by page, nobody is.
            return page
    return page if recovery.complete else page._replace(lost=recovery.reason)


async def _read_on(
    log: StoredNews, after: NewsPosition, wanted: NewsFilter, limit: int
) -> NewsPage:
    found: list[StoredItem] = []
    lost: str | None = None
    scanned = 0
    while True:
        memory = log.in_memory(after)
        page = log.after(after, _SCAN) if memory else await log.read(after)
        for entry in page.entries:
            if isinstance(entry, Hole):
                lost = "removed"
            elif wanted.wants(entry):
                found.append(entry)
                if len(found) == limit:
                    more = entry.position != page.end or page.end != log.position
                    return NewsPage(found, entry.position, more, lost)
        scanned += _SCAN if memory else page.end.sequence - after.sequence
        if page.end == after or scanned >= _MAX_SCANNED:
            return NewsPage(found, page.end, page.end != after, lost)
        after = page.end


def news_answer(request: Request, page: NewsPage, age: float | None) -> Response:
    """Return *page* as JSON, or 304; *age* as :func:`answers.answer` has it."""
    rows = [item.fragment for item in page.items]
    token = page.position.token()
    return page_answer(request, b"items", rows, token, page.more, page.lost, age)


def parse_filter(
    types: Sequence[str] | None, symbols: Sequence[str] | None
) -> NewsFilter:
    """
    Return the filter that two lists, each perhaps comma-separated, ask for.

    Raises:
        ProblemError: If a name is not legal, or they are too many.
    """
    return NewsFilter(
        parse_names(types, "types", parse_word),
        parse_names(symbols, "symbols", parse_symbol),
    )


async def parse_since(
    text: str,
    find: Callable[[int], Awaitable[Found]],
    clock: Callable[[], int] = now_ns,
) -> Found:
    """
    Return the place in the log that *text* names, a position or an instant.

    Args:
        text: What the client sent.
        find: Looks an instant up, in nanoseconds since the epoch.
        clock: The time now, in the same unit.

    Raises:
        ProblemError: If it is neither, or in the future.
        BusError: If the stream must be asked and does not answer.
    """
    if text.startswith("NEWS."):
        position = parse_parameter(text, "since", parse_news_position)
        return Found(position, complete=True, by_instant=False)
    # The server takes year 1 for "no time given", and there is nothing so old.
    return await find(max(parse_instant(text, clock), 0))


def parse_news_mark(text: str) -> NewsPosition:
    """
    Return the position that a client says it has seen.

    Raises:
        ProblemError: If it is none.
    """
    return parse_parameter(text, "min_position", parse_news_position)
