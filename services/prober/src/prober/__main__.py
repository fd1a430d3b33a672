"""Wire the parts of the prober together."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import httpx
from prometheus_client import CollectorRegistry

from feedmesh.ops import Readiness, serve_ops
from feedmesh.service import Job, bind, job_group, run_service
from prober.certificates import show_expiries
from prober.edge_client import EdgeClient
from prober.metrics import ProberMetrics
from prober.nats_servers import NatsServers
from prober.settings import Settings


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Watch until *stop* is set."""
    registry = CollectorRegistry()
    metrics = ProberMetrics(registry)
    async with AsyncExitStack() as stack:
        listener = bind(settings.ops_host, settings.ops_port, "OPS_PORT")
        # It is ready as soon as it looks: what it finds is not its own condition.
        await stack.enter_async_context(serve_ops(listener, registry, Readiness({})))
        http = await stack.enter_async_context(httpx.AsyncClient())
        servers = NatsServers(settings.prober_nats, http, metrics)

        async def look() -> None:
            while True:
                await servers.look()
                await show_expiries(settings.prober_certificates, metrics)
                await asyncio.sleep(settings.prober_every)

        jobs: dict[str, Job] = {
            f"edge_{number}": EdgeClient(settings, url, metrics).run
            for number, url in enumerate(settings.prober_edges)
        }
        await job_group(stop, look=look, **jobs)


if __name__ == "__main__":
    run_service("prober", Settings, main)
