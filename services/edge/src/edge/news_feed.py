"""
One client of the news contract, from its connection to its end.

It has no queue: it has a position in the log, and takes what is past it as fast as it
reads. A test item comes first, so that a page can show that the path works.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from fastapi import WebSocket, WebSocketDisconnect

from edge.metrics import EdgeMetrics
from edge.news_log import NewsLog, Position
from edge.outlet import Outlet, outlet_of
from edge.wire_frames import text_frame
from feedmesh.backoff import backoff
from feedmesh.clock import iso, now_ns
from feedmesh.errors import BusError


__all__ = ["serve_news"]

logger = logging.getLogger(__name__)

# Frames joined into one write; a client that lags far gets its backlog in such parts.
_BATCH = 100


def _test_item() -> bytes:
    return (
        '{"type":"test","title":"feedmesh: the news path works"'
        f',"received_at":"{iso(now_ns())}"}}'
    ).encode()


async def serve_news(
    websocket: WebSocket, log: NewsLog, metrics: EdgeMetrics, stuck_seconds: float
) -> None:
    """Send the test item, then every item of *log* from now on, until either leaves."""
    position = log.position
    await websocket.accept()
    outlet = outlet_of(websocket)
    outlet.write(text_frame(_test_item()))
    async with asyncio.TaskGroup() as group:
        listen = group.create_task(_until_disconnect(websocket), name="listen")
        send = group.create_task(_send(outlet, log, metrics, position, stuck_seconds))
        await asyncio.wait([listen, send], return_when=asyncio.FIRST_COMPLETED)
        listen.cancel()
        send.cancel()


async def _until_disconnect(websocket: WebSocket) -> None:
    # The contract knows no requests; whatever a client says is read and dropped.
    with contextlib.suppress(WebSocketDisconnect):
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass


async def _send(
    outlet: Outlet,
    log: NewsLog,
    metrics: EdgeMetrics,
    position: Position,
    stuck_seconds: float,
) -> None:
    pauses = backoff(0.05, 2.0)
    while not outlet.closed:
        try:
            frames, position = await log.after(position)
        except BusError as error:
            logger.debug("news for a client: %s", error)
            await asyncio.sleep(next(pauses))
            continue
        for start in range(0, len(frames), _BATCH):
            part = frames[start : start + _BATCH]
            outlet.write(b"".join(text_frame(frame) for frame in part))
            metrics.news_frames.inc(len(part))
            try:
                async with asyncio.timeout(stuck_seconds):
                    await outlet.writable()
            except TimeoutError:
                metrics.evicted.inc()
                outlet.abort()
                return
