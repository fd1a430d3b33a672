"""What an earlier term has left on disk: nothing waits for it, and none is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
from nats.aio.msg import Msg
from pair import news_frame
from prometheus_client import CollectorRegistry, generate_latest

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.clock import now_ns
from feedmesh.ingest.accounting import accounts_of
from feedmesh.ingest.dead_letters import DeadLetters
from feedmesh.ingest.epoch import Claim, claim_epoch
from feedmesh.ingest.left_overs import hand_over, take_left_overs
from feedmesh.ingest.log_publisher import LogPublisher
from feedmesh.ingest.price_publisher import PricePublisher
from feedmesh.ingest.spool import Spool
from feedmesh.ingest.spools import Spools
from feedmesh.messages import decode_head
from feedmesh.metrics import IngestMetrics
from feedmesh.news import decode_news
from feedmesh.stored import read_from
from feedmesh.streams import NEWS
from ingest_ls.ingest import LsIngest
from ingest_ls.master import Master


LEFT = 500


class Process:
    """What of an ingest lives as long as its process: its terms come and go."""

    def __init__(self, bus: Bus, folder: Path) -> None:
        self._bus = bus
        self.registry = CollectorRegistry()
        self.handler = LsIngest(
            PricePublisher(bus),
            DeadLetters(bus, "ingest-ls"),
            IngestMetrics(self.registry, "ls"),
            Master(),
        )
        self.spools = Spools(folder, 16 << 20)

    @asynccontextmanager
    async def term(self, claim: Claim) -> AsyncIterator[LogPublisher]:
        handler = self.handler
        log = LogPublisher(
            self._bus,
            claim,
            spool=self.spools.own,
            renew=handler.renew,
            known=handler.is_stored,
        )
        handler.begin(claim.epoch, log)
        jobs = (
            log.run(),
            hand_over(self._bus, "ls", lambda: self.spools.left, handler.has_stored),
            take_left_overs(
                self._bus,
                "ls",
                handler.take_left_over,
                handler.is_stored,
                handler.renew,
            ),
        )
        tasks = [asyncio.create_task(job) for job in jobs]
        yield log
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        handler.end(*log.give_up())

    async def receive(self, *keys: str) -> None:
        for key in keys:
            frame = json.dumps(news_frame(key)).encode()
            await self.handler.handle("news", frame, now_ns())


async def stored(bus: Bus) -> list[str]:
    return [
        decode_news(decode_head(message.payload)[1]).realkey
        async for message in read_from(bus, NEWS, 1, "news.*")
    ]


async def with_left_overs(bus: Bus, folder: Path, *, set_aside: bool) -> list[str]:
    """Return what is stored, in order, by one that was overtaken and leads again."""
    process = Process(bus, folder)
    with closing(process.spools):
        overtaken = await claim_epoch(bus, "ls")
        await claim_epoch(bus, "ls")
        async with process.term(overtaken) as log:
            await process.receive(*(f"20260715{n:016}" for n in range(LEFT)))
            await asyncio.wait_for(log.fenced.wait(), 10)
        assert len(process.spools) == LEFT
        if set_aside:
            await process.spools.set_aside()
        async with process.term(await claim_epoch(bus, "ls")) as log:
            await process.receive("fresh")
            async with asyncio.timeout(20):
                while process.spools or log.waiting:
                    await asyncio.sleep(0.01)
        accounts = accounts_of(generate_latest(process.registry).decode())
        assert accounts.missing == 0
    return await stored(bus)


async def test_nothing_waits_for_what_is_left_over(bus: Bus, tmp_path: Path) -> None:
    order = await with_left_overs(bus, tmp_path, set_aside=True)

    assert order[0] == "fresh"
    assert order[1:] == [f"20260715{n:016}" for n in range(LEFT)]


async def test_without_setting_it_aside_all_waits_for_it(
    bus: Bus, tmp_path: Path
) -> None:
    """The control; and what one does that nobody has led after: its order is kept."""
    order = await with_left_overs(bus, tmp_path, set_aside=False)

    assert order == [*(f"20260715{n:016}" for n in range(LEFT)), "fresh"]


async def asked_of_the_leader(bus: Bus, spool: Spool, known: Container[bytes]) -> int:
    """Return how many records of *spool* a leader is asked to take, of one batch."""
    asked = 0

    async def lead(message: Msg) -> None:
        nonlocal asked
        asked += len(msgspec.msgpack.decode(message.data))
        await message.respond(b"stored")

    leader = await bus.nc.subscribe(subjects.left_overs("ls"), cb=lead)
    job = hand_over(bus, "ls", lambda: spool, lambda record: record in known)
    task = asyncio.create_task(job)
    async with asyncio.timeout(10):
        while spool:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    await leader.unsubscribe()
    return asked


async def test_the_leader_is_only_asked_to_take_what_is_missing(
    bus: Bus, tmp_path: Path
) -> None:
    records = [b"1", b"2", b"3", b"4"]
    with closing(Spool(tmp_path / "spool", 1 << 20)) as spool:
        asked = []
        for known in (records, [b"1", b"3"], []):
            assert all(spool.append(record) for record in records)
            asked.append(await asked_of_the_leader(bus, spool, known))

    assert asked == [0, 2, 4]


async def test_a_record_that_makes_no_sense_is_not_offered(
    bus: Bus, tmp_path: Path
) -> None:
    """Whoever is offered it could never say that it is stored."""
    process = Process(bus, tmp_path)
    with closing(process.spools):
        assert process.handler.has_stored(b"nonsense")
        assert process.spools.left.append(b"nonsense")
        job = hand_over(
            bus, "ls", lambda: process.spools.left, process.handler.has_stored
        )
        task = asyncio.create_task(job)
        async with asyncio.timeout(10):
            while process.spools.left:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
