"""An edge for many tests in a row, with a client that must notice nothing of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
from edge_harness import Client, EdgeProcess, Writer, run_edge
from nats_process import open_bus, run_nats
from raw_socket import RawSocket, raw_socket


class EdgeUnderAttack:
    """
    A running edge, its bystander, and what it has counted.

    Attributes:
        edge: The process.
        writer: Writes prices for it.
    """

    def __init__(self, edge: EdgeProcess, writer: Writer, bystander: Client) -> None:
        self.edge = edge
        self.writer = writer
        self._bystander = bystander
        self._cents = itertools.count(100)
        self._seen = 0

    def attacker(self) -> AbstractAsyncContextManager[RawSocket]:
        """Connect a raw socket, for the length of a context."""
        return raw_socket(self.edge.port)

    async def refused(self, reason: str) -> float:
        """Return how many were refused for *reason* so far."""
        name = "feedmesh_edge_clients_refused_total"
        return await self.edge.service.metric(name, reason=reason)

    async def clients(self) -> int:
        """Return how many WebSockets the edge believes to be open."""
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{self.edge.url}/api/v2/realtime/status")
        return int(answer.json()["clients"])

    async def is_well(self) -> None:
        """Assert that the bystander still gets every update and REST answers."""
        price = f"{next(self._cents)}.50"
        await self.writer.price("AAPL", last_price=price)
        async with asyncio.timeout(10):
            update = await self._bystander.json()
        assert update["last_price"] == float(price)
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{self.edge.url}/api/v2/realtime/cache/AAPL")
        assert answer.status_code == 200
        assert self.edge.service.process.returncode is None
        log = self.edge.service.lines
        new, self._seen = log[self._seen :], len(log)
        assert not [line[-600:] for line in new if "Traceback" in line]


@asynccontextmanager
async def edge_under_attack(folder: Path, **env: str) -> AsyncIterator[EdgeUnderAttack]:
    """Run an edge with a bystander while the context is open."""
    async with (
        run_nats(folder / "nats") as nats,
        open_bus(nats) as bus,
        run_edge(nats, **env) as edge,
        edge.prices() as bystander,
    ):
        await bystander.subscribe("AAPL")
        yield EdgeUnderAttack(edge, Writer(bus), bystander)


async def eventually(
    condition: Callable[[], Awaitable[bool]], seconds: float = 10.0
) -> None:
    """Wait until *condition* holds."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)
