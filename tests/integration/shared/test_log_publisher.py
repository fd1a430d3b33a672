"""The news log when answers are lost, or stay away for very long."""

from __future__ import annotations

import asyncio
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from nats_process import NatsProcess

from feedmesh import subjects
from feedmesh.bus import Bus, connect_bus
from feedmesh.ingest.epoch import claim_epoch
from feedmesh.ingest.left_overs import hand_over, take_left_overs
from feedmesh.ingest.log_entry import LogEntry, LogMessage, pack, unpack
from feedmesh.ingest.log_publisher import LogPublisher
from feedmesh.ingest.log_writer import LogWriter, Outcome
from feedmesh.ingest.spool import Spool
from feedmesh.streams import NEWS, definitions, ensure_streams
from feedmesh.tail import StreamTail


WINDOW_SECONDS = 0.5


def entry(number: int, size: int = 0) -> LogEntry:
    payload = f"item {number}".encode()
    message = LogMessage(subjects.news("article"), f"id{number}", lambda: payload)
    return LogEntry((message,), size=size)


class Forgetful:
    """A stream that knows ids for half a second, and how often an item is in it."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._tail = StreamTail(NEWS, subjects.ALL_NEWS_ITEMS)
        self.texts: list[str] = []

    async def make(self) -> None:
        js = self.bus.nc.jetstream()
        await ensure_streams(js)
        news = next(stream for stream in definitions() if stream.name == NEWS)
        await js.update_stream(news.evolve(duplicate_window=WINDOW_SECONDS))

    async def reread(self) -> None:
        async for message in self._tail.read(self.bus):
            self.texts.append(message.payload.decode())

    def knows(self, message_id: str) -> bool:
        return f"item {message_id.removeprefix('id')}" in self.texts


async def send_with_a_lost_answer(
    stream: Forgetful, server: NatsProcess, *, looks: bool
) -> list[str]:
    """Return what is stored if an answer is lost, and NATS away past the window."""
    await stream.make()
    async with connect_bus(server.settings(), "ingest") as bus:
        claim = await claim_epoch(bus, "ls")
        publisher = LogPublisher(
            bus,
            claim,
            known=stream.knows,
            reread=stream.reread if looks else partial(asyncio.sleep, 0),
            trust_seconds=WINDOW_SECONDS / 2,
        )
        # The item is stored, and nobody hears of it.
        writer = LogWriter(bus, claim, lambda: None, lambda: None)
        assert await writer.write(entry(1)) is Outcome.NEW
        publisher._in_flight.append(entry(1))
        publisher._unsure = True
        publisher._sent_at = asyncio.get_running_loop().time()
        await server.stop()
        await asyncio.sleep(3 * WINDOW_SECONDS)
        await server.start()
        async with asyncio.timeout(20):
            while not bus.connected:
                await asyncio.sleep(0.01)
        publisher.offer(entry(2))
        await publisher._store(publisher._in_flight[0])
        task = asyncio.create_task(publisher.run())
        assert await publisher.flushed(20)
        task.cancel()
        await asyncio.wait([task])
    stream.texts.clear()
    await Forgetful.reread(fresh := Forgetful(stream.bus))
    return fresh.texts


async def test_an_item_is_not_doubled_after_an_outage_past_the_window(
    bus: Bus, nats_server: NatsProcess
) -> None:
    stored = await send_with_a_lost_answer(Forgetful(bus), nats_server, looks=True)

    assert stored == ["item 1", "item 2"]


async def test_without_a_look_it_is_doubled(bus: Bus, nats_server: NatsProcess) -> None:
    """The negative control: the ids alone do not help for so long."""
    stored = await send_with_a_lost_answer(Forgetful(bus), nats_server, looks=False)

    assert stored == ["item 1", "item 1", "item 2"]


async def test_memory_is_bounded_by_bytes_too(bus: Bus) -> None:
    publisher = LogPublisher(
        bus, await claim_epoch(bus, "ls"), capacity=1000, capacity_bytes=10_000
    )
    taken = [publisher.offer(entry(number, size=3000)) for number in range(10)]

    assert taken == [True] * 4 + [False] * 6
    assert publisher.refused == 6
    task = asyncio.create_task(publisher.run())
    assert await publisher.flushed(10)
    assert publisher.offer(entry(11, size=3000))
    task.cancel()
    await asyncio.wait([task])


async def test_what_an_earlier_term_has_left_on_disk_is_not_missing(
    bus: Bus, tmp_path: Path
) -> None:
    """Until when all was stored has been told then; a gap began there, and ended."""
    overtaken = await claim_epoch(bus, "ls")
    claim = await claim_epoch(bus, "ls")
    with closing(Spool(tmp_path / "spool", 1 << 20)) as spool:
        spool.append(pack(entry(1)._replace(received_ns=1)))
        # The stream refuses all, so what is taken from the disk stays in flight.
        publisher = LogPublisher(bus, overtaken, spool=spool)
        # Others keep what they have until that is over.
        assert publisher.spooling
        publisher.offer(entry(2)._replace(received_ns=2, kept=True))
        assert publisher.complete_ns is None
        publisher.offer(entry(3)._replace(received_ns=3))
        assert publisher.complete_ns == 3
        task = asyncio.create_task(publisher.run())
        await asyncio.wait_for(publisher.fenced.wait(), 10)
        publisher.offer(entry(4)._replace(received_ns=4))
        assert publisher.complete_ns == 3

        publisher.adopt(claim)
        assert await publisher.flushed(10)
        assert publisher.complete_ns is None
        assert not publisher.spooling
        task.cancel()
        await asyncio.wait([task])


async def test_what_another_replica_keeps_on_disk_is_not_missing(
    bus: Bus, tmp_path: Path
) -> None:
    """Else a gap would begin whenever such an item was received, long ago."""
    publisher = LogPublisher(bus, await claim_epoch(bus, "ls"))
    with closing(Spool(tmp_path / "spool", 1 << 20)) as spool:
        spool.append(pack(entry(1)))
        jobs = (
            hand_over(bus, "ls", lambda: spool, lambda _: False),
            take_left_overs(bus, "ls", publisher.offer, lambda _: False, bytes),
        )
        tasks = [asyncio.create_task(job) for job in jobs]
        async with asyncio.timeout(20):
            while not publisher.waiting:
                await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    assert publisher.complete_ns is None
    # The control: what nobody else has.
    publisher.offer(entry(2)._replace(received_ns=5))
    assert publisher.complete_ns == 5


@pytest.mark.parametrize("spooled", [False, True])
async def test_the_last_word_tells_of_what_could_not_be_stored(
    bus: Bus, tmp_path: Path, spooled: bool
) -> None:
    """The heir's gap begins there."""
    with closing(Spool(tmp_path / "spool", 1 << 20)) as spool:
        claim = await claim_epoch(bus, "ls")
        publisher = LogPublisher(bus, claim, spool=spool if spooled else None)
        publisher.offer(entry(1)._replace(received_ns=1000))
        publisher.offer(entry(2)._replace(received_ns=2000))
        kept, lost = publisher.give_up()

        assert (kept, len(lost)) == ((2, 0) if spooled else (0, 2))
        assert publisher.complete_ns == 1000


async def test_a_record_that_makes_no_sense_is_told_and_holds_nothing_up(
    bus: Bus, tmp_path: Path
) -> None:
    told = []
    with closing(Spool(tmp_path / "spool", 1 << 20)) as spool:
        for record in (b"nonsense", pack(entry(1)), b"nonsense"):
            spool.append(record)
        publisher = LogPublisher(bus, await claim_epoch(bus, "ls"), spool=spool)
        publisher.on_unreadable = lambda: told.append(publisher.stored)
        task = asyncio.create_task(publisher.run())
        assert await publisher.flushed(10)
        task.cancel()
        await asyncio.wait([task])

    assert publisher.stored == 1
    assert told == [0, 1]


def test_an_entry_that_was_unpacked_is_packed_as_it_was() -> None:
    """Its copies have one payload."""
    payload = bytes(1000)
    copies = tuple(LogMessage(f"n.{i}", f"id{i}", lambda: payload) for i in range(20))
    first = copies[0].encode
    whole = LogEntry(tuple(message._replace(encode=first) for message in copies))

    record = pack(whole)
    assert len(record) < 2000
    assert pack(unpack(record, bytes)) == record
