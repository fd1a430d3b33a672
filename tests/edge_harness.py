"""A real edge in front of a real nats-server; the test writes what an ingest would."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats_process import NatsProcess
from processes import ServiceProcess, run_service
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from feedmesh import messages, prices, subjects
from feedmesh.bus import Bus
from feedmesh.clock import now_ns
from feedmesh.news import NewsItem, Stock, encode_news
from feedmesh.symbols import market_of


class Writer:
    """Publishes as the only writer of a feed does."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._counters: dict[str, itertools.count[int]] = {}
        self.epoch = 1

    def message(self, symbol: str, **fields: Any) -> tuple[bytes, bytes]:
        """Return the frame that clients must get, and the message that carries it."""
        fields.setdefault("timestamp_ms", 1699564800000)
        fields.setdefault("data_type", "T")
        frame = prices.encode_frame(prices.PriceState(symbol=symbol, **fields))
        return frame, messages.encode(self.head("price"), frame)

    async def price(self, symbol: str, **fields: Any) -> bytes:
        """Store a price of *symbol*; return the frame that clients must get."""
        frame, payload = self.message(symbol, **fields)
        await self._bus.request(subjects.price(market_of(symbol), symbol), payload)
        return frame

    async def unconfirmed_price(self, symbol: str, **fields: Any) -> None:
        """Publish a price without waiting for the stream."""
        _, payload = self.message(symbol, **fields)
        await self._bus.publish(subjects.price(market_of(symbol), symbol), payload)

    def news_message(
        self, realkey: str, title: str = "제목", **fields: Any
    ) -> tuple[NewsItem, bytes]:
        """Return a news item, and the message that carries it."""
        fields.setdefault("news_type", "article")
        item = NewsItem(
            date="20230614",
            time="095217",
            id="27",
            realkey=realkey,
            title=title,
            bodysize="4841",
            code="000000011810",
            provider="헤럴드경제",
            stocks=(Stock("011810", "STX"),),
            published_at="2023-06-14T09:52:17+09:00",
            received_at="2023-06-14T00:52:30.123456Z",
            **fields,
        )
        return item, messages.encode(self.head("news"), encode_news(item))

    async def news(self, realkey: str, title: str = "제목", **fields: Any) -> bytes:
        """Store a news item; return the frame that clients must get."""
        item, payload = self.news_message(realkey, title, **fields)
        await self._bus.request(subjects.news(item.news_type), payload)
        await self._bus.request(subjects.news(item.news_type, "011810"), payload)
        return encode_news(item)

    def head(self, kind: str) -> messages.Head:
        now = now_ns()
        return messages.head(
            kind,
            "test",
            (self.epoch, next(self._counters.setdefault(kind, itertools.count(1)))),
            event_ns=now,
            received_ns=now,
            published_ns=now,
        )


class NumberedNews:
    """
    News items that never stop, numbered in their titles.

    Attributes:
        published: How many there are.
    """

    def __init__(self, writer: Writer, every_seconds: float) -> None:
        self._writer = writer
        self._every_seconds = every_seconds
        self.published = 0

    async def publish(self) -> None:
        while True:
            number = str(self.published + 1)
            await self._writer.news(number, number)
            self.published += 1
            await asyncio.sleep(self._every_seconds)


class Client:
    """A WebSocket client that waits for what it expects."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **request: Any) -> None:
        await self.connection.send(json.dumps(request))

    async def subscribe(self, *symbols: str) -> None:
        await self.send(action="subscribe", symbols=list(symbols))

    async def text(self, seconds: float = 5.0) -> str:
        async with asyncio.timeout(seconds):
            received = await self.connection.recv()
        assert isinstance(received, str)
        return received

    async def json(self) -> Any:
        return json.loads(await self.text())

    async def closed(self, seconds: float = 10.0) -> int | None:
        """Return the code with which the edge closes the connection."""
        async with asyncio.timeout(seconds):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await self.connection.recv()
        return self.connection.close_code

    async def silent(self, seconds: float = 0.3) -> None:
        """Assert that nothing comes."""
        with pytest.raises(TimeoutError):
            await self.text(seconds)


class StreamClient(Client):
    """A client of protocol v3 that keeps what it is told, as a library for it would."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__(connection)
        self.hello: dict[str, Any] = {}
        self.news_position: str | None = None
        self.price_positions: dict[str, str] = {}

    async def silent(self, seconds: float = 0.3) -> None:
        """Assert that nothing comes but heartbeats."""
        with pytest.raises(TimeoutError):
            await self.next(seconds)

    async def next(self, seconds: float = 5.0) -> dict[str, Any]:
        """Return the next message that is no heartbeat."""
        message = await self.next_of_all(seconds)
        while message["type"] == "heartbeat":
            message = await self.next_of_all(seconds)
        return message

    async def next_of_all(self, seconds: float = 5.0) -> dict[str, Any]:
        """Return the next message, be it a heartbeat."""
        message: dict[str, Any] = json.loads(await self.text(seconds))
        self._note(message)
        return message

    async def take(self, kind: str, seconds: float = 5.0) -> list[dict[str, Any]]:
        """Return all messages up to the next of type *kind*, heartbeats left out."""
        taken = []
        async with asyncio.timeout(seconds):
            while True:
                message = await self.next_of_all(seconds)
                if message["type"] != "heartbeat" or kind == "heartbeat":
                    taken.append(message)
                if message["type"] == kind:
                    return taken

    async def ask(self, op: str, until: str = "ack", **fields: Any) -> Any:
        """Send a request; return the messages up to the answer, and the answer last."""
        await self.send(op=op, **fields)
        return await self.take(until)

    def positions(self) -> list[str]:
        """Return what this client gives back to have its prices resumed."""
        return list(self.price_positions.values())

    def _note(self, message: dict[str, Any]) -> None:
        if message["type"] == "news":
            self.news_position = message["position"]
        elif message["type"] == "price_update":
            self._note_price(message["position"])
        elif message["type"] in ("heartbeat", "snapshot_end"):
            positions = message["positions"]
            self.news_position = positions.get("news", self.news_position)
            for token in positions.get("prices", ()):
                self._note_price(token)

    def _note_price(self, token: str) -> None:
        source, epoch, seq, _ = token.split(".")
        known = self.price_positions.get(source)
        if known is None or (int(epoch), int(seq)) >= tuple(
            int(part) for part in known.split(".")[1:3]
        ):
            self.price_positions[source] = token


class EdgeProcess:
    """A running edge and its addresses."""

    def __init__(self, service: ServiceProcess, port: int) -> None:
        self.service = service
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @asynccontextmanager
    async def client(self, path: str) -> AsyncIterator[Client]:
        async with connect(
            f"ws://127.0.0.1:{self.port}{path}", compression=None
        ) as connection:
            yield Client(connection)

    def prices(self) -> Any:
        return self.client("/api/v2/realtime/ws/prices")

    def news(self) -> Any:
        return self.client("/ws/news")

    @asynccontextmanager
    async def stream(self, query: str = "") -> AsyncIterator[StreamClient]:
        """Connect a client of protocol v3, and take its hello."""
        async with self.client(f"/api/v3/stream{query}") as client:
            stream = StreamClient(client.connection)
            stream.hello = (await stream.take("hello"))[-1]
            yield stream


def edge_env(server: NatsProcess, **more: str) -> dict[str, str]:
    """Return the environment of an edge that uses *server*."""
    return {"NATS_URL": server.url, "EDGE_PORT": "0", "OPS_PORT": "0", **more}


@asynccontextmanager
async def run_edge(server: NatsProcess, **more: str) -> AsyncIterator[EdgeProcess]:
    """Run an edge until it serves clients, and to the end of the context."""
    async with run_service("edge", edge_env(server, **more)) as service:
        port = (await service.event("clients are served"))["port"]
        yield EdgeProcess(service, port)
