"""Prices over two connections: none is missed when the server of one of them goes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from faults.cluster import Cluster, ClusterNode, run_cluster

from edge.prices.lines import PriceLines
from feedmesh.bus import Bus, connect_bus
from feedmesh.fast_lane import LaneMessage
from feedmesh.settings import ServiceSettings


class Listener:
    """
    What an edge hears of one writer.

    Attributes:
        numbers: Each once, in the order in which they came.
        pauses: Between them, in seconds.
        doubts: How often something may have been missed.
    """

    def __init__(self, cluster: Cluster, lines: PriceLines) -> None:
        self._cluster = cluster
        self.lines = lines
        self.numbers: list[int] = []
        self.pauses: list[float] = []
        self.doubts = 0
        self._heard_at = asyncio.get_running_loop().time()

    def take(self, messages: Sequence[LaneMessage]) -> None:
        last = self.numbers[-1] if self.numbers else -1
        new = [n for n in (int(payload) for _, payload, _ in messages) if n > last]
        now = asyncio.get_running_loop().time()
        if new:
            self.numbers += new
            self.pauses.append(now - self._heard_at)
            self._heard_at = now

    def doubt(self) -> None:
        self.doubts += 1

    @property
    def missed(self) -> int:
        steps = itertools.pairwise(self.numbers)
        return sum(later - earlier - 1 for earlier, later in steps)

    def node(self) -> ClusterNode:
        """Return the server of the connection that is listened to."""
        server = self.lines.bus.server
        return next(n for n in self._cluster.nodes if n.plan.url == f"nats://{server}")


@asynccontextmanager
async def listening(
    folder: Path, connections: int, pause: float = 0.001
) -> AsyncIterator[Listener]:
    """
    Listen over so many *connections*, while a client of the third server writes.

    It writes two numbers, then pauses for *pause* seconds.
    """
    async with run_cluster(folder, sync="2m") as cluster:
        *ours, theirs = [node.plan.url for node in cluster.nodes]
        settings = ServiceSettings.from_env({"NATS_URL": ",".join(ours)})
        others = ServiceSettings.from_env({"NATS_URL": theirs})
        async with (
            connect_bus(settings, "first") as bus,
            connect_bus(others, "writer") as writer,
        ):
            lines = PriceLines(
                bus,
                (lambda: connect_bus(settings, "second", apart_from=bus))
                if connections > 1
                else None,
            )
            listener = Listener(cluster, lines)
            await lines.open(listener.take, listener.doubt)
            tasks = [
                asyncio.create_task(job) for job in (lines.run(), write(writer, pause))
            ]
            async with asyncio.timeout(20):
                while lines.servers < connections or len(listener.numbers) < 4:
                    await asyncio.sleep(0.01)
            # The second one has to be subscribed, too.
            await asyncio.sleep(1)
            try:
                yield listener
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)


async def write(bus: Bus, pause: float) -> None:
    for number in itertools.count():
        await bus.nc.publish("prices.us.S", str(number).encode())
        if number % 2:
            await asyncio.sleep(pause)


async def heard(listener: Listener, more: int) -> None:
    async with asyncio.timeout(30):
        wanted = listener.numbers[-1] + more
        while listener.numbers[-1] < wanted:
            await asyncio.sleep(0.01)


async def test_a_server_that_dies_takes_no_price_with_it(tmp_path: Path) -> None:
    async with listening(tmp_path, 2) as listener:
        first = listener.node()
        await first.stop()
        await heard(listener, 1000)

        assert listener.node() is not first
        assert listener.missed == 0


async def test_over_one_connection_some_are_missed(tmp_path: Path) -> None:
    """The negative control."""
    async with listening(tmp_path, 1) as listener:
        await listener.node().stop()
        await heard(listener, 1000)

        assert listener.missed > 0


@pytest.mark.parametrize("connections", [2, 1])
async def test_a_server_that_is_stuck_does_not_hold_prices(
    tmp_path: Path, connections: int
) -> None:
    """Nothing tells that it is: the connection holds. With one, it takes seconds."""
    async with listening(tmp_path, connections) as listener:
        del listener.pauses[:]
        async with listener.node().paused():
            await asyncio.sleep(4)
        await heard(listener, 1000)

        assert listener.missed == 0
        assert (max(listener.pauses) > 3) == (connections == 1)


async def test_a_few_prices_are_not_missed_either(tmp_path: Path) -> None:
    """At night there is one in a second, which is no reason to doubt a server."""
    async with listening(tmp_path, 2, pause=0.7) as listener:
        first = listener.node()
        await heard(listener, 8)
        assert listener.node() is first
        assert listener.doubts == 0

        async with first.paused():
            await heard(listener, 8)
        assert listener.node() is not first
        assert listener.missed == 0
