"""Run a FastAPI application on a socket that somebody else has opened."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process: uvicorn would raise them again."""
        yield


async def serve_http(
    application: FastAPI,
    listener: socket.socket,
    tls: tuple[Path, Path] | None = None,
) -> None:
    """Serve until cancelled, then shut down in order."""
    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        await asyncio.shield(serving)
    finally:
        # uvicorn does not shut down when it is cancelled; it must be asked to.
        server.should_exit = True
        server.force_exit = True
        await serving


def tls_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return a server context for the given files, None if there are none."""
    if cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context
