"""
Many clients of protocol v3 in a process of their own, as cheap as Python allows.

Each does what the protocol asks of a client: it keeps its positions, comes back when it
was told to, resumes, and heeds ``Retry-After``. Each counts what it missed: news items
are numbered in their titles, prices in their ``last_size``.

Commands on standard input, one a line, each answered with a line of JSON:
``open N`` have N clients; ``status``; ``cut`` end all connections at once;
``move PORT`` connect there from now on; ``start`` forget latencies and arrivals.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any, cast

import uvloop
from processes import killed_at_end
from raw_socket import handshake, text_frame


_PATH = "/api/v3/stream"
# Handshakes that one client process can have under way without being the limit.
_AT_A_TIME = 256
_PEAK_SECONDS = 3.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 2.0


class Options(argparse.Namespace):
    """
    What all clients of a crowd have in common.

    Attributes:
        port: Where to connect.
        symbols: Prices to subscribe to, with commas; none by default.
        silent: Every so many-th client never reads.
        forget: Come back without a position, as a careless client does.
    """

    port: int
    symbols: str
    silent: int
    forget: bool


class Crowd:
    """All clients, and what they have seen together."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.members: list[Member] = []
        self.places = asyncio.Semaphore(_AT_A_TIME)
        self.counts: Counter[str] = Counter()
        self.arrivals: list[float] = []
        self.latencies: list[int] = []

    def open(self, count: int) -> None:
        while len(self.members) < count:
            every = self.options.silent
            silent = bool(every) and len(self.members) % every == 0
            member = Member(self, silent)
            self.members.append(member)
            member.come(0.0)

    def cut(self) -> None:
        for member in self.members:
            if member.transport is not None:
                member.transport.abort()

    def status(self) -> dict[str, Any]:
        readers = [member for member in self.members if not member.silent]
        latencies = sorted(self.latencies)
        return {
            **self.counts,
            "members": len(self.members),
            "settled": sum(member.settled for member in self.members),
            "newest": max((member.news for member in readers), default=0),
            "behind": min((member.news for member in readers), default=0),
            "updates": len(latencies),
            "p50_ms": _percentile(latencies, 0.5),
            "p99_ms": _percentile(latencies, 0.99),
            "peak_per_second": _peak(self.arrivals),
        }

    def start(self) -> None:
        self.latencies.clear()
        self.arrivals.clear()


class Member(asyncio.Protocol):
    """One client, over all its connections."""

    def __init__(self, crowd: Crowd, silent: bool) -> None:
        self._crowd = crowd
        self.silent = silent
        self.transport: asyncio.Transport | None = None
        self.settled = False
        self.news = 0
        self._position: str | None = None
        self._rest = b""
        self._open = False
        self._closed = False
        self._pause = _FIRST_PAUSE
        self._come_at: float | None = None
        self._last: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def come(self, at: float) -> None:
        """Connect at that time."""
        # When it was to come, not when a busy machine let it.
        self._crowd.arrivals.append(at)
        self._task = asyncio.create_task(self._come(at))

    def _come_back(self) -> None:
        """Connect after a pause, longer each time."""
        self.come(monotonic() + random.uniform(0, self._pause))
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's own are none of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        self._rest = b""
        self._open = self._closed = self.settled = False
        self._come_at = None
        self.transport.write(handshake(_PATH).encode())

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self._open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self._refused(head)
                return
            self._open = True
        at = 0
        while (frame := _frame(data, at)) is not None:
            opcode, begin, at = frame
            if opcode == 1:
                self._heard(data[begin:at])
            elif opcode == 8:
                self._count(f"closed {int.from_bytes(data[begin : begin + 2], 'big')}")
                self._closed = True
                self._transport.close()
            elif opcode == 9:
                # A pong with a mask of zeros: the payload as it is.
                payload = data[begin:at]
                self._transport.write(
                    bytes([0x8A, 0x80 | len(payload)]) + bytes(4) + payload
                )
        self._rest = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.settled = False
        if self._open and not self._closed:
            self._count("cut")
        if self._come_at is not None:
            self.come(self._come_at)
        else:
            self._come_back()

    @property
    def _transport(self) -> asyncio.Transport:
        assert self.transport is not None
        return self.transport

    async def _come(self, at: float) -> None:
        await asyncio.sleep(at - monotonic())
        loop = asyncio.get_running_loop()
        async with self._crowd.places:
            try:
                await loop.create_connection(
                    lambda: self, "127.0.0.1", self._crowd.options.port
                )
            except OSError:
                self._count("unreachable")
                self._come_back()

    def _refused(self, head: bytes) -> None:
        self._count(f"refused {head.split()[1].decode()}")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"retry-after:"):
                # Whole seconds are coarse; those told the same must not come together.
                self._come_at = monotonic() + int(line[12:]) - random.random()
        self._closed = True
        self._transport.close()

    def _heard(self, text: bytes) -> None:
        if text.startswith(b'{"type": "price_update"'):
            self._price(text)
            return
        message = json.loads(text)
        match message["type"]:
            case "hello":
                self._subscribe()
            case "news":
                self._news(int(message["title"]))
                self._position = message["position"]
            case "ack" if message.get("recovered") is False:
                self._count("not recovered")
            case "snapshot_end":
                self._position = message["positions"].get("news", self._position)
                if message["channel"] == "news":
                    self.settled = True
                    self._pause = _FIRST_PAUSE
            case "heartbeat":
                self._position = message["positions"].get("news", self._position)
            case "gap":
                self._count(f"gap {message['channel']}")
            case "going_away":
                self._count("told to go")
                self._come_at = monotonic() + message["reconnect_after_ms"] / 1000

    def _subscribe(self) -> None:
        news: dict[str, Any] = {"channel": "news"}
        if self._position is not None and not self._crowd.options.forget:
            news["since"] = self._position
        requests: list[dict[str, Any]] = [{"op": "subscribe", **news}]
        if names := self._crowd.options.symbols:
            wanted = {"channel": "prices", "symbols": names.split(","), "mode": "every"}
            requests.insert(0, {"op": "subscribe", "snapshot": False, **wanted})
            self._last.clear()
        self._transport.write(b"".join(text_frame(json.dumps(r)) for r in requests))
        if self.silent:
            self.settled = True
            self._transport.pause_reading()

    def _news(self, number: int) -> None:
        if self.news and number > self.news + 1:
            self._count("news missed", number - self.news - 1)
        elif number <= self.news:
            self._count("news doubled")
        self.news = max(self.news, number)

    def _price(self, text: bytes) -> None:
        symbol = text.split(b'"', 8)[7].decode()
        number = _number(text, b'"last_size": ')
        last = self._last.get(symbol)
        if last is not None and number != last + 1:
            self._count("prices wrong")
        self._last[symbol] = number
        self._crowd.latencies.append(monotonic_ns() - _number(text, b'"ask_size": '))

    def _count(self, what: str, more: int = 1) -> None:
        self._crowd.counts[what] += more


def _number(text: bytes, key: bytes) -> int:
    begin = text.index(key) + len(key)
    return int(text[begin : text.index(b",", begin)])


def _frame(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Return opcode, begin and end of the payload of the whole frame *at*, if any."""
    if len(data) < at + 2:
        return None
    length, begin = data[at + 1], at + 2
    if length > 125:
        size = 2 if length == 126 else 8
        length = int.from_bytes(data[begin : begin + size], "big")
        begin += size
    if len(data) < begin + length:
        return None
    return data[at] & 0x0F, begin, begin + length


def _percentile(values: list[int], share: float) -> float:
    return values[int(share * (len(values) - 1))] / 1e6 if values else 0.0


def _peak(times: list[float]) -> float:
    """Return how many of *times* there are a second, in the fullest three seconds."""
    # In less, a moment in which this machine did not run us would look like a crowd.
    times = sorted(times)
    first = peak = 0
    for last, time in enumerate(times):
        while time - times[first] >= _PEAK_SECONDS:
            first += 1
        peak = max(peak, last - first + 1)
    return peak / _PEAK_SECONDS


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--symbols", default="")
    parser.add_argument("--silent", type=int, default=0)
    parser.add_argument("--forget", action="store_true")
    crowd = Crowd(parser.parse_args(namespace=Options()))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        command, *arguments = line.decode().split()
        match command:
            case "open":
                crowd.open(int(arguments[0]))
            case "move":
                crowd.options.port = int(arguments[0])
            case "cut":
                crowd.cut()
            case "start":
                crowd.start()
        print(json.dumps(crowd.status()), flush=True)


class CrowdProcess:
    """A running crowd, as a test sees it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def ask(self, command: str = "status") -> dict[str, Any]:
        """Give a command; return the status after it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n".encode())
        async with asyncio.timeout(30):
            line = await self._process.stdout.readline()
        status: dict[str, Any] = json.loads(line)
        return status

    async def settle(self, seconds: float = 60.0) -> float:
        """Wait until all clients have what they asked for; return how long it took."""
        began = monotonic()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    status = await self.ask()
                    if status["settled"] == status["members"]:
                        return monotonic() - began
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not all are there: {status}") from None

    async def caught_up(self, number: int, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until all who read have heard item *number*; return the status."""
        try:
            async with asyncio.timeout(seconds):
                while (status := await self.ask())["behind"] < number:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not all heard {number}: {status}") from None
        return status


@asynccontextmanager
async def run_crowd(port: int, *options: str) -> AsyncIterator[CrowdProcess]:
    """Run a crowd for *port*, without clients yet, while the context is open."""
    folder = str(Path(__file__).parent)
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "crowd", str(port), *options),
        stdin=PIPE,
        stdout=PIPE,
        env={**os.environ, "PYTHONPATH": folder},
        limit=2**20,
    )
    async with killed_at_end(process):
        yield CrowdProcess(process)


if __name__ == "__main__":
    uvloop.run(_main())
