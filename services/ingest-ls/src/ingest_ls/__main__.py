"""Start the LS ingest."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import httpx

from feedmesh.errors import SettingsError, SpoolError
from feedmesh.ingest.process import run_replica
from feedmesh.ingest.spools import Spools
from feedmesh.ingest.wire import tls_context
from feedmesh.service import run_service
from ingest_ls.replica import Replica
from ingest_ls.settings import Settings


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Stand by and lead in turns until *stop* is set."""
    async with AsyncExitStack() as stack:
        spools = _spools(settings)
        if spools is not None:
            stack.callback(spools.close)
        http = await stack.enter_async_context(_http(settings))
        await run_replica(
            "ingest-ls",
            settings,
            stop,
            lambda bus, registry: Replica(settings, bus, http, registry, spools),
        )


def _spools(settings: Settings) -> Spools | None:
    if settings.ls_spool_dir is None:
        return None
    try:
        return Spools(settings.ls_spool_dir, settings.ls_spool_max << 20)
    except SpoolError as error:
        raise SettingsError(f"LS_SPOOL_DIR: {error}") from None


def _http(settings: Settings) -> httpx.AsyncClient:
    try:
        tls = tls_context(settings.ls_ca_file)
    except OSError as error:
        raise SettingsError(f"LS_CA_FILE: {type(error).__name__}") from None
    return httpx.AsyncClient(base_url=settings.ls_rest_url, verify=tls)


if __name__ == "__main__":
    run_service("ingest-ls", Settings, main)
