"""
How long to wait before trying again, and how often to try at all.

Pauses grow to a ceiling and carry full jitter, so that replicas and clients do not
march in step. The limiter beside them is the promise to the upstream: however the
pauses fall, it never sees more than so many connects a minute.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator


__all__ = ["ConnectLimiter", "backoff"]


def backoff(first: float = 0.5, ceiling: float = 30.0) -> Iterator[float]:
    """Yield ever longer pauses in seconds, each random between 0 and its bound."""
    bound = first
    while True:
        yield random.uniform(0.0, bound)
        bound = min(bound * 2, ceiling)


class ConnectLimiter:
    """
    Allow *limit* connects in any *window* of seconds.

    Time is an argument, so that a test needs no clock.
    """

    def __init__(self, limit: int = 10, window: float = 60.0) -> None:
        self._window = window
        self._recent: deque[float] = deque(maxlen=limit)

    def wait(self, now: float) -> float:
        """Return how many seconds the next connect must still wait at *now*."""
        if len(self._recent) < (self._recent.maxlen or 0):
            return 0.0
        return max(0.0, self._recent[0] + self._window - now)

    def connected(self, now: float) -> None:
        """Note that a connect is over at *now*, whether it has succeeded or not."""
        self._recent.append(now)
