"""
Publish to the news log: in order, each item once, and never lost on the way.

An item and its copies for the symbols it names go out as one atomic batch (ADR-50):
the stream stores all or nothing. Every message carries an id made from its content,
so sending again what was stored already changes nothing. An answer that does not come
means "unknown", never "failed": the same item is sent again, with the same ids, until
the stream confirms it.

While the stream confirms, items wait in memory, for milliseconds. As soon as it does
not, all that waits goes to the spool on disk, if there is one, and what comes after it
too, until the spool is empty again. So the order is always: what is in flight, the rest
of the spool, the queue.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.errors import BusError
from feedmesh.ingest.epoch import Claim
from feedmesh.ingest.spool import Spool


__all__ = ["LogEntry", "LogMessage", "LogPublisher", "Renew", "pack", "unpack"]

logger = logging.getLogger(__name__)

_ACK_SECONDS = 3.0
# Stored items are confirmed within milliseconds; beyond this they are safer on disk.
_SLOW_SECONDS = 0.1
_MAX_BATCH = 1000  # what the server takes in one atomic batch
_FULL_BATCH = 500

# Error codes of the JetStream API.
_WRONG_LAST_SEQUENCE = (10071, 10164)
_DUPLICATE_IN_BATCH = 10201


Renew = Callable[[bytes], bytes]
"""Given a message that was made earlier, returns it as its writer of now sends it."""


class LogMessage(NamedTuple):
    """One message: its subject, its id, and what returns its bytes when it leaves."""

    subject: str
    message_id: str
    encode: Callable[[], bytes]


class LogEntry(NamedTuple):
    """
    One item: the message on its type's subject, then the copies for symbols.

    Attributes:
        messages: All of them; the first one's id is the item's.
        received_ns: When it came from the upstream.
    """

    messages: tuple[LogMessage, ...]
    received_ns: int = 0


class _Record(msgspec.Struct, array_like=True):
    """An entry on disk; *payload* is None where it is that of the message before."""

    received_ns: int
    messages: list[tuple[str, str, bytes | None]]


_encode_record = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(_Record).decode


def pack(entry: LogEntry) -> bytes:
    """Return *entry* as bytes, to be kept or to be sent to another replica."""
    messages: list[tuple[str, str, bytes | None]] = []
    before: Callable[[], bytes] | None = None
    for message in entry.messages:
        payload = None if message.encode is before else message.encode()
        messages.append((message.subject, message.message_id, payload))
        before = message.encode
    return _encode_record(_Record(entry.received_ns, messages))


def unpack(record: bytes, renew: Renew) -> LogEntry:
    """
    Return the entry of which :func:`pack` made *record*.

    Args:
        record: The bytes.
        renew: Makes of each message what is sent in its place now.

    Raises:
        ValueError: If it is none.
    """
    try:
        kept = _decode_record(record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError("not an entry of the log") from error
    messages = []
    payload = b""
    for subject, message_id, own in kept.messages:
        payload = payload if own is None else own
        messages.append(LogMessage(subject, message_id, partial(renew, payload)))
    if not messages:
        raise ValueError("an entry of the log without a message")
    return LogEntry(tuple(messages), kept.received_ns)


class LogPublisher:
    """
    A bounded queue in front of the stream, emptied in order by one task.

    Args:
        bus: The connection.
        claim: Under which to write.
        capacity: How many items may wait in memory.
        spool: Where they wait on disk; without it, all that waits is in memory.
        renew: Makes of a message from the spool what is sent in its place.
        known: Whether the stream has an item of this id; asked of those that an
            earlier process has left in the spool, perhaps confirmed, perhaps long ago.
        doubt: Called when the stream refuses us since another has claimed.

    Attributes:
        stored: Items that the stream has confirmed as new.
        duplicates: Items that the stream had already.
        refused: Items that could not be queued because there was no room.
        fenced: Set when the stream refused us because another writer has claimed.
    """

    def __init__(
        self,
        bus: Bus,
        claim: Claim,
        *,
        capacity: int = 50_000,
        spool: Spool | None = None,
        renew: Renew = bytes,
        known: Callable[[str], bool] = lambda message_id: False,
        doubt: Callable[[], None] = lambda: None,
    ) -> None:
        self._bus = bus
        self._claim = claim
        self._capacity = capacity
        self._spool = spool
        self._left_over = len(spool) if spool else 0
        self._renew = renew
        self._known = known
        self._doubt = doubt
        self._queue: deque[LogEntry] = deque()
        self._arrived = asyncio.Event()
        self._in_flight: deque[LogEntry] = deque()
        # Of what is in flight, if it lies on disk: the oldest records of the spool.
        self._records: deque[bytes] = deque()
        # Whether what is in flight may have been stored without our knowing.
        self._unsure = False
        self.stored = 0
        self.duplicates = 0
        self.refused = 0
        self.fenced = asyncio.Event()
        self.on_stored: Callable[[LogEntry, bool], None] = lambda entry, new: None

    def adopt(self, claim: Claim) -> None:
        """Go on under *claim*: it holds, whatever the stream has said before."""
        self._claim = claim
        self.fenced.clear()

    @property
    def waiting(self) -> int:
        """How many items are not confirmed yet."""
        in_memory = len(self._queue) + len(self._in_flight) - len(self._records)
        return in_memory + (len(self._spool) if self._spool else 0)

    @property
    def complete_ns(self) -> int | None:
        """Until when all that was received is stored; None if all of it is."""
        for waiting in (self._in_flight, self._queue):
            if waiting:
                return waiting[0].received_ns
        return None

    def offer(self, entry: LogEntry) -> bool:
        """Queue *entry*; False if there is no room, which is counted and said."""
        if self._to_memory():
            self._queue.append(entry)
            self._arrived.set()
            return True
        # Behind a full queue in memory there may be room on disk.
        if self._queue:
            self._spill()
        if self._spool and not self._queue and self._spool.append(pack(entry)):
            self._arrived.set()
            return True
        self.refused += 1
        return False

    def _to_memory(self) -> bool:
        behind_spool = self._spool is not None and len(self._spool) > 0
        if behind_spool and not self._queue:
            return False
        return len(self._queue) < self._capacity

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
        self._spill()
        lost = [*(() if self._records else self._in_flight), *self._queue]
        self._queue.clear()
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
            self._in_flight.append(self._queue.popleft())
            size += len(self._in_flight[-1].messages)

    def _take_from_spool(self, spool: Spool) -> None:
        self._unsure = True
        size = 0
        for record in spool.first(_FULL_BATCH):
            try:
                entry = unpack(record, self._renew)
            except ValueError:
                logger.error("a record of the spool makes no sense")
                entry = None
            left_over = self._left_over > 0
            known = left_over and entry and self._known(entry.messages[0].message_id)
            if entry is None or known:
                # Only the oldest can be dropped.
                if self._in_flight:
                    return
                self._drop(spool, [record])
                if entry is not None:
                    self._count(entry, False)
                continue
            self._in_flight.append(entry)
            self._records.append(record)
            size += len(entry.messages)
            if size >= _FULL_BATCH:
                return

    def _drop(self, spool: Spool, records: list[bytes]) -> None:
        spool.drop(records)
        self._left_over = max(0, self._left_over - len(records))

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
        while self._queue and spool.append(pack(self._queue[0])):
            self._queue.popleft()

    async def _store_together(self) -> bool:
        """Store what is in flight in one batch; False if it must go one by one."""
        messages = tuple(m for entry in self._in_flight for m in entry.messages)
        if len(self._in_flight) == 1 or len(messages) > _MAX_BATCH:
            return False
        try:
            reply = await self._send_batch(messages)
        except (NatsError, TimeoutError, ConnectionError, BusError):
            self._unsure = True
            return False
        if self._outcome(reply) is not True:
            return False
        self._settle(len(self._in_flight), True)
        return True

    async def _store(self, entry: LogEntry) -> None:
        pauses = backoff(0.05, 2.0)
        told = False
        while True:
            answer = await self._try(entry)
            if answer is not None:
                # What we may have stored ourselves repeats nothing.
                self._settle(1, answer or self._unsure)
                return
            self._spill()
            if not told and self._bus.connected:
                logger.warning("the news stream does not confirm; trying again")
                told = True
            await self._pause(next(pauses))

    async def _pause(self, seconds: float) -> None:
        # As soon as NATS is back there is something to do.
        away = not self._bus.connected
        ends = asyncio.get_running_loop().time() + seconds
        while (left := ends - asyncio.get_running_loop().time()) > 0:
            if away and self._bus.connected:
                return
            await asyncio.sleep(min(left, _SLOW_SECONDS))

    async def _try(self, entry: LogEntry) -> bool | None:
        """Return whether *entry* was new; None if it is unknown whether it is there."""
        if not self._bus.connected:
            return None
        try:
            if len(entry.messages) == 1:
                return await self._publish_one(entry.messages[0])
            return await self._publish_batch(entry.messages[:_MAX_BATCH])
        except (NatsError, TimeoutError, ConnectionError, BusError) as error:
            self._unsure = True
            logger.debug("publish: %s", str(error) or type(error).__name__)
            return None

    async def _publish_one(self, message: LogMessage) -> bool | None:
        headers = {"Nats-Msg-Id": message.message_id, **self._claim.headers()}
        return self._outcome(await self._request(message, headers))

    async def _request(self, message: LogMessage, headers: dict[str, str]) -> Msg:
        """Send *message* and return the answer; if it is slow, all goes to disk."""
        request = asyncio.ensure_future(
            self._bus.nc.request(
                message.subject, message.encode(), timeout=_ACK_SECONDS, headers=headers
            )
        )
        try:
            while not (await asyncio.wait([request], timeout=_SLOW_SECONDS))[0]:
                self._spill()
                if not self._bus.connected:
                    raise BusError("NATS is not connected")
            return request.result()
        finally:
            request.cancel()

    async def _publish_batch(self, messages: tuple[LogMessage, ...]) -> bool | None:
        reply = await self._send_batch(messages)
        if _error_code(reply) == _DUPLICATE_IN_BATCH:
            return await self._publish_each(messages)
        return self._outcome(reply)

    async def _send_batch(self, messages: tuple[LogMessage, ...]) -> Msg:
        """Send *messages* as one atomic batch; return what the stream says of it."""
        if not self._bus.connected:
            raise BusError("NATS is not connected")
        batch = self._bus.nc.new_inbox().rpartition(".")[2]
        *first, last = enumerate(messages, start=1)
        for number, message in first:
            await self._bus.nc.publish(
                message.subject,
                message.encode(),
                headers=self._batch_headers(message, batch, number),
            )
        number, message = last
        headers = self._batch_headers(message, batch, number)
        headers["Nats-Batch-Commit"] = "1"
        return await self._request(message, headers)

    async def _publish_each(self, messages: tuple[LogMessage, ...]) -> bool | None:
        """Send one by one what was stored in part before, by an earlier version."""
        new = False
        for message in messages:
            outcome = await self._publish_one(message)
            if outcome is None:
                return None
            new = new or outcome
        return new

    def _batch_headers(
        self, message: LogMessage, batch: str, number: int
    ) -> dict[str, str]:
        headers = {
            "Nats-Msg-Id": message.message_id,
            "Nats-Batch-Id": batch,
            "Nats-Batch-Sequence": str(number),
        }
        if number == 1:
            headers |= self._claim.headers()
        return headers

    def _outcome(self, reply: Msg) -> bool | None:
        """Return whether it was new; None if it was refused."""
        answer = json.loads(reply.data)
        error = answer.get("error")
        if error is None:
            return not answer.get("duplicate", False)
        if error.get("err_code") in _WRONG_LAST_SEQUENCE:
            self.fenced.set()
            self._doubt()
        logger.debug("publish refused: %s", error.get("description"))
        return None


def _error_code(reply: Msg) -> int | None:
    error = json.loads(reply.data).get("error")
    return error.get("err_code") if error else None
