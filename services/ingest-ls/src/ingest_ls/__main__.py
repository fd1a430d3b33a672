"""Start the LS ingest: what a replica needs, and the replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import httpx
from prometheus_client import CollectorRegistry

from feedmesh.bus import connect_bus
from feedmesh.errors import SettingsError, SpoolError
from feedmesh.ingest.spool import Spool
from feedmesh.ingest.wire import tls_context
from feedmesh.ops import Readiness, serve_ops
from feedmesh.service import bind, job_group, run_service, unless_stopped
from ingest_ls.replica import Replica
from ingest_ls.settings import Settings


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Stand by and lead in turns until *stop* is set."""
    registry = CollectorRegistry()
    check: list[Callable[[], str | None]] = [lambda: "starting"]
    readiness = Readiness({"ingest": lambda: check[-1]()})
    async with AsyncExitStack() as stack:
        listener = bind(settings.ops_host, settings.ops_port, "OPS_PORT")
        await stack.enter_async_context(serve_ops(listener, registry, readiness))
        spool = _spool(settings)
        if spool is not None:
            stack.callback(spool.close)
        bus = await unless_stopped(
            stop, stack.enter_async_context(connect_bus(settings, "ingest-ls"))
        )
        http = await stack.enter_async_context(_http(settings))
        replica = Replica(settings, bus, http, registry, spool)
        check.append(replica.problem)
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(job_group(ended, **replica.jobs()), name="jobs")
            await replica.take_turns(stop)
            ended.set()


def _spool(settings: Settings) -> Spool | None:
    if settings.ls_spool_dir is None:
        return None
    try:
        return Spool(settings.ls_spool_dir / "news.spool", settings.ls_spool_max << 20)
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
