"""`make cluster`, and what three servers do that one cannot."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from faults.cluster import run_cluster
from mesh import free_block
from processes import run_service

from feedmesh.bus import Bus, connect_bus
from feedmesh.errors import BusError
from feedmesh.settings import ServiceSettings
from feedmesh.stored import last_of
from feedmesh.streams import DLQ, NEWS, PRICES, STATUS


class MakeCluster:
    """A running ``make cluster``: its process and what it has said."""

    def __init__(self, process: Process, folder: Path) -> None:
        self.process = process
        self._folder = folder
        self.said: list[str] = []

    async def says(self, text: str, seconds: float = 60.0) -> str:
        """Return the next line with *text* in it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            while line := (await self.process.stdout.readline()).decode():
                self.said.append(line)
                if text in line:
                    return line.strip()
        raise AssertionError(f"not said: {text!r}\n" + "".join(self.said))

    def servers(self) -> dict[str, int]:
        """Return the process ids of its servers, by the name of the node."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except OSError:
                continue
            if (
                words[0].endswith(b"/nats-server")
                and str(self._folder).encode() in (words[2])
            ):
                found[Path(words[2].decode()).stem] = int(entry.parent.name)
        return found

    async def stop(self) -> None:
        """Stop it as Ctrl+C does: by a signal to the whole group in the foreground."""
        os.killpg(self.process.pid, signal.SIGINT)
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            rest = await self.process.stdout.read()
            assert await self.process.wait() == 0, rest.decode()


@asynccontextmanager
async def make_cluster(folder: Path, ports: str) -> AsyncIterator[MakeCluster]:
    """Run what ``make cluster`` runs, in *folder*."""
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "launcher.cluster"),
        cwd=folder,
        env=dict(os.environ) | {"CLUSTER_PORTS": ports},
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,
    )
    running = MakeCluster(process, folder)
    try:
        yield running
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        # One may just have been started, and not yet be to be seen as what it is.
        for _ in range(5):
            for pid in running.servers().values():
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.1)


def three_ports() -> str:
    base = free_block(3)
    return ",".join(str(base + number) for number in range(3))


async def test_make_cluster_survives_a_kill_and_leaves_nothing(tmp_path: Path) -> None:
    ports = three_ports()
    async with make_cluster(tmp_path, ports) as cluster:
        url = (await cluster.says("NATS_URL=")).partition("=")[2]
        settings = ServiceSettings.from_env({"NATS_URL": url})
        edge_env = {"NATS_URL": url, "EDGE_PORT": "0", "OPS_PORT": "0"}
        async with (
            connect_bus(settings, "test") as bus,
            run_service("edge", edge_env) as edge,
        ):
            assert await replicas(bus, NEWS) == 3
            await edge.ready(60)
            # The last one that is made: the doctor misses none from here on.
            assert await replicas(bus, DLQ) == 3
            check = (await cluster.says("check it")).removeprefix("check it").strip()
            assert (await checked(check))["sync"] == "ok"
            for name, pid in cluster.servers().items():
                os.kill(pid, signal.SIGKILL)
                await cluster.says(f"{name} ended; starting it again")
                await stored(bus, name)
            await edge.ready(60)
            assert await edge.stop() == 0
        async with asyncio.timeout(30):
            while len(cluster.servers()) < 3:
                await asyncio.sleep(0.1)
        await cluster.stop()
        assert cluster.servers() == {}

    # On the same data, a second time.
    async with make_cluster(tmp_path, ports) as cluster:
        await cluster.says("NATS_URL=")
        async with connect_bus(settings, "test") as bus:
            assert await replicas(bus, NEWS) == 3
        async with make_cluster(tmp_path, ports) as second:
            await second.says("feedmesh: a cluster runs already, on")
            assert await second.process.wait() == 1
        await cluster.stop()
        assert cluster.servers() == {}


async def test_make_cluster_names_a_port_that_is_taken(tmp_path: Path) -> None:
    nobody = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with nobody:
        taken = nobody.sockets[0].getsockname()[1]
        async with make_cluster(tmp_path, f"{taken},5001,5002") as cluster:
            await cluster.says(f"feedmesh: port {taken} is in use; set CLUSTER_PORTS")
            assert await cluster.process.wait() == 1


async def checked(command: str) -> dict[str, str]:
    """Run what was shown, as an operator does; return each level, by what it is of."""
    doctor = await create_subprocess_exec(
        *("sh", "-c", f"{command} --json"), stdout=PIPE
    )
    async with asyncio.timeout(60):
        output, _ = await doctor.communicate()
    assert doctor.returncode == 0, output.decode()
    return {found["about"]: found["level"] for found in json.loads(output)}


async def stored(bus: Bus, text: str) -> None:
    """Have the streams store something, as soon as somebody decides."""
    async with asyncio.timeout(60):
        while True:
            try:
                await bus.request("news.article", text.encode(), timeout=2)
            except BusError:
                await asyncio.sleep(0.1)
            else:
                return


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
