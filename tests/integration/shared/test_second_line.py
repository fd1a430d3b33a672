"""A publisher of prices with two connections goes on when one server dies or hangs."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from faults.cluster import Cluster, ClusterNode, run_cluster
from mesh import start_simulator
from nats.aio.msg import Msg
from processes import plain_http, run_service

from feedmesh.bus import Bus, connect_bus
from feedmesh.ingest import price_publisher
from feedmesh.ingest.price_publisher import Encode, PricePublisher
from feedmesh.settings import ServiceSettings
from feedmesh.stored import last_of
from feedmesh.streams import PRICES


QUIET = "prices.us.QUIET"


class Listener:
    """
    Who listens at a server that lives.

    Attributes:
        numbers: Those of the messages, each once, in the order in which they came.
        pauses: Between them, in seconds.
    """

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.pauses: list[float] = []
        self._heard_at = asyncio.get_running_loop().time()

    async def take(self, message: Msg) -> None:
        number = int(message.data.split()[0])
        if number > max(self.numbers, default=0):
            now = asyncio.get_running_loop().time()
            self.numbers.append(number)
            self.pauses.append(now - self._heard_at)
            self._heard_at = now

    @property
    def missed(self) -> int:
        steps = itertools.pairwise(self.numbers)
        return sum(later - earlier - 1 for earlier, later in steps)


class Publishing(NamedTuple):
    """A publisher whose first connection is to *node*, and who listens to it."""

    publisher: PricePublisher
    node: ClusterNode
    first: Bus
    other: Bus
    listener: Listener

    def know_no_other(self) -> None:
        """Have the first connection lost for as long as its server is."""
        pool = self.first.nc._server_pool
        pool[:] = [each for each in pool if each.uri.netloc == self.first.server]


def says(text: str) -> Encode:
    return lambda version: f"{version[1]} {text}".encode()


def settings_of(node: ClusterNode) -> ServiceSettings:
    return ServiceSettings.from_env({"NATS_URL": node.plan.url})


@asynccontextmanager
async def publishing(folder: Path, *, second: bool) -> AsyncIterator[Publishing]:
    async with run_cluster(folder, sync="2m") as cluster, cluster.bus() as bus:
        node, other = await apart(cluster, bus)
        connect = partial(connect_bus, settings_of(other), "second")
        async with (
            connect_bus(settings_of(node), "first") as first,
            connect_bus(settings_of(other), "listener") as own,
        ):
            listener = Listener()
            await own.nc.subscribe("prices.us.*", cb=listener.take)
            await own.flush()
            publisher = PricePublisher(first)
            jobs = [asyncio.create_task(publisher.run())]
            if second:
                jobs.append(asyncio.create_task(publisher.keep(connect)))
                async with asyncio.timeout(10):
                    while publisher.servers < 2:
                        await asyncio.sleep(0.01)
            publisher.begin(7)
            try:
                yield Publishing(publisher, node, first, own, listener)
            finally:
                for job in jobs:
                    job.cancel()
                await asyncio.wait(jobs)


async def apart(cluster: Cluster, bus: Bus) -> tuple[ClusterNode, ClusterNode]:
    """Return a server to be lost, and the one that decides for the prices."""
    leader = await cluster.leader(bus, PRICES)
    return next(node for node in cluster.nodes if node is not leader), leader


async def write(publisher: PricePublisher) -> None:
    for number in itertools.count():
        await publisher.publish(f"prices.us.S{number % 50}", says("x"))
        await asyncio.sleep(0.001)


@asynccontextmanager
async def writing_to(publisher: PricePublisher) -> AsyncIterator[None]:
    """Write for a second, and then while the context is open."""
    task = asyncio.create_task(write(publisher))
    await asyncio.sleep(1)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def heard_after_a_death(folder: Path, *, second: bool) -> Listener:
    """Kill the server of the first connection; return what was heard for 3 s after."""
    async with publishing(folder, second=second) as it:
        async with writing_to(it.publisher):
            it.know_no_other()
            await it.node.stop()
            await asyncio.sleep(3)
            assert it.publisher.servers == second
        return it.listener


async def test_another_server_is_at_hand_when_one_dies(tmp_path: Path) -> None:
    listener = await heard_after_a_death(tmp_path, second=True)

    assert listener.missed == 0
    assert len(listener.numbers) > 1500
    assert max(listener.pauses) < 1


async def test_without_a_second_connection_prices_stop(tmp_path: Path) -> None:
    """The negative control."""
    listener = await heard_after_a_death(tmp_path, second=False)

    assert len(listener.numbers) < 1500


async def test_a_server_that_hangs_is_left(tmp_path: Path) -> None:
    """Long before the client's pings would tell."""
    async with (
        publishing(tmp_path, second=True) as it,
        writing_to(it.publisher),
        it.node.paused(),
    ):
        await asyncio.sleep(3)
        before = it.listener.numbers[-1]
        await asyncio.sleep(0.5)
        assert it.listener.numbers[-1] > before

    assert it.listener.missed == 0


async def test_without_echoes_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.setattr(price_publisher, "_STUCK", 10**6)
    async with (
        publishing(tmp_path, second=True) as it,
        writing_to(it.publisher),
        it.node.paused(),
    ):
        await asyncio.sleep(0.5)
        before = it.listener.numbers[-1]
        await asyncio.sleep(3)
        assert it.listener.numbers[-1] == before


async def stored_after_a_hang(folder: Path) -> str:
    """
    Return what is stored of a symbol at last.

    It had a price while its server hung, and another one through the second server
    before the first one went on, and sent what it had not read yet.
    """
    async with publishing(folder, second=True) as it:
        await it.publisher.publish(QUIET, says("first"))
        await asyncio.sleep(0.5)
        async with it.node.paused():
            await it.publisher.publish(QUIET, says("old"))
            lost = it.publisher._line
            async with asyncio.timeout(10):
                while it.publisher._line is lost:
                    await asyncio.sleep(0.01)
            await it.publisher.publish(QUIET, says("new"))
            # What is sent once more since the change of servers is over, too.
            await asyncio.sleep(1.5)
        await asyncio.sleep(3)
        last = await last_of(it.other, PRICES, QUIET)
    assert last is not None
    return last.payload.decode().split()[1]


async def test_what_it_held_back_does_not_stay_the_newest(tmp_path: Path) -> None:
    assert await stored_after_a_hang(tmp_path) == "new"


async def test_unless_the_newest_is_not_sent_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.setattr(PricePublisher, "_settle", lambda self: None)

    assert await stored_after_a_hang(tmp_path) == "old"


async def servers_of(cluster: Cluster, name: str) -> list[str]:
    """Return the servers that have a connection whose name begins with *name*."""
    async with plain_http() as http:
        found = []
        for node in cluster.nodes:
            answer = await http.get(f"{node.plan.monitor_url}/connz")
            names = [str(each.get("name")) for each in answer.json()["connections"]]
            found += [node.name for each in names if each.startswith(name)]
    return found


async def test_an_ingest_has_connections_to_two_servers(tmp_path: Path) -> None:
    async with (
        run_cluster(tmp_path, sync="2m") as cluster,
        cluster.bus(),
        AsyncExitStack() as stack,
    ):
        urls = (await start_simulator(stack)).urls
        env = {"NATS_URL": cluster.url, "OPS_PORT": "0", "FMP_SYMBOLS": "AAPL"} | {
            f"FMP_{kind.upper()}_URL": urls[f"fmp_{kind}_url"]
            for kind in ("stocks", "crypto", "forex", "stream")
        }
        async with run_service("ingest_fmp", env), asyncio.timeout(20):
            while len(servers := await servers_of(cluster, "ingest-fmp")) < 2:
                await asyncio.sleep(0.1)

    assert len(set(servers)) == 2
