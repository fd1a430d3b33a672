"""
An edge as the page sees it, that says what a test tells it to.

It keeps the contracts of the real one as far as the page uses them, and can be stopped
and started again on the same port. It imports nothing of ours: a test of the page must
not follow a mistake of the edge.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Response, WebSocket, WebSocketDisconnect
from starlette.staticfiles import StaticFiles


__all__ = ["StubEdge", "news_item", "price_frame", "run_stub_edge"]

PAGE = Path(__file__).parents[3] / "services/edge/src/edge/page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SYMBOL = re.compile(r"[A-Z0-9^][A-Z0-9.^=/-]{0,19}")
_TEST_ITEM = '{"type":"test","title":"the news path works"}'


class StubEdge:
    """
    The server and the levers of a test.

    Attributes:
        frames: The cached price frame of each symbol.
        news: Every news item, oldest first.
        status: What the status endpoint answers; None for an error.
        requests: Every request of price clients, in order.
        price_connections: How many price clients have ever connected.
        mute: Whether price clients get no answer, as behind a link that is dead.
    """

    def __init__(self) -> None:
        self.frames: dict[str, str] = {}
        self.news: list[dict[str, Any]] = []
        self.status: dict[str, Any] | None = {"feeds": {}, "nats": {"connected": True}}
        self.requests: list[dict[str, Any]] = []
        self.price_connections = 0
        self.mute = False
        self._price_clients: dict[WebSocket, set[str]] = {}
        self._news_clients: set[WebSocket] = set()
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._port = 0
        self._app = self._build()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    @property
    def subscribed(self) -> set[str]:
        """What the price clients that are connected have asked for."""
        return set().union(*self._price_clients.values())

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
        for client, symbols in list(self._price_clients.items()):
            if symbol in symbols:
                await client.send_text(frame)

    async def tell(self, item: dict[str, Any]) -> None:
        """Log a news item and send it to all news clients."""
        self.news.append(item)
        for client in list(self._news_clients):
            await client.send_json(item)

    async def hang_up(self) -> None:
        """Close all WebSockets, and stay."""
        for client in [*self._price_clients, *self._news_clients]:
            await client.close(1012)

    def _build(self) -> FastAPI:
        app = FastAPI()

        @app.websocket("/api/v2/realtime/ws/prices")
        async def prices(client: WebSocket) -> None:
            await client.accept()
            self.price_connections += 1
            self._price_clients[client] = set()
            with contextlib.suppress(WebSocketDisconnect):
                while True:
                    await self._obey(client, json.loads(await client.receive_text()))
            del self._price_clients[client]

        @app.websocket("/ws/news")
        async def news(client: WebSocket) -> None:
            await client.accept()
            await client.send_text(_TEST_ITEM)
            self._news_clients.add(client)
            with contextlib.suppress(WebSocketDisconnect):
                while True:
                    await client.receive_text()
            self._news_clients.discard(client)

        @app.get("/api/v3/news")
        async def recent(limit: int = 100) -> dict[str, Any]:
            return {"items": self.news[-limit:]}

        @app.get("/api/v2/realtime/status")
        async def status() -> Response:
            if self.status is None:
                return Response("not now", 503)
            return Response(json.dumps(self.status), media_type="application/json")

        @app.get("/")
        async def index() -> Response:
            return Response(
                (PAGE / "index.html").read_bytes(),
                media_type="text/html; charset=utf-8",
                headers={"content-security-policy": POLICY},
            )

        app.mount("/page", StaticFiles(directory=PAGE))
        return app

    async def _obey(self, client: WebSocket, request: dict[str, Any]) -> None:
        if self.mute:
            return
        self.requests.append(request)
        symbols = request["symbols"]
        for symbol in symbols:
            if not _SYMBOL.fullmatch(symbol):
                shown = json.dumps(symbol[:20], ensure_ascii=False)
                message = f"{shown} is not a legal symbol"
                await client.send_json({"type": "error", "message": message})
                return
        if request["action"] == "unsubscribe":
            self._price_clients[client].difference_update(symbols)
            return
        self._price_clients[client].update(symbols)
        for symbol in symbols:
            if symbol in self.frames:
                await client.send_text(self.frames[symbol])


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


def price_frame(symbol: str, **fields: str | int | None) -> str:
    """Return a frame as the price contract has it; what is not given is null."""

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
        ', "cached_at": "2024-11-10T12:00:00"}'
    )


def news_item(realkey: str, title: str, **fields: Any) -> dict[str, Any]:
    """Return an item as the news contract has it."""
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
