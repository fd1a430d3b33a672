"""
From the bus into the cache and to the hub, without a gap.

Subscribe first, then read what the stream has, then merge by version: whatever the
order, nothing is missed. Every few seconds, and whenever messages may have been lost,
the stream is asked for what is past the last message read from it; so even a lost
live message is healed in that time. A stream that was made anew is read from its
start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from nats.aio.msg import Msg

from edge.hub import PriceHub
from edge.metrics import EdgeMetrics
from edge.price_cache import PriceCache
from feedmesh import subjects
from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.clock import from_iso, now_ns
from feedmesh.errors import BusError
from feedmesh.messages import Head, decode_head
from feedmesh.stored import read_from, stream_state
from feedmesh.streams import PRICES


__all__ = ["PriceBridge"]

logger = logging.getLogger(__name__)

_SWEEP_SECONDS = 2.0
# Beyond these nats-py drops messages and reports it, and the sweep brings them back.
_PENDING_MESSAGES = 256 * 1024
_PENDING_BYTES = 128 * 1024 * 1024


class PriceBridge:
    """
    Keeps *cache* at the truth of the stream and tells *hub* what is new.

    Attributes:
        warm: Set once the cache holds what the stream held at the start.
    """

    def __init__(
        self, bus: Bus, cache: PriceCache, hub: PriceHub, metrics: EdgeMetrics
    ) -> None:
        self._bus = bus
        self._cache = cache
        self._hub = hub
        self._metrics = metrics
        self._symbols: dict[str, str] = {}
        self._identity = ""
        self._read_to = 0
        self._doubt = asyncio.Event()
        self.warm = asyncio.Event()
        bus.on_doubt(self._doubt.set)

    async def run(self) -> None:
        """Subscribe, warm the cache, then heal it for ever."""
        await self._bus.nc.subscribe(
            subjects.ALL_PRICES,
            cb=self._live,
            pending_msgs_limit=_PENDING_MESSAGES,
            pending_bytes_limit=_PENDING_BYTES,
        )
        pauses = backoff(0.05, _SWEEP_SECONDS)
        while True:
            self._doubt.clear()
            try:
                await self._sweep()
                pauses = backoff(0.05, _SWEEP_SECONDS)
                wait = _SWEEP_SECONDS
            except BusError as error:
                logger.debug("sweep: %s", error)
                wait = next(pauses)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._doubt.wait()
                    # The stream may only just have been made again.
                    await asyncio.sleep(0.05)

    async def _sweep(self) -> None:
        state = await stream_state(self._bus, PRICES)
        if state.identity != self._identity or state.last < self._read_to:
            self._identity = state.identity
            self._read_to = 0
        if state.last > self._read_to:
            async for message in read_from(self._bus, PRICES, self._read_to + 1):
                if self._take(message.subject, message.payload) and self.warm.is_set():
                    self._metrics.healed.inc()
                self._read_to = message.sequence
            # The newest may be one that a still newer message of its symbol replaced.
            self._read_to = max(self._read_to, state.last)
        if not self.warm.is_set():
            self.warm.set()
            logger.info("cache is warm", extra={"symbols": len(self._cache)})

    async def _live(self, message: Msg) -> None:
        head = self._take(message.subject, message.data)
        if head is not None:
            late = (now_ns() - from_iso(head.published_at)) / 1e9
            self._metrics.bus_latency.observe(late)

    def _take(self, subject: str, payload: bytes) -> Head | None:
        """Return the head of *payload* if it is news to us."""
        try:
            head, frame = decode_head(payload)
            symbol = self._symbol(subject)
        except ValueError:
            self._metrics.unreadable.inc()
            return None
        if not self._cache.apply(symbol, head.version, frame):
            self._metrics.outdated.inc()
            return None
        self._metrics.updates.inc()
        self._metrics.cached.set(len(self._cache))
        self._hub.update(symbol, frame)
        return head

    def _symbol(self, subject: str) -> str:
        symbol = self._symbols.get(subject)
        if symbol is None:
            _, _, symbol = subjects.tokens(subject)
            self._symbols[subject] = symbol
        return symbol
