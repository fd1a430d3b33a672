"""
What a replica had received and could not store before another took over.

It lies on the disk of that replica (`spools`), and nobody else has it: no upstream
sends again. So it asks the leader to take it, which may be itself by now, and lets go
of it once the stream has it. It comes after newer items then, with its own time of
receipt.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.errors import BusError
from feedmesh.ingest.log_entry import LogEntry, Renew, unpack
from feedmesh.ingest.spool import Spool


__all__ = ["hand_over", "take_left_overs"]

logger = logging.getLogger(__name__)

_EVERY_SECONDS = 1.0
_BATCH = 500
_BATCH_BYTES = 512 * 1024
_STORED_SECONDS = 5.0
_LOOK_SECONDS = 0.005
_DONE, _LATER = b"stored", b"later"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


async def hand_over(
    bus: Bus, feed: str, which: Callable[[], Spool], has_stored: Callable[[bytes], bool]
) -> None:
    """
    Have whoever leads take what a spool holds, for ever.

    Args:
        bus: The connection.
        feed: Who leads which.
        which: Returns the spool in question.
        has_stored: Whether the stream is known to have a record; the leader, which has
            more to do, is not asked to take it then.
    """
    while True:
        spool = which()
        records = _batch(spool)
        missing = [record for record in records if not has_stored(record)]
        if records and (not missing or await _taken(bus, feed, missing)):
            spool.drop(records)
            extra = {"items": len(missing), "known": len(records) - len(missing)}
            logger.info("handed over", extra=extra)
            # It may be much, and there may be nothing to wait for.
            await asyncio.sleep(0)
        else:
            await asyncio.sleep(_EVERY_SECONDS)


async def _taken(bus: Bus, feed: str, records: list[bytes]) -> bool:
    try:
        answer = await bus.request(
            subjects.left_overs(feed), _encode(records), 2 * _STORED_SECONDS
        )
    except BusError as error:
        logger.debug("left over: %s", error)
        return False
    return answer == _DONE


async def take_left_overs(
    bus: Bus,
    feed: str,
    take: Callable[[LogEntry], bool],
    is_stored: Callable[[str], bool],
    renew: Renew,
) -> None:
    """
    Take what replicas of *feed* still hold, for ever.

    Args:
        bus: The connection.
        feed: Which one.
        take: Takes an item, one that is known already too; False for not now, and then
            it is asked again for a while.
        is_stored: Whether the stream has the item with this message id.
        renew: Makes of each message what is sent in its place.
    """
    batches: asyncio.Queue[Msg] = asyncio.Queue(maxsize=8)

    async def offered(message: Msg) -> None:
        # Whoever finds no room here hears nothing, and asks again.
        if not batches.full():
            batches.put_nowait(message)

    subscription = await bus.nc.subscribe(subjects.left_overs(feed), cb=offered)
    try:
        while True:
            message = await batches.get()
            done = await _take(_entries(message.data, renew), take, is_stored)
            with contextlib.suppress(NatsError):  # it will ask again
                await message.respond(_DONE if done else _LATER)
    finally:
        with contextlib.suppress(NatsError):
            await subscription.unsubscribe()


def _entries(batch: bytes, renew: Renew) -> list[LogEntry]:
    try:
        found = [unpack(record, renew) for record in _decode(batch)]
        return [entry._replace(kept=True) for entry in found]
    except (msgspec.DecodeError, ValueError):
        logger.warning("what a replica hands over makes no sense")
        return []


async def _take(
    entries: list[LogEntry],
    take: Callable[[LogEntry], bool],
    is_stored: Callable[[str], bool],
) -> bool:
    """Return whether there is something, and the stream has all of it."""
    now = asyncio.get_running_loop().time
    ends = now() + _STORED_SECONDS
    offered = 0
    while now() < ends:
        # What was taken is not offered again.
        while offered < len(entries) and take(entries[offered]):
            offered += 1
        if offered == len(entries) and all(
            is_stored(entry.message_id) for entry in entries
        ):
            return bool(entries)
        await asyncio.sleep(_LOOK_SECONDS)
    return False


def _batch(spool: Spool) -> list[bytes]:
    records: list[bytes] = []
    size = 0
    for record in spool.first(_BATCH):
        size += len(record)
        if records and size > _BATCH_BYTES:
            break
        records.append(record)
    return records
