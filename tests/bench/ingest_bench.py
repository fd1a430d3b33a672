"""
How many FMP frames a second one core takes, and whether the stream has them all.

Run as ``.venv/bin/python tests/bench/ingest_bench.py [--frames N] [--runs N]``. It
starts its own nats-server and its own upstream, each in a process of its own, and
prints one JSON line. What is counted is the CPU time of the ingest alone, so that the
figures do not depend on how many cores the others have:

* ``pure``: a frame to the bytes of its message; no I/O.
* ``published``: the same through the handler and the publisher, until the stream has
  confirmed every message.
* ``from_socket``: the same again, read from a real WebSocket by a real link.

Each is the median of several runs. ``confirmed`` is what the publisher counted in the
last run and ``stored`` by how much the stream's own number grew; a run in which
either differs from the number of frames ends the program with an error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from websockets.asyncio.server import ServerConnection, serve


sys.path.insert(0, str(Path(__file__).parents[1]))

from nats_process import open_bus, run_nats

from feedmesh.bus import Bus
from feedmesh.clock import now_ns
from feedmesh.ingest.dead_letters import DeadLetters
from feedmesh.ingest.epoch import claim_epoch
from feedmesh.ingest.feed import Link
from feedmesh.ingest.price_publisher import PricePublisher
from feedmesh.ingest.subscriptions import SubscriptionBook
from feedmesh.ingest.wire import tls_context
from feedmesh.metrics import IngestMetrics
from feedmesh.prices import encode_price
from feedmesh.stored import stream_state
from feedmesh.streams import PRICES
from ingest_fmp.ingest import FmpIngest
from ingest_fmp.merge import Merged, Merger
from ingest_fmp.normalize import Event, normalize
from ingest_fmp.upstream import FmpDialect
from simulator.fmp_frames import Shape, tick_text
from simulator.market import Tape
from simulator.universe import us_stocks


SYMBOLS = 50
# Frames that one turn of the event loop may bring, as from a busy socket.
TURN = 64
# Well below the publisher's window: a full one conflates, and that is not measured.
IN_FLIGHT = 8_000


def recorded(count: int) -> list[bytes]:
    """Return *count* frames of several stocks, as the legacy socket sends them."""
    tapes = [Tape(1, stock) for stock in islice(us_stocks(), SYMBOLS)]
    start = now_ns() - count * 100_000
    shape = Shape()
    return [
        tick_text(
            tape := tapes[number * 7 % len(tapes)],
            tape.next(),
            start + number * 100_000,
            shape,
            "",
        ).encode()
        for number in range(count)
    ]


def pure(frames: list[bytes]) -> float:
    """Return frames per CPU second from the frame to the message's bytes."""
    merger = Merger()
    received = now_ns()
    began = time.process_time()
    for number, frame in enumerate(frames):
        (event,) = normalize("legacy", frame, received).events
        assert isinstance(event, Event)
        merged = merger.merge(event, received)
        assert isinstance(merged, Merged)
        encode_price(
            "fmp",
            (1_763_690_000_000, number),
            merged.state,
            event_ns=event.event_ns,
            received_ns=received,
            published_ns=now_ns(),
            flags=merged.flags,
            venue=event.venue,
            broken=merged.broken,
        )
    return len(frames) / (time.process_time() - began)


class Ingest:
    """The real handler and publisher on a bus, and the stream's view of them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.metrics = IngestMetrics(CollectorRegistry(), "fmp")
        self.publisher = PricePublisher(bus)
        self.handler = FmpIngest(
            "legacy", self.publisher, DeadLetters(bus, "bench"), self.metrics, ""
        )
        self._first = 0

    async def start(self) -> None:
        claim = await claim_epoch(self._bus, "fmp")
        await self.handler.take_over(self._bus, claim.epoch)
        self.handler.expected["stocks"] = None
        self._first = (await stream_state(self._bus, PRICES)).last

    async def confirmed(self, wanted: int) -> None:
        """Wait until the stream has confirmed *wanted* messages."""
        async with asyncio.timeout(60):
            while self.publisher.confirmed < wanted:
                await asyncio.sleep(0.01)

    async def check(self, wanted: int) -> dict[str, int]:
        """Return both counts; both must be *wanted* but for what was sent twice."""
        stored = (await stream_state(self._bus, PRICES)).last - self._first
        confirmed, resent = self.publisher.confirmed, self.publisher.resent
        if not wanted == confirmed - resent == stored - resent:
            raise SystemExit(f"{wanted=} {confirmed=} {resent=} {stored=}")
        return {"confirmed": confirmed, "stored": stored, "resent": resent}


@asynccontextmanager
async def running(bus: Bus) -> AsyncIterator[Ingest]:
    """Run a fresh publisher and handler while the context is open."""
    ingest = Ingest(bus)
    await ingest.start()
    task = asyncio.create_task(ingest.publisher.run(), name="publisher")
    try:
        await asyncio.sleep(0.1)
        # As the service does once it has started.
        gc.collect()
        gc.freeze()
        yield ingest
    finally:
        gc.unfreeze()
        task.cancel()
        await asyncio.wait([task])


async def published(bus: Bus, frames: list[bytes]) -> tuple[float, dict[str, int]]:
    """Return frames per CPU second until all are confirmed, and the counts."""
    async with running(bus) as ingest:
        handle, publisher = ingest.handler.handle, ingest.publisher
        began = time.process_time()
        for start in range(0, len(frames), TURN):
            received = now_ns()
            for frame in frames[start : start + TURN]:
                await handle("stocks", frame, received)
            await asyncio.sleep(0)
            while publisher.unconfirmed > IN_FLIGHT:
                await asyncio.sleep(0.001)
        await ingest.confirmed(len(frames))
        spent = time.process_time() - began
        return len(frames) / spent, await ingest.check(len(frames))


async def from_socket(bus: Bus, url: str, count: int) -> tuple[float, dict[str, int]]:
    """Return the same for frames that the upstream at *url* sends."""
    async with running(bus) as ingest:
        link = Link(
            FmpDialect(
                "stocks",
                url,
                SecretStr("bench"),
                by_stream=False,
                tls=tls_context(None),
                ping_seconds=None,
            ),
            SubscriptionBook(batch=50),
            ingest.handler.handle,
            ingest.metrics,
        )
        link.want(frozenset({"AAPL"}))
        began = time.process_time()
        task = asyncio.create_task(link.run(), name="link")
        try:
            await ingest.confirmed(count)
            spent = time.process_time() - began
        finally:
            task.cancel()
            await asyncio.wait([task])
        return count / spent, await ingest.check(count)


async def upstream(count: int) -> None:
    """Be an upstream that agrees to everything and then sends *count* frames."""
    parts = [_text_frame(frame) for frame in recorded(count)]

    async def session(connection: ServerConnection) -> None:
        async for text in connection:
            event = json.loads(text)["event"]
            await connection.send(json.dumps({"event": event, "status": 200}))
            if event == "subscribe":
                await _pour(connection, parts)

    async with serve(session, "127.0.0.1", 0, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"ws://127.0.0.1:{port}", flush=True)
        # Ends with the bench: its end of the pipe closes.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _pour(connection: ServerConnection, parts: list[bytes]) -> None:
    # Past the library, which would need more CPU to send than the ingest to receive.
    transport = connection.transport
    for start in range(0, len(parts), TURN):
        transport.write(b"".join(parts[start : start + TURN]))
        while transport.get_write_buffer_size() > 65_536:
            await asyncio.sleep(0.0005)


def _text_frame(payload: bytes) -> bytes:
    length = len(payload)
    size = bytes([length]) if length < 126 else b"\x7e" + length.to_bytes(2, "big")
    return b"\x81" + size + payload


@asynccontextmanager
async def upstream_process(count: int) -> AsyncIterator[str]:
    """Run :func:`upstream` in a process of its own; the value is its URL."""
    process = await create_subprocess_exec(
        sys.executable, __file__, "--upstream", str(count), stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def measure(count: int, runs: int) -> dict[str, object]:
    """Return all figures."""
    frames = recorded(count)
    found: dict[str, object] = {"frames": count, "runs": runs}
    found["pure"] = _median(pure(frames) for _ in range(runs))
    async with AsyncExitStack() as stack:
        store = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(run_nats(store))
        url = await stack.enter_async_context(upstream_process(count))
        bus = await stack.enter_async_context(open_bus(server, "bench"))
        await allow_batches(bus)
        counts: dict[str, int] = {}
        for name in ("published", "from_socket"):
            speeds = []
            for _ in range(runs):
                if name == "published":
                    speed, counts = await published(bus, recorded(count))
                else:
                    speed, counts = await from_socket(bus, url, count)
                speeds.append(speed)
            found[name] = _median(iter(speeds))
            found[f"{name}_counts"] = counts
    return found


async def allow_batches(bus: Bus) -> None:
    js = bus.nc.jetstream()
    config = (await js.stream_info(PRICES)).config
    config.allow_batched = True
    await js.update_stream(config)


def _median(speeds: Iterator[float]) -> int:
    return round(statistics.median(speeds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.upstream:
        uvloop.run(upstream(given.upstream))
    else:
        print(json.dumps(uvloop.run(measure(given.frames, given.runs))))


if __name__ == "__main__":
    main()
