"""Three real nats-servers for a test, with the configuration of `make cluster`."""

from __future__ import annotations

import asyncio
import json
import signal
from asyncio.subprocess import DEVNULL, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import httpx
from faults.processes import paused
from mesh import free_block
from processes import plain_http

from feedmesh.bus import Bus, connect_bus
from feedmesh.errors import BusError
from feedmesh.ingest.epoch import Claim, claim_epoch
from feedmesh.settings import ServiceSettings
from feedmesh.stored import read_from
from feedmesh.streams import NEWS, ensure_streams
from launcher.cluster import Node, node_config, serve, urls


T = TypeVar("T")


class ClusterNode:
    """
    One server of the three, that can be killed, paused and started again.

    Args:
        plan: Its name and ports.
        config: Its configuration file.
        prefix: In front of its command line, such as ``ip netns exec …``.
    """

    def __init__(self, plan: Node, config: Path, prefix: Sequence[str] = ()) -> None:
        self.plan = plan
        self._config = config
        self._prefix = tuple(prefix)
        self._process: Process | None = None

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def runs(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    async def start(self) -> None:
        """Start it, without waiting for anything."""
        command = (*self._prefix, *serve(self._config))
        self._process = await create_subprocess_exec(
            *command, stdout=DEVNULL, stderr=DEVNULL
        )

    async def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, by default as a crash would."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.send_signal(number)
            await self._process.wait()
            self._process = None

    def paused(self) -> AbstractAsyncContextManager[None]:
        """Hold it while the context is open: it keeps its connections and is dumb."""
        return paused(self.pid)

    async def is_healthy(self, http: httpx.AsyncClient) -> bool:
        """Whether it runs and its streams have caught up with the others'."""
        try:
            answer = await http.get(f"{self.plan.monitor_url}/healthz", timeout=1)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200


class Cluster:
    """Three servers that replicate; one may always be missing."""

    def __init__(self, nodes: Sequence[ClusterNode]) -> None:
        self.nodes = tuple(nodes)

    @property
    def url(self) -> str:
        """The value of NATS_URL."""
        return urls([node.plan for node in self.nodes])

    def settings(self) -> ServiceSettings:
        """Return settings that lead to all of it."""
        return ServiceSettings.from_env({"NATS_URL": self.url})

    def node(self, name: str) -> ClusterNode:
        return next(node for node in self.nodes if node.name == name)

    def node_of(self, bus: Bus) -> ClusterNode:
        """Return the node that *bus* is connected to, or was."""
        return next(n for n in self.nodes if n.plan.url.endswith(str(bus.server)))

    async def start(self) -> None:
        """Start what does not run, and wait until all are healthy."""
        for node in self.nodes:
            if not node.runs:
                await node.start()
        await self.healthy()

    async def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End all at once, by default as a crash would."""
        await asyncio.gather(*(node.stop(number) for node in self.nodes))

    async def healthy(self, seconds: float = 60.0) -> None:
        """Wait until all that run have caught up."""
        async with asyncio.timeout(seconds), plain_http() as http:
            for node in self.nodes:
                while node.runs and not await node.is_healthy(http):
                    await asyncio.sleep(0.1)

    @asynccontextmanager
    async def bus(self, name: str = "test") -> AsyncIterator[Bus]:
        """Connect, and make the streams with a replica on each node."""
        async with connect_bus(self.settings(), name) as bus:
            await make_streams(bus, len(self.nodes))
            yield bus

    async def leader(self, bus: Bus, stream: str, seconds: float = 30.0) -> ClusterNode:
        """Return the node that decides for *stream*, once there is one."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    raw = await bus.request(f"$JS.API.STREAM.INFO.{stream}", timeout=2)
                except BusError:
                    raw = b"{}"
                name = json.loads(raw).get("cluster", {}).get("leader")
                if name and self.node(name).runs:
                    return self.node(name)
                await asyncio.sleep(0.1)


async def make_streams(bus: Bus, replicas: int) -> None:
    """Make what is missing of the streams, as soon as somebody decides."""
    await _answered(lambda: ensure_streams(bus.nc.jetstream(), replicas))


async def claim(bus: Bus, feed: str) -> Claim:
    """Take over the writing for *feed*, as soon as the stream answers."""
    return await _answered(lambda: claim_epoch(bus, feed))


async def stored_news(bus: Bus) -> list[str]:
    """Return every item of the log, in order, as soon as the cluster answers."""

    async def read() -> list[str]:
        found = read_from(bus, NEWS, 1, "news.*")
        return [message.payload.decode() async for message in found]

    return await _answered(read)


async def _answered(ask: Callable[[], Awaitable[T]], seconds: float = 60.0) -> T:
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await ask()
            except BusError:
                await asyncio.sleep(0.1)


def plan_nodes(hosts: Sequence[str] = ("127.0.0.1",) * 3) -> list[Node]:
    """Return three nodes on free ports, one on each of *hosts*."""
    base = free_block(9)
    return [
        Node(f"node-{number}", base + 3 * number, base + 3 * number + 1, *rest)
        for number, rest in enumerate(
            (base + 3 * number + 2, host) for number, host in enumerate(hosts)
        )
    ]


def make_cluster(
    folder: Path,
    nodes: Sequence[Node],
    *,
    sync: str = "always",
    configs: Path | None = None,
    prefixes: Sequence[Sequence[str]] = ((), (), ()),
) -> Cluster:
    """
    Prepare *nodes*, which keep their data in *folder*; nothing is started yet.

    Their configuration files go to *configs*, if they shall not lie beside the data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for node, prefix in zip(nodes, prefixes, strict=True):
        config = (configs or folder) / f"{node.name}.conf"
        config.write_text(node_config(node, nodes, folder, sync=sync))
        made.append(ClusterNode(node, config, prefix))
    return Cluster(made)


@asynccontextmanager
async def run_cluster(folder: Path, *, sync: str = "always") -> AsyncIterator[Cluster]:
    """Run three servers while the context is open; their data lie below *folder*."""
    cluster = make_cluster(folder, plan_nodes(), sync=sync)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()
