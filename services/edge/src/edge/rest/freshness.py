"""
For how long the edge has been cut off from NATS, and what that means for answers.

A short outage does not stop answers: the cache still holds the newest value that the
edge has seen, and the answer says that it is stale and how old. A long one does, for
nobody should trade on such values.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edge.rest.problems import ProblemError


__all__ = ["GRACE_SECONDS", "Freshness"]

GRACE_SECONDS = 30.0
_RETRY_SECONDS = 5


class Freshness:
    """
    Remembers when NATS was last connected; somebody must call :meth:`away` regularly.

    Args:
        connected: Whether NATS is connected now.
        current: Whether all that the streams held has been read since.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        connected: Callable[[], bool],
        current: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connected = connected
        self._current = current
        self._clock = clock
        self._last_connected = clock()

    def away(self) -> float | None:
        """Return the seconds since NATS went away; None while it is there."""
        now = self._clock()
        if self._connected():
            self._last_connected = now
            return None
        return now - self._last_connected

    def look(self) -> float | None:
        """Return how stale an answer is, in seconds; None if it is not."""
        away = self.away()
        # Back, but what happened meanwhile is still being read.
        return 0.0 if away is None and not self._current() else away

    def age(self) -> float | None:
        """
        Return the same.

        Raises:
            ProblemError: If it is too stale to be given.
        """
        stale = self.look()
        if stale is not None and stale > GRACE_SECONDS:
            raise ProblemError(
                "nats_away",
                f"NATS has been away for {stale:.0f} s",
                headers={"retry-after": str(_RETRY_SECONDS)},
            )
        return stale
