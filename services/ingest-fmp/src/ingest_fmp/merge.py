"""
From events to the state of each symbol; no I/O.

A message carries the whole known state: the last trade and the last quote. Each side
remembers the time of its own event, so a late one never overwrites a newer one; it is
still told, with a flag. A trade break takes the last trade back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from feedmesh.digits import Digits, value_of
from feedmesh.prices import PriceState
from ingest_fmp.normalize import Event


__all__ = ["Duplicate", "Merged", "Merger", "OtherVenue"]

_REMEMBERED = 8
_VENUE_SILENCE_NS = 30 * 1_000_000_000


class Merged(msgspec.Struct, frozen=True, gc=False):
    """
    The state after an event.

    Attributes:
        state: All that is known of the symbol.
        event: What changed it.
        flags: The event's, and ``late`` if it was older than what was known.
        broken: Of a trade break: price and size of the trade that was taken back.
    """

    state: PriceState
    event: Event
    flags: tuple[str, ...]
    broken: tuple[Digits | None, Digits | None] | None


class Duplicate(NamedTuple):
    """The event repeats one of the last of its symbol."""


class OtherVenue(NamedTuple):
    """The event is of a venue that does not lead this pair."""


class _Pair(msgspec.Struct, frozen=True, gc=False):
    """Price and size, and the time of the event that gave them."""

    price: Digits | None = None
    size: Digits | None = None
    at: int = 0


_NOTHING = _Pair()
_DUPLICATE = Duplicate()
_OTHER_VENUE = OtherVenue()


@dataclass(slots=True)
class _Symbol:
    trade: _Pair = _NOTHING
    before: _Pair = _NOTHING
    ask: _Pair = _NOTHING
    bid: _Pair = _NOTHING
    newest: int = 0
    venue: str | None = None
    venue_heard: int = 0
    # The last events that had a time, of which none may come twice.
    recent: deque[Event] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    # Whether any event was flagged: its time may have been the receipt's.
    odd: bool = False


class Merger:
    """
    The states of all symbols of a feed; memory is bounded by the number of symbols.

    Args:
        preferred_venue: Leads a crypto pair whenever it is heard; empty for none.
    """

    def __init__(self, preferred_venue: str = "") -> None:
        self._preferred = preferred_venue
        self._symbols: dict[str, _Symbol] = {}

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._symbols

    def seed(
        self, state: PriceState, venue: str | None = None, received_ns: int = 0
    ) -> None:
        """Continue from *state*, which an earlier writer received from *venue*."""
        at = state.timestamp_ms * 1_000_000
        self._symbols[state.symbol] = _Symbol(
            trade=_Pair(state.last_price, state.last_size, at),
            ask=_Pair(state.ask_price, state.ask_size, at),
            bid=_Pair(state.bid_price, state.bid_size, at),
            newest=at,
            venue=venue,
            venue_heard=received_ns,
        )

    def merge(self, event: Event, received_ns: int) -> Merged | Duplicate | OtherVenue:
        """Take *event* and return what became of it."""
        known = self._symbols.get(event.symbol)
        if known is None:
            known = self._symbols[event.symbol] = _Symbol()
        if event.market == "crypto" and not self._leads(
            known, event.venue, received_ns
        ):
            return _OTHER_VENUE
        if _repeats(known, event):
            return _DUPLICATE
        late = event.event_ns < known.newest
        if not late:
            known.newest = event.event_ns
        broken = None
        if event.data_type == "B":
            broken = (event.last_price, event.last_size)
            _take_back(known, event)
        else:
            _take(known, event)
        flags = (*event.flags, "late") if late else event.flags
        return Merged(_state(known, event, received_ns), event, flags, broken)

    def _leads(self, known: _Symbol, venue: str | None, now: int) -> bool:
        # An event that names no venue is of a venue of its own, as good as any other.
        heard = known.venue_heard
        if (
            venue != known.venue
            and heard
            and now - heard <= _VENUE_SILENCE_NS
            and venue != self._preferred
        ):
            return False
        known.venue = venue
        known.venue_heard = now
        return True


def _repeats(known: _Symbol, event: Event) -> bool:
    if event.flags:
        known.odd = True
    if not event.raw_time:
        return False
    # What repeats an event has its time; so a later one, as nearly all are, is new.
    if known.odd or event.event_ns <= known.newest:
        said = _said(event)
        if any(_said(recent) == said for recent in known.recent):
            return True
    known.recent.append(event)
    return False


def _said(event: Event) -> tuple[object, ...]:
    """Return all that the frame said, without what was made of it."""
    return (event.raw_time, event.data_type, *event[5:12])


def _take(known: _Symbol, event: Event) -> None:
    at = event.event_ns
    if event.last_price is not None and at >= known.trade.at:
        _take_trade(known, event)
    known.ask = _newer(known.ask, event.ask_price, event.ask_size, at)
    known.bid = _newer(known.bid, event.bid_price, event.bid_size, at)


def _take_trade(known: _Symbol, event: Event) -> None:
    trade = _Pair(event.last_price, event.last_size, event.event_ns)
    # A quote that repeats the last trade is no other trade: what came before it is
    # still what a break would bring back.
    if event.data_type == "T" or _differ(trade, known.trade):
        known.before = known.trade
    known.trade = trade


def _differ(one: _Pair, other: _Pair) -> bool:
    return one.price != other.price or one.size != other.size


def _newer(side: _Pair, price: Digits | None, size: Digits | None, at: int) -> _Pair:
    if at < side.at:
        return side
    if price is not None:
        # The size goes with its price: an older one belongs to another price.
        return _Pair(price, size, at)
    if size is not None and side.price is not None:
        return _Pair(side.price, size, at)
    return side


def _take_back(known: _Symbol, event: Event) -> None:
    if _same(known.trade.price, event.last_price) and _same(
        known.trade.size, event.last_size
    ):
        known.trade = _Pair(known.before.price, known.before.size, known.trade.at)
        known.before = _NOTHING


def _same(one: Digits | None, other: Digits | None) -> bool:
    if one is None or other is None:
        return one is other
    return value_of(one) == value_of(other)


def _state(known: _Symbol, event: Event, received_ns: int) -> PriceState:
    return PriceState(
        symbol=event.symbol,
        timestamp_ms=known.newest // 1_000_000,
        data_type=event.data_type,
        last_price=known.trade.price,
        last_size=known.trade.size,
        ask_price=known.ask.price,
        ask_size=known.ask.size,
        bid_price=known.bid.price,
        bid_size=known.bid.size,
        cached_s=received_ns // 1_000_000_000,
    )
