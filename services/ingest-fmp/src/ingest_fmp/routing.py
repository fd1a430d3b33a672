"""Which link brings which symbol, when, and what to ask of it; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from feedmesh.symbols import Market, market_of
from feedmesh.trading_hours import (
    ALWAYS_OPEN,
    FOREX,
    UNKNOWN_HOURS,
    Hours,
    any_of,
    exchange,
)
from ingest_fmp.normalize import Product


__all__ = ["LINKS", "Wanted", "hours_of", "route"]

LINKS: Mapping[Product, tuple[str, ...]] = {
    "legacy": ("stocks", "crypto", "forex"),
    "stream": ("stream",),
}
# Korean symbols are another feed's.
_LEGACY_LINK: Mapping[Market, str] = {"us": "stocks", "crypto": "crypto", "fx": "forex"}


# What a stream brings, by a word in its name.
_STREAM_HOURS: Mapping[str, Hours] = {
    "crypto": ALWAYS_OPEN,
    "currency": FOREX,
    "us-": exchange("XNYS"),
    "nasdaq": exchange("XNYS"),
    "iex": exchange("XNYS"),
}


class Wanted(NamedTuple):
    """
    What one link is for.

    Attributes:
        keys: What to subscribe to: tickers, or names of streams.
        symbols: Which symbols may come of it.
    """

    keys: frozenset[str]
    symbols: frozenset[str]


def route(
    product: Product,
    symbols: frozenset[str],
    streams: tuple[str, ...],
    *,
    everything: bool = False,
) -> dict[str, Wanted]:
    """
    Return what each link of *product* is for, so that *symbols* flow.

    Args:
        product: Which one.
        symbols: Those of other feeds are left out.
        streams: Of the stream product: where all symbols come from.
        everything: Whether streams are wanted whatever *symbols* is.
    """
    markets = {symbol: market_of(symbol) for symbol in symbols}
    ours = frozenset(s for s, market in markets.items() if market in _LEGACY_LINK)
    if product == "stream":
        # A stream cannot be filtered upstream: it brings everything or nothing. Plans
        # have an allowance of bytes, so it does not flow for nobody.
        keys = frozenset(streams if ours or everything else ())
        return {"stream": Wanted(keys, ours)}
    found = {}
    for market, link in _LEGACY_LINK.items():
        chosen = frozenset(symbol for symbol in ours if markets[symbol] == market)
        found[link] = Wanted(chosen, chosen)
    return found


def hours_of(link: str, streams: tuple[str, ...]) -> Hours:
    """Return when data is due from *link*; of the link ``stream``, from *streams*."""
    match link:
        case "stocks":
            return exchange("XNYS")
        case "crypto":
            return ALWAYS_OPEN
        case "forex":
            return FOREX
        case _:
            return any_of(*map(_stream_hours, streams))


def _stream_hours(name: str) -> Hours:
    for word, hours in _STREAM_HOURS.items():
        if word in name:
            return hours
    # Of exchanges elsewhere there is no table.
    return UNKNOWN_HOURS
