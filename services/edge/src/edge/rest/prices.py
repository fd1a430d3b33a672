"""
Prices over REST: the frames of the cache with what is known about their truth.

The frame is spliced in as it is, so digits stay what they were. Listings go page by
page in the order of symbols. Every page tells the positions of the first one: whoever
resumes from them on the stream misses nothing of any page.
"""

from __future__ import annotations

import base64
import hashlib
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from edge.positions import PricePosition, parse_price_position
from edge.rest.answers import fingerprint, json_strings
from edge.rest.parameters import bad_cursor, invalid_parameter, parse_parameter
from edge.rest.problems import shown
from feedmesh.clock import now_ns
from feedmesh.messages import Version
from feedmesh.symbols import parse_symbol


__all__ = [
    "MAX_SYMBOLS",
    "CachedPrice",
    "MaySee",
    "PricePage",
    "PriceRows",
    "Prices",
    "Tape",
    "parse_price_marks",
    "parse_symbol_list",
]

MAX_SYMBOLS = 1000
_MAX_MARKS = 32
_MAX_CURSOR = 4096
_CHECK_BYTES = 8
# Legacy frames are ours, byte for byte: the first such key is the event's time.
_TIMESTAMP = re.compile(rb'"timestamp": ?(\d{1,17})[,}]')
_STATES = {
    "live": "live",
    "degraded": "degraded",
    "closed": "closed",
    "connecting": "recovering",
    "down": "recovering",
    "busy": "recovering",
    "refused": "recovering",
}

MaySee = Callable[[str], bool]


class CachedPrice(Protocol):
    """The newest value of a symbol; see :class:`edge.prices.updates.Update`."""

    symbol: str
    source: str
    version: Version
    frame: bytes
    received_ns: int

    def as_fragment(self) -> bytes:
        """Return the frame with the position of a client that has it as last key."""


class Prices(Protocol):
    """What is asked of the cache; symbols are added to it and never removed."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[str]: ...

    def entry(self, symbol: str) -> CachedPrice | None:
        """Return the newest value of *symbol*, if there is one."""


class Tape(Protocol):
    """What is asked of :class:`edge.prices.tape.PriceTape`."""

    def settled(self, source: str) -> Version | None:
        """Return up to where the cache surely has everything of *source*."""

    def positions(self) -> list[str]:
        """Return that as a token, for each feed."""


class PricePage(NamedTuple):
    """
    One page of prices, before it is written.

    Attributes:
        prices: The values, by symbol.
        missing: Symbols that were asked for and have no value.
        positions: From where a resume misses nothing.
        next_cursor: Where the next page starts; None at the end.
    """

    prices: list[CachedPrice]
    missing: list[str]
    positions: list[str]
    next_cursor: str | None


class PriceRows:
    """
    Pages of the cache and the bytes that clients get; no I/O.

    Args:
        cache: The values.
        tape: How far they have come.
        feed_states: Returns the state of each feed, by name.
    """

    def __init__(
        self, cache: Prices, tape: Tape, feed_states: Callable[[], dict[str, str]]
    ) -> None:
        self._cache = cache
        self._tape = tape
        self._feed_states = feed_states
        self._sorted: list[str] = []

    def page(
        self,
        symbols: Sequence[str] | None,
        limit: int,
        cursor: str | None,
        may_see: MaySee | None = None,
    ) -> PricePage:
        """
        Return a page.

        Args:
            symbols: In order; None is all that are cached.
            limit: Values on the page, at least 1.
            cursor: Of the page before; None for the first.
            may_see: Whether the client may have a symbol, where not all are for it;
                others seem not to exist.

        Raises:
            ProblemError: If *cursor* is not of these *symbols*.
        """
        wanted = self._all() if symbols is None else symbols
        if may_see is not None and symbols is None:
            wanted = [symbol for symbol in wanted if may_see(symbol)]
        if cursor is None:
            start, positions = 0, self._tape.positions()
        else:
            after, positions = _open_cursor(cursor, symbols)
            start = bisect_right(wanted, after)
        names = wanted[start : start + limit]
        entries = {name: self.entry(name, may_see) for name in names}
        more = start + limit < len(wanted)
        return PricePage(
            [entry for entry in entries.values() if entry is not None],
            [name for name, entry in entries.items() if entry is None],
            positions,
            _cursor(names[-1], positions, symbols) if more else None,
        )

    def entry(self, symbol: str, may_see: MaySee | None = None) -> CachedPrice | None:
        """Return the value of *symbol* if there is one, and it is for this client."""
        if may_see is not None and not may_see(symbol):
            return None
        return self._cache.entry(symbol)

    def seen(self, marks: Sequence[PricePosition]) -> bool:
        """Return whether the cache has come as far as all of *marks*."""
        return all(
            (self._tape.settled(mark.source) or (-1, -1)) >= (mark.epoch, mark.seq)
            for mark in marks
        )

    def mark(self, page: PricePage, stale: bool) -> str:
        """Return what tells two pages apart, ages left out."""
        more = page.next_cursor is not None
        return self._mark(page.prices, f"{page.missing} {stale} {more}", stale)

    def mark_one(self, price: CachedPrice, stale: bool) -> str:
        """Return what tells two values of a symbol apart, the age left out."""
        return self._mark([price], f"{stale}", stale)

    def body(self, page: PricePage, stale: bool) -> bytes:
        """Return *page* as JSON; nothing is live while the edge is *stale*."""
        return (
            b'{"prices": [%b], "missing": %b, "positions": %b,'
            b' "stale": %b, "next_cursor": %b}'
        ) % (
            b", ".join(self._rows(page.prices, stale)),
            json_strings(page.missing),
            json_strings(page.positions),
            b"true" if stale else b"false",
            b'"%b"' % page.next_cursor.encode() if page.next_cursor else b"null",
        )

    def one(self, price: CachedPrice, stale: bool) -> bytes:
        """Return *price* alone as JSON."""
        row = next(self._rows([price], stale))
        return b'%b, "stale": %b}' % (row[:-1], b"true" if stale else b"false")

    def _rows(self, prices: Sequence[CachedPrice], stale: bool) -> Iterator[bytes]:
        states = {} if stale else self._feed_states()
        now = now_ns()
        for price in prices:
            yield (
                b'%b, "source": "%b", "state": "%b", "age_ms": %d}'
                % (
                    price.as_fragment()[:-1],
                    price.source.encode(),
                    _state(price, states).encode(),
                    _age_ms(price, now),
                )
            )

    def _mark(self, prices: Sequence[CachedPrice], rest: str, stale: bool) -> str:
        states = {} if stale else self._feed_states()
        lines = (
            f"{price.symbol} {price.source} {price.version} {_state(price, states)}"
            for price in prices
        )
        return fingerprint("\n".join(lines), rest)

    def _all(self) -> list[str]:
        # Sorting 20,000 symbols for every page would cost as much as the page.
        if len(self._sorted) != len(self._cache):
            self._sorted = sorted(self._cache)
        return self._sorted


def parse_symbol_list(values: Sequence[str] | None) -> list[str] | None:
    """
    Return the symbols in *values*, each once, in order; None means all.

    Raises:
        ProblemError: If one is not legal, or they are none or too many.
    """
    if values is None:
        return None
    texts = [text for value in values for text in value.split(",")]
    if len(texts) > MAX_SYMBOLS:
        detail = f"at most {MAX_SYMBOLS} symbols, {len(texts)} were given"
        raise invalid_parameter("symbols", detail)
    return sorted({_symbol(text) for text in texts})


def parse_price_marks(values: Sequence[str]) -> list[PricePosition]:
    """
    Return the positions in *values*.

    Raises:
        ProblemError: If one is not a position of prices, or they are too many.
    """
    texts = [text for value in values for text in value.split(",")]
    if len(texts) > _MAX_MARKS:
        raise invalid_parameter("min_position", f"at most {_MAX_MARKS} positions")
    return [
        parse_parameter(text, "min_position", parse_price_position) for text in texts
    ]


def _symbol(text: str) -> str:
    try:
        return parse_symbol(text)
    except ValueError:
        detail = f"{shown(text)} is not a legal symbol"
        raise invalid_parameter("symbols", detail) from None


def _state(price: CachedPrice, states: dict[str, str]) -> str:
    return _STATES.get(states.get(price.source, ""), "stale")


def _age_ms(price: CachedPrice, now: int) -> int:
    found = _TIMESTAMP.search(price.frame)
    at_ms = int(found[1]) if found else price.received_ns // 1_000_000
    # An upstream's clock may be ahead of ours.
    return max(0, now // 1_000_000 - at_ms)


def _cursor(after: str, positions: Sequence[str], symbols: Sequence[str] | None) -> str:
    payload = msgspec.json.encode([after, *positions])
    return base64.urlsafe_b64encode(_check(payload, symbols) + payload).decode()


def _open_cursor(cursor: str, symbols: Sequence[str] | None) -> tuple[str, list[str]]:
    # The check needs no secret: a cursor gives nothing that a query does not.
    try:
        if len(cursor) > _MAX_CURSOR:
            raise ValueError("too long")
        raw = base64.b64decode(cursor, altchars=b"-_", validate=True)
        check, payload = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        if check != _check(payload, symbols):
            raise ValueError("not of this query")
        after, *positions = msgspec.json.decode(payload, type=list[str])
    except ValueError:
        raise bad_cursor() from None
    return after, positions


def _check(payload: bytes, symbols: Sequence[str] | None) -> bytes:
    query = "*" if symbols is None else ",".join(symbols)
    return hashlib.blake2b(
        payload, key=hashlib.blake2b(query.encode()).digest(), digest_size=_CHECK_BYTES
    ).digest()
