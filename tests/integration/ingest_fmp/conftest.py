"""The real ingest between a real nats-server and an upstream on loopback."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from integration.ingest_fmp.upstream import Upstream, run_upstream
from mesh import Simulator, start_simulator
from nats.aio.msg import Msg
from nats_process import NatsProcess
from processes import ServiceProcess

from feedmesh.bus import Bus
from feedmesh.messages import Head, decode_head
from feedmesh.status import decode_status
from feedmesh.stored import last_of
from feedmesh.streams import PRICES


class Message:
    """A message as a reader on the bus sees it."""

    def __init__(self, subject: str, payload: bytes) -> None:
        self.subject = subject
        self.head: Head
        self.head, self.raw = decode_head(payload)
        self.frame: dict[str, Any] = json.loads(self.raw)


class Reader:
    """Keeps what comes on a subject, and waits for what should."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._grown = asyncio.Event()

    async def take(self, message: Msg) -> None:
        self.messages.append(Message(message.subject, message.data))
        self._grown.set()

    async def until(
        self, condition: Callable[[Message], bool], seconds: float = 20
    ) -> Message:
        """Return the first message, from now or before, that meets *condition*."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    for message in self.messages:
                        if condition(message):
                            return message
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            last = [(m.subject, m.raw) for m in self.messages[-3:]]
            raise AssertionError(f"not heard; the last were {last}") from None


class Ingest:
    """The ingest's process, and what a test asks it and NATS."""

    def __init__(self, process: ServiceProcess, bus: Bus) -> None:
        self.process = process
        self.bus = bus

    async def read(self, subject: str) -> Reader:
        """Read *subject* from now on."""
        reader = Reader()
        await self.bus.nc.subscribe(subject, cb=reader.take)
        await self.bus.nc.flush()
        return reader

    async def stored(self, subject: str) -> Message | None:
        """Return what the stream has on *subject*."""
        found = await last_of(self.bus, PRICES, subject)
        return Message(subject, found.payload) if found else None

    async def count(self, name: str, **labels: str) -> float:
        return await self.process.metric(f"feedmesh_ingest_{name}_total", **labels)

    async def counted(self, wanted: float, name: str, **labels: str) -> None:
        """Wait until a counter has reached *wanted*."""

        async def reached() -> bool:
            return await self.count(name, **labels) >= wanted

        await eventually(reached, f"{name} {labels} reaches {wanted}")

    async def confirmed(self, link: str, wanted: int) -> None:
        """Wait until *link* has so many subscriptions."""
        name = "feedmesh_ingest_subscriptions_confirmed"

        async def reached() -> bool:
            return await self.process.metric(name, link=link) == wanted

        await eventually(reached, f"{link} has {wanted} subscriptions")

    async def assert_accounted(self) -> None:
        """Assert that every event that came is published, or counted elsewhere."""
        gone = ("published", "deduplicated", "rejected", "quarantined")
        counts = {name: await self.count(name) for name in gone}
        assert await self.count("received") == sum(counts.values()), counts

    async def restart(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it by *number* and start it again."""
        await self.process.stop(number)
        await self.process.start()
        await self.process.ready()


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until *condition* holds; metrics can only be polled."""
    try:
        async with asyncio.timeout(20):
            while not await condition():
                await asyncio.sleep(0.03)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


async def link_state(reader: Reader, link: str, state: str) -> None:
    """Wait until the status says that *link* is in *state*."""

    def said(message: Message) -> bool:
        return decode_status(message.raw).links[link].state == state

    await reader.until(said)


StartIngest = Callable[..., Awaitable[Ingest]]


@pytest.fixture
async def start(nats_server: NatsProcess, bus: Bus) -> AsyncIterator[StartIngest]:
    """Start an ingest that reads from *urls*; further settings by keyword."""
    async with AsyncExitStack() as stack:

        async def starter(*, wait: bool = True, **env: str) -> Ingest:
            env = {"NATS_URL": nats_server.url, "OPS_PORT": "0"} | env
            process = ServiceProcess("ingest_fmp", env)
            await process.start()
            stack.push_async_callback(_end, process)
            if wait:
                await process.ready()
            return Ingest(process, bus)

        yield starter


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A simulator that says nothing by itself."""
    async with AsyncExitStack() as stack:
        yield await start_simulator(
            stack, *("--rate", "0", "--fmp-heartbeat-seconds", "0.5")
        )


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A scripted upstream that agrees to everything."""
    async with run_upstream() as upstream:
        yield upstream


def urls(simulator: Simulator) -> dict[str, str]:
    """Return the settings that lead to *simulator*."""
    names = ("stocks", "crypto", "forex", "stream")
    return {
        f"FMP_{name.upper()}_URL": simulator.urls[f"fmp_{name}_url"] for name in names
    }


async def simulated(simulator: Simulator, target: str) -> dict[str, Any]:
    """Return the simulator's statistics of *target*."""
    async with httpx.AsyncClient(base_url=simulator.urls["control_url"]) as http:
        found: dict[str, Any] = (await http.get("/stats")).json()["targets"][target]
    return found


async def _end(process: ServiceProcess) -> None:
    await process.stop(signal.SIGKILL)
