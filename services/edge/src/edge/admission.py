"""Who may open a WebSocket here, how many, and how they are sent away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import WebSocket
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocketDisconnect

from edge.metrics import EdgeMetrics


__all__ = ["Admission"]

logger = logging.getLogger(__name__)

_SLICES = 20
# "Service restart": the client may come back at once.
_GOING_AWAY = 1012


class Admission:
    """
    Counts clients, refuses too many or foreign ones, and closes all at shutdown.

    Args:
        metrics: Counts.
        max_clients: WebSockets open at a time.
        origins: Origins of pages that may connect; ``*`` is all.
    """

    def __init__(
        self, metrics: EdgeMetrics, max_clients: int, origins: tuple[str, ...]
    ) -> None:
        self._metrics = metrics
        self._max_clients = max_clients
        self._origins = frozenset(origins)
        self._open: dict[WebSocket, None] = {}
        self._closing = False

    @property
    def clients(self) -> int:
        """How many WebSockets are open."""
        return len(self._open)

    @asynccontextmanager
    async def admit(self, websocket: WebSocket, endpoint: str) -> AsyncIterator[bool]:
        """Count *websocket* as open inside the context; or refuse it: False."""
        refusal = self._refusal(websocket)
        if refusal is not None:
            status, reason = refusal
            self._metrics.refused.labels(reason).inc()
            headers = {"retry-after": "5"} if status == 503 else {}
            await websocket.send_denial_response(
                PlainTextResponse(reason, status, headers)
            )
            yield False
            return
        gauge = self._metrics.clients.labels(endpoint)
        self._open[websocket] = None
        gauge.inc()
        try:
            with contextlib.suppress(WebSocketDisconnect):
                yield True
        finally:
            del self._open[websocket]
            gauge.dec()

    async def send_all_away(self, seconds: float) -> None:
        """Refuse newcomers and close all clients, in slices over *seconds*."""
        self._closing = True
        leaving = list(self._open)
        if not leaving:
            return
        logger.info("sending clients away", extra={"clients": len(leaving)})
        size = -(-len(leaving) // _SLICES)
        for start in range(0, len(leaving), size):
            for websocket in leaving[start : start + size]:
                await _close(websocket)
            if start + size < len(leaving):
                await asyncio.sleep(seconds / _SLICES)

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
        if len(self._open) >= self._max_clients:
            return 503, "too_many_clients"
        return None


async def _close(websocket: WebSocket) -> None:
    # Whoever is gone, or not accepted yet, needs no farewell; and one that takes no
    # bytes must not hold up the others.
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(0.2):
            await websocket.close(_GOING_AWAY, "edge restarts; come back")
