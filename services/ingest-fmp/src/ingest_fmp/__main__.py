"""Wire the parts of the FMP ingest together."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from functools import partial

from prometheus_client import CollectorRegistry

from feedmesh.bus import Bus, connect_bus
from feedmesh.dead_letters import DeadLetters
from feedmesh.demand import DemandListener
from feedmesh.feed import Link, LinkLimits
from feedmesh.metrics import BusMetrics, IngestMetrics
from feedmesh.ops import Readiness, serve_ops
from feedmesh.price_publisher import PricePublisher
from feedmesh.service import Job, bind, job_group, run_service, unless_stopped
from feedmesh.status import StatusPublisher
from feedmesh.subscriptions import SubscriptionBook
from feedmesh.wire import tls_context
from ingest_fmp.ingest import FEED, FmpIngest
from ingest_fmp.routing import LINKS, route
from ingest_fmp.settings import Settings
from ingest_fmp.turn import Turn
from ingest_fmp.upstream import FmpDialect


logger = logging.getLogger(__name__)

_SHOW_SECONDS = 1.0


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Run the ingest until *stop* is set."""
    if settings.key_goes_nowhere:
        logger.warning("FMP_API_KEY is set, but the URLs lead to this machine")
    registry = CollectorRegistry()
    problems = {"start": "starting"}
    readiness = Readiness({"ingest": lambda: "; ".join(problems.values()) or None})
    async with AsyncExitStack() as stack:
        listener = bind(settings.ops_host, settings.ops_port, "OPS_PORT")
        await stack.enter_async_context(serve_ops(listener, registry, readiness))
        bus = await unless_stopped(
            stop, stack.enter_async_context(connect_bus(settings, "ingest-fmp"))
        )
        ingest = _Ingest(settings, bus, registry, problems)
        problems["start"] = "waiting for the streams"
        await unless_stopped(stop, ingest.turn.take())
        await job_group(stop, **ingest.jobs())


class _Ingest:
    """The parts of the ingest and the jobs that keep them going."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        registry: CollectorRegistry,
        problems: dict[str, str],
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._problems = problems
        self._metrics = IngestMetrics(registry, FEED)
        self._bus_metrics = BusMetrics(registry)
        self._publisher = PricePublisher(bus)
        self._handler = FmpIngest(
            settings.fmp_product,
            self._publisher,
            DeadLetters(bus, "ingest-fmp"),
            self._metrics,
            settings.fmp_crypto_venue,
        )
        self.turn = Turn(bus, self._handler)
        self._status = StatusPublisher(bus, FEED, self._handler.next_version)
        self._links = self._make_links()
        self._demand = DemandListener(
            bus,
            [symbol for symbol in settings.fmp_symbols if symbol != "*"],
            settings.fmp_grace,
            self._wanted,
        )

    def jobs(self) -> dict[str, Job]:
        """Return everything that runs side by side."""
        links: dict[str, Job] = {f"link_{link.name}": link.run for link in self._links}
        return links | {
            "publisher": self._publisher.run,
            "turn": self.turn.run,
            "demand": self._demand.run,
            "status": partial(self._status.run, self._links),
            "show": self._show,
        }

    def _make_links(self) -> list[Link]:
        settings = self._settings
        tls = tls_context(settings.fmp_ca_file)
        return [
            Link(
                FmpDialect(
                    name,
                    settings.urls[name],
                    settings.fmp_api_key,
                    by_stream=name == "stream",
                    tls=tls,
                    ping_seconds=settings.fmp_ping or None,
                ),
                SubscriptionBook(batch=1 if name == "stream" else 50),
                self._handler.handle,
                self._metrics,
                LinkLimits(silence_seconds=settings.fmp_silence),
                changed=self._status.changed,
                rests=True,
            )
            for name in LINKS[settings.fmp_product]
        ]

    def _wanted(self, symbols: frozenset[str]) -> None:
        settings = self._settings
        routes = route(
            settings.fmp_product,
            symbols,
            settings.fmp_streams,
            everything=settings.everything,
        )
        for link in self._links:
            wanted = routes[link.name]
            expected = None if settings.everything else wanted.symbols
            self._handler.expected[link.name] = expected
            link.want(wanted.keys)

    async def _show(self) -> None:
        while True:
            problem = self._bus.check()
            self._problems.clear()
            if problem:
                self._problems["nats"] = problem
            self._bus_metrics.show(self._bus)
            backlog = self._metrics.backlog.labels(FEED, "price")
            backlog.set(self._publisher.unconfirmed)
            await asyncio.sleep(_SHOW_SECONDS)


if __name__ == "__main__":
    run_service("ingest-fmp", Settings, main)
