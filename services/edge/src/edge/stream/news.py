"""
The channel ``news`` of one client of protocol v3.

The client has a position in the log and nothing else; see ``news/reader.py``. Whoever
comes back with a position gets everything after it, or is told that this cannot be.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from edge.clients.sender import Sender
from edge.news.items import NewsFilter
from edge.news.reader import NewsReader
from edge.parts import EdgeParts
from edge.positions import NewsPosition, parse_news_position
from edge.stream.messages import Listed
from edge.stream.requests import BadRequestError, Subscription, parse_symbols
from feedmesh.subjects import escape


__all__ = ["NewsChannel"]

_SNAPSHOT_ITEMS = 100


class NewsChannel:
    """
    The news subscription of one client.

    Args:
        parts: The rest of the edge.
        sender: Where items go.
        lost: Called with what is not there any more.
    """

    __slots__ = ("_form", "_lost", "_parts", "_reader", "_sender")

    def __init__(
        self,
        parts: EdgeParts,
        sender: Sender,
        lost: Callable[[NewsPosition, NewsPosition, str], None],
    ) -> None:
        self._parts = parts
        self._sender = sender
        self._lost = lost
        self._form = attrgetter("fragment" if sender.arrays else "object_frame")
        self._reader: NewsReader | None = None

    @property
    def position(self) -> NewsPosition | None:
        """Up to where the client has everything; None if it wants no news."""
        return self._reader.position if self._reader else None

    def subscribe(self, wanted: NewsFilter) -> None:
        """Send what is *wanted* from now on, or from where the client is."""
        if self._reader is None:
            self._reader = NewsReader(
                self._parts.news,
                self._sender,
                self._parts.flusher,
                self._parts.chores,
                self._form,
                self._lost,
            )
        self._reader.wanted = wanted

    def snapshot(self) -> None:
        """Send the newest items that are wanted, of those that it would have by now."""
        assert self._reader is not None
        # While older items are still due, the position of a newer one would claim them.
        end = self._reader.position
        wanted = [
            item
            for item in self._parts.news.recent(_SNAPSHOT_ITEMS * 10)
            if item.position.stream == end.stream
            and item.sequence <= end.sequence
            and self._reader.wanted.wants(item)
        ]
        self._sender.buffer.extend(map(self._form, wanted[-_SNAPSHOT_ITEMS:]))

    def replay(self, since: NewsPosition, done: Callable[[], None]) -> None:
        """Send everything after *since*, then call *done*, then go on."""
        assert self._reader is not None
        self._reader.go_to(since, done)

    def pump(self) -> None:
        """Go on after the client has taken bytes again."""
        if self._reader is not None:
            self._reader.pump()

    def close(self) -> None:
        """Send no more."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def listed(self) -> list[Listed]:
        """Return what is subscribed."""
        if self._reader is None:
            return []
        types, symbols = self._reader.wanted
        return [
            Listed(
                "news",
                types=sorted(types) if types is not None else None,
                symbols=sorted(symbols) if symbols is not None else None,
            )
        ]


def parse_filter(wanted: Subscription) -> NewsFilter:
    """
    Return which items *wanted* asks for.

    Raises:
        BadRequestError: If it makes no sense.
    """
    if wanted.max_rate_hz is not None or wanted.mode != "latest":
        raise BadRequestError("bad_request", "news have neither mode nor rate")
    symbols = None
    if wanted.symbols is not None:
        legal, rejected = parse_symbols(wanted.symbols)
        if rejected:
            shown = rejected[0].symbol
            raise BadRequestError("bad_symbol", f"{shown!r} is not a legal symbol")
        symbols = frozenset(legal)
    types = None
    if wanted.types is not None:
        if not all(_is_type(name) for name in wanted.types):
            raise BadRequestError("bad_type", "types are words such as article")
        types = frozenset(wanted.types)
    return NewsFilter(types, symbols)


def parse_since(wanted: Subscription) -> NewsPosition | None:
    """
    Return the position in *wanted*; None if it has none that makes sense.
    """
    since = wanted.since
    if isinstance(since, list):
        since = since[0] if len(since) == 1 else ""
    try:
        return parse_news_position(since or "")
    except ValueError:
        return None


def _is_type(name: str) -> bool:
    return 0 < len(name) <= 32 and escape(name) == name
