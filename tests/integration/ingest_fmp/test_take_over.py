"""What a new writer takes from the stream of its predecessors."""

from __future__ import annotations

import json

from prometheus_client import CollectorRegistry

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.clock import now_ns
from feedmesh.ingest.price_publisher import Encode
from feedmesh.messages import Version
from feedmesh.metrics import IngestMetrics
from feedmesh.prices import PriceState, encode_price
from ingest_fmp.ingest import FmpIngest


class Publisher:
    """Keeps the newest of each subject."""

    def __init__(self) -> None:
        self.newest: dict[str, Encode] = {}

    def begin(self, epoch: int) -> None:
        pass

    def remember(self, subject: str, encode: Encode) -> None:
        self.newest[subject] = encode

    async def publish(self, subject: str, encode: Encode) -> None:
        self.newest[subject] = encode


class NoLetters:
    async def keep(self, reason: str, frame: bytes, received_ns: int) -> None:
        raise AssertionError(reason)


async def written(
    bus: Bus, version: Version, market: str, symbol: str, venue: str | None = None
) -> None:
    now = now_ns()
    state = PriceState(
        symbol=symbol,
        timestamp_ms=now // 10**6 - 1000,
        data_type="T",
        last_price=f"{version[0]}.{version[1]}",
    )
    payload = encode_price(
        *("fmp", version, state),
        event_ns=now,
        received_ns=now,
        published_ns=now,
        venue=venue,
    )
    await bus.request(subjects.price(market, symbol), payload)


def ingest() -> tuple[FmpIngest, Publisher]:
    publisher = Publisher()
    metrics = IngestMetrics(CollectorRegistry(), "fmp")
    return FmpIngest("legacy", publisher, NoLetters(), metrics, ""), publisher


async def test_what_a_woken_writer_wrote_too_late_is_not_taken_over(bus: Bus) -> None:
    await written(bus, (1, 1), "us", "AAPL")
    await written(bus, (1, 2), "us", "NVDA")
    await written(bus, (2, 1), "us", "MSFT")
    handler, publisher = ingest()
    assert await handler.warm(bus) == 3
    await written(bus, (1, 3), "us", "TSLA")

    assert await handler.warm(bus) == 0
    fresh, other = ingest()
    assert await fresh.warm(bus) == 3
    for newest in (publisher.newest, other.newest):
        assert set(newest) == {"prices.us.AAPL", "prices.us.NVDA", "prices.us.MSFT"}


async def test_the_venue_that_led_a_pair_leads_on(bus: Bus) -> None:
    await written(bus, (1, 1), "crypto", "BTCUSD", "binance")
    handler, publisher = ingest()
    await handler.take_over(bus, 2)
    seeded = publisher.newest["prices.crypto.BTCUSD"]

    async def hear(venue: str) -> None:
        event = {"s": "btcusd", "t": now_ns(), "e": venue, "type": "T", "lp": 7}
        await handler.handle("crypto", json.dumps(event).encode(), now_ns())

    await hear("other")
    assert publisher.newest["prices.crypto.BTCUSD"] is seeded
    await hear("binance")
    assert publisher.newest["prices.crypto.BTCUSD"] is not seeded
