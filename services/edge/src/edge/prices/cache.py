"""
The newest value of every symbol; no I/O.

Values come from two sides, live and from the stream, late, twice or out of order.
What decides is their version alone: whatever the order of arrival, the cache ends up
the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edge.prices.updates import Update
from feedmesh.messages import Version


__all__ = ["PriceCache"]


class PriceCache:
    """Values by symbol, and how far each feed has come."""

    def __init__(self) -> None:
        self._entries: dict[str, Update] = {}
        self._newest: dict[str, Version] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def apply(self, update: Update) -> bool:
        """Take *update* if it is newer than what is there; return whether it is."""
        known = self._entries.get(update.symbol)
        if known is not None and update.version <= known.version:
            return False
        self._entries[update.symbol] = update
        newest = self._newest.get(update.source)
        if newest is None or update.version > newest:
            self._newest[update.source] = update.version
        return True

    def entry(self, symbol: str) -> Update | None:
        """Return the newest value of *symbol*, if there is one."""
        return self._entries.get(symbol)

    def newest(self, source: str) -> Version | None:
        """Return the newest version seen of the feed *source*."""
        return self._newest.get(source)

    def as_json(self, may_see: Callable[[str], bool] | None = None) -> bytes:
        """Return the frames of all symbols as one JSON object, or of some."""
        parts = (
            b'"%b": %b' % (symbol.encode(), entry.frame)
            for symbol, entry in sorted(self._entries.items())
            if may_see is None or may_see(symbol)
        )
        return b"{%b}" % b", ".join(parts)
