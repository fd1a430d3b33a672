"""
From data frames to news in the log and prices on the bus, every event accounted for.

received = published + deduplicated + rejected + quarantined, once no news wait.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.clock import now_ns
from feedmesh.errors import FrameError
from feedmesh.ingest.canary import is_canary_item
from feedmesh.ingest.dead_letters import DeadLetters
from feedmesh.ingest.log_entry import LogEntry, unpack
from feedmesh.ingest.log_publisher import LogPublisher
from feedmesh.ingest.price_publisher import PricePublisher
from feedmesh.messages import Version, decode_head, renewed
from feedmesh.metrics import IngestMetrics, Least
from feedmesh.newest import StoredOrder
from feedmesh.news import decode_news
from feedmesh.prices import decode_frame
from feedmesh.streams import NEWS, PRICES
from feedmesh.tail import StreamTail
from ingest_ls.master import Master
from ingest_ls.normalize import News, Rejected, Trade, normalize
from ingest_ls.outgoing import FEED, item_id, news_entry, price_message
from ingest_ls.repeats import Repeats, SeenIds
from ingest_ls.stored_ids import StoredIds
from ingest_ls.trades import Trades


__all__ = ["LsIngest"]

logger = logging.getLogger(__name__)

# Messages at the end of the log, copies included, that are read at the start.
_LOOK_BACK = 50_000
# After so many of them, what else is to be done has its turn.
_READ_TOGETHER = 100
_MAX_UNKNOWN = 1000
# So many items that wait are no time to take others.
_BUSY = 1000
# The stream takes messages of 1 MiB. Nothing may be offered that it refuses for ever.
_MAX_ITEM_BYTES = 256 * 1024


class LsIngest:
    """
    Handles the frames of the feed.

    Args:
        prices: Takes trades.
        dead_letters: Takes what cannot be understood.
        metrics: Counts.
        master: Names codes.
        overflowed: Told when, in ns, an item found no room.
        has_room: Told when, in ns, items find room again.
    """

    def __init__(
        self,
        prices: PricePublisher,
        dead_letters: DeadLetters,
        metrics: IngestMetrics,
        master: Master,
        overflowed: Callable[[int], None] = lambda at_ns: None,
        has_room: Callable[[int], None] = lambda at_ns: None,
    ) -> None:
        self._news: LogPublisher | None = None
        self._overflowed = overflowed
        self._has_room = has_room
        self._full = False
        self._old_news = StreamTail(NEWS, subjects.ALL_NEWS_ITEMS, look_back=_LOOK_BACK)
        self._old_prices = StreamTail(PRICES, "prices.kr.*")
        self._order = StoredOrder()
        self._prices = prices
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._skew = Least()
        self._master = master
        self._epoch = 0
        self._seq = itertools.count(1)
        self._seen = SeenIds()
        self._in_stream = StoredIds()
        self._repeats = Repeats()
        self._trades = Trades()
        self._unknown: set[str] = set()
        # Stocks whose trades may come.
        self.expected: frozenset[str] = frozenset()

    def show(self, now: float) -> None:
        """Bring the metrics up to date that are looked at now and then."""
        self._skew.show(self._metrics.clock_skew.labels(FEED), now)

    def next_version(self) -> Version:
        """Return the version of the next news item; prices are numbered when sent."""
        return self._epoch, next(self._seq)

    def continue_under(self, epoch: int) -> None:
        """Go on writing under *epoch*, with all that is known."""
        self._epoch = epoch
        self._prices.begin(epoch)

    async def warm(self, bus: Bus) -> int:
        """
        Read what was written since the last call; return how many items were new.

        Raises:
            BusError: If a stream does not answer.
        """
        await self._seed_prices(bus)
        return await self.read_news(bus)

    def begin(self, epoch: int, news: LogPublisher) -> None:
        """Write under *epoch*, from where the last writer stopped."""
        self.continue_under(epoch)
        self._news = news
        self._full = False
        news.on_stored = self._stored
        news.on_unreadable = partial(self._reject, "unreadable")
        # What waits already was left by an earlier process, or term.
        self._metrics.received.labels(FEED, "left_over").inc(news.waiting)

    def end(self, kept: int, lost: Iterable[LogEntry]) -> None:
        """Account for items not stored: *kept* in the spool, and those *lost*."""
        self._metrics.rejected.labels(FEED, "spooled").inc(kept)
        for entry in lost:
            self._seen.discard(item_id(entry))
            self._reject("overtaken")

    def is_stored(self, message_id: str) -> bool:
        """Return whether the stream is known to have the item of *message_id*."""
        return message_id.removeprefix(f"{FEED}.") in self._in_stream

    def has_stored(self, record: bytes) -> bool:
        """
        Return whether the stream is known to have what *record* of a spool holds.

        It has all of one that makes no sense, which would be offered for ever.
        """
        try:
            return self.is_stored(unpack(record, bytes).message_id)
        except ValueError:
            logger.error("a record of the spool makes no sense")
            return True

    def take_left_over(self, entry: LogEntry) -> bool:
        """Take an item that was received in an earlier term; False for not now."""
        assert self._news is not None
        if self._news.spooling or self._news.waiting >= _BUSY:
            # It lies safely where it is. Behind what waits here it would have to be
            # handed over twice if we died, and be more work the more there is.
            return False
        self._metrics.received.labels(FEED, "left_over").inc()
        # One that was seen, perhaps in an earlier term of ours, need not be stored.
        if self.is_stored(entry.message_id):
            self._metrics.deduplicated.labels(FEED, "news").inc()
            return True
        self._seen.add(item_id(entry), "")
        return self._offer(entry)

    def renew(self, payload: bytes) -> bytes:
        """Return *payload*, a message of an earlier writer, as this one sends it."""
        return renewed(payload, self.next_version())

    async def read_news(self, bus: Bus) -> int:
        """
        Learn which news the stream has got since the last call; return how many.

        Raises:
            BusError: If the stream does not answer.
        """
        count = 0
        looked = itertools.count(1)
        async for message in self._old_news.read(bus):
            if next(looked) % _READ_TOGETHER == 0:
                await asyncio.sleep(0)
            try:
                known, frame = decode_head(message.payload)
                item = decode_news(frame)
            except ValueError:
                continue
            if known.source == FEED and known.id is not None:
                self._seen.add(known.id, item.realkey)
                self._in_stream.add(known.id)
                self._repeats.first_of(item.title, item.date, item.realkey)
                count += 1
        return count

    async def _seed_prices(self, bus: Bus) -> None:
        async for message in self._old_prices.read(bus):
            try:
                known, frame = decode_head(message.payload)
                decode_frame(frame)
            except ValueError:
                continue
            if self._order.is_late(self._old_prices.identity, known):
                continue
            self._prices.remember(message.subject, partial(renewed, message.payload))

    async def handle(self, link: str, frame: bytes, received_ns: int) -> None:
        """Take one data frame."""
        received = self._metrics.received.labels(FEED, link)
        try:
            events = normalize(frame, received_ns, self._master)
        except FrameError as error:
            received.inc()
            self._metrics.quarantined.labels(FEED, error.reason).inc()
            await self._dead_letters.keep(error.reason, frame, received_ns)
            return
        for event in events:
            received.inc()
            match event:
                case News():
                    self._take_news(event, received_ns)
                case Trade():
                    await self._take_trade(event, received_ns)
                case Rejected(reason):
                    self._reject(reason)

    def _take_news(self, news: News, received_ns: int) -> None:
        assert self._news is not None
        seen, reused = self._seen.add(news.id, news.item.realkey)
        if seen:
            self._metrics.deduplicated.labels(FEED, "news").inc()
            return
        self._note_unknown(news)
        first = self._repeats.first_of(
            news.item.title, news.item.date, news.item.realkey
        )
        item = msgspec.structs.replace(news.item, repeat_of=first)
        flags = (*news.flags, "realkey_reused") if reused else news.flags
        news = news._replace(item=item, flags=flags)
        self._count_flags(flags)
        self._observe(news.event_ns, received_ns, flags)
        entry = news_entry(news, self.next_version(), received_ns)
        if entry.size > _MAX_ITEM_BYTES:
            self._reject("too_big")
            return
        self._offer(entry)

    def _offer(self, entry: LogEntry) -> bool:
        assert self._news is not None
        if self._news.offer(entry):
            if self._full:
                self._full = False
                self._has_room(entry.received_ns)
            return True
        # The same item may come again when there is room.
        self._seen.discard(item_id(entry))
        self._reject("no_room")
        if not self._full:
            self._full = True
            self._overflowed(entry.received_ns)
            logger.error("news are being lost: there is no room for what waits")
        return False

    def _stored(self, entry: LogEntry, new: bool) -> None:
        self._in_stream.add(item_id(entry))
        if self._full and self._news is not None and not self._news.waiting:
            # Nothing comes just now; what will come finds room.
            self._full = False
            self._has_room(now_ns())
        kind = "canary" if is_canary_item(item_id(entry)) else "news"
        # An item counts as published once the stream has it, and not before.
        if new:
            self._observe_bus(kind, entry.received_ns)
            self._metrics.published.labels(FEED, kind).inc()
        else:
            self._metrics.deduplicated.labels(FEED, kind).inc()

    async def _take_trade(self, trade: Trade, received_ns: int) -> None:
        if trade.code not in self.expected:
            self._reject("unsubscribed")
            return
        taken = self._trades.take(trade)
        if taken is None:
            self._metrics.deduplicated.labels(FEED, "price").inc()
            return
        shown, flags = taken
        self._count_flags(flags)
        self._observe(trade.event_ns, received_ns, flags)
        self._metrics.published.labels(FEED, "price").inc()
        await self._prices.publish(
            subjects.price("kr", trade.code),
            partial(price_message, trade.event_ns, shown, flags, received_ns),
        )
        self._observe_bus("price", received_ns)

    def _observe(self, event_ns: int, received_ns: int, flags: tuple[str, ...]) -> None:
        if "bad_time" not in flags:
            latency = (received_ns - event_ns) / 1e9
            self._metrics.source_latency.take(latency)
            self._skew.saw(latency)

    def _observe_bus(self, kind: str, received_ns: int) -> None:
        latency = (now_ns() - received_ns) / 1e9
        self._metrics.bus_latency.labels(FEED, kind).observe(latency)

    def _count_flags(self, flags: tuple[str, ...]) -> None:
        for flag in flags:
            self._metrics.flagged.labels(FEED, flag).inc()

    def _reject(self, reason: str) -> None:
        self._metrics.rejected.labels(FEED, reason).inc()

    def _note_unknown(self, news: News) -> None:
        new = {name for name, _ in news.extra} - self._unknown
        if new and len(self._unknown) < _MAX_UNKNOWN:
            self._unknown |= new
            self._metrics.unknown_fields.labels(FEED).inc(len(new))
