"""
One edge, seen as a client sees it: does it answer, and do the canaries come?

News are taken up where the last connection left them, since none may be lost; of
prices only those count that came while we were connected.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from feedmesh import canary
from feedmesh.backoff import backoff
from feedmesh.canary import Mark
from feedmesh.clock import now_ns
from prober.metrics import ProberMetrics
from prober.settings import Settings
from prober.sightings import Sightings


__all__ = ["EdgeClient"]

logger = logging.getLogger(__name__)

_CHECK_SECONDS = 1.0
_OPEN_SECONDS = 5.0
_TELL_SECONDS = 5.0
# Nothing is late before it was ever on time; not for so long.
_START_SECONDS = 60.0
# An answer that takes longer is none.
_ANSWER_SECONDS = 2.0


class EdgeClient:
    """Watches the edge at *url*."""

    def __init__(self, settings: Settings, url: str, metrics: ProberMetrics) -> None:
        self._settings = settings
        self._url = url
        self._edge = urlsplit(url).netloc
        self._metrics = metrics
        self._sightings: dict[tuple[str, str], Sightings] = {
            (feed, "price"): Sightings() for feed in settings.prober_feeds
        } | {(feed, "news"): Sightings() for feed in settings.prober_news_feeds}
        self._ages = {
            "price": settings.prober_price_age,
            "news": settings.prober_news_age,
        }
        # Whatever never happened is told as never, not left unsaid.
        for result in ("good", "bad"):
            metrics.availability.labels(self._edge, result)
            for feed, kind in self._sightings:
                metrics.freshness.labels(self._edge, feed, kind, result)
        for feed, kind in self._sightings:
            for result in ("seen", "lost", "late", "repeated"):
                metrics.canaries.labels(self._edge, feed, kind, result)
        # When the edge last answered, and each canary last came, by the loop's clock.
        self._answered = float("-inf")
        self._came: dict[tuple[str, str], float] = {}
        self._news_position: str | None = None

    async def run(self) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._check(), name="check")
            await self._stay_connected()

    async def _stay_connected(self) -> None:
        pauses = backoff(0.2, 3.0)
        told = False
        now = asyncio.get_running_loop().time
        served = now()
        while True:
            result = "lost"
            try:
                async with asyncio.timeout(_OPEN_SECONDS):
                    connection = await connect(self._url, compression=None)
            except InvalidStatus as error:
                result = f"http_{error.response.status_code}"
            except (OSError, WebSocketException):
                result = "unreachable"
            else:
                self._count_connect("ok")
                pauses = backoff(0.2, 3.0)
                if told:
                    logger.info("the edge is back", extra={"edge": self._edge})
                    told = False
                async with connection:
                    await self._listen(connection)
                served = now()
            self._metrics.connected.labels(self._edge).set(0)
            self._count_connect(result)
            # A restart is not worth a line.
            if not told and now() - served > _TELL_SECONDS:
                logger.warning(
                    "the edge does not serve us",
                    extra={"edge": self._edge, "reason": result},
                )
                told = True
            await asyncio.sleep(next(pauses))

    def _count_connect(self, result: str) -> None:
        self._metrics.connects.labels(self._edge, result).inc()

    async def _listen(self, connection: ClientConnection) -> None:
        for (_, kind), sightings in self._sightings.items():
            if kind == "price":
                sightings.forget()
        async with asyncio.TaskGroup() as group:
            pinging = group.create_task(_ping(connection), name="ping")
            with contextlib.suppress(ConnectionClosed):
                for request in self._requests():
                    await connection.send(json.dumps(request))
                async for text in connection:
                    self._hear(text)
            pinging.cancel()

    def _requests(self) -> list[dict[str, Any]]:
        token = self._settings.prober_token
        symbols = [canary.symbol_of(feed) for feed in self._settings.prober_feeds]
        news: dict[str, Any] = {"channel": "news", "types": [canary.NEWS_TYPE]}
        if self._news_position is not None:
            news["since"] = self._news_position
        return [
            *([{"op": "auth", "token": token.get_secret_value()}] if token else []),
            {
                "op": "subscribe",
                "channel": "prices",
                "symbols": symbols,
                "mode": "every",
                "snapshot": False,
            },
            {"op": "subscribe", **news},
        ]

    def _hear(self, text: str | bytes) -> None:
        message: Mapping[str, Any] = json.loads(text)
        kind = message.get("type")
        if kind == "pong":
            self._answered = asyncio.get_running_loop().time()
            self._metrics.connected.labels(self._edge).set(1)
        elif kind == "news":
            self._news_position = message.get("position")
            self._sight(text, "news", _news_feeds(self._settings))
        elif kind == "price_update":
            feeds = {canary.symbol_of(f): f for f in self._settings.prober_feeds}
            self._sight(text, "price", feeds.get(str(message.get("symbol"))))

    def _sight(self, text: str | bytes, kind: str, feed: str | None) -> None:
        mark = canary.read_mark(text)
        if mark is None or feed is None:
            return
        sighting = self._sightings[feed, kind].take(mark)
        labels = (self._edge, feed, kind)
        self._metrics.canaries.labels(*labels, sighting.result).inc()
        self._metrics.canaries.labels(*labels, "lost").inc(sighting.lost)
        if sighting.result == "seen":
            self._came[feed, kind] = asyncio.get_running_loop().time()
            self._metrics.latency.labels(*labels).observe(_seconds(mark))
            self._metrics.last.labels(*labels).set(now_ns() / 1e9)

    async def _check(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            now = loop.time()
            answers = now - self._answered < _CHECK_SECONDS + _ANSWER_SECONDS
            starting = now - started < _START_SECONDS
            if answers or not (starting and self._answered < started):
                result = "good" if answers else "bad"
                self._metrics.availability.labels(self._edge, result).inc()
            for feed, kind in self._sightings:
                came = self._came.get((feed, kind))
                if came is None and starting:
                    continue
                fresh = came is not None and now - came < self._ages[kind]
                result = "good" if fresh else "bad"
                self._metrics.freshness.labels(self._edge, feed, kind, result).inc()


async def _ping(connection: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.send('{"op": "ping"}')
            await asyncio.sleep(_CHECK_SECONDS)


def _news_feeds(settings: Settings) -> str | None:
    # A news item does not say of which feed it is; one feed sends news today.
    feeds = settings.prober_news_feeds
    return feeds[0] if feeds else None


def _seconds(mark: Mark) -> float:
    return (now_ns() - mark.sent_ns) / 1e9
