"""
From data frames to published prices, with every event accounted for.

received = published + deduplicated + rejected + quarantined, at any time.
"""

from __future__ import annotations

import itertools
import logging
from functools import partial

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.clock import now_ns
from feedmesh.dead_letters import DeadLetters
from feedmesh.errors import FrameError
from feedmesh.messages import Version, decode_head, encode, head
from feedmesh.metrics import IngestMetrics
from feedmesh.price_publisher import PricePublisher
from feedmesh.prices import decode_frame, encode_frame
from feedmesh.stored import read_from
from feedmesh.streams import PRICES
from ingest_fmp.merge import Duplicate, Merged, Merger, OtherVenue
from ingest_fmp.normalize import Event, Product, Rejected, normalize


__all__ = ["FEED", "FmpIngest"]

logger = logging.getLogger(__name__)

FEED = "fmp"
_MARKETS = ("us", "crypto", "fx")
_MAX_UNKNOWN = 1000


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
        publisher: PricePublisher,
        dead_letters: DeadLetters,
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
        # Symbols that may come, by link; None lets every symbol through.
        self.expected: dict[str, frozenset[str] | None] = {}

    def next_version(self) -> Version:
        """Return the version of the next message of this writer."""
        return self._epoch, next(self._seq)

    async def take_over(self, bus: Bus, epoch: int) -> int:
        """
        Write under *epoch*, from the last prices of the stream on; return how many.

        Raises:
            BusError: If the stream does not answer.
        """
        self._epoch = epoch
        count = 0
        for market in _MARKETS:
            async for message in read_from(bus, PRICES, 1, f"prices.{market}.*"):
                try:
                    _, frame = decode_head(message.payload)
                    state = decode_frame(frame)
                except ValueError:
                    continue
                self._merger.seed(state)
                self._publisher.remember(
                    message.subject, partial(bytes, message.payload)
                )
                count += 1
        return count

    async def handle(self, link: str, frame: bytes, received_ns: int) -> None:
        """Take one data frame of *link*."""
        received = self._metrics.received.labels(FEED, link)
        try:
            parsed = normalize(self._product, frame, received_ns)
        except FrameError as error:
            received.inc()
            self._metrics.quarantined.labels(FEED, error.reason).inc()
            await self._dead_letters.keep(error.reason, frame, received_ns)
            return
        received.inc(len(parsed.events))
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
            self._metrics.deduplicated.labels(FEED, "price").inc()
        elif isinstance(merged, OtherVenue):
            self._reject("other_venue")
        else:
            await self._publish(merged, received_ns)

    async def _publish(self, merged: Merged, received_ns: int) -> None:
        event = merged.event
        for flag in merged.flags:
            self._metrics.flagged.labels(FEED, flag).inc()
        if "no_time" not in merged.flags and "bad_time" not in merged.flags:
            latency = (received_ns - event.event_ns) / 1e9
            self._metrics.source_latency.labels(FEED).observe(latency)
        self._metrics.published.labels(FEED, "price").inc()
        await self._publisher.publish(
            subjects.price(event.market, event.symbol),
            partial(_message, merged, self.next_version(), received_ns),
        )

    def _reject(self, reason: str) -> None:
        self._metrics.rejected.labels(FEED, reason).inc()

    def _note_unknown(self, names: frozenset[str]) -> None:
        new = names - self._unknown
        if new and len(self._unknown) < _MAX_UNKNOWN:
            self._unknown |= new
            self._metrics.unknown_fields.labels(FEED).inc(len(new))


def _message(merged: Merged, version: Version, received_ns: int) -> bytes:
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
