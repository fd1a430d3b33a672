"""Two edges restarted one after the other, with clients on them, under load."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from balancer import run_balancer
from crowd import run_crowd
from edge_harness import EdgeProcess, NumberedNews, Writer, edge_env
from mesh import free_block
from nats_process import NatsProcess, open_bus, run_nats
from processes import run_service


NEWS_SECONDS = 0.05
# Of each 1,000 clients, so many may come back in one second.
RATE = 150 / 1000


class Deployment:
    """Two edges on ports that stay theirs, and news that never stop."""

    def __init__(self, edges: list[EdgeProcess], port: int, writer: Writer) -> None:
        self.edges = edges
        self.port = port
        self.news = NumberedNews(writer, NEWS_SECONDS)

    async def restart(self, edge: EdgeProcess) -> None:
        assert await edge.service.stop(signal.SIGTERM) == 0
        await edge.service.start()
        await edge.service.ready()
        # So long a cluster takes at least, before the next one goes.
        await asyncio.sleep(1.0)


@asynccontextmanager
async def fixed_edge(
    server: NatsProcess, port: int, ops_port: int
) -> AsyncIterator[EdgeProcess]:
    env = edge_env(server) | {"EDGE_PORT": str(port), "OPS_PORT": str(ops_port)}
    async with run_service("edge", env) as service:
        await service.ready()
        yield EdgeProcess(service, port)


@asynccontextmanager
async def deployment(folder: Path) -> AsyncIterator[Deployment]:
    async with (
        AsyncExitStack() as stack,
        run_nats(folder / "nats") as nats,
        open_bus(nats) as bus,
    ):
        first = free_block(4)
        edges = [
            await stack.enter_async_context(fixed_edge(nats, port, port + 1))
            for port in (first, first + 2)
        ]
        servers = {await edge.service.ops(): edge.port for edge in edges}
        port = await stack.enter_async_context(run_balancer(servers))
        it = Deployment(edges, port, Writer(bus))
        publishing = asyncio.create_task(it.news.publish())
        stack.callback(publishing.cancel)
        yield it


async def roll(
    folder: Path, clients: int, restarts: int, *options: str
) -> dict[str, Any]:
    """Restart edges while *clients* listen; return what these saw of it."""
    async with deployment(folder) as it, run_crowd(it.port, *options) as crowd:
        await crowd.ask(f"open {clients}")
        await crowd.settle()
        await crowd.caught_up(it.news.published + 1)
        await crowd.ask("start")
        for edge in it.edges[:restarts]:
            await it.restart(edge)
        await crowd.settle()
        return await crowd.caught_up(it.news.published + 1)


async def test_nobody_misses_an_item(tmp_path: Path) -> None:
    clients = 600
    seen = await roll(tmp_path, clients, 2)

    assert seen["told to go"] == seen["closed 4200"] >= clients
    # Nobody is cut off without a word.
    ends = {name for name in seen if name.startswith(("closed", "cut"))}
    assert ends == {"closed 4200"}, seen
    # The balancer may be late to notice; who was sent to the wrong one is told so.
    assert seen.get("refused 503", 0) <= clients / 20, seen
    for trouble in ("news missed", "news doubled", "not recovered", "gap news"):
        assert trouble not in seen, seen
    assert seen["peak_per_second"] <= RATE * clients, seen


async def test_who_comes_back_without_a_position_misses_items(tmp_path: Path) -> None:
    """The negative control: without the positions, the same restart loses items."""
    seen = await roll(tmp_path, 200, 1, "--forget")

    assert seen["closed 4200"] >= 50
    assert seen["news missed"] > 0
