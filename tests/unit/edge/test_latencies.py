"""Histograms that look at a few of many give the p99 of all, to a bucket."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from typing import Any, NamedTuple, cast

import pytest
from price_messages import price_messages
from prometheus_client import CollectorRegistry

from edge.clients.sender import Flusher, Sender
from edge.clients.write_meter import WriteMeter
from edge.metrics import EdgeMetrics
from edge.prices.bridge import PriceBridge
from edge.prices.cache import PriceCache
from edge.prices.hub import PriceHub
from edge.prices.lines import PriceLines
from edge.prices.tape import PriceTape
from feedmesh.latencies import LATENCY_BUCKETS, Latencies


MS = 1_000_000
NOW = 1_800_000_000 * 1000 * MS


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the code itself takes must not add to what updates have waited."""
    for module in ("edge.clients.write_meter", "edge.prices.bridge", "price_messages"):
        monkeypatch.setattr(f"{module}.now_ns", lambda: NOW)


class Arrival(NamedTuple):
    received_ns: int


class Bus:
    def on_doubt(self, _: object) -> None: ...


class Outlet:
    blocked = False

    def write(self, frames: object) -> None: ...


def quantile(latencies: Latencies, share: float) -> int:
    """Return the number of the bucket in which the quantile lies."""
    (family,) = latencies.collect()
    counts = [s.value for s in family.samples if s.name.endswith("_bucket")]
    return bisect_left(counts, share * counts[-1])


def bucket(seconds: float) -> int:
    return bisect_left(LATENCY_BUCKETS, seconds)


async def test_the_oldest_of_a_pass_does_not_speak_for_all() -> None:
    """In a third of the passes one update of a hundred has waited."""
    chance = random.Random(5)
    meter, true, oldest = WriteMeter(), [], []
    latencies = Latencies("told", "Told.", CollectorRegistry())
    meter.take = latencies.take
    for number in range(300):
        waited = [chance.uniform(0.6, 0.9) for _ in range(100)]
        if number % 3 == 0:
            waited[0] = 80.0
        true += waited
        oldest.append(max(waited))
        meter.handed_out([Arrival(NOW - int(each * MS)) for each in waited])
        for _ in range(3):
            meter.wrote(50)
        meter.ended()
        await asyncio.sleep(0)

    (family,) = latencies.collect()
    assert round(family.samples[-2].value) == 300 * 3 * 50
    wanted = bucket(sorted(true)[int(0.99 * len(true))] / 1e3)
    assert abs(quantile(latencies, 0.99) - wanted) <= 1
    # As a control: what the oldest of each pass would have said.
    assert bucket(sorted(oldest)[int(0.99 * len(oldest))] / 1e3) > wanted + 3


async def test_many_hand_outs_of_a_long_pass_keep_their_weight() -> None:
    latencies = Latencies("told", "Told.", CollectorRegistry())
    meter = WriteMeter()
    meter.take = latencies.take
    for waited in range(100, 0, -1):
        meter.handed_out([Arrival(NOW - waited * MS)])
    meter.wrote(1000)
    await asyncio.sleep(0)

    assert abs(quantile(latencies, 0.5) - bucket(0.050)) <= 1
    (family,) = latencies.collect()
    assert round(family.samples[-2].value) == 1000


async def test_what_nobody_took_is_not_timed_with_what_comes_later() -> None:
    took: list[float] = []
    flusher = Flusher()
    flusher.meter.take = lambda seconds, count: took.append(seconds)
    flusher.meter.handed_out([Arrival(NOW - 3600 * 1000 * MS)])
    assert flusher.write()

    sender = Sender(Outlet())
    sender.put(b"{}")
    flusher.soon(sender)
    await asyncio.sleep(0.01)

    assert flusher.pieces == 1
    assert took == []


async def test_the_last_of_a_read_does_not_speak_for_all() -> None:
    """After a stall much comes in one read, of which only the last is fresh."""
    metrics = EdgeMetrics(CollectorRegistry())
    cache = PriceCache()
    hub = PriceHub(cache, Flusher(), metrics, lambda: None)
    bridge = PriceBridge(
        PriceLines(cast(Any, Bus())), cache, PriceTape(1000), hub, metrics
    )
    messages = []
    for waited in range(300, 0, -1):
        for subject, payload in price_messages("us", ["A"], late_ns=waited * MS):
            messages.append((subject.encode(), payload, b""))
    bridge._live(messages)

    assert quantile(metrics.bus_latency, 0.5) == bucket(0.150)
    assert quantile(metrics.bus_latency, 0.99) == bucket(0.295)
    (family,) = metrics.bus_latency.collect()
    assert family.samples[-2].value == 300
