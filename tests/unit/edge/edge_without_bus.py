"""An edge that has read its streams, without a bus, and one client of protocol v3."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from prometheus_client import CollectorRegistry
from unit.edge.news_history import InventedStream

from edge.clients.chores import Chores
from edge.clients.outlet import Outlet
from edge.clients.registry import Clients
from edge.clients.sender import Flusher
from edge.door.admission import Admission
from edge.door.login import ANYONE, Login
from edge.gap_board import GapBoard
from edge.metrics import EdgeMetrics
from edge.news.log import NewsLog
from edge.parts import EdgeParts
from edge.prices.cache import PriceCache
from edge.prices.hub import PriceHub
from edge.prices.merge import PriceMerge
from edge.prices.tape import PriceTape
from edge.prices.updates import Update
from edge.rest.freshness import Freshness
from edge.settings import Settings
from edge.status_board import StatusBoard
from edge.stream.session import StreamSession
from feedmesh.bus import Bus


class Socket(Outlet):
    """
    What one client, which takes arrays, has been told.

    Attributes:
        closed: The code with which the edge has closed it.
    """

    def __init__(self) -> None:
        self.blocked = False
        self.told: list[dict[str, Any]] = []
        self.closed: int | None = None

    def write(self, frames: bytes | memoryview) -> None:
        left = bytes(frames)
        while left:
            start, length = 2, left[1]
            if length == 126:
                start, length = 4, int.from_bytes(left[2:4], "big")
            self.told += json.loads(left[start : start + length])
            left = left[start + length :]

    def close(self, code: int, reason: str) -> None:
        self.closed = code


def price(number: int, symbol: str = "A") -> Update:
    frame = b'{"type": "price_update", "symbol": "%b", "n": %d}' % (
        symbol.encode(),
        number,
    )
    return Update(symbol, "test", (1, number), frame)


class Edge:
    """
    An edge and one client; it knows the first price of the symbol A.

    Attributes:
        stream: Of its news; :meth:`read` reads it.
    """

    def __init__(self) -> None:
        bus, flusher, cache = Bus(), Flusher(), PriceCache()
        metrics = EdgeMetrics(CollectorRegistry())
        tape = PriceTape(100)
        self.hub = PriceHub(cache, flusher, metrics, lambda: None)
        self.merge = PriceMerge(cache, tape)
        self.merge.stored(price(1))
        self.merge.swept()
        self.stream = InventedStream()
        self.news = NewsLog(self.stream, metrics, 10_000)
        self.parts = EdgeParts(
            settings=Settings(),
            bus=bus,
            cache=cache,
            tape=tape,
            hub=self.hub,
            news=self.news,
            status=StatusBoard(bus),
            gaps=GapBoard(),
            flusher=flusher,
            chores=Chores(),
            clients=Clients(metrics),
            admission=Admission(metrics, 1, (), lambda: 0),
            freshness=Freshness(lambda: True),
            metrics=metrics,
            problems=dict,
        )
        self.socket = Socket()
        self.client = self.connect(self.socket)

    def connect(self, socket: Socket) -> StreamSession:
        """Return a client at *socket*."""
        return StreamSession(socket, self.parts, Login(None, ANYONE), arrays=True)

    def ask(self, op: str, **fields: Any) -> None:
        """Have the client ask something."""
        self.client.received(json.dumps({"op": op, **fields}))

    def update(self, number: int, symbol: str = "A") -> None:
        """Take a price as it comes live."""
        update = price(number, symbol)
        self.merge.live(update)
        self.hub.update(update)

    async def items(self, *titles: str) -> None:
        """Store news, and read them."""
        for title in titles:
            self.stream.publish(title, 0)
        await self.news.advance(check=True)

    async def told(self, count: int) -> list[dict[str, Any]]:
        """Return the next *count* messages that the client is told, or more."""
        async with asyncio.timeout(10):
            while len(self.socket.told) < count:
                await asyncio.sleep(0.01)
        told, self.socket.told = self.socket.told, []
        return told

    async def told_until(self, kind: str) -> list[dict[str, Any]]:
        """Return what the client is told up to a message of type *kind*."""
        told: list[dict[str, Any]] = []
        while not told or told[-1]["type"] != kind:
            told += await self.told(1)
            kinds = [message["type"] for message in told]
            if kind in kinds:
                end = kinds.index(kind) + 1
                self.socket.told = told[end:] + self.socket.told
                return told[:end]
        return told
