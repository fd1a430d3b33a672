"""
An edge is killed under its clients: they come back to the other one and miss nothing.

The real ingest stores news of the simulator; each reader must have heard all of it,
once and in order, from its first item on, over however many edges.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from faults.identity import unaccounted
from faults.readers import NewsReader
from faults.results import percentile, record, scaled
from mesh import Simulator, free_block, start_simulator
from nats_process import open_bus, run_nats
from processes import ServiceProcess, run_service

from feedmesh.bus import Bus
from feedmesh.messages import decode_head
from feedmesh.news import decode_news
from feedmesh.stored import read_from
from feedmesh.streams import NEWS


KILLS = scaled(2, 20)
READERS = scaled(60, 1000)
CONTROLS = 5
NEWS_A_MINUTE = scaled(1200, 240)

pytestmark = pytest.mark.timeout(scaled(180, 1500))


class Deployment(NamedTuple):
    """What runs, and where clients find the edges."""

    bus: Bus
    simulator: Simulator
    ingest: ServiceProcess
    edges: list[ServiceProcess]
    urls: list[str]

    async def stored(self) -> list[str]:
        """Return the key of every item of the log, in order."""
        return [
            decode_news(decode_head(message.payload)[1]).realkey
            async for message in read_from(self.bus, NEWS, 1, "news.*")
        ]


@asynccontextmanager
async def deployment(folder: Path) -> AsyncIterator[Deployment]:
    """Run NATS, the simulator, the ingest of news and two edges."""
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(run_nats(folder))
        bus = await stack.enter_async_context(open_bus(nats))
        simulator = await start_simulator(
            stack, "--rate", "0", "--news-rate", str(NEWS_A_MINUTE)
        )
        common = {"NATS_URL": nats.url, "OPS_PORT": "0"}
        urls = simulator.urls
        upstream = {"LS_REST_URL": urls["ls_rest_url"], "LS_WS_URL": urls["ls_ws_url"]}
        ingest = await stack.enter_async_context(
            run_service("ingest_ls", common | upstream)
        )
        base = free_block(2)
        edges = [
            await stack.enter_async_context(
                run_service("edge", common | {"EDGE_PORT": str(base + number)})
            )
            for number in range(2)
        ]
        for edge in edges:
            await edge.event("clients are served")
        await ingest.ready()
        addresses = [
            f"ws://127.0.0.1:{base + number}/api/v3/stream" for number in range(2)
        ]
        yield Deployment(bus, simulator, ingest, edges, addresses)


async def all_read(readers: list[NewsReader], seconds: float = 60.0) -> None:
    """Wait until all are connected and have heard something."""
    async with asyncio.timeout(seconds):
        while not all(reader.at is not None and reader.heard for reader in readers):
            await asyncio.sleep(0.05)


async def all_at_home(readers: list[NewsReader]) -> None:
    """Have each edge serve its own clients again."""
    for reader in readers:
        if reader.at != reader.home:
            await reader.move()
            await asyncio.sleep(0.002)
    await all_read(readers)


async def seconds_until_resumed(
    edge: ServiceProcess, readers: list[NewsReader]
) -> list[float]:
    """Kill *edge*, which serves *readers*; return how long each was without news."""
    before = {reader: len(reader.resumed_at) for reader in readers}
    killed = asyncio.get_running_loop().time()
    await edge.stop(signal.SIGKILL)
    async with asyncio.timeout(60):
        while any(len(reader.resumed_at) <= n for reader, n in before.items()):
            await asyncio.sleep(0.05)
    await edge.start()
    await edge.event("clients are served")
    return [reader.resumed_at[n] - killed for reader, n in before.items()]


async def test_clients_of_a_killed_edge_resume_at_the_other(tmp_path: Path) -> None:
    async with deployment(tmp_path) as running, asyncio.TaskGroup() as group:
        readers = [NewsReader(running.urls, number % 2) for number in range(READERS)]
        careless = [
            NewsReader(running.urls, number % 2, resumes=False)
            for number in range(CONTROLS)
        ]
        tasks = []
        for reader in (*readers, *careless):
            tasks.append(group.create_task(reader.run()))
            await asyncio.sleep(0.002)
        await all_read([*readers, *careless])
        back: list[float] = []
        for number in range(KILLS):
            hit = [reader for reader in readers if reader.at == number % 2]
            back += await seconds_until_resumed(running.edges[number % 2], hit)
            await all_at_home(readers)
        await running.simulator.call("POST", "/generate", prices=False, news=False)
        unaccounted_events = await unaccounted(running.ingest)
        stored = await running.stored()
        async with asyncio.timeout(60):
            while any(reader.heard[-1] != stored[-1] for reader in readers):
                await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()

    record(
        "kill -9 of an edge under its clients",
        {
            "kills": KILLS,
            "clients": READERS,
            "news": len(stored),
            "resumed": len(back),
            "not_recovered": sum(reader.holes for reader in readers),
            "news_missed": sum(missed(reader, stored) for reader in readers),
            "news_twice_or_out_of_order": sum(
                reader.heard != stored[stored.index(reader.heard[0]) :]
                for reader in readers
            ),
            "resumed_p50_s": round(percentile(back, 0.5), 2),
            "resumed_p99_s": round(percentile(back, 0.99), 2),
            "unaccounted_events": unaccounted_events,
            "control_missed": sum(missed(reader, stored) for reader in careless),
        },
        at_most={
            "not_recovered": 0,
            "news_missed": 0,
            "news_twice_or_out_of_order": 0,
            "resumed_p99_s": scaled(10, 3),
            "unaccounted_events": 0,
        },
        at_least={"resumed": KILLS * (READERS // 2), "control_missed": 1},
    )


def missed(reader: NewsReader, stored: list[str]) -> int:
    """Return how many items *reader* never heard since it heard its first."""
    return len(set(stored[stored.index(reader.heard[0]) :]) - set(reader.heard))
