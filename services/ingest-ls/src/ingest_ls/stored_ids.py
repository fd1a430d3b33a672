"""
Which items the stream has, of the last few hundred thousand; no I/O.

A replica that was held for a while has read from its link what its heir has long
stored. At thousands of items a second it may be minutes until the disk is looked
through, so many ids must be known by then, in memory that does not grow: of each, 64
bits are kept, in a table of fixed size. Two of a million differing ids are alike once
in thirty million times.
"""

from __future__ import annotations

from array import array


__all__ = ["StoredIds"]

_KEY_BYTES = 8
_KEYS = (1 << 8 * _KEY_BYTES) - 1


class StoredIds:
    """
    The last ids that were added: *capacity* of them at least, twice as many at most.

    Args:
        capacity: Each id takes 32 bytes, whether it was added yet or not.
    """

    def __init__(self, capacity: int = 1 << 18) -> None:
        self._capacity = capacity
        self._count = 0
        # Once the young are as many as the capacity, the old are forgotten.
        self._young, self._old = _table(capacity), _table(capacity)

    def __contains__(self, item_id: object) -> bool:
        key = _key(item_id)
        return any(table[_place(table, key)] for table in (self._young, self._old))

    def add(self, item_id: str) -> None:
        """Note that the stream has the item."""
        key = _key(item_id)
        place = _place(self._young, key)
        if self._young[place]:
            return
        if self._count == self._capacity:
            self._young, self._old = _table(self._capacity), self._young
            self._count = 0
            place = _place(self._young, key)
        self._young[place] = key
        self._count += 1


def _key(item_id: object) -> int:
    # Zero is an empty place.
    return hash(item_id) & _KEYS or 1


def _table(capacity: int) -> array[int]:
    # Half of it stays empty, so what is not there is not looked for long.
    return array("Q", bytes(2 * _KEY_BYTES * capacity))


def _place(table: array[int], key: int) -> int:
    """Return where *key* is in *table*, or would be."""
    place = key % len(table)
    while table[place] not in (0, key):
        place = (place + 1) % len(table)
    return place
