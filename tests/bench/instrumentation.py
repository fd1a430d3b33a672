"""
What the metrics cost where every message passes, with and without them.

Run as ``python -m bench.instrumentation`` in ``tests``; prints one JSON line. The same
work is done in turns with the real metrics and with ones that do nothing, in this
process, on the clock of the processor; each figure is the median of many turns.

* ``ingest``: frames of FMP through the handler, their messages encoded and let go.
* ``edge``: messages of the bus through the bridge, the hub and the lanes, into the
  buffers of 100 clients, and written to sockets that take everything.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from bench.ingest_bench import recorded
from prometheus_client import CollectorRegistry

from edge.clients.sender import Flusher, Sender
from edge.metrics import EdgeMetrics
from edge.prices.bridge import PriceBridge
from edge.prices.cache import PriceCache
from edge.prices.hub import CONTRACT, EVERY, PriceHub, PriceListener
from edge.prices.tape import PriceTape
from feedmesh import subjects
from feedmesh.clock import now_ns
from feedmesh.ingest.price_publisher import Encode
from feedmesh.metrics import IngestMetrics
from feedmesh.prices import PriceState, encode_price
from ingest_fmp.ingest import FmpIngest


_TURNS = 61
_FRAMES = 2_000
_BATCH = 50
_CLIENTS = 100


class Nothing:
    """Metrics that do nothing, whatever is asked of them."""

    feed = "fmp"

    def __getattr__(self, name: str) -> Nothing:
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
    now = now_ns()
    messages = []
    for number in range(_FRAMES):
        symbol = f"COIN{number % 50}USD"
        state = PriceState(
            symbol=symbol, timestamp_ms=now // 10**6, data_type="T", last_price="1"
        )
        payload = encode_price(
            "fmp",
            (1, number + 1),
            state,
            event_ns=now,
            received_ns=now,
            published_ns=now,
        )
        messages.append((subjects.price("crypto", symbol).encode(), payload, b""))
    return messages


async def _edge(metrics: Any) -> float:
    cache, flusher = PriceCache(), Flusher()
    hub = PriceHub(cache, flusher, metrics, lambda: None)
    bridge = PriceBridge(cast(Any, _Bus()), cache, PriceTape(1000), hub, metrics)
    if isinstance(metrics, Nothing):
        bridge._skew = cast(Any, metrics)
    else:
        flusher.written = metrics.write_latency.observe
    for number in range(_CLIENTS):
        listener = PriceListener(Sender(_Outlet()), CONTRACT)
        symbols = [f"COIN{(number + other) % 50}USD" for other in range(5)]
        hub.subscribe(listener, symbols, EVERY)
    messages = _messages()
    began = time.process_time()
    for start in range(0, len(messages), _BATCH):
        bridge._live(messages[start : start + _BATCH])
        hub.flush()
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


async def main() -> None:
    """Compare, and print."""
    ingest = await _compare(_ingest, lambda: IngestMetrics(CollectorRegistry(), "fmp"))
    edge = await _compare(_edge, lambda: EdgeMetrics(CollectorRegistry()))
    overhead = {"ingest": round(ingest, 4), "edge": round(edge, 4)}
    print(json.dumps({"overhead": overhead, "turns": _TURNS, "bound": 0.05}))


if __name__ == "__main__":
    asyncio.run(main())
