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
from collections.abc import Sequence
from time import perf_counter

from edge.metrics import EdgeMetrics
from edge.prices.cache import PriceCache
from edge.prices.hub import PriceHub
from edge.prices.lines import PriceLines
from edge.prices.merge import PriceMerge
from edge.prices.reading import UpdateReader, published_ns
from edge.prices.tape import PriceTape
from edge.prices.updates import Update
from edge.stream.messages import Gap, encode
from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.clock import now_ns
from feedmesh.errors import BusError
from feedmesh.fast_lane import LaneMessage
from feedmesh.metrics import Least
from feedmesh.stored import StoredMessage, read_from, stream_state
from feedmesh.streams import PRICES


__all__ = ["PriceBridge"]

logger = logging.getLogger(__name__)

_SWEEP_SECONDS = 2.0
_SWEEP_SLICE = 50
_BATCH, _CALM_BATCH = 1000, 100
_CALM_SECONDS = 0.02
# Of what came in a millisecond one latency is enough; of more at once, one of each 32:
# what comes together may have waited long, and the first of it longest.
_OBSERVE_NS = 1_000_000
_OBSERVE_EACH = 32


class PriceBridge:
    """
    Keeps *cache* and *tape* at the truth of the stream and tells *hub* what is new.

    Attributes:
        warm: Set once the cache holds what the stream held at the start.
    """

    def __init__(
        self,
        lines: PriceLines,
        cache: PriceCache,
        tape: PriceTape,
        hub: PriceHub,
        metrics: EdgeMetrics,
    ) -> None:
        self._lines = lines
        self._cache = cache
        self._merge = PriceMerge(cache, tape)
        self._hub = hub
        self._metrics = metrics
        self._reader = UpdateReader()
        self._identity = ""
        self._read_to = 0
        self._observe_next = 0
        self._unobserved = 0
        self._skew = Least()
        self._updates = 0
        self._outdated = 0
        self._swept_whole = False
        self._doubt = asyncio.Event()
        self.warm = asyncio.Event()

    @property
    def current(self) -> bool:
        """Whether nothing has happened since the last sweep that casts doubt on it."""
        return self._swept_whole and not self._doubt.is_set()

    async def run(self) -> None:
        """Subscribe, warm the cache, then heal it for ever."""
        await self._lines.open(self._live, self._doubt.set)
        pauses = backoff(0.05, _SWEEP_SECONDS)
        while True:
            # After a doubt, only a whole sweep restores trust.
            self._swept_whole = self.current
            self._doubt.clear()
            try:
                await self._sweep()
                self._swept_whole = True
                pauses = backoff(0.05, _SWEEP_SECONDS)
                wait = _SWEEP_SECONDS
            except BusError as error:
                logger.debug("sweep: %s", error)
                self._swept_whole = False
                wait = next(pauses)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._doubt.wait()
                    # The stream may only just have been made again.
                    await asyncio.sleep(0.05)

    def count(self) -> None:
        """Bring the metrics up to date; the hot path counts in plain numbers."""
        self._metrics.updates.inc(self._updates)
        self._metrics.outdated.inc(self._outdated)
        self._updates = self._outdated = 0
        self._metrics.read_sequence.labels(PRICES).set(self._read_to)
        self._skew.show(self._metrics.clock_skew, perf_counter())

    async def _sweep(self) -> None:
        bus = self._lines.bus
        state = await stream_state(bus, PRICES)
        if state.identity != self._identity or state.last < self._read_to:
            self._identity = state.identity
            self._read_to = 0
            self._merge.recreated()
        stored = await self._stored_until(bus, state.last)
        # What was sent live before this answer has been taken once it is here, so no
        # stored value overtakes the live ones before it.
        await bus.flush()
        if bus is not self._lines.bus:
            raise BusError("what comes live comes from another server now")
        for start in range(0, len(stored), _SWEEP_SLICE):
            now = now_ns()
            for message in stored[start : start + _SWEEP_SLICE]:
                self._take_stored(message, now)
            await asyncio.sleep(0)
        # The newest may be one that a still newer message of its symbol replaced.
        self._read_to = max(state.last, stored[-1].sequence if stored else 0)
        for source in self._merge.swept():
            self._lost(source)
        if not self.warm.is_set():
            self.warm.set()
            logger.info("cache is warm", extra={"symbols": len(self._cache)})

    async def _stored_until(self, bus: Bus, last: int) -> list[StoredMessage]:
        """
        Return what the stream has up to number *last* and we have not yet read.

        While nothing casts doubt on what came live, that is read a little at a time: a
        thousand messages at once hold up what comes live for 20 ms.
        """
        stored: list[StoredMessage] = []
        if last <= self._read_to:
            return stored
        batch = _CALM_BATCH if self.current else _BATCH
        first = self._read_to + 1
        async for message in read_from(bus, PRICES, first, batch=batch):
            stored.append(message)
            if message.sequence >= last:
                break
            if len(stored) % _CALM_BATCH == 0 and self.current:
                await asyncio.sleep(_CALM_SECONDS)
        return stored

    def _live(self, messages: Sequence[LaneMessage]) -> None:
        now = now_ns()
        updates = self._understood(messages, now)
        while updates:
            news, count = self._merge.live_all(updates)
            self._send(news, count)
            if count < len(updates):
                self._take_odd(updates[count])
            updates = updates[count + 1 :]
        if now > self._observe_next:
            self._observe_next = now + _OBSERVE_NS
            self._observe(messages, now)
        else:
            self._unobserved += len(messages)

    def _understood(self, messages: Sequence[LaneMessage], now: int) -> list[Update]:
        read, updates = self._reader.read, []
        for subject, payload, _ in messages:
            try:
                updates.append(read(subject, payload, now))
            except ValueError:
                self._metrics.unreadable.inc()
        return updates

    def _take_odd(self, update: Update) -> None:
        new, lost = self._merge.live(update)
        if lost:
            self._lost(update.source)
        self._send([update] if new else [], 1)

    def _send(self, news: list[Update], of: int) -> None:
        self._hub.update_all(news)
        self._updates += len(news)
        self._outdated += of - len(news)

    def _observe(self, messages: Sequence[LaneMessage], now: int) -> None:
        skipped, self._unobserved = self._unobserved, 0
        for start in range(0, len(messages), _OBSERVE_EACH):
            part = messages[start : start + _OBSERVE_EACH]
            with contextlib.suppress(ValueError):
                late = (now - published_ns(part[len(part) // 2][1])) / 1e9
                self._metrics.bus_latency.take(late, len(part) + skipped)
                self._skew.saw(late)
            skipped = 0

    def _take_stored(self, stored: StoredMessage, now: int) -> None:
        try:
            update = self._reader.read(stored.subject.encode(), stored.payload, now)
        except ValueError:
            self._metrics.unreadable.inc()
            return
        if not self._merge.stored(update):
            self._outdated += 1
            return
        self._updates += 1
        self._hub.update(update)
        if self.warm.is_set():
            self._metrics.healed.inc()

    def _lost(self, source: str) -> None:
        self._metrics.lost_on_bus.inc()
        gap = Gap("prices", "lost_on_the_way", feed=source)
        self._hub.tell_of_loss(source, encode(gap))
        self._doubt.set()
