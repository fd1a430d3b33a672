"""What only our edge is asked: how soon it is warm, and how its cost grows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from bench.mesh import Mesh, run_mesh
from bench.programs import Programs
from bench.rig import SERVER_CORE, pinned
from bench.servers import edge_env
from bench.session import Crowd
from processes import run_service

from feedmesh.bus import connect_bus
from feedmesh.settings import ServiceSettings
from feedmesh.stored import stream_state
from feedmesh.streams import PRICES


__all__ = ["GROWTH", "warm_up_seconds"]

_DOUBLINGS = (1, 2, 4, 8, 16)


def _growth() -> Iterator[tuple[str, int, Crowd, float]]:
    # The same updates and deliveries a second, spread over more and more symbols.
    for symbols in (100, *(625 * size for size in _DOUBLINGS)):
        yield "symbols", symbols, Crowd(100, 10, symbols), 2000.0
    # Every client has 20 symbols, so the fan-out grows with the clients.
    for size in _DOUBLINGS:
        clients = 250 * size
        yield "clients", clients, Crowd(clients, clients // 50), 500.0
    for size in _DOUBLINGS:
        yield "updates a second", 250 * size, Crowd(1000, 20), 250.0 * size


GROWTH = tuple(_growth())
"""What grows, how far, who listens, and updates a second."""


async def warm_up_seconds(folder: Path, programs: Programs, symbols: int) -> float:
    """Return how long an edge takes to fill its cache with *symbols* symbols."""
    async with run_mesh(folder, programs, symbols) as mesh:
        await _fill(mesh, symbols)
        with pinned(SERVER_CORE):
            service = run_service("edge", edge_env(mesh.bus.url))
            async with service as edge:
                connected = await edge.event("NATS is connected")
                warm = await edge.event("cache is warm")
        assert warm["symbols"] == symbols
        return (_moment(warm) - _moment(connected)).total_seconds()


async def _fill(mesh: Mesh, symbols: int) -> None:
    await mesh.publisher.ask(f"round {symbols}")
    settings = ServiceSettings(nats_url=(mesh.bus.url,))
    async with connect_bus(settings, "bench") as bus, asyncio.timeout(20):
        while (await stream_state(bus, PRICES)).last < symbols:
            await asyncio.sleep(0.05)


def _moment(entry: dict[str, object]) -> datetime:
    return datetime.fromisoformat(str(entry["at"]))
