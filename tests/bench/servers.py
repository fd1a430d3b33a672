"""
The servers that are compared, and how each is started.

All but the gateway take updates from a nats-server on the other core. The gateway is a
nats-server itself: updates are published straight to it, and without the envelope that
the others take off, so that its clients get the same bytes.
"""

from __future__ import annotations

import json
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.mesh import SUBJECT_PREFIX, Mesh, run_nats_server, run_publisher
from bench.rig import SERVER_CORE, Helper, pinned, run_pinned
from processes import ServiceProcess


__all__ = ["CONTENDERS", "Contender", "NotHereError", "Running", "edge_env"]

_PEERS = Path(__file__).parent / "peers"
_START_SECONDS = 20.0
_LEGACY = '{"action": "subscribe", "symbols": [@]}'
_EVERY = '{"op": "subscribe", "channel": "prices", "symbols": [@], "mode": "every"}'
_LATEST = (
    '{"op": "subscribe", "channel": "prices", "symbols": [@], "mode": "latest",'
    ' "max_rate_hz": 50}'
)
_ARRAYS = "/api/v3/stream?frames=array"
_GATEWAY = 'websocket { listen: "127.0.0.1:-1", no_tls: true }'
# What protects an edge from a storm of newcomers would only slow the run down.
_EDGE_LIMITS = {
    "EDGE_MAX_CLIENTS": "20000",
    "EDGE_ARRIVALS": "100000",
    "EDGE_ARRIVALS_BURST": "100000",
}


class NotHereError(Exception):
    """A server cannot be run on this machine; the text says why."""


@dataclass(frozen=True)
class Running:
    """
    A server under test.

    Attributes:
        pid: Its process.
        port: Where clients connect.
        publisher: Publishes to it, over the bus or directly.
        bus_pid: The nats-server on the other core; None if the server is one itself.
    """

    pid: int
    port: int
    publisher: Helper
    bus_pid: int | None


Start = Callable[[Mesh, int], AbstractAsyncContextManager[Running]]
"""Starts a server; the second argument is how many symbols there are."""


@dataclass(frozen=True)
class Contender:
    """
    A row of the comparison.

    Attributes:
        key: Its name on the command line.
        title: Its name in the tables.
        start: Starts the server.
        path: Where its clients connect.
        request: How they subscribe; for NATS, the subjects' prefix.
        protocol: ``json`` or ``nats``.
        conflated: Whether clients get only the newest update of a symbol.
        compared: Whether it is also measured at the gateway's loads.
    """

    key: str
    title: str
    start: Start
    path: str = "/"
    request: str = _LEGACY
    protocol: str = "json"
    conflated: bool = False
    compared: bool = False


def edge_env(nats_url: str) -> dict[str, str]:
    """Return the environment of an edge that admits all clients of the benchmark."""
    own = {"NATS_URL": nats_url, "EDGE_PORT": "0", "OPS_PORT": "0"}
    return own | _EDGE_LIMITS


@asynccontextmanager
async def _edge(mesh: Mesh, _: int) -> AsyncIterator[Running]:
    service = ServiceProcess("edge", edge_env(mesh.bus.url))
    with pinned(SERVER_CORE):
        await service.start()
    try:
        port = (await service.event("clients are served"))["port"]
        yield Running(service.process.pid, port, mesh.publisher, mesh.bus.pid)
    finally:
        if service.process.returncode is None:
            service.process.kill()
            await service.exited()


@asynccontextmanager
async def _gateway(mesh: Mesh, symbols: int) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            run_nats_server(SERVER_CORE, mesh.folder, _GATEWAY)
        )
        publisher = await stack.enter_async_context(
            run_publisher(mesh.programs, mesh.folder, server, symbols, bare=True)
        )
        yield Running(server.pid, server.websocket_port, publisher, None)


@asynccontextmanager
async def _peer(mesh: Mesh, *command: str | Path) -> AsyncIterator[Running]:
    async with run_pinned(SERVER_CORE, command) as process:
        port = await _printed_port(process)
        yield Running(process.pid, port, mesh.publisher, mesh.bus.pid)


async def _printed_port(process: Process) -> int:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise NotHereError("it did not start")
    return int(json.loads(line)["port"])


def _fastapi(mesh: Mesh, _: int) -> AbstractAsyncContextManager[Running]:
    return _peer(mesh, sys.executable, _PEERS / "fastapi_loop.py", mesh.bus.url)


def _websockets(mesh: Mesh, _: int) -> AbstractAsyncContextManager[Running]:
    return _peer(mesh, sys.executable, _PEERS / "websockets_broadcast.py", mesh.bus.url)


def _node(mesh: Mesh, _: int) -> AbstractAsyncContextManager[Running]:
    if mesh.programs.node_modules is None:
        raise NotHereError(mesh.programs.node_missing)
    script, modules = _PEERS / "node_ws.mjs", mesh.programs.node_modules
    return _peer(mesh, "node", script, str(mesh.bus.port), modules)


def _floor(mesh: Mesh, _: int) -> AbstractAsyncContextManager[Running]:
    return _peer(mesh, mesh.programs.floor, str(mesh.bus.port))


# The gateway comes first: the loads of all others are parts of what it sustains.
CONTENDERS = (
    Contender(
        "gateway",
        "nats-server, WebSocket gateway",
        _gateway,
        request=SUBJECT_PREFIX,
        protocol="nats",
        compared=True,
    ),
    Contender(
        "edge-legacy",
        "edge, one object a frame (legacy)",
        _edge,
        path="/api/v2/realtime/ws/prices",
        compared=True,
    ),
    Contender(
        "edge-array",
        "edge, v3 arrays, every update",
        _edge,
        path=_ARRAYS,
        request=_EVERY,
        compared=True,
    ),
    Contender(
        "edge-latest",
        "edge, v3 arrays, newest value at 50 Hz",
        _edge,
        path=_ARRAYS,
        request=_LATEST,
        conflated=True,
        compared=True,
    ),
    Contender("floor", "C, coalescing (a floor)", _floor, compared=True),
    Contender("fastapi", "FastAPI, send_text to each", _fastapi),
    Contender("websockets", "websockets, broadcast", _websockets),
    Contender("node", "Node, ws", _node),
)
