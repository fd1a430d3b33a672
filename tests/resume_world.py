"""
Edges, the streams they serve, and clients that come and go; all that is told is kept.

See `resume_oracle` for what becomes of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from edge_harness import EdgeProcess, StreamClient, Writer, run_edge
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats_process import NatsProcess, open_bus, run_nats
from resume_oracle import Item, Message, Price, Truth, version_of

from edge.positions import stream_mark
from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.messages import decode_head
from feedmesh.stored import StreamState, stream_state
from feedmesh.streams import NEWS, definitions, ensure_streams
from feedmesh.symbols import market_of


REPLAY = 4_300
HISTORY = 50
_ENV = {"EDGE_REPLAY": str(REPLAY), "EDGE_HISTORY": str(HISTORY)}
_AT_ONCE = 500


class Follower:
    """
    One client, over all its connections, with one subscription.

    Attributes:
        wanted: The subscription.
        told: What it was told, and in between what it asked.
        position: What it gives back when it comes again; None at first.
    """

    def __init__(self, **wanted: Any) -> None:
        self.wanted = wanted
        self.told: list[Message] = []
        self.position: Any = None

    @asynccontextmanager
    async def on(self, edge: EdgeProcess) -> AsyncIterator[Visit]:
        """Come to *edge*, with the position if there is one."""
        async with edge.client("/api/v3/stream") as client:
            visit = Visit(client.connection, self)
            await visit.take("hello")
            asked = dict(self.wanted)
            if self.position is not None:
                asked["since"] = self.position
            self.told.append({"type": "asked", **asked})
            await visit.send(op="resume", subscriptions=[asked])
            yield visit

    def ask_again(self, since: Any) -> None:
        """Note that it asks for the same once more on the same connection."""
        self.told.append({"type": "asked", **self.wanted, "since": since})

    def note(self, visit: StreamClient) -> None:
        """Keep the position, as a client does after each message."""
        if self.wanted["channel"] == "news":
            self.position = visit.news_position or self.position
        else:
            self.position = visit.positions() or self.position


class Visit(StreamClient):
    """One connection of a follower."""

    def __init__(self, connection: Any, follower: Follower) -> None:
        super().__init__(connection)
        self._follower = follower

    def _note(self, message: Message) -> None:
        super()._note(message)
        self._follower.told.append(message)
        self._follower.note(self)

    async def until(self, value: str | int) -> list[Message]:
        """Return what comes before *value*, a title or a price."""
        taken = []
        while value_of(message := await self.next(15)) != value:
            taken.append(message)
        return taken


class Came:
    """What a follower was given when it came back."""

    def __init__(self, follower: Follower, messages: list[Message]) -> None:
        ack = next(m for m in messages if m["type"] == "ack")
        self.follower = follower
        self.recovered: bool = ack["recovered"]
        self.reason: str | None = ack.get("reason")
        found = [value_of(message) for message in messages]
        self.values = [value for value in found if value is not None]


class World:
    """
    One nats-server, two edges that have seen everything, and the truth.

    Attributes:
        nats: The server.
        one: An edge.
        two: Another.
        truth: What was published.
        mark: Of the stream of news, as positions have it.
    """

    def __init__(
        self, nats: NatsProcess, bus: Bus, one: EdgeProcess, two: EdgeProcess
    ) -> None:
        self.nats = nats
        self.bus = bus
        self.one = one
        self.two = two
        self.truth = Truth()
        self.writer = Writer(bus)
        self._numbers = itertools.count(1)
        self.mark = ""
        self._inbox = bus.nc.new_inbox()
        self._unstored: dict[str, tuple[str, str, str]] = {}

    @property
    def js(self) -> JetStreamContext:
        """What streams are managed with."""
        return self.bus.nc.jetstream()

    # What ingests do.

    async def news(self, count: int = 1, news_type: str = "article") -> list[str]:
        """Store news items; return their titles."""
        titles = [f"item {next(self._numbers)}" for _ in range(count)]
        for start in range(0, count, _AT_ONCE):
            for title in titles[start : start + _AT_ONCE]:
                last = await self._news(title, news_type)
            async with asyncio.timeout(15):
                while last in self._unstored:
                    await asyncio.sleep(0.001)
        return titles

    async def _news(self, title: str, news_type: str = "article") -> str:
        item, payload = self.writer.news_message(title, title, news_type=news_type)
        reply = f"{self._inbox}.{next(self._numbers)}"
        self._unstored[reply] = (self.mark, title, news_type)
        await self.bus.publish(subjects.news(item.news_type), payload, reply=reply)
        return reply

    async def listen(self) -> None:
        """Hear what has been stored."""

        async def stored(message: Msg) -> None:
            mark, title, news_type = self._unstored.pop(message.subject)
            sequence = json.loads(message.data)["seq"]
            self.truth.news.append(Item(mark, sequence, title, news_type))

        await self.bus.nc.subscribe(f"{self._inbox}.*", cb=stored)

    async def prices(self, *symbols: str) -> list[int]:
        """Store a price of each of *symbols*; return the values."""
        return [await self._price(symbol, confirmed=True) for symbol in symbols]

    async def _price(self, symbol: str, *, confirmed: bool = False) -> int:
        value = next(self._numbers)
        _, payload = self.writer.message(symbol, last_price=str(value))
        head, _ = decode_head(payload)
        self.truth.prices.append(Price(head.version, symbol, value))
        subject = subjects.price(market_of(symbol), symbol)
        if confirmed:
            await self.bus.request(subject, payload)
        else:
            await self.bus.publish(subject, payload)
        return value

    def take_over(self) -> None:
        """Have another writer publish from now on."""
        epoch = self.writer.epoch + 1
        self.writer = Writer(self.bus)
        self.writer.epoch = epoch

    @asynccontextmanager
    async def busy(self, *symbols: str) -> AsyncIterator[None]:
        """Publish 2,000 times a second: prices of *symbols*, or news without them."""
        names = itertools.cycle(symbols)
        ended = asyncio.Event()

        async def publish() -> None:
            while not ended.is_set():
                for _ in range(20):
                    if symbols:
                        await self._price(next(names))
                    else:
                        await self._news(f"item {next(self._numbers)}")
                await asyncio.sleep(0.01)

        publishing = asyncio.create_task(publish())
        try:
            yield
        finally:
            ended.set()
            await publishing

    # What becomes of the stream of news.

    async def state(self) -> StreamState:
        """Return what the stream of news is now."""
        return await stream_state(self.bus, NEWS)

    async def recreate(self) -> None:
        """Make the stream of news anew, and have both edges notice."""
        await self.js.delete_stream(NEWS)
        await ensure_streams(self.js)
        await self.know_stream()

        async def known(edge: EdgeProcess) -> bool:
            async with Follower(channel="news").on(edge) as visit:
                *_, end = await visit.take("snapshot_end")
            return str(end["positions"]["news"]).split(".")[1] == self.mark

        async with asyncio.timeout(15):
            while not (await known(self.one) and await known(self.two)):
                await asyncio.sleep(0.05)

    async def restart_nats(self) -> None:
        """Kill the server, and start it again; what was in memory is gone."""
        await self.nats.stop()
        await self.nats.start()
        async with asyncio.timeout(15):
            while not self.bus.connected:
                await asyncio.sleep(0.01)
        await ensure_streams(self.js)

    async def know_stream(self) -> None:
        """Remember which stream of news there is."""
        self.mark = stream_mark((await self.state()).identity)

    async def keep_only(self, *, past: int, **limits: Any) -> None:
        """Have *limits* of the stream of news bite until *past* is gone; undo them."""
        config = next(c for c in definitions() if c.name == NEWS)
        await self.js.update_stream(config.evolve(**limits))
        async with asyncio.timeout(15):
            while (await self.state()).first <= past:
                await asyncio.sleep(0.02)
        await self.js.update_stream(config)

    # What clients do.

    async def follower(self, **wanted: Any) -> Follower:
        """Return a client that has come, got something, and left."""
        if wanted["channel"] == "prices":
            await self.settled()
        follower = Follower(**wanted)
        async with follower.on(self.one) as visit:
            await visit.take("snapshot_end")
            await visit.until(await self._something(follower))
        return follower

    async def back(
        self, follower: Follower, edge: EdgeProcess | None = None, *, hear: bool = True
    ) -> Came:
        """Have *follower* come to *edge*, *hear* one thing more, and leave."""
        async with follower.on(edge or self.one) as visit:
            given = await visit.take("snapshot_end", 15)
            if hear:
                # What the edge has not yet read itself comes after the end.
                given += await visit.until(await self._something(follower))
        return Came(follower, given)

    async def settled(self, *edges: EdgeProcess) -> None:
        """Wait until *edges*, or both, know that they have missed no price."""
        await self.prices("SOME")
        version = self.truth.prices[-1].version

        async def at_it(edge: EdgeProcess) -> bool:
            async with Follower(channel="prices", symbols=["SOME"]).on(edge) as visit:
                *_, end = await visit.take("snapshot_end")
            tokens = end["positions"].get("prices", [])
            return any(version_of(token) >= version for token in tokens)

        async with asyncio.timeout(15):
            for edge in edges or (self.one, self.two):
                while not await at_it(edge):
                    await asyncio.sleep(0.05)

    async def seen(self) -> list[str]:
        """Have both edges read all news there are; return what was stored for that."""
        ends = [Follower(channel="news").on(edge) for edge in (self.one, self.two)]
        async with ends[0] as one, ends[1] as two:
            for visit in (one, two):
                await visit.take("snapshot_end")
            titles = await self.news()
            for visit in (one, two):
                await visit.until(titles[-1])
        return titles

    async def _something(self, follower: Follower) -> str | int:
        if follower.wanted["channel"] == "prices":
            return (await self.prices(follower.wanted["symbols"][0]))[0]
        types = follower.wanted.get("types", ["article"])
        return (await self.news(news_type=types[0]))[0]

    def fresh(self) -> AbstractAsyncContextManager[EdgeProcess]:
        """Start an edge that knows nothing but what it finds."""
        return run_edge(self.nats, **_ENV)

    @asynccontextmanager
    async def busy_edges(self) -> AsyncIterator[tuple[EdgeProcess, EdgeProcess]]:
        """Run two edges with the limits of production."""
        async with run_edge(self.nats) as one, run_edge(self.nats) as two:
            await self.settled(one, two)
            yield one, two


def value_of(message: Message) -> str | int | None:
    """Return the title of a news item, or the price of an update."""
    if message["type"] == "news":
        return str(message["title"])
    if message["type"] == "price_update":
        return int(message["last_price"])
    return None


@asynccontextmanager
async def run_world(folder: Path) -> AsyncIterator[World]:
    """Run everything while the context is open."""
    async with contextlib.AsyncExitStack() as stack:
        nats = await stack.enter_async_context(run_nats(folder / "nats"))
        bus = await stack.enter_async_context(open_bus(nats))
        one = await stack.enter_async_context(run_edge(nats, **_ENV))
        two = await stack.enter_async_context(run_edge(nats, **_ENV))
        world = World(nats, bus, one, two)
        await world.listen()
        await world.know_stream()
        yield world
