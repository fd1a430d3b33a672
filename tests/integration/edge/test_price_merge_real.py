"""
The merge of live prices and stored ones, with a real nats-server in between.

A writer publishes and never stops for long, the edge's connection is cut, bytes vanish,
values reach the stream alone, come twice or in the wrong order, the stream is made
anew, another writer takes over, the one before says something late. Whatever happened:
the cache ends with the newest value of each symbol, and whoever wants every update got
it or was told of a gap.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from edge_harness import Writer
from faults.proxy import FaultProxy, run_proxy
from nats.js.api import StreamConfig, SubjectTransform
from nats_process import NatsProcess
from prometheus_client import CollectorRegistry
from resume_oracle import Message, Price, Truth

from edge.clients.sender import Flusher, Sender
from edge.metrics import EdgeMetrics
from edge.prices.bridge import PriceBridge
from edge.prices.cache import PriceCache
from edge.prices.hub import PriceHub
from edge.prices.lines import PriceLines
from edge.prices.listeners import EVERY, PriceListener, form_of
from edge.prices.merge import PriceMerge
from edge.prices.tape import PriceTape
from feedmesh.bus import Bus, connect_bus
from feedmesh.messages import decode_head
from feedmesh.settings import ServiceSettings
from feedmesh.streams import PRICES, definitions


SYMBOLS = ["AAPL", "MSFT", "TSLA", "NVDA", "AMZN"]
WANTED = SYMBOLS[:2]
# A value that no client must be shown.
NEVER = 0


class Outlet:
    """Takes everything that a client is sent, as messages."""

    blocked = False

    def __init__(self) -> None:
        self.told: list[Message] = [
            {"type": "asked", "channel": "prices", "symbols": WANTED, "mode": "every"}
        ]

    def write(self, frames: bytes | memoryview) -> None:
        rest = bytes(frames)
        while rest:
            size, start = rest[1], 2
            if size == 126:
                size, start = int.from_bytes(rest[2:4], "big"), 4
            self.told.append(json.loads(rest[start : start + size]))
            rest = rest[start + size :]


class World:
    """A writer, a stream, an edge behind a bad connection, and one client of it."""

    def __init__(self, bus: Bus, proxy: FaultProxy, edge_bus: Bus) -> None:
        self.bus = bus
        self.proxy = proxy
        self.truth = Truth()
        self.outlet = Outlet()
        self.cache = PriceCache()
        self.tape = PriceTape(10_000)
        metrics = EdgeMetrics(CollectorRegistry())
        hub = PriceHub(self.cache, Flusher(), metrics, lambda: None)
        sender = Sender(self.outlet)
        hub.subscribe(PriceListener(sender, form_of(sender)), WANTED, EVERY)
        self.bridge = PriceBridge(
            PriceLines(edge_bus), self.cache, self.tape, hub, metrics
        )
        self._writer = Writer(bus)
        self._value = 0
        self._payloads: dict[str, bytes] = {}

    # The writer.

    def message(self, symbol: str) -> bytes:
        """Return a new value of *symbol*."""
        self._value += 1
        _, payload = self._writer.message(symbol, last_price=str(self._value))
        version = decode_head(payload)[0].version
        self.truth.prices.append(Price(version, symbol, self._value))
        self._payloads[symbol] = payload
        return payload

    async def publish(self, symbol: str, payload: bytes, to: str = "prices.us") -> None:
        await self.bus.publish(f"{to}.{symbol}", payload)

    async def some(self, count: int = 20) -> None:
        """Publish new values, as the writer always does."""
        for number in range(count):
            symbol = SYMBOLS[number % len(SYMBOLS)]
            await self.publish(symbol, self.message(symbol))
        await asyncio.sleep(0.01)

    async def all_again(self) -> None:
        """Publish the newest value of each symbol again, as it was."""
        for symbol, payload in self._payloads.items():
            await self.publish(symbol, payload)

    # What happens.

    async def nothing(self) -> None:
        await self.some()

    async def cut(self) -> None:
        self.proxy.reset()
        await self.some()

    async def hole(self) -> None:
        self.proxy.set("down", black_hole=True)
        await self.some()
        self.proxy.heal()
        self.proxy.reset()

    async def only_stored(self) -> None:
        for symbol in SYMBOLS:
            await self.publish(symbol, self.message(symbol), "elsewhere")

    async def only_one_is_heard(self) -> None:
        await self.only_stored()
        await self.publish("AAPL", self.message("AAPL"))

    async def twice(self) -> None:
        for _ in range(3):
            await self.some(5)
            await self.all_again()

    async def swapped(self) -> None:
        first, second = self.message("AAPL"), self.message("MSFT")
        await self.publish("MSFT", second)
        await self.publish("AAPL", first)
        older, newer = self.message("TSLA"), self.message("TSLA")
        await self.publish("TSLA", newer)
        await self.publish("TSLA", older)
        await self.all_again()

    async def made_anew(self) -> None:
        await self.bus.nc.jetstream().delete_stream(PRICES)
        await self.some()
        await self.bus.nc.jetstream().add_stream(config())
        await self.all_again()

    async def another_writer(self) -> None:
        self._take_over()
        await self.some()

    async def woken(self) -> None:
        """The writer before writes once more, of what the next one has not written."""
        before = self._writer
        self._take_over()
        await self.publish("AAPL", self.message("AAPL"))
        async with asyncio.timeout(10):
            while self.cached()["AAPL"] != self.newest()["AAPL"]:
                await asyncio.sleep(0.01)
        _, late = before.message("MSFT", last_price=str(NEVER))
        await self.publish("MSFT", late)
        # The next one puts back what it knows, as soon as the other one has gone.
        await self.publish("MSFT", self.message("MSFT"))

    def _take_over(self) -> None:
        epoch = self._writer.epoch + 1
        self._writer = Writer(self.bus)
        self._writer.epoch = epoch

    # What must be.

    def newest(self) -> dict[str, tuple[int, int]]:
        """Return what the cache must hold."""
        return {price.symbol: price.version for price in sorted(self.truth.prices)}

    def cached(self) -> dict[str, tuple[int, int]]:
        """Return what the cache holds."""
        entries = ((symbol, self.cache.entry(symbol)) for symbol in self.cache)
        return {symbol: entry.version for symbol, entry in entries if entry is not None}

    async def ends_well(self, seconds: float = 10) -> None:
        """Wait until the cache is right, and tell the client how far it is."""
        async with asyncio.timeout(seconds):
            newest = max(self.newest().values())
            while self.cached() != self.newest() or self.tape.settled("test") != newest:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)  # the lane hands out
        positions = {"prices": self.tape.positions()}
        self.outlet.told.append({"type": "heartbeat", "positions": positions})


def config() -> StreamConfig:
    """Return the stream of prices, which also takes values that nobody hears live."""
    prices = next(c for c in definitions() if c.name == PRICES)
    prices.subjects = [*(prices.subjects or ()), "elsewhere.>"]
    prices.subject_transform = SubjectTransform(src="elsewhere.>", dest="prices.us.>")
    return prices


@asynccontextmanager
async def run_world(
    nats: NatsProcess, bus: Bus, symbols: int = 0
) -> AsyncIterator[World]:
    """Run an edge that finds *symbols* more in the stream."""
    js = bus.nc.jetstream()
    await js.delete_stream(PRICES)
    await js.add_stream(config())
    async with run_proxy(nats.port) as proxy:
        url = f"nats://127.0.0.1:{proxy.port}"
        settings = ServiceSettings(nats_url=(url,))
        async with connect_bus(settings, "edge") as edge_bus:
            world = World(bus, proxy, edge_bus)
            for number in range(symbols):
                await world.publish(f"S{number}", world.message(f"S{number}"))
            running = asyncio.create_task(world.bridge.run())
            async with asyncio.timeout(10):
                while not world.bridge.warm.is_set():
                    await world.some()
            yield world
            running.cancel()


TROUBLES: dict[str, Callable[[World], Coroutine[Any, Any, None]]] = {
    "nothing": World.nothing,
    "cut": World.cut,
    "hole": World.hole,
    "only stored": World.only_stored,
    "only one is heard": World.only_one_is_heard,
    "twice": World.twice,
    "swapped": World.swapped,
    "made anew": World.made_anew,
    "another writer": World.another_writer,
    "woken": World.woken,
}


@pytest.mark.parametrize("seed", range(3))
async def test_the_cache_ends_right_and_every_loss_is_told(
    nats_server: NatsProcess, bus: Bus, seed: int
) -> None:
    """Each trouble alone, in any order, then several at a time."""
    dice = random.Random(seed)
    troubles = list(TROUBLES.values())
    dice.shuffle(troubles)
    rounds = [[trouble] for trouble in troubles]
    rounds += [dice.choices(troubles, k=3) for _ in range(3)]
    async with run_world(nats_server, bus) as world:
        for happening in rounds:
            await world.some()
            for trouble in happening:
                await trouble(world)
                if dice.random() < 0.5:
                    await world.some()
            await world.ends_well()

    assert world.truth.untrue(world.outlet.told) == []
    told = [message["type"] for message in world.outlet.told]
    assert told.count("gap") >= 3
    # Not for want of updates that had to be there.
    assert told.count("price_update") > 100


async def test_a_writer_that_does_not_wait_for_the_first_read(
    nats_server: NatsProcess, bus: Bus
) -> None:
    async with run_world(nats_server, bus, symbols=3000) as world:
        published = len(world.truth.prices)
        await world.ends_well()
        await world.some()
        await world.ends_well()

    assert published > 3000
    assert len(world.cached()) == 3000 + len(SYMBOLS)
    assert "gap" not in [message["type"] for message in world.outlet.told]
    assert world.truth.untrue(world.outlet.told) == []


async def test_where_nothing_is_lost_no_gap_is_told(
    nats_server: NatsProcess, bus: Bus
) -> None:
    async with run_world(nats_server, bus) as world:
        await world.some()
        await world.ends_well()
        for _ in range(5):
            await world.nothing()
            await world.twice()
        await world.ends_well()

    told = [message["type"] for message in world.outlet.told]
    assert "gap" not in told
    assert world.truth.untrue(world.outlet.told) == []


async def test_without_the_sweep_the_cache_ends_wrong(
    nats_server: NatsProcess, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control, of the cache."""
    async with run_world(nats_server, bus) as world:
        await world.some()
        await world.ends_well()

        async def nothing(_: PriceBridge) -> None: ...

        monkeypatch.setattr(PriceBridge, "_sweep", nothing)
        await world.only_stored()

        with pytest.raises(TimeoutError):
            await world.ends_well(4)
        assert world.cached() != world.newest()


async def test_without_the_gaps_the_client_was_told_too_much(
    nats_server: NatsProcess, bus: Bus
) -> None:
    """The control, of the client."""
    async with run_world(nats_server, bus) as world:
        await world.some()
        await world.ends_well()
        await world.hole()
        await world.ends_well()

    assert world.truth.untrue(world.outlet.told) == []
    silent = [message for message in world.outlet.told if message["type"] != "gap"]
    assert len(silent) < len(world.outlet.told)
    assert world.truth.untrue(silent)


async def shown_of_a_woken_writer(nats_server: NatsProcess, bus: Bus) -> int:
    """Return how often the client was shown what a writer said that was replaced."""
    async with run_world(nats_server, bus) as world:
        for _ in range(5):
            await world.some()
            await world.woken()
        await world.ends_well()
    told = [m for m in world.outlet.told if m["type"] == "price_update"]
    return [message["last_price"] for message in told].count(NEVER)


async def test_what_a_woken_writer_says_is_never_shown(
    nats_server: NatsProcess, bus: Bus
) -> None:
    assert await shown_of_a_woken_writer(nats_server, bus) == 0


async def test_without_the_epochs_it_would_be(
    nats_server: NatsProcess, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr(PriceMerge, "_is_over", lambda *_: False)

    assert await shown_of_a_woken_writer(nats_server, bus) > 0
