"""Who leads: one at a time, the next one soon, against a real nats-server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from faults.cluster import run_cluster
from faults.proxy import run_proxy
from nats_process import NatsProcess

from feedmesh import subjects
from feedmesh.bus import Bus, connect_bus
from feedmesh.ingest.beat import (
    RETURN_SECONDS,
    RETURN_SOON_SECONDS,
    SILENCE_SECONDS,
)
from feedmesh.ingest.epoch import claim_epoch, last_claim
from feedmesh.ingest.leadership import Leadership
from feedmesh.ingest.term import Term
from feedmesh.settings import ServiceSettings
from feedmesh.streams import NEWS, ensure_streams


class Replica:
    """One process of two, as far as leading goes."""

    def __init__(self, bus: Bus, patience: float | None = None) -> None:
        self.bus = bus
        self.stop = asyncio.Event()
        self.terms: list[Term] = []
        self.claims: list[int] = []
        self.intrusions = 0
        self.prepared = 0
        # While it is clear, a leader that ends its term still has something to store.
        self.stored = asyncio.Event()
        self.stored.set()
        self.leads = asyncio.Event()
        self.stands_by = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.leadership = Leadership(
            bus,
            "ls",
            complete=lambda: {"news": 5},
            intruded=self._intruded,
            patience=patience,
        )

    def start(self) -> None:
        self.task = asyncio.create_task(
            self.leadership.run(self.stop, self._stand_by, self._lead, self._prepare)
        )

    async def leave(self) -> None:
        """Stop as on SIGTERM."""
        assert self.task is not None
        self.stop.set()
        await self.task

    async def vanish(self) -> None:
        """Stop as on SIGKILL: nothing more is said."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])

    def _intruded(self) -> None:
        self.intrusions += 1

    async def _stand_by(self) -> None:
        self.stands_by.set()
        await asyncio.Event().wait()

    async def _prepare(self) -> None:
        self.prepared += 1

    async def _lead(self, term: Term) -> None:
        self.terms.append(term)
        await asyncio.wait(
            [
                asyncio.create_task(term.granted.wait()),
                over := asyncio.create_task(term.over.wait()),
            ],
            return_when=asyncio.FIRST_COMPLETED,
        )
        if term.granted.is_set():
            term.working = True
            term.claimed = lambda claim: self.claims.append(claim.epoch)
            self.leads.set()
        await over
        self.leads.clear()
        term.closed.set()
        await self.stored.wait()


@asynccontextmanager
async def replicas(server: NatsProcess, count: int = 2) -> AsyncIterator[list[Replica]]:
    """Run a leader and those that stand by, in this order."""
    async with AsyncExitStack() as stack:
        made: list[Replica] = []
        for number in range(count):
            bus = await stack.enter_async_context(
                connect_bus(server.settings(), f"replica-{number}")
            )
            await ensure_streams(bus.nc.jetstream())
            replica = Replica(bus)
            replica.start()
            stack.push_async_callback(replica.vanish)
            waiting = replica.stands_by if made else replica.leads
            async with asyncio.timeout(5):
                await waiting.wait()
            made.append(replica)
        yield made


async def clock(waiting: asyncio.Event, seconds: float = 10.0) -> float:
    """Return how long *waiting* took."""
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(seconds):
        await waiting.wait()
    return asyncio.get_running_loop().time() - began


async def test_one_leads_and_the_other_stands_by(nats_server: NatsProcess) -> None:
    async with replicas(nats_server) as (first, second):
        await asyncio.sleep(4 * SILENCE_SECONDS)

        assert first.leads.is_set()
        assert not second.terms
        assert first.leadership.problem() is None
        assert second.leadership.problem() is None


async def test_the_standby_leads_once_the_leader_is_silent(
    nats_server: NatsProcess,
) -> None:
    async with replicas(nats_server) as (first, second):
        await asyncio.sleep(SILENCE_SECONDS)
        await first.vanish()
        waited = await clock(second.leads)

        assert waited > SILENCE_SECONDS / 3
        term = second.terms[0]
        assert term.claim.epoch > first.terms[0].claim.epoch
        assert term.before is not None
        assert (term.before.state, term.before.complete) == ("leading", {"news": 5})


async def test_a_leader_that_goes_on_purpose_is_not_waited_for(
    nats_server: NatsProcess,
) -> None:
    async with replicas(nats_server) as (first, second):
        await asyncio.sleep(SILENCE_SECONDS)
        await first.leave()
        waited = await clock(second.leads)
        print(json.dumps({"test": "hand-over of the claim", "ms": waited * 1000}))

        assert waited < SILENCE_SECONDS / 2
        assert second.terms[0].before is not None
        assert second.terms[0].before.state == "leaving"


async def test_an_heir_connects_once_the_links_are_closed_and_writes_once_all_is_stored(
    nats_server: NatsProcess,
) -> None:
    async with replicas(nats_server) as (first, second):
        await asyncio.sleep(SILENCE_SECONDS)
        first.stored.clear()
        leaving = asyncio.create_task(first.leave())
        async with asyncio.timeout(5):
            while not second.terms:
                assert not first.terms[0].closed.is_set() or second.prepared == 1
                await asyncio.sleep(0.001)
        assert first.terms[0].closed.is_set()
        await asyncio.sleep(2 * SILENCE_SECONDS)
        assert not second.terms[0].granted.is_set()
        first.stored.set()
        await leaving
        await clock(second.leads)

        assert second.prepared == 1
        assert second.terms[0].claim.epoch > first.terms[0].claim.epoch
        assert len(second.terms) == 1


async def named_but_not_yet_leading(leader: Replica, heir: Replica) -> None:
    """Have *leader* go, name *heir*, and not get done with storing."""
    await asyncio.sleep(SILENCE_SECONDS)
    leader.stored.clear()
    leader.stop.set()
    async with asyncio.timeout(5):
        while not heir.terms:
            await asyncio.sleep(0.001)


async def test_an_heir_whose_leader_dies_before_all_is_stored_writes_all_the_same(
    nats_server: NatsProcess,
) -> None:
    async with replicas(nats_server) as (first, second):
        await named_but_not_yet_leading(first, second)
        await first.vanish()
        await clock(second.leads)

        assert len(second.terms) == 1
        assert second.terms[0].before is not None
        assert second.terms[0].before.state == "leading"


async def test_one_of_several_is_the_heir(nats_server: NatsProcess) -> None:
    async with replicas(nats_server, 3) as (first, *others):
        await asyncio.sleep(SILENCE_SECONDS)
        await first.leave()
        async with asyncio.timeout(5):
            while not any(replica.leads.is_set() for replica in others):
                await asyncio.sleep(0.001)
        await asyncio.sleep(3 * SILENCE_SECONDS)

        assert sum(len(replica.terms) for replica in others) == 1


async def test_an_heir_that_another_has_overtaken_does_not_lead(
    nats_server: NatsProcess,
) -> None:
    async with replicas(nats_server) as (first, second):
        await named_but_not_yet_leading(first, second)
        usurper = await claim_epoch(first.bus, "ls")
        beat = {"v": 1, "epoch": usurper.epoch, "state": "leading", "complete": {}}
        await first.bus.publish(subjects.leader("ls"), json.dumps(beat).encode())
        await clock(second.terms[0].over)

        assert second.terms[0].overtaken.is_set()
        assert not second.terms[0].granted.is_set()


async def test_a_leader_with_nobody_to_follow_does_not_wait_for_long(
    nats_server: NatsProcess,
) -> None:
    async with replicas(nats_server, 1) as (first,):
        began = asyncio.get_running_loop().time()
        await first.leave()

        assert asyncio.get_running_loop().time() - began < 2


async def test_three_replicas_have_one_leader(nats_server: NatsProcess) -> None:
    async with replicas(nats_server, 3) as (first, *others):
        await asyncio.sleep(SILENCE_SECONDS)
        await first.vanish()
        async with asyncio.timeout(10):
            while not any(replica.leads.is_set() for replica in others):
                await asyncio.sleep(0.01)
        await asyncio.sleep(3 * SILENCE_SECONDS)

        assert sum(replica.leads.is_set() for replica in others) == 1


async def test_a_leader_that_hears_of_a_higher_epoch_steps_down(
    nats_server: NatsProcess,
) -> None:
    async with replicas(nats_server, 1) as (first,):
        usurper = Replica(first.bus)
        await claim_epoch(usurper.bus, "ls")
        first.leadership.doubt()
        await clock(first.terms[0].overtaken)
        # The usurper says nothing at all, so it is this one's turn again.
        async with asyncio.timeout(10):
            while len(first.terms) < 2:
                await asyncio.sleep(0.01)

        assert first.terms[1].claim.epoch > first.terms[0].claim.epoch


async def test_a_leader_hears_that_another_has_stopped_writing(
    nats_server: NatsProcess,
) -> None:
    async with replicas(nats_server, 1) as (first,):
        epoch = first.terms[0].claim.epoch
        for state in ("leading", "left"):
            beat = f'{{"v":1,"epoch":{epoch - 1},"state":"{state}","complete":{{}}}}'
            await first.bus.publish(subjects.leader("ls"), beat.encode())
        await first.bus.nc.flush()
        await asyncio.sleep(SILENCE_SECONDS)

        assert first.intrusions == 1
        assert first.leads.is_set()


async def test_an_outage_of_nats_changes_no_leader(nats_server: NatsProcess) -> None:
    async with replicas(nats_server) as (first, second):
        await asyncio.sleep(SILENCE_SECONDS)
        await nats_server.stop()
        await asyncio.sleep(3 * SILENCE_SECONDS)
        await nats_server.start()
        async with asyncio.timeout(20):
            while not (first.bus.connected and second.bus.connected):
                await asyncio.sleep(0.01)
        await asyncio.sleep(4 * SILENCE_SECONDS)

        assert first.leads.is_set()
        assert not second.terms


async def test_a_leader_that_does_not_come_back_from_an_outage_is_replaced(
    nats_server: NatsProcess,
) -> None:
    async with replicas(nats_server) as (first, second):
        await asyncio.sleep(SILENCE_SECONDS)
        await nats_server.stop()
        await first.vanish()
        # Clients are farther and farther apart meanwhile.
        await asyncio.sleep(2)
        await nats_server.start()
        waited = await clock(second.leads, 30)

        assert waited > RETURN_SECONDS / 2


async def test_an_outage_of_a_moment_counts_as_one(nats_server: NatsProcess) -> None:
    """The leader may have been away, too, and take longer to come back."""
    async with AsyncExitStack() as stack:
        (first,) = await stack.enter_async_context(replicas(nats_server, 1))
        port = urlsplit(nats_server.url).port or 0
        proxy = await stack.enter_async_context(run_proxy(port))
        settings = ServiceSettings(nats_url=(f"nats://127.0.0.1:{proxy.port}",))
        bus = await stack.enter_async_context(connect_bus(settings, "moment"))
        second = Replica(bus)
        second.start()
        stack.push_async_callback(second.vanish)
        await asyncio.sleep(SILENCE_SECONDS)
        await first.vanish()
        proxy.reset()
        async with asyncio.timeout(1):
            while not bus.state.reconnects:
                await asyncio.sleep(0.001)
        waited = await clock(second.leads, 30)

        assert RETURN_SOON_SECONDS / 2 < waited < RETURN_SECONDS


async def test_a_claim_that_the_stream_has_forgotten_is_made_again(
    nats_server: NatsProcess,
) -> None:
    async with replicas(nats_server) as (first, second):
        before = first.terms[0].claim
        js = first.bus.nc.jetstream()
        await js.delete_stream(NEWS)
        await ensure_streams(js)
        first.leadership.doubt()
        async with asyncio.timeout(10):
            while not first.claims:
                await asyncio.sleep(0.01)

        assert first.terms[0].claim.epoch > before.epoch
        assert await last_claim(first.bus, "ls") == first.terms[0].claim
        assert first.leads.is_set()
        assert not second.terms


async def test_nobody_claims_without_streams(nats_server: NatsProcess) -> None:
    async with connect_bus(nats_server.settings(), "test") as bus:
        replica = Replica(bus)
        replica.start()
        await asyncio.sleep(3 * SILENCE_SECONDS)
        assert not replica.terms
        assert replica.leadership.problem() == "waiting for the streams"
        await ensure_streams(bus.nc.jetstream())
        await clock(replica.leads)
        await replica.leave()


async def test_it_is_told_when_no_claim_is_taken(
    nats_server: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feedmesh.ingest.leadership._REFUSED_SECONDS", 0.5)
    async with replicas(nats_server) as (first, second):
        js = first.bus.nc.jetstream()
        await js.delete_stream(NEWS)
        await first.vanish()
        async with asyncio.timeout(20):
            while "does not take a claim" not in (second.leadership.problem() or ""):
                await asyncio.sleep(0.01)
        await ensure_streams(js)
        await clock(second.leads)
        assert second.leadership.problem() is None


async def test_a_slow_way_to_nats_keeps_nobody_from_leading(
    nats_server: NatsProcess,
) -> None:
    """Who waits for an answer for as long as a silence lasts was not asleep."""
    address = urlsplit(nats_server.url)
    async with run_proxy(address.port or 0) as proxy:
        url = f"nats://127.0.0.1:{proxy.port}"
        async with connect_bus(ServiceSettings(nats_url=(url,)), "slow") as bus:
            await ensure_streams(bus.nc.jetstream())
            proxy.set(latency=SILENCE_SECONDS / 2)
            replica = Replica(bus)
            replica.start()
            await clock(replica.leads)
            proxy.heal()
            await replica.vanish()


async def test_a_message_of_nonsense_is_no_leader(nats_server: NatsProcess) -> None:
    async with replicas(nats_server, 1) as (first,):
        for nonsense in (b"", b"[]", b"\xff", b'{"v":1,"epoch":"x"}'):
            await first.bus.publish(subjects.leader("ls"), nonsense)
        await asyncio.sleep(SILENCE_SECONDS)

        assert first.leads.is_set()
        assert len(first.terms) == 1


async def test_a_leader_of_prices_gives_up_when_nats_is_away_for_long(
    nats_server: NatsProcess,
) -> None:
    """It holds the only connection, and another may have claimed long ago."""
    async with connect_bus(nats_server.settings(), "test") as bus:
        await ensure_streams(bus.nc.jetstream())
        replica = Replica(bus, patience=1.0)
        replica.start()
        await clock(replica.leads, 30)
        await nats_server.stop()
        await clock(replica.terms[0].over, 30)
        assert not replica.terms[0].overtaken.is_set()
        await nats_server.start()
        # Nobody else is there, so it leads again.
        async with asyncio.timeout(60):
            while len(replica.terms) < 2:
                await asyncio.sleep(0.05)
        await replica.leave()


async def led_after_both_have_died(folder: Path) -> float:
    """Lose the leader and the standby's server at once; return how long it took."""
    async with run_cluster(folder, sync="2m") as cluster, AsyncExitStack() as stack:
        first_bus = await stack.enter_async_context(cluster.bus())
        second_bus = await stack.enter_async_context(
            connect_bus(cluster.settings(), "second")
        )
        # To elect another one that decides would take longer than all else.
        decides = await cluster.leader(first_bus, NEWS)
        while cluster.node_of(second_bus) is decides:
            second_bus.nc.cut()
            await asyncio.sleep(0.2)
        first, second = Replica(first_bus), Replica(second_bus)
        first.start()
        stack.push_async_callback(first.vanish)
        await clock(first.leads, 30)
        second.start()
        stack.push_async_callback(second.vanish)
        await clock(second.stands_by)
        await asyncio.sleep(2 * SILENCE_SECONDS)
        async with cluster.node_of(second_bus).paused():
            await first.vanish()
            return await clock(second.leads, 60)


async def test_a_standby_leaves_a_server_that_died_with_the_leader(
    tmp_path: Path,
) -> None:
    assert await led_after_both_have_died(tmp_path) < RETURN_SECONDS


async def test_else_it_hears_nothing_until_the_pings_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.setattr(Bus, "leave", lambda bus: None)
    assert await led_after_both_have_died(tmp_path) > RETURN_SECONDS
