"""The way from a spool on disk into the stream, when the disk was at fault."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.ingest.epoch import claim_epoch
from feedmesh.ingest.log_entry import LogEntry, LogMessage, pack
from feedmesh.ingest.log_publisher import LogPublisher
from feedmesh.ingest.spool import Spool
from feedmesh.streams import NEWS
from feedmesh.tail import StreamTail


def entry(number: int) -> LogEntry:
    payload = f"item {number}".encode()
    message = LogMessage(subjects.news("article"), f"id{number}", lambda: payload)
    return LogEntry((message,))


async def test_damage_in_the_middle_costs_only_what_it_hit(
    bus: Bus, tmp_path: Path
) -> None:
    path = tmp_path / "news.spool"
    with closing(Spool(path, 1 << 20)) as spool:
        for number in range(10):
            assert spool.append(pack(entry(number)))
        stored = path.read_bytes()
        for number in (0, 4, 9):
            stored = stored.replace(f"item {number}".encode(), b"it went")
        path.write_bytes(stored)
        publisher = LogPublisher(bus, await claim_epoch(bus, "ls"), spool=spool)
        task = asyncio.create_task(publisher.run())
        assert await publisher.flushed(20)
        publisher.offer(entry(10))
        assert await publisher.flushed(20)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])

    texts = []
    async for message in StreamTail(NEWS, subjects.ALL_NEWS_ITEMS).read(bus):
        texts.append(message.payload.decode())
    assert texts == [f"item {number}" for number in (1, 2, 3, 5, 6, 7, 8, 10)]
