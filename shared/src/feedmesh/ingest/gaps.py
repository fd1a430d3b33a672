"""
Tell the world when data of a feed may be missing: while it lasts, and when it ends.

What is told is decided by `gap_watch`; here links are looked at and records published,
in order, until the stream has them. Of the records that wait only the last one of each
gap counts. A leader that dies leaves the last instant at which nothing was missing in
what it said of itself (`leadership`, `status`), and its open gaps in the stream; the
next one goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterable

import msgspec
from nats.errors import Error as NatsError

from feedmesh import subjects
from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.clock import from_iso, now_ns
from feedmesh.errors import BusError
from feedmesh.gaps import FeedGap, encode_gap, parse_stored
from feedmesh.ingest.beat import Beat
from feedmesh.ingest.gap_watch import GapWatch
from feedmesh.messages import Version, decode_head, encode, head
from feedmesh.metrics import IngestMetrics
from feedmesh.status import HasStatus, decode_status
from feedmesh.stored import last_of
from feedmesh.streams import GAPS, STATUS
from feedmesh.tail import StreamTail


__all__ = ["GapKeeper", "last_complete"]

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25
_MAX_WAITING = 1000
_ACK_SECONDS = 3.0
# Records at the end of the stream that are read at the start.
_LOOK_BACK = 5000


async def last_complete(bus: Bus, feed: str) -> dict[str, int]:
    """
    Return by link until when, in ns, *feed*'s data was complete, as its status said.

    Raises:
        BusError: If the stream does not answer.
    """
    last = await last_of(bus, STATUS, subjects.status(feed))
    if last is None:
        return {}
    try:
        _, frame = decode_head(last.payload)
        links = decode_status(frame).links
        return {
            name: from_iso(link.complete_to)
            for name, link in links.items()
            if link.complete_to is not None
        }
    except ValueError:
        return {}


class GapKeeper:
    """
    Watches the links of a feed while it leads, and publishes their gaps.

    Args:
        bus: The connection.
        next_version: Numbers the messages.
        metrics: Of the feed.
        waiting_ns: Returns when the oldest was received that is not stored yet.
        watched: Called when other links than before have something to miss; whoever
            tells the status then tells until when they are complete.
    """

    def __init__(
        self,
        bus: Bus,
        next_version: Callable[[], Version],
        metrics: IngestMetrics,
        waiting_ns: Callable[[], int | None] = lambda: None,
        watched: Callable[[], None] = lambda: None,
    ) -> None:
        self._bus = bus
        self._next_version = next_version
        self._metrics = metrics
        self._waiting_ns = waiting_ns
        self._watched = watched
        self._watch = GapWatch(metrics.feed)
        self._told = StreamTail(GAPS, subjects.gaps(metrics.feed), look_back=_LOOK_BACK)
        # Those in the stream that nobody has ended.
        self._open: dict[str, FeedGap] = {}
        self._waiting: dict[str, FeedGap] = {}
        self._changed = asyncio.Event()
        self._arrived = asyncio.Event()

    async def take_over(self, bus: Bus, before: Beat | None) -> None:
        """
        Start afresh, from where the leader before us was complete.

        To be called after :meth:`warm`, once nobody else tells of gaps any more.

        Args:
            bus: The connection.
            before: What that leader said last; without it, its status tells.

        Raises:
            BusError: If a stream does not answer.
        """
        if before is not None and before.complete:
            complete = before.complete
            reason = "handover" if before.state == "leaving" else "takeover"
        else:
            complete = await last_complete(bus, self._metrics.feed)
            reason = "restart"
        if before is not None:
            # Another has led since, and was connected: of what began for us alone,
            # nothing was missed.
            waiting = self._waiting.items()
            self._waiting = {name: gap for name, gap in waiting if gap.until}
        # What we had no time to tell when we led before holds still.
        known = self._open | self._waiting
        found_open = [gap for gap in known.values() if gap.until is None]
        self._watch = GapWatch(self._metrics.feed)
        self._tell(self._watch.begin(complete, reason, found_open))

    async def warm(self, bus: Bus) -> None:
        """
        Read what was told since the last call.

        Raises:
            BusError: If the stream does not answer.
        """
        async for message in self._told.read(bus):
            stored = parse_stored(message)
            if stored is None:
                continue
            self._open.pop(stored.gap.id, None)
            if stored.gap.until is None:
                self._open[stored.gap.id] = stored.gap

    def changed(self) -> None:
        """Say that the state of a link has changed."""
        self._changed.set()

    def overflowed(self, link: str, at_ns: int, reason: str) -> None:
        """Say that what *link* brings finds no room, from *at_ns* on."""
        self._tell(self._watch.overflowed(link, at_ns, reason))

    def has_room(self, link: str, at_ns: int) -> None:
        """Say that what *link* brings from *at_ns* on is kept again."""
        self._tell(self._watch.has_room(link, at_ns))

    def complete(self) -> dict[str, int]:
        """Return by link until when all that was sent is stored, or told as a gap."""
        complete = self._watch.complete(now_ns())
        oldest = self._waiting_ns()
        for name, instant in complete.items():
            untold = [
                from_iso(g.since) for g in self._waiting.values() if g.link == name
            ]
            unstored = [] if oldest is None else [oldest - 1_000_000_000]
            complete[name] = min([instant, *untold, *unstored])
        return complete

    async def run(self, links: Iterable[HasStatus], over: asyncio.Event) -> None:
        """Watch *links* until *over* is set; publish what they lack, for ever."""
        links = tuple(links)
        self._tell(self._watch.only([link.name for link in links], now_ns()))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish(), name="publish")
            before: set[str] = set()
            # What ends with the term is no loss of ours: who leads next will tell it.
            while not over.is_set():
                self._changed.clear()
                for link in links:
                    self._tell(self._watch.look(link.name, link.status(), now_ns()))
                now = set(self._watch.complete(now_ns()))
                if now != before:
                    before = now
                    self._watched()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._changed.wait()
            self._watch.leave(now_ns())

    async def flushed(self, timeout: float) -> bool:
        """Wait until every record is stored; False if *timeout* passes before."""
        ends = asyncio.get_running_loop().time() + timeout
        while self._waiting:
            if asyncio.get_running_loop().time() > ends:
                return False
            await asyncio.sleep(0.005)
        return True

    def _tell(self, gaps: Iterable[FeedGap]) -> None:
        for gap in gaps:
            self._count(gap)
            self._queue(gap)

    def _queue(self, gap: FeedGap) -> None:
        if gap.id not in self._waiting and len(self._waiting) >= _MAX_WAITING:
            # NATS has been away for hours: one gap that covers two is still true.
            same = [g for g in self._waiting.values() if g.link == gap.link]
            if same:
                last = same[-1]
                since = min(last.since, gap.since)
                gap = msgspec.structs.replace(last, since=since, until=gap.until)
        self._waiting[gap.id] = gap
        self._arrived.set()

    def _count(self, gap: FeedGap) -> None:
        if gap.until is None:
            self._metrics.gaps.labels(gap.feed, gap.link, gap.reason).inc()
            logger.warning(
                "data may be missing", extra={"link": gap.link, "reason": gap.reason}
            )
            return
        seconds = (from_iso(gap.until) - from_iso(gap.since)) / 1e9
        self._metrics.gap_seconds.labels(gap.feed, gap.link).inc(seconds)
        if gap.backfilled:
            self._metrics.gaps_filled.labels(gap.feed, gap.link).inc()
        logger.warning(
            "data flows again",
            extra={"link": gap.link, "reason": gap.reason, "seconds": seconds},
        )

    async def _publish(self) -> None:
        while True:
            pauses = backoff(0.05, 2.0)
            self._arrived.clear()
            while self._waiting:
                gap = next(iter(self._waiting.values()))
                try:
                    await self._store(gap)
                except BusError as error:
                    logger.debug("gap: %s", error)
                    await asyncio.sleep(next(pauses))
                    continue
                # It may have ended meanwhile.
                if self._waiting.get(gap.id) is gap:
                    del self._waiting[gap.id]
            await self._arrived.wait()

    async def _store(self, gap: FeedGap) -> None:
        now = now_ns()
        message = encode(
            head(
                "gap",
                gap.feed,
                self._next_version(),
                event_ns=now,
                received_ns=now,
                published_ns=now,
                id=gap.id,
            ),
            encode_gap(gap),
        )
        if not self._bus.connected:
            raise BusError("NATS is not connected")
        headers = {"Nats-Msg-Id": f"{gap.id}/{gap.since}/{gap.until}"}
        try:
            reply = await self._bus.nc.request(
                subjects.gaps(gap.feed), message, timeout=_ACK_SECONDS, headers=headers
            )
        except NatsError as error:
            raise BusError(str(error) or type(error).__name__) from error
        refusal = json.loads(reply.data).get("error")
        if refusal is not None:
            raise BusError(str(refusal.get("description")))
