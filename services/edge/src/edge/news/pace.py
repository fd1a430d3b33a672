"""
When to look what the stream has, after an item was heard on the wire; no I/O.

An item is heard before it is stored: with three servers, some milliseconds. Whoever
looks at once looks in vain, again and again, and a server answers thousands of such
questions a second instead of passing prices on. So the first look waits for as long as
the last ones had to, and it is the last one if what was heard was there.
"""

from __future__ import annotations


__all__ = ["Pace"]

_SWEEP_SECONDS = 1.0
_RETRY_SECONDS = 0.002
# A look in vain makes the next one wait longer, by so much; one that is not, shorter.
_LONGER_SECONDS = 0.0005
_SHORTER = 0.98
_MOST_SECONDS = 0.01


class Pace:
    """
    Tells how long to wait before a look.

    Attributes:
        first: Seconds from when an item is heard to the look for it.
        next: Seconds to the next look if nothing is heard.
    """

    def __init__(self) -> None:
        self.first = 0.0
        self.next = 0.0
        # Heard and not found yet; and how many were heard since the last forgetting.
        self._owed = 0
        self._recent = 0
        self._fresh = False

    def heard(self, items: int) -> None:
        """Note that so many *items* are about to be stored."""
        self._owed += items
        self._recent += items
        self._fresh = True

    def forget(self) -> None:
        """
        Wait no more for what was heard before this was last called.

        The stream has refused it, or had it already.
        """
        self._owed = min(self._owed, self._recent)
        self._recent = 0

    def looked(self, items: int) -> None:
        """Note that a look found so many *items*."""
        self._owed = max(0, self._owed - items)
        if self._fresh and not items:
            self.first = min(self.first + _LONGER_SECONDS, _MOST_SECONDS)
        elif self._fresh:
            self.first *= _SHORTER
        self._set_next(due=self._owed > 0)

    def failed(self) -> None:
        """Note that the stream did not answer."""
        self._set_next(due=True)

    def _set_next(self, *, due: bool) -> None:
        if not due:
            self.next = _SWEEP_SECONDS
        elif self._fresh:
            self.next = _RETRY_SECONDS
        else:
            self.next = min(max(self.next, _RETRY_SECONDS) * 2, _SWEEP_SECONDS)
        self._fresh = False
        if self.next == _SWEEP_SECONDS:
            # What did not come until now, the stream has refused.
            self._owed = 0
