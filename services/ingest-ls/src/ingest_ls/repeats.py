"""
Which item repeats which; no I/O, bounded.

LS sends the same title again under a new key, up to a dozen times a day. Such an item
is kept, and marked as a repeat of the first one of its day.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import OrderedDict


__all__ = ["Repeats", "SeenIds"]

_TAG = re.compile(r"<[^<>]{0,100}>")
_SPACE = re.compile(r"\s+")


class Repeats:
    """The first item of each title and day, of the last *capacity* titles."""

    def __init__(self, capacity: int = 20_000) -> None:
        self._first: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._capacity = capacity

    def first_of(self, title: str, date: str, realkey: str) -> str | None:
        """Return the key of the first item with *title* on *date*, if not this one."""
        text = _comparable(title)
        if not text:
            return None
        first = self._first.setdefault((text, date), realkey)
        if len(self._first) > self._capacity:
            self._first.popitem(last=False)
        return None if first == realkey else first


class SeenIds:
    """The last *capacity* items: their ids, and which of them each realkey had."""

    def __init__(self, capacity: int = 20_000) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._realkeys: OrderedDict[str, None] = OrderedDict()
        self._capacity = capacity

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._ids

    def discard(self, item_id: str) -> None:
        """Forget an item that was noted and is not kept after all."""
        self._ids.pop(item_id, None)

    def add(self, item_id: str, realkey: str) -> tuple[bool, bool]:
        """Note an item; return whether its id, and its realkey, were there before."""
        seen = item_id in self._ids
        reused = bool(realkey) and realkey in self._realkeys and not seen
        self._ids[item_id] = None
        if realkey:
            self._realkeys[realkey] = None
        for known in (self._ids, self._realkeys):
            while len(known) > self._capacity:
                known.popitem(last=False)
        return seen, reused


def _comparable(title: str) -> str:
    """Return *title* without what may differ between two sendings of one item."""
    plain = html.unescape(_TAG.sub("", title))
    return _SPACE.sub("", unicodedata.normalize("NFKC", plain)).casefold()
