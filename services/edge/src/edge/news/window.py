"""
The newest entries of the log in memory, and from which number on they are all; no I/O.
"""

from __future__ import annotations

import contextlib
from collections import deque

from edge.news.items import Entry, StoredItem
from feedmesh.canary import NEWS_TYPE


__all__ = ["Window"]

_ENTRIES = 4000
_CANARIES = 100


class Window:
    """
    The last entries that were read, at most some thousands.

    Attributes:
        complete_from: All entries past this number are here.
    """

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=_ENTRIES)
        self._canaries: deque[StoredItem] = deque()
        self.complete_from = 0

    def __len__(self) -> int:
        return len(self._entries)

    def start_over(self, sequence: int) -> None:
        """Forget all; what is added next comes after *sequence*."""
        self._entries.clear()
        self._canaries.clear()
        self.complete_from = sequence

    def add(self, entry: Entry) -> None:
        """Add the entry that comes next; the oldest may have to go."""
        if isinstance(entry, StoredItem) and entry.news_type == NEWS_TYPE:
            self._note_canary(entry)
        if len(self._entries) == _ENTRIES:
            self.complete_from = self._entries[0].sequence
        self._entries.append(entry)

    def items(self, limit: int) -> list[StoredItem]:
        """Return the newest items but canaries, at most *limit*, oldest first."""
        items = [
            entry
            for entry in self._entries
            if isinstance(entry, StoredItem) and entry.news_type != NEWS_TYPE
        ]
        return items[-limit:]

    def after(self, sequence: int) -> list[Entry]:
        """Return the entries past *sequence*, oldest first."""
        found: list[Entry] = []
        for entry in reversed(self._entries):
            if entry.sequence <= sequence:
                break
            found.append(entry)
        found.reverse()
        return found

    def _note_canary(self, canary: StoredItem) -> None:
        # Only the newest are kept: on a quiet day they would crowd out the news.
        self._canaries.append(canary)
        if len(self._canaries) > _CANARIES:
            with contextlib.suppress(ValueError):
                self._entries.remove(self._canaries.popleft())
