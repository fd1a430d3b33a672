"""Who may open a WebSocket here, and how many."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from fastapi import WebSocket
from starlette.responses import PlainTextResponse

from edge.metrics import EdgeMetrics


__all__ = ["Admission", "TokenBucket", "retry_after"]

_RETRY_SECONDS = 10


def retry_after() -> str:
    """Return a time to come back after, in seconds; not the same for all."""
    return str(random.randint(1, _RETRY_SECONDS))


class TokenBucket:
    """
    Lets a burst through at once, and a steady rate after it; no I/O.

    Args:
        rate: Tokens that come back in a second.
        burst: Tokens that it holds when full, as it is at the start.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = burst
        self._at = clock()

    def take(self) -> bool:
        """Take a token; False if there is none."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Admission:
    """
    Refuses clients that are too many or foreign, and all once the edge closes.

    Args:
        metrics: Counts.
        max_clients: WebSockets open at a time.
        origins: Origins of pages that may connect; ``*`` is all.
        clients: Returns how many are open.
    """

    def __init__(
        self,
        metrics: EdgeMetrics,
        max_clients: int,
        origins: tuple[str, ...],
        clients: Callable[[], int],
    ) -> None:
        self._metrics = metrics
        self._max_clients = max_clients
        self._origins = frozenset(origins)
        self._clients = clients
        self._closing = False

    def close(self) -> None:
        """Refuse everybody from now on."""
        self._closing = True

    async def admits(self, websocket: WebSocket) -> bool:
        """Return whether *websocket* may be accepted; if not, it has been refused."""
        refusal = self._refusal(websocket)
        if refusal is None:
            return True
        status, reason = refusal
        self._metrics.refused.labels(reason).inc()
        headers = {"retry-after": retry_after()} if status == 503 else {}
        await websocket.send_denial_response(PlainTextResponse(reason, status, headers))
        return False

    def _refusal(self, websocket: WebSocket) -> tuple[int, str] | None:
        origin = websocket.headers.get("origin")
        if "*" not in self._origins and origin is not None:
            own = (
                f"{websocket.url.scheme.replace('ws', 'http')}://{websocket.url.netloc}"
            )
            if origin not in self._origins and origin != own:
                return 403, "foreign_origin"
        if self._closing:
            return 503, "closing"
        if self._clients() >= self._max_clients:
            return 503, "too_many_clients"
        return None
