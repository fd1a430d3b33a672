"""
What operators and Kubernetes ask a process, on a port of its own.

``/healthz`` answers as long as the event loop turns. ``/readyz`` answers 200 when all
checks pass and names those that do not. ``/metrics`` is what Prometheus scrapes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from feedmesh.vitals import show_vitals


__all__ = ["QuietServer", "Readiness", "ops_app", "serve", "serve_ops", "together"]

logger = logging.getLogger(__name__)

Check = Callable[[], str | None]
"""Returns what is wrong, or None if all is well."""


def together(*checks: Check) -> str | None:
    """Return all that *checks* say is wrong, as one text; None if all is well."""
    return "; ".join(filter(None, (check() for check in checks))) or None


class Readiness:
    """The named checks that decide whether the process can do its job."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)

    def failures(self) -> dict[str, str]:
        """Return what is wrong, by check; empty when ready."""
        found = {name: check() for name, check in self._checks.items()}
        return {name: problem for name, problem in found.items() if problem}


class QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers: the service owns the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def ops_app(registry: CollectorRegistry, readiness: Readiness) -> Starlette:
    """Return the application behind the ops port."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        failures = readiness.failures()
        return JSONResponse(
            {"status": "not ready" if failures else "ready", "failures": failures},
            status_code=503 if failures else 200,
        )

    async def metrics(request: Request) -> Response:
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(registry), headers={"content-type": content_type})

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ]
    )


@asynccontextmanager
async def serve(
    app: Any, listener: socket.socket, **config: Any
) -> AsyncIterator[QuietServer]:
    """Serve *app* on *listener* while the context is open; *config* is uvicorn's."""
    server = QuietServer(
        uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=config.pop("timeout_graceful_shutdown", 2),
            **config,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]), name="uvicorn")
    try:
        while not server.started and not task.done():
            # uvicorn offers no event for this.
            await asyncio.sleep(0.005)
        if task.done():
            await task
        yield server
    finally:
        # Cancelling serve() would skip its shutdown and leave clients without a close.
        server.should_exit = True
        await asyncio.wait([task])
        listener.close()


@asynccontextmanager
async def serve_ops(
    listener: socket.socket, registry: CollectorRegistry, readiness: Readiness
) -> AsyncIterator[None]:
    """Serve /healthz, /readyz and /metrics while the context is open."""
    # When a series began says nothing here, and would double their number.
    disable_created_metrics()  # type: ignore[no-untyped-call] # it has no types
    app = ops_app(registry, readiness)
    async with show_vitals(registry), serve(app, listener, lifespan="off"):
        logger.info(
            "ops endpoints are up", extra={"ops_port": listener.getsockname()[1]}
        )
        yield
