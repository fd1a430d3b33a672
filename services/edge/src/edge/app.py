"""
Every route that a client can reach.

The two older contracts are frozen: paths, keys, their order, their bytes. What is new
lies under ``/api/v3``. Operators' routes are on the ops port; ``/health`` is here only
because the price contract has it.
"""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from typing import Annotated, Any, Literal

import msgspec
from fastapi import (
    APIRouter,
    FastAPI,
    HTTPException,
    Path,
    Request,
    Response,
    WebSocket,
)
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from edge.clients.outlet import outlet_of
from edge.contract.news import NewsSession
from edge.contract.prices import PriceSession, parse_symbols
from edge.contract.session import ContractSession
from edge.door.gate import TokenGate
from edge.door.login import login_of, may_see
from edge.news.instants import find_instant
from edge.parts import EdgeParts
from edge.rest.gate import AddressBuckets, RestGate
from edge.rest.models import (
    CachedPrices,
    Health,
    LegacyStatus,
    LegacySymbols,
    PriceFrame,
)
from edge.rest.openapi import describe, legacy
from edge.rest.problems import add_problems
from edge.rest.routes import RestParts, rest_v3
from edge.stream import asyncapi
from edge.stream.session import PROTOCOL, StreamSession
from feedmesh.bus import Bus
from feedmesh.demand import read_pins, write_pins
from feedmesh.errors import BusError
from feedmesh.symbols import parse_symbol


__all__ = ["build_app"]

_PRICES = "/api/v2/realtime"
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


def build_app(parts: EdgeParts) -> FastAPI:
    """Return the application that serves *parts*."""
    app = FastAPI(
        title="feedmesh edge",
        version="0.1.0",
        docs_url=None,
        redoc_url=None,
        # They would lead to whatever host the request names.
        redirect_slashes=False,
    )
    if parts.auth is not None:
        legacy_open = parts.settings.edge_auth_legacy == "open"
        app.add_middleware(TokenGate, auth=parts.auth, legacy_open=legacy_open)
    app.add_middleware(
        RestGate,
        buckets=AddressBuckets(parts.settings.edge_rest_rate),
        refused=parts.metrics.refused.labels("rest_rate").inc,
    )
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(parts.settings.edge_origins),
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", "if-none-match"],
        expose_headers=["age", "etag", "retry-after"],
    )
    add_problems(app, _unprocessable)
    _add_websockets(app, parts)
    _add_cache(app, parts)
    _add_pins(app, parts)
    _add_state(app, parts)
    app.include_router(_rest_v3(parts))
    _add_page(app)
    app.openapi = partial(describe, app)  # type: ignore[method-assign] # as FastAPI's manual has it
    return app


async def _unprocessable(_: Request, error: Exception) -> Response:
    # FastAPI's own answer repeats the input, whatever its size.
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _json({"detail": f"{where}: {first['msg']}"}, status=422)


def _add_websockets(app: FastAPI, parts: EdgeParts) -> None:
    async def serve(websocket: WebSocket, session: type[ContractSession]) -> None:
        if await parts.admission.admits(websocket):
            await websocket.accept()
            outlet = outlet_of(websocket)
            outlet.attach(session(outlet, parts, login_of(websocket)))

    @app.websocket(f"{_PRICES}/ws/prices")
    async def prices(websocket: WebSocket) -> None:
        await serve(websocket, PriceSession)

    @app.websocket("/ws/news")
    async def news(websocket: WebSocket) -> None:
        await serve(websocket, NewsSession)

    @app.websocket("/api/v3/stream")
    async def stream(
        websocket: WebSocket, frames: Literal["object", "array"] = "object"
    ) -> None:
        if not await parts.admission.admits(websocket):
            return
        offered = websocket.scope["subprotocols"]
        await websocket.accept(PROTOCOL if PROTOCOL in offered else None)
        outlet = outlet_of(websocket)
        login = login_of(websocket)
        outlet.attach(StreamSession(outlet, parts, login, arrays=frames == "array"))

    @app.get("/asyncapi.json", include_in_schema=False)
    async def stream_described() -> Response:
        return _json_bytes(asyncapi.encoded())


def _add_cache(app: FastAPI, parts: EdgeParts) -> None:
    @app.get(
        f"{_PRICES}/cache",
        summary="Every cached value, by symbol",
        responses=legacy(CachedPrices, 429),
    )
    async def cache(request: Request) -> Response:
        """All values in one object, without pages; see `/api/v3/prices` for those."""
        return _json_bytes(parts.cache.as_json(may_see(request)))

    @app.get(
        f"{_PRICES}/cache/{{symbol}}",
        summary="One cached value",
        responses=legacy(PriceFrame, 404, 422, 429),
    )
    async def cached(
        request: Request,
        symbol: Annotated[str, Path(description="In upper or lower case.")],
    ) -> Response:
        """The newest value of a symbol, as the WebSocket sends it."""
        try:
            name = parse_symbol(symbol)
        except ValueError:
            raise HTTPException(422, "that is not a legal symbol") from None
        entry = parts.cache.entry(name)
        if entry is None or not login_of(request).identity.may_see(name):
            raise HTTPException(404, f"there is no cached value for {name}")
        return _json_bytes(entry.frame)


def _add_pins(app: FastAPI, parts: EdgeParts) -> None:
    async def pin(request: Request, symbols: list[str], *, kept: bool) -> Response:
        try:
            names = parse_symbols(symbols)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        identity = login_of(request).identity
        # Pins belong to nobody, so nobody's can be counted.
        if identity.max_symbols is not None or not all(map(identity.may_see, names)):
            raise HTTPException(403, "this token does not allow that")
        try:
            await write_pins(parts.bus, names, kept=kept)
        except BusError:
            raise HTTPException(
                503, "NATS does not answer; try again", {"Retry-After": "2"}
            ) from None
        return _json({"symbols": names})

    @app.post(
        f"{_PRICES}/subscribe",
        summary="Keep symbols flowing without a client",
        responses=legacy(LegacySymbols, 422, 429, 503),
    )
    async def subscribe(request: Request, symbols: list[str]) -> Response:
        """Ask the feeds for up to 50 symbols even while nobody listens to them."""
        return await pin(request, symbols, kept=True)

    @app.post(
        f"{_PRICES}/unsubscribe",
        summary="Stop keeping symbols flowing",
        responses=legacy(LegacySymbols, 422, 429, 503),
    )
    async def unsubscribe(request: Request, symbols: list[str]) -> Response:
        """Undo what `subscribe` asked for."""
        return await pin(request, symbols, kept=False)


def _add_state(app: FastAPI, parts: EdgeParts) -> None:
    @app.get(
        f"{_PRICES}/health",
        summary="Whether this edge is healthy",
        responses={**legacy(Health), 503: {"model": Health}},
    )
    async def health() -> Response:
        """Why the edge is not well, if it is not, and how the feeds are."""
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

    @app.get(
        f"{_PRICES}/status",
        summary="Feeds, symbols, clients, reconnects",
        responses=legacy(LegacyStatus, 429),
    )
    async def status(request: Request) -> Response:
        """What flows, and to how many."""
        feeds = parts.status.feeds()
        try:
            pins = await read_pins(parts.bus)
        except BusError:
            pins = frozenset()
        identity = login_of(request).identity
        body = {
            "feeds": feeds,
            "symbols": sorted(filter(identity.may_see, pins.union(parts.hub.symbols))),
            "clients": len(parts.clients),
            "reconnects": sum(frame.reconnects for frame in feeds.values()),
            "nats": _nats(parts.bus),
        }
        return _json(body)


def _nats(bus: Bus) -> dict[str, Any]:
    return {"connected": bus.connected, "reconnects": bus.state.reconnects}


def _rest_v3(parts: EdgeParts) -> APIRouter:
    def edge() -> dict[str, Any]:
        problems = parts.problems()
        return {
            "status": "unhealthy" if problems else "healthy",
            "problems": problems,
            "nats": _nats(parts.bus),
            "clients": len(parts.clients),
            "cached_symbols": len(parts.cache),
        }

    return rest_v3(
        RestParts(
            cache=parts.cache,
            tape=parts.tape,
            news=parts.news,
            find_instant=partial(find_instant, parts.bus),
            feeds=parts.status,
            gaps=parts.gaps,
            freshness=parts.freshness,
            edge=edge,
            may_see=may_see,
        )
    )


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
