"""
Publish to the news log: in order, each item once, and never lost on the way.

What the stream does not confirm is sent again, with the same ids, until it does
(`log_writer`). The stream knows ids for an hour; who has been kept waiting for half as
long looks whether the stream has the item before sending it again.

While the stream confirms, items wait in memory, for milliseconds. As soon as it does
not, all that waits goes to the spool on disk, if there is one, and what comes after it
too, until the spool is empty again. So the order is always: what is in flight, the rest
of the spool, the queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import chain

from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.errors import BusError
from feedmesh.ingest.epoch import Claim
from feedmesh.ingest.log_entry import LogEntry, Renew, pack, unpack
from feedmesh.ingest.log_writer import LogWriter, Outcome
from feedmesh.ingest.spool import Spool


__all__ = ["LogPublisher"]

logger = logging.getLogger(__name__)

# What piled up while the stream elected goes out by so many messages: of more at once,
# a server passes nothing else on for 10 to 20 ms.
_FULL_BATCH = 100
_LOOK_SECONDS = 0.1
# Half of the window in which the stream knows ids.
_TRUST_SECONDS = 1800.0


async def _nothing() -> None:
    return


class LogPublisher:
    """
    A bounded queue in front of the stream, emptied in order by one task.

    Args:
        bus: The connection.
        claim: Under which to write.
        capacity: How many items may wait in memory.
        capacity_bytes: And how many bytes of them.
        spool: Where they wait on disk; without it, all that waits is in memory.
        renew: Makes of a message from the spool what is sent in its place.
        known: Whether the stream has an item of this id, as far as it was read.
        reread: Reads what the stream has got since; raises BusError if it cannot.
        trust_seconds: For so long after it was sent first, an item may be sent again
            without a look.
        doubt: Called when the stream refuses us since another has claimed.

    Attributes:
        stored: Items that the stream has confirmed as new.
        duplicates: Items that the stream had already.
        refused: Items that could not be queued because there was no room.
        fenced: Set when the stream refused us because another writer has claimed.
        on_stored: Called with each item that is stored, and whether it was new.
        on_unreadable: Called for each record of the spool that makes no sense.
    """

    def __init__(
        self,
        bus: Bus,
        claim: Claim,
        *,
        capacity: int = 50_000,
        capacity_bytes: int = 64 << 20,
        spool: Spool | None = None,
        renew: Renew = bytes,
        known: Callable[[str], bool] = lambda message_id: False,
        reread: Callable[[], Awaitable[object]] = _nothing,
        trust_seconds: float = _TRUST_SECONDS,
        doubt: Callable[[], None] = lambda: None,
    ) -> None:
        self._bus = bus
        self._writer = LogWriter(bus, claim, self._spill, self._refused_as_stale)
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._spool = spool
        self._left_over = len(spool) if spool else 0
        # Of what lies on disk and is not in flight, nothing fresh is older.
        self._spooled_ns: int | None = None
        self._renew = renew
        self._known = known
        self._reread = reread
        self._trust_seconds = trust_seconds
        self._doubt = doubt
        self._queue: deque[LogEntry] = deque()
        self._queue_bytes = 0
        self._arrived = asyncio.Event()
        self._in_flight: deque[LogEntry] = deque()
        # Of what is in flight, if it lies on disk: the oldest records of the spool.
        self._records: deque[bytes] = deque()
        # Whether what is in flight may have been stored without our knowing.
        self._unsure = False
        self._sent_at: float | None = None
        self.stored = 0
        self.duplicates = 0
        self.refused = 0
        self.fenced = asyncio.Event()
        self.on_stored: Callable[[LogEntry, bool], None] = lambda entry, new: None
        self.on_unreadable: Callable[[], None] = lambda: None

    def adopt(self, claim: Claim) -> None:
        """Go on under *claim*: it holds, whatever the stream has said before."""
        self._writer.claim = claim
        self.fenced.clear()

    @property
    def waiting(self) -> int:
        """How many items are not confirmed yet."""
        return self.in_memory + (len(self._spool) if self._spool else 0)

    @property
    def in_memory(self) -> int:
        """How many of them are not on disk."""
        return len(self._queue) + len(self._in_flight) - len(self._records)

    @property
    def spooling(self) -> bool:
        """Whether what comes goes to the disk, behind what waits there."""
        return bool(self._spool)

    @property
    def complete_ns(self) -> int | None:
        """Until when all that is fresh is stored; None if all of it is."""
        on_disk = () if self._spooled_ns is None else (self._spooled_ns,)
        waiting = chain(_fresh(self._in_flight), on_disk, _fresh(self._queue))
        return next(waiting, None)

    def offer(self, entry: LogEntry) -> bool:
        """Queue *entry*; False if there is no room, which is counted."""
        if self._to_memory():
            self._queue.append(entry)
            self._queue_bytes += entry.size
            self._arrived.set()
            return True
        # Behind a full queue in memory there may be room on disk.
        if self._queue:
            self._spill()
        if self._spool and not self._queue and self._to_disk(self._spool, entry):
            self._arrived.set()
            return True
        self.refused += 1
        return False

    def _to_memory(self) -> bool:
        if self.spooling and not self._queue:
            return False
        fits = self._queue_bytes < self._capacity_bytes
        return fits and len(self._queue) < self._capacity

    async def flushed(self, timeout: float) -> bool:
        """Wait until the stream has everything; False if *timeout* passes before."""
        try:
            async with asyncio.timeout(timeout):
                while self.waiting:
                    await asyncio.sleep(0.002)
        except TimeoutError:
            return False
        return True

    def give_up(self) -> tuple[int, list[LogEntry]]:
        """
        Leave what is not confirmed on disk; to be called once :meth:`run` has ended.

        Return how many items lie there, and those that could not be left.
        """
        complete_ns = self.complete_ns
        self._spill()
        lost = [*(() if self._records else self._in_flight), *self._queue]
        # Our last words are yet to be said, and tell it.
        self._spooled_ns = complete_ns
        self._queue.clear()
        self._queue_bytes = 0
        self._in_flight.clear()
        self._records.clear()
        return len(self._spool) if self._spool else 0, lost

    async def run(self) -> None:
        """Publish what waits, for ever."""
        while True:
            await self._fill()
            if not await self._store_together():
                while self._in_flight:
                    await self._store(self._in_flight[0])

    async def _fill(self) -> None:
        """Take what goes out next: the oldest of the spool, else of the queue."""
        self._unsure = False
        self._sent_at = None
        while not self._in_flight:
            if self._spool:
                self._take_from_spool(self._spool)
            elif self._queue:
                self._take_from_queue()
            else:
                self._arrived.clear()
                await self._arrived.wait()

    def _take_from_queue(self) -> None:
        # What has piled up goes out together: a burst must not cost a round trip for
        # each of its items.
        size = 0
        while self._queue and size < _FULL_BATCH:
            self._in_flight.append(self._next_queued())
            size += len(self._in_flight[-1].messages)

    def _next_queued(self) -> LogEntry:
        entry = self._queue.popleft()
        self._queue_bytes -= entry.size
        return entry

    def _take_from_spool(self, spool: Spool) -> None:
        self._unsure = True
        size = 0
        for record in spool.first(_FULL_BATCH):
            try:
                entry = unpack(record, self._renew)
            except ValueError:
                logger.error("a record of the spool makes no sense")
                entry = None
            if entry is not None and len(self._in_flight) < self._left_over:
                # The term that has left it has told until when all was stored.
                entry = entry._replace(kept=True)
            if entry is None or self._is_known(entry):
                # Only the oldest can be dropped.
                if self._in_flight:
                    return
                self._drop(spool, [record])
                if entry is None:
                    self.on_unreadable()
                else:
                    self._count(entry, False)
                continue
            if not entry.kept:
                self._spooled_ns = entry.received_ns
            self._in_flight.append(entry)
            self._records.append(record)
            size += len(entry.messages)
            if size >= _FULL_BATCH:
                return

    def _is_known(self, entry: LogEntry) -> bool:
        # What is fresh was looked at when it came.
        return entry.kept and self._known(entry.message_id)

    def _drop(self, spool: Spool, records: list[bytes]) -> None:
        spool.drop(records)
        self._left_over = max(0, self._left_over - len(records))
        if not spool:
            self._spooled_ns = None

    def _to_disk(self, spool: Spool, entry: LogEntry) -> bool:
        if not spool.append(pack(entry)):
            return False
        if self._spooled_ns is None and not entry.kept:
            self._spooled_ns = entry.received_ns
        return True

    def _settle(self, count: int, new: bool) -> None:
        """Note that the first *count* in flight are stored."""
        if self._spool and self._records:
            self._drop(self._spool, [self._records.popleft() for _ in range(count)])
        for _ in range(count):
            self._count(self._in_flight.popleft(), new)

    def _count(self, entry: LogEntry, new: bool) -> None:
        if new:
            self.stored += 1
        else:
            self.duplicates += 1
        self.on_stored(entry, new)

    def _spill(self) -> None:
        """Put on disk what is only in memory, as far as there is room."""
        spool = self._spool
        if spool is None:
            return
        if self._in_flight and not self._records:
            records: list[bytes] = []
            for entry in self._in_flight:
                record = pack(entry)
                if not spool.append(record):
                    # All or none: nothing may be on disk behind what is in memory.
                    spool.drop(records)
                    return
                records.append(record)
            self._records.extend(records)
        while self._queue and self._to_disk(spool, self._queue[0]):
            self._next_queued()

    async def _store_together(self) -> bool:
        """Store what is in flight in one batch; False if it must go one by one."""
        if len(self._in_flight) == 1 or not self._bus.connected:
            return False
        self._sent_at = asyncio.get_running_loop().time()
        outcome = await self._writer.write_together(self._in_flight)
        self._unsure |= outcome is Outcome.UNKNOWN
        if outcome is not Outcome.NEW:
            return False
        self._settle(len(self._in_flight), True)
        return True

    async def _store(self, entry: LogEntry) -> None:
        pauses = backoff(0.05, 2.0)
        told = False
        while True:
            outcome = await self._try(entry)
            if outcome in (Outcome.NEW, Outcome.KNOWN):
                # What we may have stored ourselves repeats nothing.
                self._settle(1, outcome is Outcome.NEW or self._unsure)
                return
            self._unsure |= outcome is Outcome.UNKNOWN
            self._spill()
            if not told and self._bus.connected:
                logger.warning("the news stream does not confirm; trying again")
                told = True
            await self._pause(next(pauses))

    async def _try(self, entry: LogEntry) -> Outcome:
        if not self._bus.connected:
            return Outcome.REFUSED
        now = asyncio.get_running_loop().time()
        if self._sent_at is None:
            self._sent_at = now
        elif self._unsure and now - self._sent_at > self._trust_seconds:
            # The stream may have it, and have forgotten its id.
            try:
                await self._reread()
            except BusError:
                return Outcome.UNKNOWN
            if self._known(entry.message_id):
                return Outcome.KNOWN
        return await self._writer.write(entry)

    async def _pause(self, seconds: float) -> None:
        # As soon as NATS is back there is something to do.
        away = not self._bus.connected
        ends = asyncio.get_running_loop().time() + seconds
        while (left := ends - asyncio.get_running_loop().time()) > 0:
            if away and self._bus.connected:
                return
            await asyncio.sleep(min(left, _LOOK_SECONDS))

    def _refused_as_stale(self) -> None:
        self.fenced.set()
        self._doubt()


def _fresh(entries: Iterable[LogEntry]) -> Iterator[int]:
    """Return when those of *entries* were received that lie in no gap told already."""
    return (entry.received_ns for entry in entries if not entry.kept)
