"""
Publish to the news log: in order, each item once, and never lost on the way.

An item and its copies for the symbols it names go out as one atomic batch (ADR-50):
the stream stores all or nothing. Every message carries an id made from its content,
so sending again what was stored already changes nothing. An answer that does not come
means "unknown", never "failed": the same item is sent again, with the same ids, until
the stream confirms it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import NamedTuple

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.epoch import Claim
from feedmesh.errors import BusError


__all__ = ["LogEntry", "LogMessage", "LogPublisher"]

logger = logging.getLogger(__name__)

_ACK_SECONDS = 3.0
_MAX_BATCH = 1000  # what the server takes in one atomic batch
_FULL_BATCH = 500

# Error codes of the JetStream API.
_WRONG_LAST_SEQUENCE = (10071, 10164)
_DUPLICATE_IN_BATCH = 10201


class LogMessage(NamedTuple):
    """One message: its subject, its id, and what returns its bytes when it leaves."""

    subject: str
    message_id: str
    encode: Callable[[], bytes]


class LogEntry(NamedTuple):
    """One item: the message on its type's subject, then the copies for symbols."""

    messages: tuple[LogMessage, ...]


class LogPublisher:
    """
    A bounded queue in front of the stream, emptied in order by one task.

    Attributes:
        stored: Items that the stream has confirmed as new.
        duplicates: Items that the stream had already.
        refused: Items that could not be queued because the queue was full.
        fenced: Set when the stream refused us because another writer has claimed.
    """

    def __init__(self, bus: Bus, claim: Claim, *, capacity: int = 50_000) -> None:
        self._bus = bus
        self._claim = claim
        self._queue: asyncio.Queue[LogEntry] = asyncio.Queue(maxsize=capacity)
        self._in_flight = 0
        self.stored = 0
        self.duplicates = 0
        self.refused = 0
        self.fenced = asyncio.Event()
        self.on_stored: Callable[[LogEntry, bool], None] = lambda entry, new: None

    def adopt(self, claim: Claim) -> None:
        """Go on under *claim*, after the stream has forgotten the one before."""
        self._claim = claim
        self.fenced.clear()

    @property
    def waiting(self) -> int:
        """How many items are not confirmed yet."""
        return self._queue.qsize() + self._in_flight

    def offer(self, entry: LogEntry) -> bool:
        """Queue *entry*; False if the queue is full, which is counted and said."""
        try:
            self._queue.put_nowait(entry)
        except asyncio.QueueFull:
            self.refused += 1
            return False
        return True

    async def flushed(self, timeout: float) -> bool:
        """Wait until the stream has everything; False if *timeout* passes before."""
        try:
            async with asyncio.timeout(timeout):
                while self.waiting:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Publish what is queued, for ever."""
        while True:
            entries = [await self._queue.get()]
            size = len(entries[0].messages)
            # What has piled up goes out together: a burst must not cost a round trip
            # for each of its items.
            while size < _FULL_BATCH and not self._queue.empty():
                entries.append(self._queue.get_nowait())
                size += len(entries[-1].messages)
            self._in_flight = len(entries)
            if size > _MAX_BATCH or not await self._store_together(entries):
                for entry in entries:
                    await self._store(entry)
                    self._in_flight -= 1
            self._in_flight = 0

    async def _store_together(self, entries: list[LogEntry]) -> bool:
        """Store *entries* in one batch; False if they must go one by one."""
        if len(entries) == 1:
            return False
        messages = tuple(message for entry in entries for message in entry.messages)
        try:
            reply = await self._send_batch(messages)
        except (NatsError, TimeoutError, ConnectionError, BusError):
            return False
        if self._outcome(reply) is not True:
            return False
        self.stored += len(entries)
        for entry in entries:
            self.on_stored(entry, True)
        return True

    async def _store(self, entry: LogEntry) -> None:
        pauses = backoff(0.05, 2.0)
        told = False
        while True:
            answer = await self._try(entry)
            if answer is not None:
                if answer:
                    self.stored += 1
                else:
                    self.duplicates += 1
                self.on_stored(entry, answer)
                return
            if not told and self._bus.connected:
                logger.warning("the news stream does not confirm; trying again")
                told = True
            await asyncio.sleep(next(pauses))

    async def _try(self, entry: LogEntry) -> bool | None:
        """Return whether *entry* was new; None if it is unknown whether it is there."""
        if not self._bus.connected:
            return None
        try:
            if len(entry.messages) == 1:
                return await self._publish_one(entry.messages[0])
            return await self._publish_batch(entry.messages[:_MAX_BATCH])
        except (NatsError, TimeoutError, ConnectionError, BusError) as error:
            logger.debug("publish: %s", str(error) or type(error).__name__)
            return None

    async def _publish_one(self, message: LogMessage) -> bool | None:
        headers = {"Nats-Msg-Id": message.message_id, **self._claim.headers()}
        reply = await self._bus.nc.request(
            message.subject, message.encode(), timeout=_ACK_SECONDS, headers=headers
        )
        return self._outcome(reply)

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
        return await self._bus.nc.request(
            message.subject, message.encode(), timeout=_ACK_SECONDS, headers=headers
        )

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
        logger.debug("publish refused: %s", error.get("description"))
        return None


def _error_code(reply: Msg) -> int | None:
    error = json.loads(reply.data).get("error")
    return error.get("err_code") if error else None
