"""The process of an ingest: what a replica needs, and the replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Protocol

from prometheus_client import CollectorRegistry

from feedmesh.bus import Bus, connect_bus
from feedmesh.ops import Readiness, serve_ops
from feedmesh.service import Job, bind, job_group, unless_stopped
from feedmesh.settings import ServiceSettings


__all__ = ["Replicates", "run_replica"]


class Replicates(Protocol):
    """One replica of an ingest."""

    def problem(self) -> str | None:
        """Return what is wrong, for readiness; standing by is not."""

    def jobs(self) -> dict[str, Job]:
        """Return what runs whether it leads or not."""

    async def take_turns(self, stop: asyncio.Event) -> None:
        """Stand by and lead until *stop* is set."""


async def run_replica(
    identity: str,
    settings: ServiceSettings,
    stop: asyncio.Event,
    make: Callable[[Bus, CollectorRegistry], Replicates],
) -> None:
    """
    Run what *make* returns, which stands by and leads in turns, until *stop* is set.

    Args:
        identity: As which it connects to NATS.
        settings: What the operator has set.
        stop: Ends it.
        make: Given the connection, and where metrics go.
    """
    registry = CollectorRegistry()
    check: list[Callable[[], str | None]] = [lambda: "starting"]
    readiness = Readiness({"ingest": lambda: check[-1]()})
    async with AsyncExitStack() as stack:
        listener = bind(settings.ops_host, settings.ops_port, "OPS_PORT")
        await stack.enter_async_context(serve_ops(listener, registry, readiness))
        bus = await unless_stopped(
            stop, stack.enter_async_context(connect_bus(settings, identity))
        )
        replica = make(bus, registry)
        check.append(replica.problem)
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(job_group(ended, **replica.jobs()), name="jobs")
            await replica.take_turns(stop)
            ended.set()
