"""`make cluster`, and what three servers do that one cannot."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, create_subprocess_exec
from pathlib import Path

from faults.cluster import run_cluster
from mesh import free_block

from feedmesh.bus import Bus, connect_bus
from feedmesh.errors import BusError
from feedmesh.settings import ServiceSettings
from feedmesh.stored import last_of
from feedmesh.streams import NEWS, PRICES, STATUS


async def test_make_cluster_runs_three_servers_and_leaves_none(tmp_path: Path) -> None:
    base = free_block(3)
    ports = ",".join(str(base + number) for number in range(3))
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "launcher.cluster"),
        cwd=tmp_path,
        env=dict(os.environ) | {"CLUSTER_PORTS": ports},
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        async with asyncio.timeout(60):
            while not any("NATS_URL=" in line for line in said):
                said.append((await process.stdout.readline()).decode())
        url = next(line for line in said if "NATS_URL=" in line).partition("=")[2]
        settings = ServiceSettings.from_env({"NATS_URL": url.strip()})
        async with connect_bus(settings, "test") as bus:
            assert await replicas(bus, NEWS) == 3
        # As Ctrl+C does: to the whole group in the foreground.
        os.killpg(process.pid, signal.SIGINT)
        async with asyncio.timeout(30):
            rest = await process.stdout.read()
            assert await process.wait() == 0, rest.decode()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    for number in range(3):
        with_nobody = await asyncio.gather(
            asyncio.open_connection("127.0.0.1", base + number), return_exceptions=True
        )
        assert isinstance(with_nobody[0], ConnectionRefusedError)


async def test_a_node_is_lost_and_comes_back(tmp_path: Path) -> None:
    """Memory streams too: the node that comes back empty gets them from the others."""
    async with run_cluster(tmp_path) as cluster, cluster.bus() as bus:
        leader = await cluster.leader(bus, PRICES)
        await bus.nc.jetstream().publish("prices.us.A", b"before")
        await leader.stop()
        # An election takes seconds; until then nobody confirms.
        assert await cluster.leader(bus, PRICES) is not leader
        kept = await last_of(bus, PRICES, "prices.us.A")
        await bus.nc.jetstream().publish("prices.us.A", b"without it", timeout=20)
        await leader.start()
        await cluster.healthy()
        await cluster.leader(bus, PRICES)
        found = await last_of(bus, PRICES, "prices.us.A")

    assert (kept and kept.payload, found and found.payload) == (
        b"before",
        b"without it",
    )


async def test_a_paused_node_is_stepped_over(tmp_path: Path) -> None:
    async with run_cluster(tmp_path) as cluster, cluster.bus() as bus:
        leader = await cluster.leader(bus, STATUS)
        others = [node for node in cluster.nodes if node is not leader]
        urls = tuple(node.plan.url for node in others)
        async with connect_bus(ServiceSettings(nats_url=urls), "other") as elsewhere:
            async with leader.paused(), asyncio.timeout(60):
                while (await cluster.leader(elsewhere, STATUS)) is leader:
                    await asyncio.sleep(0.1)
            await cluster.healthy()


async def replicas(bus: Bus, stream: str) -> int:
    """Return how many copies of *stream* are kept, once it is there."""
    async with asyncio.timeout(30):
        while True:
            try:
                raw = await bus.request(f"$JS.API.STREAM.INFO.{stream}", timeout=1)
            except BusError:
                continue
            if "config" in (info := json.loads(raw)):
                return int(info["config"]["num_replicas"])
            await asyncio.sleep(0.1)
