"""
Every route that a client can reach.

The two older contracts are frozen: paths, keys, their order, their bytes. What is new
lies under ``/api/v3``. Operators' routes are on the ops port; ``/health`` is here only
because the price contract has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, HTTPException, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from edge.admission import Admission
from edge.hub import PriceHub
from edge.metrics import EdgeMetrics
from edge.news_feed import serve_news
from edge.news_log import NewsLog
from edge.price_cache import PriceCache
from edge.price_feed import parse_symbols, serve_prices
from edge.settings import Settings
from edge.status_board import StatusBoard
from feedmesh.bus import Bus
from feedmesh.demand import read_pins, write_pins
from feedmesh.errors import BusError
from feedmesh.symbols import parse_symbol


__all__ = ["EdgeParts", "build_app"]

_PRICES = "/api/v2/realtime"
_NEWS_LIMIT = 500
# The page loads nothing from elsewhere and runs nothing that is not a file of ours, so
# that text from upstream could do no harm even if it were shown as markup by mistake.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


_PAGE_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@dataclass(frozen=True)
class EdgeParts:
    """Everything that routes need."""

    settings: Settings
    bus: Bus
    cache: PriceCache
    hub: PriceHub
    news: NewsLog
    status: StatusBoard
    metrics: EdgeMetrics
    admission: Admission
    problems: Callable[[], dict[str, str]]


def build_app(parts: EdgeParts) -> FastAPI:
    """Return the application that serves *parts*."""
    app = FastAPI(title="feedmesh edge", version="0.1.0", docs_url=None, redoc_url=None)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(parts.settings.edge_origins),
        allow_methods=["GET", "POST"],
        allow_headers=["content-type"],
    )
    app.add_exception_handler(RequestValidationError, _unprocessable)
    _add_websockets(app, parts)
    _add_cache(app, parts)
    _add_pins(app, parts)
    _add_state(app, parts)
    _add_news(app, parts)
    _add_page(app)
    return app


async def _unprocessable(_: Request, error: Exception) -> Response:
    # FastAPI's own answer repeats the input, whatever its size.
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _json({"detail": f"{where}: {first['msg']}"}, status=422)


def _add_websockets(app: FastAPI, parts: EdgeParts) -> None:
    @app.websocket(f"{_PRICES}/ws/prices")
    async def prices(websocket: WebSocket) -> None:
        async with parts.admission.admit(websocket, "prices") as admitted:
            if admitted:
                await serve_prices(websocket, parts.hub, parts.metrics)

    @app.websocket("/ws/news")
    async def news(websocket: WebSocket) -> None:
        async with parts.admission.admit(websocket, "news") as admitted:
            if admitted:
                await serve_news(
                    websocket, parts.news, parts.metrics, parts.settings.edge_stuck
                )


def _add_cache(app: FastAPI, parts: EdgeParts) -> None:
    @app.get(f"{_PRICES}/cache", summary="Every cached value, by symbol")
    async def cache() -> Response:
        return _json_bytes(parts.cache.as_json())

    @app.get(f"{_PRICES}/cache/{{symbol}}", summary="One cached value")
    async def cached(symbol: str) -> Response:
        try:
            name = parse_symbol(symbol)
        except ValueError:
            raise HTTPException(422, "that is not a legal symbol") from None
        frame = parts.cache.frame(name)
        if frame is None:
            raise HTTPException(404, f"there is no cached value for {name}")
        return _json_bytes(frame)


def _add_pins(app: FastAPI, parts: EdgeParts) -> None:
    async def pin(symbols: list[str], *, kept: bool) -> Response:
        try:
            names = parse_symbols(symbols)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        try:
            await write_pins(parts.bus, names, kept=kept)
        except BusError:
            raise HTTPException(
                503, "NATS does not answer; try again", {"Retry-After": "2"}
            ) from None
        return _json({"symbols": names})

    @app.post(f"{_PRICES}/subscribe", summary="Keep symbols flowing without a client")
    async def subscribe(symbols: list[str]) -> Response:
        return await pin(symbols, kept=True)

    @app.post(f"{_PRICES}/unsubscribe", summary="Stop keeping symbols flowing")
    async def unsubscribe(symbols: list[str]) -> Response:
        return await pin(symbols, kept=False)


def _add_state(app: FastAPI, parts: EdgeParts) -> None:
    @app.get(f"{_PRICES}/health", summary="Whether this edge is healthy")
    async def health() -> Response:
        problems = parts.problems()
        feeds = {
            feed: {"state": frame.state, "last_message_at": frame.last_message_at}
            for feed, frame in parts.status.feeds().items()
        }
        body = {
            "status": "unhealthy" if problems else "healthy",
            "problems": problems,
            "feeds": feeds,
            "nats": _nats(parts.bus),
        }
        return _json(body, status=503 if problems else 200)

    @app.get(f"{_PRICES}/status", summary="Feeds, symbols, clients, reconnects")
    async def status() -> Response:
        feeds = parts.status.feeds()
        try:
            pins = await read_pins(parts.bus)
        except BusError:
            pins = frozenset()
        body = {
            "feeds": feeds,
            "symbols": sorted(pins.union(parts.hub.symbols)),
            "clients": parts.admission.clients,
            "reconnects": sum(frame.reconnects for frame in feeds.values()),
            "nats": _nats(parts.bus),
        }
        return _json(body)


def _nats(bus: Bus) -> dict[str, Any]:
    return {"connected": bus.connected, "reconnects": bus.state.reconnects}


def _add_news(app: FastAPI, parts: EdgeParts) -> None:
    @app.get("/api/v3/news", summary="The newest news items, oldest first")
    async def news(
        limit: Annotated[int, Query(ge=1, le=_NEWS_LIMIT)] = 100,
    ) -> Response:
        return _json_bytes(b'{"items":[%b]}' % b",".join(parts.news.recent(limit)))


def _add_page(app: FastAPI) -> None:
    page = files("edge").joinpath("page")
    index = page.joinpath("index.html").read_bytes()

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return Response(
            index,
            media_type="text/html; charset=utf-8",
            headers={**_PAGE_HEADERS, "content-security-policy": _PAGE_POLICY},
        )

    app.mount("/page", _PageFiles(directory=str(page)), name="page")


class _PageFiles(StaticFiles):
    """The files of the page; a browser must not mix those of two versions."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_PAGE_HEADERS)
        return response


def _json(body: object, status: int = 200) -> Response:
    return _json_bytes(msgspec.json.encode(body), status)


def _json_bytes(body: bytes, status: int = 200) -> Response:
    return Response(
        body,
        status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )
