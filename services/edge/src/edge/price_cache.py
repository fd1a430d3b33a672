"""
The newest value of every symbol; no I/O.

Values come from two sides, live and from the stream, late, twice or out of order.
What decides is their version alone: whatever the order of arrival, the cache ends up
the same.
"""

from __future__ import annotations

from typing import NamedTuple

from feedmesh.messages import Version


__all__ = ["PriceCache"]


class _Entry(NamedTuple):
    version: Version
    frame: bytes


class PriceCache:
    """Frames by symbol, each with the version that put it there."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def apply(self, symbol: str, version: Version, frame: bytes) -> bool:
        """Take *frame* if it is newer than what is there; return whether it is."""
        known = self._entries.get(symbol)
        if known is not None and version <= known.version:
            return False
        self._entries[symbol] = _Entry(version, frame)
        return True

    def frame(self, symbol: str) -> bytes | None:
        """Return the newest frame of *symbol*, if there is one."""
        entry = self._entries.get(symbol)
        return entry.frame if entry else None

    def as_json(self) -> bytes:
        """Return all frames as one JSON object, by symbol."""
        parts = (
            b'"%b": %b' % (symbol.encode(), entry.frame)
            for symbol, entry in sorted(self._entries.items())
        )
        return b"{%b}" % b", ".join(parts)
