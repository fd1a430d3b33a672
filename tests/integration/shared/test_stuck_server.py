"""A server that reads no more holds nobody: not who leaves it, nor who writes to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from faults.cluster import ClusterNode, run_cluster
from nats.aio.client import Client

from feedmesh.bus import Bus, _Client, connect_bus
from feedmesh.ingest.price_publisher import PricePublisher


PAYLOAD = bytes(1024)
# More than the kernel keeps for a server that does not read, and the client after it.
MANY = 32 * 1024


@asynccontextmanager
async def stuck(folder: Path) -> AsyncIterator[tuple[Bus, ClusterNode]]:
    """Connect to one server of three, which reads no more."""
    async with (
        run_cluster(folder) as cluster,
        cluster.bus(),
        connect_bus(cluster.settings(), "publisher") as bus,
    ):
        node = cluster.node_of(bus)
        async with node.paused():
            yield bus, node


async def publish(bus: Bus) -> None:
    for _ in range(MANY):
        await bus.publish("test.stuck", PAYLOAD)


async def blocked(bus: Bus) -> asyncio.Task[None]:
    """Return a task that publishes, and waits for the server to read."""
    task = asyncio.create_task(publish(bus))
    async with asyncio.timeout(10):
        while bus.nc.pending_data_size <= 2 << 20:
            await asyncio.sleep(0.001)
    return task


async def left(folder: Path) -> bool:
    """Return whether a client that takes its server for dead finds another one."""
    async with stuck(folder) as (bus, node):
        task = await blocked(bus)
        await bus.nc.force_reconnect()
        try:
            async with asyncio.timeout(5):
                while not bus.connected:
                    await asyncio.sleep(0.01)
                await bus.flush()
        except TimeoutError:
            return False
        finally:
            task.cancel()
            await asyncio.wait([task])
        return not node.plan.url.endswith(str(bus.server))


async def test_a_stuck_server_is_left(tmp_path: Path) -> None:
    assert await left(tmp_path)


async def test_without_cutting_the_connection_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the client waits until the server has read everything."""
    reconnect = Client._attempt_reconnect
    monkeypatch.setattr(_Client, "_attempt_reconnect", reconnect)

    assert not await left(tmp_path)


async def cancelled(folder: Path) -> bool:
    """Return whether a task that waits for a stuck server ends when it is told to."""
    async with stuck(folder) as (bus, _):
        task = await blocked(bus)
        task.cancel()
        await asyncio.wait([task], timeout=1)
        ended = task.cancelled()
        bus.nc.cut()
        await asyncio.wait([task])
        return ended


async def test_who_waits_for_a_stuck_server_can_be_cancelled(tmp_path: Path) -> None:
    assert await cancelled(tmp_path)


async def test_as_the_client_is_its_cancellation_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.setattr(_Client, "_flush_pending", Client._flush_pending)

    assert not await cancelled(tmp_path)


async def test_prices_do_not_wait_long_for_a_stuck_server(tmp_path: Path) -> None:
    async with stuck(tmp_path) as (bus, _):
        publisher = PricePublisher(bus)
        running = asyncio.create_task(publisher.run())
        await asyncio.sleep(0)
        # If each of them waited, it would be hours.
        async with asyncio.timeout(30):
            for number in range(MANY):
                await publisher.publish(f"prices.us.S{number % 500}", lambda _: PAYLOAD)
                if number % 100 == 0:
                    await asyncio.sleep(0)
        assert bus.connected
        assert bus.nc.pending_data_size < 3 << 20
        assert publisher.unconfirmed > 0

        await bus.nc.force_reconnect()
        async with asyncio.timeout(30):
            while publisher.unconfirmed:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
