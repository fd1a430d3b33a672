"""Wire the parts of the FMP ingest together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from prometheus_client import CollectorRegistry

from feedmesh.bus import Bus, connect_bus
from feedmesh.demand import DemandListener
from feedmesh.errors import BusError
from feedmesh.ingest.dead_letters import DeadLetters
from feedmesh.ingest.feed import Link, LinkLimits
from feedmesh.ingest.gaps import GapKeeper
from feedmesh.ingest.leadership import HeirPauses, Leadership, Term, retried
from feedmesh.ingest.price_publisher import PricePublisher
from feedmesh.ingest.subscriptions import SubscriptionBook
from feedmesh.ingest.wire import tls_context
from feedmesh.metrics import BusMetrics, IngestMetrics
from feedmesh.ops import Readiness, serve_ops
from feedmesh.service import (
    Job,
    StopRequested,
    bind,
    job_group,
    run_service,
    unless_stopped,
)
from feedmesh.status import StatusPublisher
from ingest_fmp.ingest import FEED, FmpIngest
from ingest_fmp.routing import LINKS, route
from ingest_fmp.settings import Settings
from ingest_fmp.upstream import FmpDialect


logger = logging.getLogger(__name__)

_SHOW_SECONDS = 1.0
_WARM_SECONDS = 1.0


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
        ingest = _Ingest(settings, bus, registry)
        check.append(ingest.problem)
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(job_group(ended, **ingest.jobs()), name="jobs")
            await ingest.take_turns(stop)
            ended.set()


class _Ingest:
    """The parts of the ingest and the jobs that keep them going."""

    def __init__(
        self, settings: Settings, bus: Bus, registry: CollectorRegistry
    ) -> None:
        self._settings = settings
        self._bus = bus
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
        self._gaps = GapKeeper(bus, self._handler.next_version, self._metrics)
        self._leadership = Leadership(
            bus,
            FEED,
            complete=self._gaps.complete,
            show=self._metrics.leader.labels(FEED).set,
            intruded=self._publisher.republish_all,
        )
        self._status = StatusPublisher(
            bus, FEED, self._handler.next_version, self._gaps.complete
        )
        self._pauses = HeirPauses()
        self._links = self._make_links()
        self._demand = DemandListener(
            bus,
            [symbol for symbol in settings.fmp_symbols if symbol != "*"],
            settings.fmp_grace,
            self._wanted,
        )

    def problem(self) -> str | None:
        """Return what is wrong, for readiness; standing by is not."""
        return self._leadership.problem() or self._bus.check()

    def jobs(self) -> dict[str, Job]:
        """Return what runs whether we lead or not."""
        return {"demand": self._demand.run, "show": self._show}

    async def take_turns(self, stop: asyncio.Event) -> None:
        """Stand by and lead until *stop* is set."""
        await self._leadership.run(stop, self._stand_by, self._lead)

    async def _stand_by(self) -> None:
        while True:
            with contextlib.suppress(BusError):
                await self._handler.warm(self._bus)
            await asyncio.sleep(_WARM_SECONDS)

    async def _lead(self, term: Term) -> None:
        """Write until the term is over."""
        try:
            await unless_stopped(term.over, self._take_over(term))
        except StopRequested:
            return
        term.claimed = lambda claim: self._handler.begin(claim.epoch)
        written = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            writers = job_group(
                written,
                publisher=self._publisher.run,
                gaps=partial(self._gaps.run, self._links),
            )
            group.create_task(writers, name="writers")
            await job_group(term.over, **self._readers())
            with contextlib.suppress(StopRequested):
                flushed = self._gaps.flushed(self._settings.shutdown_timeout)
                await unless_stopped(term.overtaken, flushed)
            written.set()

    async def _take_over(self, term: Term) -> None:
        """Continue from what the last leader published."""
        self._pauses.begin()
        symbols = await retried(partial(self._handler.warm, self._bus))
        self._handler.begin(term.claim.epoch)
        await retried(partial(self._gaps.take_over, self._bus, term.before))
        term.working = True
        logger.info("took over", extra={"symbols": symbols})

    def _readers(self) -> dict[str, Job]:
        """Return what a leader does besides writing."""
        links: dict[str, Job] = {f"link_{link.name}": link.run for link in self._links}
        return links | {"status": partial(self._status.run, self._links)}

    def _link_changed(self) -> None:
        self._status.changed()
        self._gaps.changed()

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
                pauses=self._pauses,
                changed=self._link_changed,
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
            self._bus_metrics.show(self._bus)
            backlog = self._metrics.backlog.labels(FEED, "price")
            backlog.set(self._publisher.unconfirmed)
            await asyncio.sleep(_SHOW_SECONDS)


if __name__ == "__main__":
    run_service("ingest-fmp", Settings, main)
