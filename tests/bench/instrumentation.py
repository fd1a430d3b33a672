"""
What the metrics cost where every message passes, and how soon a scrape is answered.

Run as ``python -m bench.instrumentation`` in ``tests``; prints what it found and keeps
it in ``results/instrumentation.json``.

For the overhead, the same work is done in turns with the real metrics and with ones
that do nothing, in this process, on the clock of the processor; each figure is the
median of many turns.

* ``ingest``: frames of FMP through the handler, their messages encoded and let go.
* ``edge``: messages of the bus through the bridge, the hub and the lanes, into the
  buffers of 100 clients, and written to sockets that take everything.

Scrapes are of every service of a whole deployment, with 10,000 symbols and 1,000
clients on one edge, while prices and news flow.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import httpx
from bench.ingest_bench import recorded
from full_mesh import run_full_mesh
from price_messages import price_messages
from processes import ServiceProcess
from prometheus_client import CollectorRegistry

from edge.clients.sender import Flusher, Sender
from edge.metrics import EdgeMetrics
from edge.prices.bridge import PriceBridge
from edge.prices.cache import PriceCache
from edge.prices.hub import PriceHub
from edge.prices.lines import PriceLines
from edge.prices.listeners import CONTRACT, EVERY, PriceListener
from edge.prices.tape import PriceTape
from feedmesh.clock import now_ns
from feedmesh.ingest.price_publisher import Encode
from feedmesh.metrics import IngestMetrics
from ingest_fmp.ingest import FmpIngest


_TURNS = 61
_FRAMES = 2_000
_BATCH = 50
_CLIENTS = 100
_SCRAPES = 200
_SCRAPED = ("edge", "ingest_fmp", "ingest_ls", "prober")
_KEPT = Path(__file__).parent / "results/instrumentation.json"


class Nothing:
    """Metrics that do nothing, whatever is asked of them."""

    feed = "fmp"

    def __getattr__(self, name: str) -> Nothing:
        # Asked once for each name: to find nothing must cost nothing.
        vars(self)[name] = self
        return self

    def __call__(self, *args: object, **named: object) -> Nothing:
        return self


class _Publisher:
    """Encodes what it is given, and lets it go."""

    count = 0

    def begin(self, epoch: int) -> None: ...
    def remember(self, subject: str, encode: Encode) -> None: ...

    async def publish(self, subject: str, encode: Encode) -> None:
        encode((1, 1))
        self.count += 1


class _Letters:
    async def keep(self, reason: str, frame: bytes, received_ns: int) -> None: ...


class _Bus:
    def on_doubt(self, listener: Callable[[], None]) -> None: ...


class _Outlet:
    blocked: bool = False

    def write(self, frames: object) -> None: ...


async def _ingest(metrics: Any) -> float:
    publisher = _Publisher()
    handler = FmpIngest("legacy", publisher, _Letters(), metrics, "")
    if isinstance(metrics, Nothing):
        handler._skew = cast(Any, metrics)
    frames = recorded(_FRAMES)
    began = time.process_time()
    for number, frame in enumerate(frames):
        await handler.handle("stocks", frame, now_ns())
        if number % _BATCH == 0:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert publisher.count == _FRAMES
    return time.process_time() - began


def _messages() -> list[tuple[bytes, bytes, bytes]]:
    symbols = (f"COIN{number % 50}USD" for number in range(_FRAMES))
    made = price_messages("crypto", symbols)
    return [(subject.encode(), payload, b"") for subject, payload in made]


async def _edge(metrics: Any) -> float:
    cache, flusher = PriceCache(), Flusher()
    hub = PriceHub(cache, flusher, metrics, lambda: None)
    bridge = PriceBridge(
        PriceLines(cast(Any, _Bus())), cache, PriceTape(1000), hub, metrics
    )
    if isinstance(metrics, Nothing):
        bridge._skew = flusher.meter = cast(Any, metrics)
    else:
        flusher.meter.take = metrics.write_latency.take
    for number in range(_CLIENTS):
        listener = PriceListener(Sender(_Outlet()), CONTRACT)
        symbols = [f"COIN{(number + other) % 50}USD" for other in range(5)]
        hub.subscribe(listener, symbols, EVERY)
    messages = _messages()
    began = time.process_time()
    for start in range(0, len(messages), _BATCH):
        bridge._live(messages[start : start + _BATCH])
        hub.flush()
        await asyncio.sleep(0)
    return time.process_time() - began


async def _compare(
    work: Callable[[Any], Awaitable[float]], real: Callable[[], object]
) -> float:
    """Return how much longer *work* takes with *real* metrics, as a share."""
    ratios = []
    for turn in range(_TURNS):
        order = [real(), Nothing()] if turn % 2 else [Nothing(), real()]
        took = {isinstance(one, Nothing): await work(one) for one in order}
        ratios.append(took[False] / took[True] - 1)
    return statistics.median(ratios)


async def _scrapes(service: ServiceProcess) -> dict[str, float]:
    """Return how many ms scrapes of *service* take, and how many series they tell."""
    took = []
    async with httpx.AsyncClient(base_url=await service.ops()) as http:
        for _ in range(_SCRAPES):
            began = time.perf_counter()
            text = (await http.get("/metrics")).text
            took.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.05)
    took.sort()
    series = [line for line in text.splitlines() if line and line[0] != "#"]
    return {
        "series": len(series),
        "p50_ms": round(took[_SCRAPES // 2], 1),
        "p99_ms": round(took[_SCRAPES * 99 // 100], 1),
    }


async def main() -> None:
    """Measure, print, and keep it."""
    ingest = await _compare(_ingest, lambda: IngestMetrics(CollectorRegistry(), "fmp"))
    edge = await _compare(_edge, lambda: EdgeMetrics(CollectorRegistry()))
    with tempfile.TemporaryDirectory() as folder:
        async with run_full_mesh(Path(folder)) as services:
            scrapes = {name: await _scrapes(services[name]) for name in _SCRAPED}
    found = {
        "overhead": {"ingest": round(ingest, 4), "edge": round(edge, 4)},
        "overhead_bound": 0.05,
        "scrapes": scrapes,
        "scrapes_p99_ms_bound": 50,
    }
    print(json.dumps(found, indent=1))
    _KEPT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
