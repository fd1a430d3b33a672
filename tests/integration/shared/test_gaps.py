"""Gap records on a real nats-server: open while they last, ended by whoever leads."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats_process import NatsProcess, until_back
from prometheus_client import CollectorRegistry

from feedmesh.bus import Bus
from feedmesh.clock import from_iso, now_ns
from feedmesh.gaps import FeedGap, read_gaps
from feedmesh.ingest.beat import Beat
from feedmesh.ingest.gaps import GapKeeper
from feedmesh.metrics import IngestMetrics
from feedmesh.status import LinkState, LinkStatus


class FakeLink:
    """A link that is as a test says."""

    name = "news"

    def __init__(self) -> None:
        self.now = LinkStatus(LinkState.CONNECTING, now_ns(), None, 0, None, 1, 0)

    def status(self) -> LinkStatus:
        return self.now

    def live(self) -> None:
        at = now_ns()
        self.now = LinkStatus(LinkState.LIVE, at, at, 0, None, 1, 1, flows_ns=at)

    def down(self, reason: str) -> None:
        last = self.now.last_frame_ns
        self.now = LinkStatus(LinkState.DOWN, now_ns(), last, 1, reason, 1, 0)


class Leader:
    """Whoever leads now."""

    def __init__(self, bus: Bus) -> None:
        numbers = itertools.count(1)
        self.link = FakeLink()
        self.over = asyncio.Event()
        self.keeper = GapKeeper(
            bus, lambda: (1, next(numbers)), IngestMetrics(CollectorRegistry(), "ls")
        )

    async def live(self) -> None:
        """Have the link live, and wait until that was seen."""
        self.change("live")
        async with asyncio.timeout(20):
            while not self.keeper.complete():
                await asyncio.sleep(0.01)

    def change(self, state: str, reason: str = "") -> None:
        self.link.live() if state == "live" else self.link.down(reason)
        self.keeper.changed()


@asynccontextmanager
async def leading(bus: Bus, before: Beat | None = None) -> AsyncIterator[Leader]:
    leader = Leader(bus)
    await leader.keeper.warm(bus)
    await leader.keeper.take_over(bus, before)
    task = asyncio.create_task(leader.keeper.run([leader.link], leader.over))
    try:
        yield leader
    finally:
        task.cancel()
        await asyncio.wait([task])


async def told(bus: Bus, count: int) -> list[FeedGap]:
    """Return all records once there are *count*."""
    async with asyncio.timeout(20):
        while True:
            found = [stored.gap async for stored in read_gaps(bus)]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.01)


async def test_a_gap_is_told_when_it_opens_and_when_it_ends(bus: Bus) -> None:
    async with leading(bus) as leader:
        await leader.live()
        leader.change("down", "dropped")
        await told(bus, 1)
        leader.change("live")
        opened, ended = await told(bus, 2)

    assert (opened.id, opened.reason, opened.until) == (ended.id, "dropped", None)
    assert ended.until is not None
    assert from_iso(ended.since) < from_iso(ended.until) <= now_ns()


async def test_an_heir_ends_what_a_dead_leader_had_opened(bus: Bus) -> None:
    async with leading(bus) as leader:
        await leader.live()
        leader.change("down", "dropped")
        await told(bus, 1)
        before = Beat(1, 1, "leading", leader.keeper.complete())
    async with leading(bus, before) as heir:
        heir.change("live")
        opened, ended = await told(bus, 2)

    assert (ended.id, ended.reason) == (opened.id, "dropped")
    assert ended.until is not None


async def test_a_leader_that_leaves_tells_no_loss(bus: Bus) -> None:
    async with leading(bus) as leader:
        await leader.live()
        leader.over.set()
        leader.change("down", "lost")
        await asyncio.sleep(0.5)
        before = Beat(1, 1, "leaving", leader.keeper.complete())
    async with leading(bus, before) as heir:
        await told(bus, 1)
        heir.change("live")
        opened, ended = await told(bus, 2)

    assert opened.reason == "handover"
    assert (opened.id, opened.until) == (ended.id, None)


async def test_what_could_not_be_told_is_told_once_nats_is_back(
    bus: Bus, nats_server: NatsProcess
) -> None:
    async with leading(bus) as leader:
        await leader.live()
        await nats_server.stop()
        leader.change("down", "dropped")
        await asyncio.sleep(0.3)
        complete = leader.keeper.complete()
        leader.change("live")
        await asyncio.sleep(0.3)
        # A leader that dies now leaves what it could not tell to its heir.
        assert leader.keeper.complete() == complete
        await nats_server.start()
        await until_back(bus)
        (gap,) = await told(bus, 1)

    assert gap.until is not None


async def told_by_an_heir_that_was_cut_off(
    bus: Bus, server: NatsProcess, *, other: bool
) -> list[FeedGap]:
    """
    Return the last records once a leader leads again that lost its link unheard.

    *other* is whether another has led meanwhile.
    """
    async with leading(bus) as leader:
        await leader.live()
        keeper, complete = leader.keeper, leader.keeper.complete()
        await server.stop()
        leader.change("down", "dropped")
        async with asyncio.timeout(20):
            while not keeper._waiting:
                await asyncio.sleep(0.01)
    await server.start()
    await until_back(bus)
    later = {name: now_ns() for name in complete}
    await keeper.take_over(bus, Beat(1, 2, "leading", later) if other else None)
    leader.change("live")
    task = asyncio.create_task(keeper.run([leader.link], leader.over))
    assert await keeper.flushed(20)
    async with asyncio.timeout(20):
        while not (found := {gap.id: gap for gap in await told(bus, 1)}):
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    return list(found.values())


async def test_what_was_not_told_in_time_is_no_gap_if_another_has_led(
    bus: Bus, nats_server: NatsProcess
) -> None:
    (gap,) = await told_by_an_heir_that_was_cut_off(bus, nats_server, other=True)

    assert gap.reason == "takeover"


async def test_what_was_not_told_in_time_is_a_gap_if_nobody_has_led(
    bus: Bus, nats_server: NatsProcess
) -> None:
    gaps = await told_by_an_heir_that_was_cut_off(bus, nats_server, other=False)

    assert "dropped" in [gap.reason for gap in gaps]
