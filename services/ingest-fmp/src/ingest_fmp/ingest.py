"""
From data frames to published prices, with every event accounted for.

received = published + deduplicated + rejected + quarantined, at any time.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Protocol

from prometheus_client import Counter

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.clock import now_ns
from feedmesh.errors import FrameError
from feedmesh.messages import Version, decode_head, encode, head
from feedmesh.metrics import IngestMetrics
from feedmesh.prices import decode_frame, encode_frame
from feedmesh.stored import read_from
from feedmesh.streams import PRICES
from ingest_fmp.merge import Duplicate, Merged, Merger, OtherVenue
from ingest_fmp.normalize import Event, Product, Rejected, normalize


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
    """Where messages go; :class:`feedmesh.price_publisher.PricePublisher` in life."""

    def remember(self, subject: str, encode: Callable[[], bytes]) -> None:
        """Take what *encode* returns as the newest state of *subject*, unsent."""

    async def publish(self, subject: str, encode: Callable[[], bytes]) -> None:
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
        self._unknown: set[str] = set()
        self._received: dict[str, Counter] = {}
        # Looked up once: this is a third of what counting costs.
        self._published = metrics.published.labels(FEED, "price")
        self._deduplicated = metrics.deduplicated.labels(FEED, "price")
        self._latency = metrics.source_latency.labels(FEED)
        # Symbols that may come, by link; None lets every symbol through.
        self.expected: dict[str, frozenset[str] | None] = {}

    def next_version(self) -> Version:
        """Return the version of the next message of this writer."""
        return self._epoch, next(self._seq)

    async def take_over(self, bus: Bus, epoch: int) -> int:
        """
        Write under *epoch*, from the last prices of the stream on; return how many.

        May be called again, when another writer has been at work meanwhile: what it
        wrote replaces what is known here.

        Raises:
            BusError: If the stream does not answer.
        """
        count = 0
        for market in _MARKETS:
            async for message in read_from(bus, PRICES, 1, f"prices.{market}.*"):
                try:
                    known, frame = decode_head(message.payload)
                    state = decode_frame(frame)
                except ValueError:
                    continue
                if known.epoch <= self._epoch and state.symbol in self._merger:
                    continue
                self._merger.seed(state)
                self._publisher.remember(
                    message.subject, partial(bytes, message.payload)
                )
                count += 1
        self._epoch = epoch
        return count

    async def handle(self, link: str, frame: bytes, received_ns: int) -> None:
        """Take one data frame of *link*."""
        received = self._received.get(link)
        if received is None:
            received = self._metrics.received.labels(FEED, link)
            self._received[link] = received
        try:
            parsed = normalize(self._product, frame, received_ns)
        except FrameError as error:
            received.inc()
            self._metrics.quarantined.labels(FEED, error.reason).inc()
            await self._dead_letters.keep(error.reason, frame, received_ns)
            return
        received.inc(len(parsed.events))
        if parsed.unknown:
            self._note_unknown(parsed.unknown)
        for event in parsed.events:
            await self._take(link, event, received_ns)

    async def _take(self, link: str, event: Event | Rejected, received_ns: int) -> None:
        if isinstance(event, Rejected):
            self._reject(event.reason)
            return
        expected = self.expected.get(link)
        if expected is not None and event.symbol not in expected:
            self._reject("unsubscribed")
            return
        merged = self._merger.merge(event, received_ns)
        if isinstance(merged, Duplicate):
            self._deduplicated.inc()
        elif isinstance(merged, OtherVenue):
            self._reject("other_venue")
        else:
            await self._publish(merged, received_ns)

    async def _publish(self, merged: Merged, received_ns: int) -> None:
        event = merged.event
        for flag in merged.flags:
            self._metrics.flagged.labels(FEED, flag).inc()
        if _OWN_TIME.isdisjoint(merged.flags):
            self._latency.observe((received_ns - event.event_ns) / 1e9)
        self._published.inc()
        await self._publisher.publish(
            _subject(event.market, event.symbol),
            partial(self._message, merged, self.next_version(), received_ns),
        )

    def _message(self, merged: Merged, version: Version, received_ns: int) -> bytes:
        if version[0] != self._epoch:
            # It is sent again after another claim: its own epoch must not come back.
            version = self.next_version()
        event = merged.event
        return encode(
            head(
                "price",
                FEED,
                version,
                event_ns=event.event_ns,
                received_ns=received_ns,
                published_ns=now_ns(),
                flags=merged.flags,
                venue=event.venue,
                broken=merged.broken,
            ),
            encode_frame(merged.state),
        )

    def _reject(self, reason: str) -> None:
        self._metrics.rejected.labels(FEED, reason).inc()

    def _note_unknown(self, names: frozenset[str]) -> None:
        new = {name[:_MAX_NAME] for name in names} - self._unknown
        room = _MAX_UNKNOWN - len(self._unknown)
        if new and room > 0:
            noted = sorted(new)[:room]
            self._unknown.update(noted)
            self._metrics.unknown_fields.labels(FEED).inc(len(noted))
