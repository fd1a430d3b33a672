"""
News over REST: a page of the log, oldest first, and from where to go on.

Without ``since`` it is the newest items; with it, what came after a position or an
instant. Pages follow each other by position, so a page that the filter leaves empty
still leads on. An answer is complete only if nothing after ``since`` has been lost.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from edge.news.items import Hole, NewsFilter, StoredItem
from edge.news.log import Page, Recovery
from edge.positions import NewsPosition, parse_news_position
from edge.rest.answers import Waiters
from edge.rest.problems import ProblemError, shown
from feedmesh.clock import from_iso, now_ns
from feedmesh.errors import BusError
from feedmesh.symbols import parse_symbol


__all__ = [
    "MAX_ITEMS",
    "Found",
    "NewsPage",
    "StoredNews",
    "newest_news",
    "news_after",
    "news_body",
    "parse_filter",
    "parse_instant",
    "parse_news_mark",
    "parse_since",
]

MAX_ITEMS = 500
_MAX_NAMES = 100
# A filter that matches nothing must not make one request read the whole log.
_MAX_SCANNED = 5_000
_SCAN = 500
_RECENT = 4_000
# Between the clocks of a client and of this edge.
_SKEW_NS = 5_000_000_000
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII
)
_TYPE = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)


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
        scanned += _SCAN
        if page.end == after or scanned >= _MAX_SCANNED:
            return NewsPage(found, page.end, page.end != after, lost)
        after = page.end


def news_body(page: NewsPage, stale: bool) -> bytes:
    """Return *page* as JSON; the items' own bytes are kept."""
    token = b'"%b"' % page.position.token().encode()
    return (
        b'{"items":[%b],"position":%b,"next":%b,"complete":%b,"reason":%b,"stale":%b}'
    ) % (
        b",".join(item.fragment for item in page.items),
        token,
        token if page.more else b"null",
        b"false" if page.lost else b"true",
        b'"%b"' % page.lost.encode() if page.lost else b"null",
        b"true" if stale else b"false",
    )


def parse_filter(
    types: Sequence[str] | None, symbols: Sequence[str] | None
) -> NewsFilter:
    """
    Return the filter that two lists, each perhaps comma-separated, ask for.

    Raises:
        ProblemError: If a name is not legal, or they are too many.
    """
    return NewsFilter(
        _names(types, "types", _news_type), _names(symbols, "symbols", parse_symbol)
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
        return Found(_position(text, "since"), complete=True, by_instant=False)
    # The server takes year 1 for "no time given", and there is nothing so old.
    return await find(max(parse_instant(text, clock), 0))


def parse_instant(text: str, clock: Callable[[], int] = now_ns) -> int:
    """
    Return the instant that *text* names, in nanoseconds since the epoch.

    Raises:
        ProblemError: If it names none, or one in the future.
    """
    instant = _instant(text)
    if instant > clock() + _SKEW_NS:
        raise _invalid("since", "that is in the future")
    return instant


def parse_news_mark(text: str) -> NewsPosition:
    """
    Return the position that a client says it has seen.

    Raises:
        ProblemError: If it is none.
    """
    return _position(text, "min_position")


def _position(text: str, parameter: str) -> NewsPosition:
    try:
        return parse_news_position(text)
    except ValueError as error:
        raise _invalid(parameter, str(error)) from None


def _instant(text: str) -> int:
    upper = text.upper()
    try:
        if not _INSTANT.fullmatch(upper):
            raise ValueError("another form")
        datetime.fromisoformat(upper)
        return from_iso(upper)
    except (ValueError, OverflowError):
        raise _invalid(
            "since",
            f"{shown(text)} is neither a position nor an instant such as"
            " 2024-11-10T12:00:00Z or 2024-11-10T21:00:00%2B09:00",
        ) from None


def _names(
    values: Sequence[str] | None, parameter: str, parse: Callable[[str], str]
) -> frozenset[str] | None:
    if values is None:
        return None
    texts = [text for value in values for text in value.split(",")]
    if len(texts) > _MAX_NAMES:
        raise _invalid(parameter, f"at most {_MAX_NAMES}, {len(texts)} were given")
    names = set()
    for text in texts:
        try:
            names.add(parse(text))
        except ValueError:
            raise _invalid(parameter, f"{shown(text)} is not legal") from None
    return frozenset(names)


def _news_type(text: str) -> str:
    name = text.strip().lower()
    if not _TYPE.fullmatch(name):
        raise ValueError("not a type of news")
    return name


def _invalid(parameter: str, detail: str) -> ProblemError:
    return ProblemError("invalid_parameter", detail, parameter=parameter)
