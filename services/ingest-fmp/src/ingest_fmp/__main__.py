"""Start the FMP ingest: what a replica needs, and the replica."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from feedmesh.bus import connect_bus
from feedmesh.ops import Readiness, serve_ops
from feedmesh.service import bind, job_group, run_service, unless_stopped
from ingest_fmp.replica import Replica
from ingest_fmp.settings import Settings


logger = logging.getLogger(__name__)


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Stand by and lead in turns until *stop* is set."""
    if settings.key_goes_nowhere:
        logger.warning("FMP_API_KEY is set, but the URLs lead to this machine")
    registry = CollectorRegistry()
    check: list[Callable[[], str | None]] = [lambda: "starting"]
    readiness = Readiness({"ingest": lambda: check[-1]()})
    async with AsyncExitStack() as stack:
        listener = bind(settings.ops_host, settings.ops_port, "OPS_PORT")
        await stack.enter_async_context(serve_ops(listener, registry, readiness))
        bus = await unless_stopped(
            stop, stack.enter_async_context(connect_bus(settings, "ingest-fmp"))
        )
        replica = Replica(settings, bus, registry)
        check.append(replica.problem)
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(job_group(ended, **replica.jobs()), name="jobs")
            await replica.take_turns(stop)
            ended.set()


if __name__ == "__main__":
    run_service("ingest-fmp", Settings, main)
