"""
Which item repeats which; no I/O, bounded.

LS sends the same title again under a new key, up to a dozen times a day. Such an item
is kept, and marked as a repeat of the first one of its day.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import deque
from typing import Generic, TypeVar


__all__ = ["Repeats", "SeenIds"]

_TAG = re.compile(r"<[^<>]{0,100}>")
_SPACE = re.compile(r"\s+")
# One dict for all would be made anew now and then, and be there twice while it is.
_PARTS = 20

K = TypeVar("K")


class Repeats:
    """The first item of each title and day, of the last *capacity* titles."""

    def __init__(self, capacity: int = 20_000) -> None:
        self._first = _Latest[tuple[str, str]](capacity)

    def first_of(self, title: str, date: str, realkey: str) -> str | None:
        """Return the key of the first item with *title* on *date*, if not this one."""
        text = _comparable(title)
        if not text:
            return None
        first = self._first.note((text, date), realkey)
        return None if first == realkey else first


class SeenIds:
    """The last *capacity* items: their ids, and which of them each realkey had."""

    def __init__(self, capacity: int = 20_000) -> None:
        self._ids = _Latest[str](capacity)
        self._realkeys = _Latest[str](capacity)

    def discard(self, item_id: str) -> None:
        """Forget an item that was noted and is not kept after all."""
        self._ids.discard(item_id)

    def add(self, item_id: str, realkey: str) -> tuple[bool, bool]:
        """Note an item; return whether its id, and its realkey, were there before."""
        seen = self._ids.note(item_id, "") is not None
        known = bool(realkey) and self._realkeys.note(realkey, "") is not None
        return seen, known and not seen


class _Latest(Generic[K]):
    """The last *capacity* keys at least, a twentieth more at most; each has a text."""

    def __init__(self, capacity: int) -> None:
        self._full = -(-capacity // _PARTS)
        self._parts: deque[dict[K, str]] = deque([{}], maxlen=_PARTS + 1)

    def note(self, key: K, text: str) -> str | None:
        """Return the text of *key*; if it had none, return None and keep *text*."""
        for part in self._parts:
            if (found := part.get(key)) is not None:
                return found
        if len(self._parts[-1]) == self._full:
            self._parts.append({})
        self._parts[-1][key] = text
        return None

    def discard(self, key: K) -> None:
        """Forget *key*."""
        for part in self._parts:
            part.pop(key, None)


def _comparable(title: str) -> str:
    """Return *title* without what may differ between two sendings of one item."""
    plain = html.unescape(_TAG.sub("", title))
    return _SPACE.sub("", unicodedata.normalize("NFKC", plain)).casefold()
