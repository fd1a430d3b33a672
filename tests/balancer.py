"""
A TCP load balancer of a few lines, in a process of its own: new connections go to a
server that is ready, those that are open stay where they are.

``python -m balancer PORT=OPS_URL ...`` prints its own port once it listens. Readiness
is asked for ten times a second, as a cluster does, only faster.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import httpx
import uvloop


class Pipe(asyncio.Protocol):
    """One direction's end: what it hears goes to its peer, at the peer's pace."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: Pipe | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is None or self.peer.transport is None:
            self._early += data
        else:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.peer is not None and self.peer.transport is not None:
            if exc is None:
                self.peer.transport.close()
            else:
                self.peer.transport.abort()

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def join(self, peer: Pipe) -> None:
        self.peer = peer
        if self._early and peer.transport is not None:
            peer.transport.write(self._early)
            self._early = b""


class Arrival(Pipe):
    """The end of a client; *balancer* finds a server for it."""

    def __init__(self, balancer: Balancer) -> None:
        super().__init__()
        self._balancer = balancer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._balancer.serve(self)


class Balancer:
    """
    Which servers are ready.

    Args:
        servers: Port for clients by URL of the ops endpoints.
    """

    def __init__(self, servers: dict[str, int]) -> None:
        self._servers = servers
        self._ready: list[int] = []
        self._joining: set[asyncio.Task[None]] = set()

    def serve(self, client: Pipe) -> None:
        """Join *client* with a server that is ready."""
        task = asyncio.create_task(self._join(client))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def watch(self) -> None:
        """Ask all servers for ever."""
        async with httpx.AsyncClient(timeout=1.0) as http:
            while True:
                await self.look(http)
                await asyncio.sleep(0.1)

    async def look(self, http: httpx.AsyncClient) -> None:
        """Ask all servers once."""
        self._ready = [
            port
            for url, port in self._servers.items()
            if await self._is_ready(http, url)
        ]

    async def _is_ready(self, http: httpx.AsyncClient, url: str) -> bool:
        try:
            return (await http.get(f"{url}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def _join(self, client: Pipe) -> None:
        loop = asyncio.get_running_loop()
        try:
            port = random.choice(self._ready)
            _, server = await loop.create_connection(Pipe, "127.0.0.1", port)
        except (IndexError, OSError):
            if client.transport is not None:
                client.transport.abort()
            return
        client.join(server)
        server.join(client)
        for end, other in ((client, server), (server, client)):
            if end.transport is None and other.transport is not None:
                other.transport.abort()


async def _main() -> None:
    servers = {}
    for argument in sys.argv[1:]:
        port, _, url = argument.partition("=")
        servers[url] = int(port)
    balancer = Balancer(servers)
    async with httpx.AsyncClient() as http:
        await balancer.look(http)
    server = await asyncio.get_running_loop().create_server(
        lambda: Arrival(balancer), "127.0.0.1", 0, backlog=4096
    )
    print(json.dumps(server.sockets[0].getsockname()[1]), flush=True)
    await balancer.watch()


@asynccontextmanager
async def run_balancer(servers: dict[str, int]) -> AsyncIterator[int]:
    """Run a balancer in front of *servers*; yield its port."""
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "balancer"),
        *(f"{port}={url}" for url, port in servers.items()),
        stdout=PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    try:
        assert process.stdout is not None
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


if __name__ == "__main__":
    uvloop.run(_main())
