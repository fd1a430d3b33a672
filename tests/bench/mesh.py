"""The nats-servers of a run, and who publishes onto them."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.programs import Programs
from bench.rig import RIG_CORE, Helper, run_helper, run_pinned
from bench.template import bare_frame, bus_message

from feedmesh import subjects
from feedmesh.bus import connect_bus
from feedmesh.settings import ServiceSettings
from feedmesh.streams import ensure_streams


__all__ = ["SUBJECT_PREFIX", "Mesh", "NatsServer", "run_mesh", "run_nats_server"]

SUBJECT_PREFIX = subjects.price("us", "B")[:-1]


@dataclass(frozen=True)
class NatsServer:
    """
    A running nats-server.

    Attributes:
        pid: Its process.
        port: Where NATS clients connect.
        websocket_port: Where its WebSocket gateway listens; 0 if it has none.
    """

    pid: int
    port: int
    websocket_port: int = 0

    @property
    def url(self) -> str:
        """Where NATS clients find it."""
        return f"nats://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Mesh:
    """
    What serves one server under test after the other.

    Attributes:
        folder: For files of the run.
        programs: What was built.
        bus: A nats-server with our streams.
        publisher: Publishes price messages onto the bus.
    """

    folder: Path
    programs: Programs
    bus: NatsServer
    publisher: Helper


@asynccontextmanager
async def run_mesh(
    folder: Path, programs: Programs, symbols: int
) -> AsyncIterator[Mesh]:
    """Run a bus and a publisher of *symbols* symbols while the context is open."""
    async with run_nats_server(RIG_CORE, folder, "jetstream {}") as bus:
        async with connect_bus(ServiceSettings(nats_url=(bus.url,)), "bench") as client:
            await ensure_streams(client.nc.jetstream())
        async with run_publisher(programs, folder, bus, symbols) as publisher:
            yield Mesh(folder, programs, bus, publisher)


@asynccontextmanager
async def run_publisher(
    programs: Programs,
    folder: Path,
    server: NatsServer,
    symbols: int,
    bare: bool = False,
) -> AsyncIterator[Helper]:
    """Run a publisher; *bare* ones leave out the envelope around the client's frame."""
    template = folder / f"message-{server.port}"
    template.write_bytes(bare_frame() if bare else bus_message(int(time.time() * 1000)))
    command = (
        programs.publisher,
        str(server.port),
        SUBJECT_PREFIX,
        template,
        str(symbols),
    )
    async with run_helper(RIG_CORE, command) as publisher:
        await publisher.answer("connect")
        yield publisher


@asynccontextmanager
async def run_nats_server(
    core: int, folder: Path, config: str
) -> AsyncIterator[NatsServer]:
    """Run a nats-server with *config* on *core* while the context is open."""
    own = folder / f"nats-{time.monotonic_ns()}"
    own.mkdir()
    file = own / "nats.conf"
    file.write_text(
        f'listen: "127.0.0.1:-1"\nports_file_dir: "{own}"\n'
        + config.replace("{}", f'{{ store_dir: "{own}" }}')
    )
    program = Path(sys.executable).parent / "nats-server"
    async with run_pinned(core, (program, "--config", file)) as process:
        async with asyncio.timeout(20):
            ports = await _ports(own)
        yield NatsServer(
            process.pid, _port(ports["nats"]), _port(ports.get("websocket"))
        )


async def _ports(folder: Path) -> dict[str, list[str]]:
    while True:
        for file in folder.glob("*.ports"):
            text = file.read_text()
            if text.rstrip().endswith("}"):
                found: dict[str, list[str]] = json.loads(text)
                return found
        # The server tells its ports in a file and no other way.
        await asyncio.sleep(0.01)


def _port(urls: list[str] | None) -> int:
    return urlsplit(urls[0]).port or 0 if urls else 0
