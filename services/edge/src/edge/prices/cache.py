"""
The newest value of every symbol; no I/O.

Values come from two sides, live and from the stream, late, twice or out of order.
What decides is their version alone: whatever the order of arrival, the cache ends up
the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edge.prices.updates import Update
from feedmesh.canary import is_canary


__all__ = ["PriceCache"]


class PriceCache:
    """Values by symbol."""

    def __init__(self) -> None:
        self._entries: dict[str, Update] = {}
        # Of these, nobody is told who does not ask for them by name.
        self._canaries = 0

    def __len__(self) -> int:
        return len(self._entries) - self._canaries

    def __iter__(self) -> Iterator[str]:
        return (symbol for symbol in self._entries if not is_canary(symbol))

    def apply(self, update: Update) -> bool:
        """Take *update* if it is newer than what is there; return whether it is."""
        known = self._entries.get(update.symbol)
        if known is not None and update.version <= known.version:
            return False
        if known is None and is_canary(update.symbol):
            self._canaries += 1
        self._entries[update.symbol] = update
        return True

    def apply_all(self, updates: Sequence[Update]) -> list[Update]:
        """Take what is newer of *updates*, in order; return that."""
        entries, news = self._entries, []
        for update in updates:
            known = entries.get(update.symbol)
            if known is None:
                self.apply(update)
            elif update.version > known.version:
                entries[update.symbol] = update
            else:
                continue
            news.append(update)
        return news

    def entry(self, symbol: str) -> Update | None:
        """Return the newest value of *symbol*, if there is one."""
        return self._entries.get(symbol)

    def as_json(self, may_see: Callable[[str], bool] | None = None) -> bytes:
        """Return the frames of all symbols as one JSON object, or of some."""
        parts = (
            b'"%b": %b' % (symbol.encode(), entry.frame)
            for symbol, entry in sorted(self._entries.items())
            if not is_canary(symbol) and (may_see is None or may_see(symbol))
        )
        return b"{%b}" % b", ".join(parts)
