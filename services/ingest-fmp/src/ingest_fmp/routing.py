"""Which link brings which symbol, and what to ask of it; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from feedmesh.symbols import Market, market_of
from ingest_fmp.normalize import Product


__all__ = ["LINKS", "Wanted", "route"]

LINKS: Mapping[Product, tuple[str, ...]] = {
    "legacy": ("stocks", "crypto", "forex"),
    "stream": ("stream",),
}
# Korean symbols are another feed's.
_LEGACY_LINK: Mapping[Market, str] = {"us": "stocks", "crypto": "crypto", "fx": "forex"}


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
