"""
From data frames to published prices, with every event accounted for.

received = published + deduplicated + rejected + quarantined, at any time.
"""

from __future__ import annotations

import itertools
import logging
from functools import lru_cache, partial
from typing import Protocol

from prometheus_client import Counter

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.clock import from_iso, now_ns
from feedmesh.errors import FrameError
from feedmesh.ingest.price_publisher import Encode
from feedmesh.messages import Version, decode_head, renewed
from feedmesh.metrics import IngestMetrics, Least
from feedmesh.newest import StoredOrder
from feedmesh.prices import decode_frame, encode_price
from feedmesh.streams import PRICES
from feedmesh.tail import StreamTail
from ingest_fmp.merge import Duplicate, Merged, Merger
from ingest_fmp.normalize import Event, Product, Rejected, normalize
from ingest_fmp.tally import Tally


__all__ = ["FEED", "FmpIngest", "KeepsLetters", "Publishes"]

logger = logging.getLogger(__name__)

FEED = "fmp"
_MARKETS = ("us", "crypto", "fx")
_MAX_UNKNOWN = 1000
_MAX_NAME = 64
# Times that are the receipt's say nothing about the way from the source.
_OWN_TIME = frozenset({"no_time", "bad_time"})

# Escaping costs as much as the rest of a publish, and symbols repeat.
_subject = lru_cache(maxsize=32_768)(subjects.price)


class Publishes(Protocol):
    """Where messages go; a :class:`PricePublisher` in life."""

    def begin(self, epoch: int) -> None:
        """Number what is sent from now on under *epoch*, from 1."""

    def remember(self, subject: str, encode: Encode) -> None:
        """Take what *encode* returns as the newest state of *subject*, unsent."""

    async def publish(self, subject: str, encode: Encode) -> None:
        """Send what *encode* returns."""


class KeepsLetters(Protocol):
    """Where frames go that nobody understands."""

    async def keep(self, reason: str, frame: bytes, received_ns: int) -> None:
        """Keep *frame* with *reason*."""


class FmpIngest:
    """
    Handles the frames of all links of the feed.

    Args:
        product: Which shape frames have.
        publisher: Takes the messages.
        dead_letters: Takes what cannot be understood.
        metrics: Counts.
        preferred_venue: As for :class:`Merger`.
    """

    def __init__(
        self,
        product: Product,
        publisher: Publishes,
        dead_letters: KeepsLetters,
        metrics: IngestMetrics,
        preferred_venue: str,
    ) -> None:
        self._product = product
        self._epoch = 0
        self._seq = itertools.count(1)
        self._publisher = publisher
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._merger = Merger(preferred_venue)
        self._old_prices = StreamTail(PRICES, subjects.ALL_PRICES)
        self._order = StoredOrder()
        self._unknown: set[str] = set()
        self._received: dict[str, Counter] = {}
        self._tally = Tally()
        # Looked up once: this is a third of what counting costs.
        self._published = metrics.published.labels(FEED, "price")
        self._deduplicated = metrics.deduplicated.labels(FEED, "price")
        self._latency = metrics.source_latency
        self._to_bus = metrics.bus_latency.labels(FEED, "price")
        self._skew = Least()
        self._observe_next = 0
        # Symbols that may come, by link; None lets every symbol through.
        self.expected: dict[str, frozenset[str] | None] = {}

    def show(self, now: float) -> None:
        """Bring the metrics up to date that are looked at now and then."""
        self._skew.show(self._metrics.clock_skew.labels(FEED), now)

    def next_version(self) -> Version:
        """Return the version of the next status; prices are numbered when sent."""
        return self._epoch, next(self._seq)

    async def take_over(self, bus: Bus, epoch: int) -> int:
        """
        Write under *epoch*, from the last prices of the stream on; return how many.

        Raises:
            BusError: If the stream does not answer.
        """
        count = await self.warm(bus)
        self.begin(epoch)
        return count

    async def warm(self, bus: Bus) -> int:
        """
        Read the prices that were written since the last call; return how many.

        What another writer wrote replaces what is known here, unless yet another one
        had taken over before.

        Raises:
            BusError: If the stream does not answer.
        """
        count = 0
        async for message in self._old_prices.read(bus):
            if message.subject.split(".")[1] not in _MARKETS:
                continue
            try:
                known, frame = decode_head(message.payload)
                state = decode_frame(frame)
                received_ns = from_iso(known.received_at)
            except ValueError:
                continue
            late = self._order.is_late(self._old_prices.identity, known)
            if late or (known.epoch <= self._epoch and state.symbol in self._merger):
                continue
            self._merger.seed(state, known.venue, received_ns)
            self._publisher.remember(message.subject, partial(renewed, message.payload))
            count += 1
        return count

    def begin(self, epoch: int) -> None:
        """Write under *epoch*, with all that is known."""
        self._epoch = epoch
        self._publisher.begin(epoch)

    async def handle(self, link: str, frame: bytes, received_ns: int) -> None:
        """Take one data frame of *link*."""
        received = self._received.get(link)
        if received is None:
            received = self._metrics.received.labels(FEED, link)
            self._received[link] = received
        try:
            parsed = normalize(self._product, frame, received_ns)
        except FrameError as error:
            self._tally.add(received)
            self._tally.add(self._metrics.quarantined.labels(FEED, error.reason))
            await self._dead_letters.keep(error.reason, frame, received_ns)
            return
        if parsed.unknown:
            self._note_unknown(parsed.unknown)
        for event in parsed.events:
            self._tally.add(received)
            merged = self._merge(link, event, received_ns)
            if merged is not None:
                self._count(merged, received_ns)
                await self._publisher.publish(
                    _subject(merged.event.market, merged.event.symbol),
                    partial(_message, merged, received_ns),
                )
        # One latency a millisecond is enough to know them all.
        if received_ns > self._observe_next:
            self._observe_next = received_ns + 1_000_000
            self._to_bus.observe((now_ns() - received_ns) / 1e9)

    def _merge(
        self, link: str, event: Event | Rejected, received_ns: int
    ) -> Merged | None:
        """Return what *event* makes of its symbol; None if it is not published."""
        if isinstance(event, Rejected):
            self._reject(event.reason)
            return None
        expected = self.expected.get(link)
        if expected is not None and event.symbol not in expected:
            self._reject("unsubscribed")
            return None
        merged = self._merger.merge(event, received_ns)
        if isinstance(merged, Merged):
            return merged
        if isinstance(merged, Duplicate):
            self._tally.add(self._deduplicated)
        else:
            self._reject("other_venue")
        return None

    def _count(self, merged: Merged, received_ns: int) -> None:
        for flag in merged.flags:
            self._metrics.flagged.labels(FEED, flag).inc()
        if not merged.flags or _OWN_TIME.isdisjoint(merged.flags):
            latency = (received_ns - merged.event.event_ns) / 1e9
            self._latency.take(latency)
            self._skew.saw(latency)
        self._tally.add(self._published)

    def _reject(self, reason: str) -> None:
        self._tally.add(self._metrics.rejected.labels(FEED, reason))

    def _note_unknown(self, names: frozenset[str]) -> None:
        new = {name[:_MAX_NAME] for name in names} - self._unknown
        room = _MAX_UNKNOWN - len(self._unknown)
        if new and room > 0:
            noted = sorted(new)[:room]
            self._unknown.update(noted)
            self._metrics.unknown_fields.labels(FEED).inc(len(noted))


def _message(merged: Merged, received_ns: int, version: Version) -> bytes:
    return encode_price(
        FEED,
        version,
        merged.state,
        event_ns=merged.event.event_ns,
        received_ns=received_ns,
        published_ns=now_ns(),
        flags=merged.flags,
        venue=merged.event.venue,
        broken=merged.broken,
    )
