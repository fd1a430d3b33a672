"""
An edge as the page sees it, that says what a test tells it to.

It keeps protocol v3 as far as the page uses it, and can be stopped and started again
on the same port. It imports nothing of ours: a test of the page must not follow a
mistake of the edge.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from starlette.staticfiles import StaticFiles


__all__ = ["StubEdge", "news_item", "price_frame", "run_stub_edge"]

PAGE = Path(__file__).parents[3] / "services/edge/src/edge/page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SYMBOL = re.compile(r"[A-Z0-9^][A-Z0-9.^=/-]{0,19}")
_HEARTBEAT_MS = 10_000


class StubEdge:
    """
    The server and the levers of a test.

    Attributes:
        frames: The cached price frame of each symbol.
        news: Every news item, oldest first; a position is how many of them one has.
        statuses: The status of each feed.
        gaps: What was told of gaps of feeds, in order.
        tokens: What came with each request for them.
        requests: Every request of all clients, in order.
        connections: How many clients have ever connected.
        mute: Whether clients get no answer, as behind a link that is dead.
        token: What clients must show; None if nothing.
        forgotten: Why what was missed cannot be had; None if it can.
        denied: Channels that are for nobody.
    """

    def __init__(self) -> None:
        self.frames: dict[str, str] = {}
        self.news: list[dict[str, Any]] = []
        self.statuses: dict[str, dict[str, Any]] = {}
        self.gaps: dict[str, dict[str, Any]] = {}
        self.tokens: list[str | None] = []
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        self.mute = False
        self.token: str | None = None
        self.forgotten: str | None = None
        self.denied: set[str] = set()
        self._clients: list[_Client] = []
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._port = 0
        self._app = self._build()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    @property
    def subscribed(self) -> set[str]:
        """What the clients that are connected have asked for."""
        return set().union(*(client.symbols for client in self._clients))

    async def start(self) -> None:
        """Serve; on the port of the last time, if there was one."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                self._app,
                ws="websockets-sansio",
                log_level="warning",
                timeout_graceful_shutdown=1,
            )
        )
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        async with asyncio.timeout(10):
            await self._server.ready.wait()

    async def stop(self) -> None:
        """Close every connection and stop serving."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        await self._serving
        self._server = None

    async def price(self, symbol: str, **fields: str | int | None) -> None:
        """Cache a price and send it to who asked; numbers are given as their digits."""
        frame = price_frame(symbol, **fields)
        self.frames[symbol] = frame
        for client in list(self._clients):
            if symbol in client.symbols:
                await client.socket.send_text(frame)

    async def tell(self, item: dict[str, Any]) -> None:
        """Log a news item and send it to all who want news."""
        self.news.append(item)
        for client in list(self._clients):
            if "news" in client.channels:
                await client.say(item | {"position": str(len(self.news))})

    async def status(self, feed: str, **fields: Any) -> None:
        """Let a feed say how it is."""
        self.statuses[feed] = {"type": "status", "feed": feed, **fields}
        for client in list(self._clients):
            if "status" in client.channels:
                await client.say(self.statuses[feed])

    async def feed_gap(self, name: str, to: str | None, **fields: Any) -> None:
        """Let a feed tell that it was not heard for a while."""
        self.gaps[name] = {
            "type": "feed_gap",
            "id": name,
            "feed": "ls",
            "link": "news",
            "from": "2026-01-05T01:01:03Z",
            "to": to,
            "reason": "dropped",
            "backfilled": False,
            **fields,
        }
        await self.say(**self.gaps[name])

    async def say(self, **message: Any) -> None:
        """Say something to all clients."""
        for client in list(self._clients):
            await client.say(message)

    async def hang_up(self, code: int = 1012) -> None:
        """Close all WebSockets, and stay."""
        for client in list(self._clients):
            await client.socket.close(code)

    def _build(self) -> FastAPI:
        app = FastAPI()

        @app.websocket("/api/v3/stream")
        async def stream(socket: WebSocket) -> None:
            await socket.accept("feedmesh.v1.json")
            self.connections += 1
            client = _Client(socket)
            self._clients.append(client)
            with contextlib.suppress(WebSocketDisconnect):
                await self._greet(client)
                while True:
                    await self._obey(client, json.loads(await socket.receive_text()))
            self._clients.remove(client)

        @app.get("/api/v3/gaps")
        async def gaps(request: Request) -> dict[str, Any]:
            self.tokens.append(request.headers.get("authorization"))
            return {"gaps": list(self.gaps.values())}

        @app.get("/")
        async def index() -> Response:
            return Response(
                (PAGE / "index.html").read_bytes(),
                media_type="text/html; charset=utf-8",
                headers={"content-security-policy": POLICY},
            )

        app.mount("/page", StaticFiles(directory=PAGE))
        return app

    async def _greet(self, client: _Client) -> None:
        await client.say(
            {
                "type": "hello",
                "protocol": "feedmesh.v1.json",
                "edge": "stub",
                "at": now(),
                "heartbeat_ms": _HEARTBEAT_MS,
                "auth": self.token is not None,
                "limits": {},
                "feeds": {},
            }
        )

    async def _obey(self, client: _Client, request: dict[str, Any]) -> None:
        if self.mute:
            return
        self.requests.append(request)
        if request["op"] == "auth":
            client.token = request["token"]
        if client.token != self.token:
            await client.socket.close(4001)
            raise WebSocketDisconnect
        if request["op"] == "resume":
            for subscription in request["subscriptions"]:
                await self._subscribe(client, request, subscription)
        elif request["op"] == "subscribe":
            await self._subscribe(client, request, request)
        elif request["op"] == "unsubscribe":
            client.symbols.difference_update(request["symbols"])

    async def _subscribe(
        self, client: _Client, request: dict[str, Any], wanted: dict[str, Any]
    ) -> None:
        channel = wanted["channel"]
        answer = {"op": request["op"], "id": request["id"], "channel": channel}
        if channel in self.denied:
            text = "this channel is not for you"
            error = {"code": "not_available", "message": text, "temporary": False}
            await client.say({"type": "error", "id": request["id"], **error})
            return
        client.channels.add(channel)
        if "since" in wanted:
            answer["recovered"] = self.forgotten is None
            answer |= {"reason": self.forgotten} if self.forgotten else {}
        if channel == "prices":
            await self._open_prices(client, answer, wanted["symbols"])
        elif channel == "news":
            await client.say({"type": "ack", **answer})
            resumed = self.forgotten is None and "since" in wanted
            start = int(wanted["since"]) if resumed else max(0, len(self.news) - 100)
            for number, item in enumerate(self.news[start:], start + 1):
                await client.say(item | {"position": str(number)})
            await self._end(client, channel, news=str(len(self.news)))
        else:
            await client.say({"type": "ack", **answer})
            open_gaps = [gap for gap in self.gaps.values() if gap["to"] is None]
            for told in [*self.statuses.values(), *open_gaps]:
                await client.say(told)

    async def _open_prices(
        self, client: _Client, answer: dict[str, Any], symbols: list[str]
    ) -> None:
        legal = [symbol for symbol in symbols if _SYMBOL.fullmatch(symbol)]
        answer["accepted"] = legal
        answer["rejected"] = [
            {"symbol": symbol[:20], "code": "bad_symbol"}
            for symbol in symbols
            if symbol not in legal
        ]
        client.symbols.update(legal)
        await client.say({"type": "ack", **answer})
        for symbol in legal:
            if symbol in self.frames:
                await client.socket.send_text(self.frames[symbol])
        await self._end(client, "prices", prices=["stub.1.1.0000"])

    async def _end(self, client: _Client, channel: str, **positions: Any) -> None:
        await client.say(
            {"type": "snapshot_end", "channel": channel, "positions": positions}
        )


class _Client:
    """One connection, and what it asked for."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.symbols: set[str] = set()
        self.channels: set[str] = set()
        self.token: str | None = None

    async def say(self, message: dict[str, Any]) -> None:
        """Send *message*, unless the client has gone."""
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self.socket.send_json(message)


class _Server(uvicorn.Server):
    """Leaves the signals of the test run alone, and tells when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def now() -> str:
    """Return the time in ISO 8601, UTC."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def price_frame(symbol: str, **fields: str | int | None) -> str:
    """Return a price update; what is not given is null."""

    def digits(name: str) -> str:
        value = fields.get(name)
        return "null" if value is None else str(value)

    numbers = "".join(
        f', "{name}": {digits(name)}'
        for name in (
            *("last_price", "last_size"),
            *("ask_price", "ask_size"),
            *("bid_price", "bid_size"),
        )
    )
    return (
        f'{{"type": "price_update", "symbol": "{symbol}"'
        f', "timestamp": {fields.get("timestamp", 1699564800000)}'
        f', "data_type": "{fields.get("data_type", "T")}"{numbers}'
        ', "cached_at": "2024-11-10T12:00:00", "position": "stub.1.1.0000"}'
    )


def news_item(realkey: str, title: str, **fields: Any) -> dict[str, Any]:
    """Return a news item; its position is added where it is sent."""
    return {
        "type": "news",
        "date": "20230614",
        "time": "095217",
        "id": "27",
        "realkey": realkey,
        "title": title,
        "bodysize": "4841",
        "code": "000000011810",
        "provider": "헤럴드경제",
        "news_type": "article",
        "stocks": [{"code": "011810", "name": "STX"}],
        "published_at": "2023-06-14T09:52:17+09:00",
        "received_at": "2023-06-14T00:52:30.123456Z",
        "repeat_of": None,
        **fields,
    }


@asynccontextmanager
async def run_stub_edge() -> AsyncIterator[StubEdge]:
    """Run an edge to the end of the context."""
    edge = StubEdge()
    await edge.start()
    try:
        yield edge
    finally:
        await edge.stop()
