"""All of feedmesh with as many clients and symbols as one edge is made for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from mesh import Mesh, run_mesh
from nats_process import open_bus
from price_messages import price_messages
from processes import ServiceProcess, run_service
from raw_socket import RawSocket, raw_socket, text_frame


SYMBOLS, CLIENTS = 10_000, 1_000
_EACH = SYMBOLS // CLIENTS
_AT_A_TIME = 50


def names(number: int) -> list[str]:
    """Return the symbols that client *number* wants; no two want the same."""
    return [f"S{number * _EACH + other}" for other in range(_EACH)]


async def _arrive(port: int, number: int, stack: AsyncExitStack) -> RawSocket:
    client = await stack.enter_async_context(raw_socket(port))
    if number % 2:
        await client.upgrade()
        wanted: dict[str, object] = {"action": "subscribe", "symbols": names(number)}
        await client.send(text_frame(json.dumps(wanted)))
        return client
    await client.upgrade("/api/v3/stream")
    for channel in ({"channel": "prices", "symbols": names(number)}, _NEWS):
        await client.send(text_frame(json.dumps({"op": "subscribe", **channel})))
    return client


_NEWS = {"channel": "news"}


async def _read(client: RawSocket) -> None:
    with suppress(TimeoutError):
        await client.end(seconds=600)


@asynccontextmanager
async def _clients(port: int) -> AsyncIterator[None]:
    reading: list[asyncio.Task[None]] = []
    async with AsyncExitStack() as stack:
        for start in range(0, CLIENTS, _AT_A_TIME):
            numbers = range(start, start + _AT_A_TIME)
            arrived = await asyncio.gather(*(_arrive(port, n, stack) for n in numbers))
            reading += [asyncio.create_task(_read(client)) for client in arrived]
        try:
            yield
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)


async def _publish_prices(mesh: Mesh) -> None:
    symbols = (name for number in range(CLIENTS) for name in names(number))
    async with open_bus(mesh.nats) as bus:
        for subject, message in price_messages("us", symbols, source="many"):
            await bus.publish(subject, message)
        await bus.flush()


@asynccontextmanager
async def run_full_mesh(folder: Path) -> AsyncIterator[dict[str, ServiceProcess]]:
    """Run everything, a prober too, while the context is open; yield the services."""
    rates = ("--rate", "200", "--news-rate", "60")
    canaries = {"FMP_CANARY": "1s", "LS_CANARY": "1s"}
    async with run_mesh(folder, *rates, env=canaries) as mesh:
        env = {
            "PROBER_EDGES": f"ws://127.0.0.1:{mesh.edge_port}/api/v3/stream",
            "OPS_PORT": "0",
        }
        async with run_service("prober", env) as prober, _clients(mesh.edge_port):
            await _publish_prices(mesh)
            services = mesh.services | {"prober": prober}
            await _settled(services)
            yield services


async def _settled(services: dict[str, ServiceProcess]) -> None:
    edge, ingest = services["edge"], services["ingest_fmp"]
    async with asyncio.timeout(60):
        for metric, service, least in (
            ("feedmesh_edge_cached_symbols", edge, SYMBOLS),
            ("feedmesh_edge_symbols", edge, SYMBOLS),
            ("feedmesh_edge_clients", edge, CLIENTS),
            ("feedmesh_ingest_subscriptions_desired", ingest, SYMBOLS),
            ("feedmesh_prober_canaries_total", services["prober"], 4),
        ):
            while await service.metric(metric) < least:
                await asyncio.sleep(0.1)
