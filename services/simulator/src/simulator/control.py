"""The control port: orders in, statistics out, all in JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response

from simulator.faults import TARGETS, FaultError, kinds_of
from simulator.malformed import VARIANTS
from simulator.wire import compact, loads_exact


if TYPE_CHECKING:
    from simulator.simulation import Simulator


def application(simulator: Simulator) -> FastAPI:
    """Return the routes for *simulator*."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    async def overview() -> Response:
        return _json({"event": "ready", **simulator.urls, "stats": simulator.stats()})

    @app.get("/healthz")
    async def healthz() -> Response:
        return _json({"status": "ok"})

    @app.get("/stats")
    async def stats() -> Response:
        return _json(simulator.stats())

    @app.get("/fault")
    async def faults() -> Response:
        return _json({"faults": [fault.describe() for fault in simulator.faults]})

    @app.get("/fault/kinds")
    async def kinds() -> Response:
        known = {t: {k: sorted(p) for k, p in kinds_of(t).items()} for t in TARGETS}
        return _json({"kinds": known, "malformed_variants": list(VARIANTS)})

    @app.delete("/fault")
    async def clear(target: str | None = None, kind: str | None = None) -> Response:
        try:
            return _json({"cleared": simulator.faults.clear(target, kind)})
        except FaultError as error:
            return _json({"error": str(error)}, 422)

    @app.post("/inject")
    async def inject(request: Request) -> Response:
        return _carry_out(simulator, "inject", await request.body())

    @app.post("/inject/evenly")
    async def inject_evenly(request: Request) -> Response:
        try:
            order = _order(loads_exact(await request.body()))
            return _json(await simulator.inject_evenly(order))
        except ValueError as error:
            return _json({"error": str(error)}, 422)

    @app.post("/fault")
    async def fault(request: Request) -> Response:
        return _carry_out(simulator, "fault", await request.body())

    @app.post("/clock")
    async def clock(request: Request) -> Response:
        return _carry_out(simulator, "clock", await request.body())

    @app.post("/generate")
    async def generate(request: Request) -> Response:
        return _carry_out(simulator, "generate", await request.body())

    return app


def _carry_out(simulator: Simulator, action: str, body: bytes) -> Response:
    try:
        order: object = loads_exact(body) if action == "inject" else json.loads(body)
        return _json(simulator.order(action, _order(order)))
    except ValueError as error:
        return _json({"error": str(error)}, 422)


def _order(given: object) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise FaultError("the order was not a JSON object")
    return given


def _json(value: object, status: int = 200) -> Response:
    # A client's message may hold a lone surrogate, which must not end the reply.
    content = compact(value).encode("utf-8", "replace")
    return Response(content, status, media_type="application/json")
