"""
Clients of the rehearsal, and the way in: TLS ends there, as it does at an Ingress.

Each client heeds the protocol: it keeps its position in the news, comes back when it
was told to, resumes. It notes what it got, by the number that the position tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake


# As the manifests name it.
HOST = "feedmesh.example.com"
Backends = Callable[[], Sequence[tuple[str, int]]]


@asynccontextmanager
async def way_in(
    certificate: Path, key: Path, backends: Backends
) -> AsyncIterator[int]:
    """Take TLS on a port, and hand what comes to the backends in turn."""
    turn = itertools.count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = backends()
        if not there:
            writer.close()
            return
        host, port = there[next(turn) % len(there)]
        try:
            inside, out = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, out), _pump(inside, writer))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    with contextlib.suppress(OSError, RuntimeError):
        target.close()


class Follower:
    """
    One client.

    Attributes:
        news: The numbers of all items that it got, in order.
        prices: How many prices it got.
        holes: What it was told that it cannot have.
        codes: How its connections ended.
    """

    def __init__(
        self, port: int, trust: ssl.SSLContext, token: Callable[[], str], *symbols: str
    ) -> None:
        self._port = port
        self._trust = trust
        self._token = token
        self._symbols = symbols
        self._position: str | None = None
        self._pause = 0.5
        self.subscribed = asyncio.Event()
        self.news: list[int] = []
        self.prices = 0
        self.holes: list[Any] = []
        self.codes: list[int | None] = []

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            self._pause = random.uniform(0, 0.5)
            try:
                async with connect(
                    f"wss://{HOST}:{self._port}/api/v3/stream",
                    host="127.0.0.1",
                    port=self._port,
                    ssl=self._trust,
                    compression=None,
                ) as connection:
                    await self._follow(connection)
            except ConnectionClosed as closed:
                self.codes.append(closed.rcvd.code if closed.rcvd else None)
            except (OSError, InvalidHandshake):
                pass
            await asyncio.sleep(self._pause)

    async def _follow(self, connection: ClientConnection) -> None:
        news: dict[str, Any] = {"channel": "news"}
        if self._position is not None:
            news["since"] = self._position
        wanted: list[dict[str, Any]] = [news]
        if self._symbols:
            wanted.append({"channel": "prices", "symbols": list(self._symbols)})
        await connection.send(json.dumps({"op": "auth", "token": self._token()}))
        await connection.send(json.dumps({"op": "resume", "subscriptions": wanted}))
        async for text in connection:
            self._take(json.loads(text))

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "price_update":
            self.prices += 1
        elif kind == "news":
            self._position = message["position"]
            self.news.append(int(message["position"].split(".")[2]))
        elif kind in ("snapshot_end", "heartbeat"):
            self._position = message["positions"].get("news", self._position)
            self.subscribed.set()
        elif kind == "going_away":
            self._pause = message["reconnect_after_ms"] / 1000
        elif kind in ("error", "gap") or message.get("recovered") is False:
            self.holes.append(message)


async def caught_up(followers: Sequence[Follower], seconds: float = 60.0) -> bool:
    """Wait until everybody has what anybody has now; return whether they got it."""
    newest = max(follower.news[-1] for follower in followers if follower.news)
    try:
        async with asyncio.timeout(seconds):
            while not all(f.news and f.news[-1] >= newest for f in followers):
                await asyncio.sleep(0.1)
    except TimeoutError:
        return False
    return True


def missed(followers: Sequence[Follower]) -> int:
    """Return how many items somebody did not get, or got twice, or out of order."""
    everything = sorted(set().union(*(follower.news for follower in followers)))
    wrong = 0
    for follower in followers:
        if follower.news:
            since = everything.index(follower.news[0])
            due = everything[since : since + len(follower.news)]
            wrong += sum(a != b for a, b in zip_longest(follower.news, due))
    return wrong
