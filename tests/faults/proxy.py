"""
A TCP proxy that a test makes behave as networks do when they fail.

It stands between a client and a server, passes bytes, and does what its two
:class:`Traffic` values say, one for each way. A change acts at once, on connections
that are open too. What clients do meanwhile (when they connect, how many connections
they hold at the same time) is noted, for tests of manners.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal


Way = Literal["up", "down"]
"""Up is from the client to the server, down is what the server answers."""

_CHUNK = 64 * 1024
# Chunks on their way; more than that waits in the kernel and slows the sender down.
_ON_THE_WAY = 64
_ESTABLISHED = 1  # linux/tcp_states.h
_NO_WAIT_THEN_RESET = bytes((1, 0, 0, 0, 0, 0, 0, 0))  # struct linger {1, 0}


@dataclass(frozen=True)
class Traffic:
    """
    What happens to the bytes of one way.

    Attributes:
        latency: Seconds that each byte is late.
        jitter: Up to so many seconds more, at random; order is kept.
        bytes_per_second: Bandwidth; 0 is unlimited.
        slice_bytes: Written so many at a time, each in a segment; 0 is as they come.
        black_hole: The connection stays and nothing passes, ever again: what went in
            is lost, so a connection that was in the hole is not let out of it.
        limit_bytes: The connection is cut after so many more bytes.
        limit_resets: Cut by RST instead of FIN.
        slow_close: Seconds until the other side hears that this one has closed.
    """

    latency: float = 0.0
    jitter: float = 0.0
    bytes_per_second: float = 0.0
    slice_bytes: int = 0
    black_hole: bool = False
    limit_bytes: int | None = None
    limit_resets: bool = False
    slow_close: float = 0.0


class FaultProxy:
    """
    Passes connections on to *host* and *port*.

    Attributes:
        target: Where it leads.
        port: Where it listens, the same for its whole life.
        traffic: What happens on each way; see :meth:`set`.
        connected_at: When each client connected, by the clock of the event loop.
        most_open: How many connections clients held at the same time, at most.
        opening_bytes: How long the first thing was that a client said, of the last one
            that has gone; of a WebSocket, the request for it.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.target = (host, port)
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.traffic: dict[Way, Traffic] = {"up": Traffic(), "down": Traffic()}
        self.port = 0
        self.connected_at: list[float] = []
        self.most_open = 0
        self.opening_bytes = 0

    @property
    def open(self) -> int:
        """How many connections clients hold now."""
        return sum(connection.client_holds_it() for connection in self._connections)

    def set(self, way: Way | None = None, **changes: float | int | bool | None) -> None:
        """Have *changes*, fields of :class:`Traffic`, happen on *way*, or on both."""
        for each in (way,) if way else ("up", "down"):
            self.traffic[each] = Traffic(**changes)  # type: ignore[arg-type] # by name

    def heal(self) -> None:
        """Pass everything from now on, and accept again."""
        self.set()

    async def refuse(self) -> None:
        """Refuse new connections, as a port where nobody listens does."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def accept(self) -> None:
        """Accept connections, on the same port as ever."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._accepted, "127.0.0.1", self.port
            )
            self.port = self._server.sockets[0].getsockname()[1]

    def reset(self) -> int:
        """End every connection by RST, on both sides; return how many there were."""
        return self._end_all(resets=True)

    def close(self) -> int:
        """End every connection by FIN, on both sides; return how many there were."""
        return self._end_all(resets=False)

    def _end_all(self, *, resets: bool) -> int:
        ended = list(self._connections)
        for connection in ended:
            connection.end(resets=resets)
        return len(ended)

    async def _accepted(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = _Connection(self.traffic, reader, writer)
        self.connected_at.append(asyncio.get_running_loop().time())
        self._connections.add(connection)
        self.most_open = max(self.most_open, self.open)
        try:
            await connection.run(self.target)
        finally:
            self._connections.discard(connection)
            self.opening_bytes = connection.opening_bytes or self.opening_bytes
            self._tasks.discard(task)

    async def stop(self) -> None:
        """End everything."""
        await self.refuse()
        self.reset()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)


class _Connection:
    """One client, and the connection to the server on its behalf."""

    def __init__(
        self,
        traffic: dict[Way, Traffic],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._traffic = traffic
        self._client = (reader, writer)
        self._writers = [writer]
        self._ended = asyncio.Event()
        self._in_hole = False
        self.opening_bytes = 0

    def client_holds_it(self) -> bool:
        """Whether the client has neither closed nor lost it, as the kernel knows."""
        # Asked of the kernel, as the event loop may accept the client's next
        # connection before it reads the end of this one.
        found = self._client[1].get_extra_info("socket")
        if found is None or found.fileno() < 0:
            return False
        state = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return bool(state[0] == _ESTABLISHED)

    def end(self, *, resets: bool) -> None:
        for writer in self._writers:
            if resets:
                raw = writer.get_extra_info("socket")
                if raw.fileno() >= 0:
                    raw.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, _NO_WAIT_THEN_RESET
                    )
                writer.transport.abort()
            else:
                writer.close()
        self._ended.set()

    async def run(self, target: tuple[str, int]) -> None:
        try:
            server = await asyncio.open_connection(*target)
        except OSError:
            self.end(resets=True)
            return
        self._writers.append(server[1])
        if self._ended.is_set():  # while we were connecting
            self.end(resets=False)
            return
        jobs = [
            asyncio.create_task(self._pass("up", self._client[0], server[1])),
            asyncio.create_task(self._pass("down", server[0], self._client[1])),
        ]
        for job in jobs:
            job.add_done_callback(lambda _: self._end_if(jobs))
        try:
            await self._ended.wait()
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.wait(jobs)
            self.end(resets=False)

    def _end_if(self, jobs: list[asyncio.Task[None]]) -> None:
        if all(job.done() for job in jobs):
            self._ended.set()

    async def _pass(
        self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_ON_THE_WAY)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(reader, on_the_way))
            group.create_task(self._deliver(way, on_the_way, writer))

    async def _take(
        self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        loop = asyncio.get_running_loop()
        data = b"more"
        while data:
            try:
                data = await reader.read(_CHUNK)
            except OSError:
                # A reset of one side is passed on as one.
                self.end(resets=True)
                return
            await queue.put((loop.time(), data))

    async def _deliver(
        self,
        way: Way,
        queue: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
    ) -> None:
        loop = asyncio.get_running_loop()
        rule, passed = self._traffic[way], 0
        while True:
            arrived, data = await queue.get()
            if not data:
                await self._pass_end(way, writer)
                return
            if way == "up" and not self.opening_bytes:
                self.opening_bytes = len(data)
            late = self._traffic[way].latency
            late += random.uniform(0, self._traffic[way].jitter)
            await asyncio.sleep(max(0.0, arrived + late - loop.time()))
            while data:
                if rule is not self._traffic[way]:
                    rule, passed = self._traffic[way], 0
                self._in_hole |= rule.black_hole
                if self._in_hole:
                    break
                piece = data[: _piece(rule, passed, len(data))]
                data = data[len(piece) :]
                passed += len(piece)
                if not await self._write(piece, rule, writer):
                    return
                if rule.limit_bytes is not None and passed >= rule.limit_bytes:
                    self.end(resets=rule.limit_resets)
                    return

    async def _write(
        self, piece: bytes, rule: Traffic, writer: asyncio.StreamWriter
    ) -> bool:
        try:
            writer.write(piece)
            await writer.drain()
        except OSError:
            self.end(resets=True)
            return False
        if rule.bytes_per_second:
            await asyncio.sleep(len(piece) / rule.bytes_per_second)
        elif rule.slice_bytes:
            await asyncio.sleep(0)
        return True

    async def _pass_end(self, way: Way, writer: asyncio.StreamWriter) -> None:
        if way == "up" and self._in_hole:
            # Nothing comes out of a hole, but we need not keep what nobody holds.
            self.end(resets=False)
            return
        await asyncio.sleep(self._traffic[way].slow_close)
        with contextlib.suppress(OSError):
            if not self._in_hole:
                writer.write_eof()
            if way == "down":
                # WebSocket servers close last; the client has nothing more to say.
                self.end(resets=False)


def _piece(rule: Traffic, passed: int, available: int) -> int:
    """Return how many bytes to write at once, at least one."""
    size = available
    if rule.slice_bytes:
        size = min(size, rule.slice_bytes)
    if rule.bytes_per_second:
        size = min(size, int(rule.bytes_per_second / 50))
    if rule.limit_bytes is not None:
        size = min(size, rule.limit_bytes - passed)
    return max(1, size)


Break = Callable[[FaultProxy], object]
"""Does something to the connections of a proxy."""


def most_within(instants: Sequence[float], window: float = 60.0) -> int:
    """Return how many of *instants*, in order, lie in any *window* of seconds."""
    most = first = 0
    for last, instant in enumerate(instants):
        while instant - instants[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


@asynccontextmanager
async def run_proxy(port: int, host: str = "127.0.0.1") -> AsyncIterator[FaultProxy]:
    """Run a proxy in front of *host* and *port* while the context is open."""
    proxy = FaultProxy(port, host)
    await proxy.accept()
    try:
        yield proxy
    finally:
        await proxy.stop()
