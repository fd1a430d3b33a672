"""A real nats-server for a test: on a random port, in a directory of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from feedmesh.bus import Bus, connect_bus
from feedmesh.settings import ServiceSettings
from feedmesh.streams import ensure_streams


class NatsProcess:
    """
    One server that can be stopped, killed and started again on the same port.

    Attributes:
        port: The port it listens on, the same for its whole life.
        url: Where clients find it.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._process: Process | None = None
        self.port = -1

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it accepts clients."""
        ports = self._store / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir(parents=True)
        await self._launch(
            *("--addr", "127.0.0.1", "--port", str(self.port)),
            *("--jetstream", "--store_dir", str(self._store / "data")),
            *("--ports_file_dir", str(ports)),
        )
        async with asyncio.timeout(20):
            while not (found := list(ports.glob("*.ports"))):
                await asyncio.sleep(0.01)
            await self._wait_until_listening(found[0])

    async def _launch(self, *arguments: str) -> None:
        self._process = await create_subprocess_exec(
            str(Path(sys.executable).parent / "nats-server"),
            *arguments,
            stdout=DEVNULL,
            stderr=DEVNULL,
        )

    async def _wait_until_listening(self, ports_file: Path) -> None:
        while '"nats"' not in (text := ports_file.read_text()):
            await asyncio.sleep(0.01)
        self.port = int(text.split("nats://127.0.0.1:")[1].split('"')[0])

    async def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, by default as a crash would."""
        if self._process is not None:
            self._process.send_signal(number)
            await self._process.wait()
            self._process = None

    def settings(self) -> ServiceSettings:
        """Return settings that lead to this server."""
        return ServiceSettings(nats_url=(self.url,))


@cache
def how_nats_runs() -> str:
    """
    Return what `run_nats` starts: a container if there is an engine, else a process.

    Raises:
        RuntimeError: If TEST_NATS insists on a container and no engine answers.
    """
    from containers import engine

    wanted = os.environ.get("TEST_NATS", "")
    found = None if wanted == "process" else engine()
    if wanted == "container" and found is None:
        raise RuntimeError("TEST_NATS=container, and no Docker engine answers")
    return f"container, by {found}" if found else "embedded process"


def _kind() -> type[NatsProcess]:
    if not how_nats_runs().startswith("container"):
        return NatsProcess
    from containers import NatsContainer

    return NatsContainer


@asynccontextmanager
async def run_nats(store: Path) -> AsyncIterator[NatsProcess]:
    """Run a server while the context is open, in a container if there is an engine."""
    server = _kind()(store)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def open_bus(server: NatsProcess, name: str = "test") -> AsyncIterator[Bus]:
    """Connect to *server* and make the streams."""
    async with connect_bus(server.settings(), name) as bus:
        await ensure_streams(bus.nc.jetstream())
        yield bus


async def until_back(bus: Bus) -> None:
    """Wait for a server that has restarted, and make the streams that it has lost."""
    async with asyncio.timeout(20):
        while not bus.connected:
            await asyncio.sleep(0.01)
    await ensure_streams(bus.nc.jetstream())
