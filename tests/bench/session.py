"""One server with its clients, measured at one rate after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from bench.mesh import Mesh
from bench.rig import (
    RIG_CORE,
    SERVER_CORE,
    Helper,
    busy_seconds,
    run_helper,
)
from bench.servers import Contender, NotHereError, Running
from processes import cpu_seconds


__all__ = ["Crowd", "Session", "Step", "open_session"]

_SETTLE_SECONDS = 0.4
_COVER_SECONDS = 20.0
_DRAIN_SECONDS = 6.0
# Below this share of what was asked for, a rate was not sustained.
_HELD_SHARE = 0.97
_HELD_P99_MS = 250.0
_FULL_CORE = 0.9


@dataclass(frozen=True)
class Crowd:
    """
    Clients and what they listen to; every symbol has the same number of listeners.

    Attributes:
        clients: How many there are.
        fan_out: How many of them listen to each symbol.
        symbols: How many symbols there are.
    """

    clients: int
    fan_out: int
    symbols: int = 1000

    @property
    def per_client(self) -> int:
        """How many symbols each client has."""
        return max(1, self.symbols * self.fan_out // self.clients)

    def __str__(self) -> str:
        return f"{self.clients:,} clients, fan-out {self.fan_out}"


@dataclass(frozen=True)
class Step:
    """
    What was seen at one rate.

    Attributes:
        asked: Deliveries a second that were asked for.
        delivered: Deliveries a second that clients got; for clients of conflated
            prices, the updates that what they got stands for.
        server_cpu: Share of its core that the server used.
        alien_cpu: Share of that core that was used by what is not part of the run.
        rig_cpu: Share of their core that publisher, load generator and bus used.
        loadgen_cpu: Share of it that the load generator used.
        frames: WebSocket frames a second.
        p50_ms: From publishing to the client, half of the deliveries.
        p99_ms: 99 % of them.
        p999_ms: 99.9 % of them.
        wrong: Deliveries that were missing, came twice or to the wrong client.
        closed: Connections that the server closed.
    """

    asked: float
    delivered: float
    server_cpu: float
    alien_cpu: float
    rig_cpu: float
    loadgen_cpu: float
    frames: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    wrong: int
    closed: int

    @property
    def held(self) -> bool:
        """Whether the server sustained the rate."""
        return (
            self.delivered >= _HELD_SHARE * self.asked
            and self.p99_ms <= _HELD_P99_MS
            and not self.wrong
            and not self.closed
        )

    @property
    def cpu_us(self) -> float:
        """CPU time of the server for one delivery, in microseconds."""
        return self.server_cpu / self.delivered * 1e6 if self.delivered else 0.0

    @property
    def rig_is_full(self) -> bool:
        """Whether the second core, not the server, may have been the limit."""
        return self.rig_cpu > _FULL_CORE and self.server_cpu < _FULL_CORE


class Session:
    """A running server and a load generator whose clients are connected to it."""

    def __init__(
        self, contender: Contender, crowd: Crowd, server: Running, loadgen: Helper
    ) -> None:
        self._contender = contender
        self._crowd = crowd
        self._loadgen = loadgen
        self.server = server

    async def open(self, clients: int) -> None:
        """
        Have *clients* connections in all.

        Raises:
            NotHereError: If the server refuses them.
        """
        status = await self._loadgen.ask(f"open {clients}")
        if status["open"] < clients:
            raise NotHereError(f"{clients - status['open']} connections were refused")

    async def cover(self) -> None:
        """
        Publish until every client has heard all its symbols.

        Raises:
            NotHereError: If that takes too long.
        """
        pairs = self._crowd.clients * self._crowd.per_client
        deadline = time.monotonic() + _COVER_SECONDS
        while (heard := (await self._loadgen.ask("status"))["heard"]) < pairs:
            if time.monotonic() > deadline:
                raise NotHereError(f"clients heard {heard} of {pairs} subscriptions")
            await self.server.publisher.ask(f"round {self._crowd.symbols}")
            await asyncio.sleep(0.3)

    async def step(self, deliveries: float, seconds: float) -> Step:
        """Publish for *deliveries* a second, and measure for *seconds*."""
        rate = deliveries / self._crowd.fan_out
        await self.server.publisher.ask(f"rate {rate} {self._crowd.symbols}")
        await asyncio.sleep(_SETTLE_SECONDS)
        await self._loadgen.ask("start")
        began = self._cpu()
        await asyncio.sleep(seconds)
        seen = await self._loadgen.ask("stop")
        took = seen["seconds"]
        server, rig, busy = (
            (now - then) / took for now, then in zip(self._cpu(), began, strict=True)
        )
        counted = seen["represented" if self._contender.conflated else "deliveries"]
        missed = 0 if self._contender.conflated else seen["missed"]
        return Step(
            asked=deliveries,
            delivered=counted / took,
            server_cpu=server,
            alien_cpu=max(0.0, busy - server),
            rig_cpu=rig + seen["cpu_share"],
            loadgen_cpu=seen["cpu_share"],
            frames=seen["frames"] / took,
            p50_ms=seen["p50_ms"],
            p99_ms=seen["p99_ms"],
            p999_ms=seen["p999_ms"],
            wrong=missed + seen["repeated"] + seen["foreign"],
            closed=seen["closed"],
        )

    async def quiet(self) -> bool:
        """Stop publishing; return whether all that was under way arrives soon."""
        await self.server.publisher.ask("rate 0")
        deadline = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < deadline:
            await self._loadgen.ask("start")
            await asyncio.sleep(0.15)
            seen = await self._loadgen.ask("stop")
            if seen["closed"]:
                return False
            if not seen["deliveries"]:
                return True
        return False

    def _cpu(self) -> tuple[float, float, float]:
        rig = cpu_seconds(self.server.publisher.pid)
        if self.server.bus_pid is not None:
            rig += cpu_seconds(self.server.bus_pid)
        return cpu_seconds(self.server.pid), rig, busy_seconds(SERVER_CORE)


@asynccontextmanager
async def open_session(
    mesh: Mesh, contender: Contender, crowd: Crowd, clients: int | None = None
) -> AsyncIterator[Session]:
    """
    Run a server and its clients while the context is open.

    Args:
        mesh: The bus and the programs.
        contender: Which server.
        crowd: Its clients.
        clients: How many of them to connect at once; all by default.

    Raises:
        NotHereError: If the server cannot be run, or serves them not.
    """
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(contender.start(mesh, crowd.symbols))
        options = {
            "port": server.port,
            "path": contender.path,
            "request": contender.request,
            "protocol": contender.protocol,
            "clients": crowd.clients,
            "symbols": crowd.symbols,
            "per-client": crowd.per_client if crowd.fan_out else 0,
        }
        command = [str(mesh.programs.loadgen)]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        loadgen = await stack.enter_async_context(run_helper(RIG_CORE, command))
        session = Session(contender, crowd, server, loadgen)
        stack.push_async_callback(server.publisher.ask, "rate 0")
        if clients is None:
            await session.open(crowd.clients)
            if crowd.fan_out:
                await session.cover()
                await session.quiet()
        yield session
