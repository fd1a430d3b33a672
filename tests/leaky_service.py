"""The negative control of the soak: a service that keeps a little of all it takes."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from functools import partial

from prometheus_client import CollectorRegistry

from feedmesh.bus import Bus, connect_bus
from feedmesh.ops import Readiness, serve_ops
from feedmesh.service import bind, job_group, run_service
from feedmesh.settings import ServiceSettings


_EVERY_SECONDS = 10.0
_KIB = 64


async def main(settings: ServiceSettings, stop: asyncio.Event) -> None:
    """Leak until *stop* is set."""
    registry = CollectorRegistry()
    async with AsyncExitStack() as stack:
        listener = bind(settings.ops_host, settings.ops_port, "OPS_PORT")
        ready = Readiness({})
        await stack.enter_async_context(serve_ops(listener, registry, ready))
        bus = await stack.enter_async_context(connect_bus(settings, "leaky"))
        await job_group(stop, leak=partial(leak, bus))


async def leak(bus: Bus) -> None:
    """Take memory, a descriptor, a task and a subscription every few seconds."""
    kept: list[object] = []
    while True:
        kept.append(os.urandom(_KIB * 1024))
        kept.append(os.open(os.devnull, os.O_RDONLY))
        kept.append(asyncio.create_task(asyncio.Event().wait()))
        kept.append(await bus.nc.subscribe(f"leaky.{len(kept)}"))
        await asyncio.sleep(_EVERY_SECONDS)


if __name__ == "__main__":
    run_service("leaky", ServiceSettings, main)
