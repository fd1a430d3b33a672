"""
Write to the news stream, and understand what it answers.

An item and its copies go out as one atomic batch (ADR-50): the stream stores all or
nothing. Every message carries an id made from its content, and the number of the claim
under which it is written, so the stream itself leaves out what it has and refuses who
has been overtaken. An answer that does not come means "unknown", never "failed".
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from enum import Enum

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from feedmesh.bus import Bus
from feedmesh.errors import BusError
from feedmesh.ingest.epoch import Claim
from feedmesh.ingest.log_entry import LogEntry, LogMessage


__all__ = ["LogWriter", "Outcome"]

logger = logging.getLogger(__name__)

_ACK_SECONDS = 3.0
# Stored items are confirmed within milliseconds; beyond this they are safer on disk.
_SLOW_SECONDS = 0.1
_MAX_BATCH = 1000  # what the server takes in one atomic batch

_Part = tuple[LogMessage, dict[str, str]]

# Error codes of the JetStream API.
_WRONG_LAST_SEQUENCE = (10071, 10164)
_DUPLICATE_IN_BATCH = 10201


class Outcome(Enum):
    """What became of a write."""

    NEW = "new"
    KNOWN = "known"  # the stream had it
    REFUSED = "refused"  # it was not stored
    UNKNOWN = "unknown"  # it may have been stored


class LogWriter:
    """
    Writes under a claim.

    Args:
        bus: The connection.
        claim: Under which to write.
        slow: Called while an answer is overdue.
        fenced: Called when the stream refuses us since another has claimed.

    Attributes:
        claim: May be replaced.
    """

    def __init__(
        self,
        bus: Bus,
        claim: Claim,
        slow: Callable[[], None],
        fenced: Callable[[], None],
    ) -> None:
        self._bus = bus
        self.claim = claim
        self._slow = slow
        self._fenced = fenced

    async def write(self, entry: LogEntry) -> Outcome:
        """Write one item with its copies."""
        messages = entry.messages[:_MAX_BATCH]
        if len(messages) == 1:
            return await self._single(messages[0])
        outcome, code = await self._batch(messages)
        if code != _DUPLICATE_IN_BATCH:
            return outcome
        # It was stored before; one by one, since an earlier version did so in part.
        found = Outcome.KNOWN
        for message in messages:
            outcome = await self._single(message)
            if outcome in (Outcome.REFUSED, Outcome.UNKNOWN):
                return outcome
            if outcome is Outcome.NEW:
                found = Outcome.NEW
        return found

    async def write_together(self, entries: Sequence[LogEntry]) -> Outcome:
        """Write several items, all or none; refused if they are too many."""
        messages = tuple(m for entry in entries for m in entry.messages)
        if len(messages) > _MAX_BATCH:
            return Outcome.REFUSED
        outcome, _ = await self._batch(messages)
        return outcome

    async def _single(self, message: LogMessage) -> Outcome:
        headers = {"Nats-Msg-Id": message.message_id, **self.claim.headers()}
        try:
            reply = await self._answer([(message, headers)])
        except (NatsError, TimeoutError, ConnectionError, BusError) as error:
            return _unknown(error)
        return self._outcome(reply)[0]

    async def _batch(
        self, messages: Sequence[LogMessage]
    ) -> tuple[Outcome, int | None]:
        batch = self._bus.nc.new_inbox().rpartition(".")[2]
        parts = [
            (message, self._headers(message, batch, number))
            for number, message in enumerate(messages, start=1)
        ]
        parts[-1][1]["Nats-Batch-Commit"] = "1"
        try:
            reply = await self._answer(parts)
        except (NatsError, TimeoutError, ConnectionError, BusError) as error:
            return _unknown(error), None
        return self._outcome(reply)

    def _headers(self, message: LogMessage, batch: str, number: int) -> dict[str, str]:
        headers = {
            "Nats-Msg-Id": message.message_id,
            "Nats-Batch-Id": batch,
            "Nats-Batch-Sequence": str(number),
        }
        # Of a batch, the first message is compared for all.
        return headers | self.claim.headers() if number == 1 else headers

    async def _answer(self, parts: Sequence[_Part]) -> Msg:
        """Send *parts*, and return the answer to the last of them."""
        request = asyncio.ensure_future(self._send(parts))
        try:
            while not (await asyncio.wait([request], timeout=_SLOW_SECONDS))[0]:
                self._slow()
                if not self._bus.connected:
                    raise BusError("NATS is not connected")
            return request.result()
        finally:
            request.cancel()

    async def _send(self, parts: Sequence[_Part]) -> Msg:
        # All in one go: between two of them the client would write what it has.
        *first, (message, headers) = parts
        for earlier, own in first:
            await self._bus.nc.publish(earlier.subject, earlier.encode(), headers=own)
        return await self._bus.nc.request(
            message.subject, message.encode(), timeout=_ACK_SECONDS, headers=headers
        )

    def _outcome(self, reply: Msg) -> tuple[Outcome, int | None]:
        answer = json.loads(reply.data)
        error = answer.get("error")
        if error is None:
            known = answer.get("duplicate", False)
            return Outcome.KNOWN if known else Outcome.NEW, None
        code = error.get("err_code")
        if code in _WRONG_LAST_SEQUENCE:
            self._fenced()
        logger.debug("publish refused: %s", error.get("description"))
        return Outcome.REFUSED, code


def _unknown(error: BaseException) -> Outcome:
    logger.debug("publish: %s", str(error) or type(error).__name__)
    return Outcome.UNKNOWN
