"""
How many lines a log may have; no I/O, time is given.

An outage must not bury what it was about. So the same event is written only so often in
a minute, and all together only so often; what is held back is counted, and said with
the next line that may pass.
"""

from __future__ import annotations

from collections import Counter, deque


__all__ = ["LineLimit"]

_SECONDS = 60.0


class LineLimit:
    """
    Lets at most *lines* pass in any minute, of one event at most *same*.

    A word about what was held back counts as a line.
    """

    def __init__(self, lines: int = 60, same: int = 20) -> None:
        # A pass may need two lines: the word, and the line itself.
        self._lines = lines
        self._same = same
        self._passed: deque[tuple[float, str]] = deque()
        self._recent: Counter[str] = Counter()
        self._held: Counter[str] = Counter()

    def take(self, event: str, now: float) -> dict[str, int] | None:
        """
        Return None if a line about *event* is held back at *now*, in seconds.

        If it may pass, return what was held back before it, by event; that is to be
        said first.
        """
        while self._passed and self._passed[0][0] <= now - _SECONDS:
            _, old = self._passed.popleft()
            self._recent[old] -= 1
            if not self._recent[old]:
                del self._recent[old]
        needed = 2 if self._held else 1
        full = len(self._passed) + needed > self._lines
        if full or self._recent[event] >= self._same:
            # Events are texts of ours, but a library's may hold anything.
            self._held[event if len(self._held) < 100 else "other"] += 1
            return None
        held, self._held = dict(self._held), Counter()
        self._note(event, now)
        if held:
            self._note("", now)
        return held

    def _note(self, event: str, now: float) -> None:
        self._passed.append((now, event))
        self._recent[event] += 1
