"""
One replica of the FMP ingest: its parts, and its turns at standing by and leading.

A leader writes for longer than it reads: when its term ends, the links are closed
first, and what came until then is told before another may lead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial

from prometheus_client import CollectorRegistry

from feedmesh.bus import Bus, second_bus
from feedmesh.clock import now_ns
from feedmesh.demand import DemandListener
from feedmesh.doctor import StreamGate
from feedmesh.errors import BusError
from feedmesh.ingest.canary import Canary
from feedmesh.ingest.dead_letters import DeadLetters
from feedmesh.ingest.feed import Link, LinkLimits
from feedmesh.ingest.gaps import GapKeeper
from feedmesh.ingest.heir import HeirPauses
from feedmesh.ingest.held import HeldFrames
from feedmesh.ingest.leadership import Leadership
from feedmesh.ingest.price_publisher import PricePublisher
from feedmesh.ingest.subscriptions import SubscriptionBook
from feedmesh.ingest.take_over import take_over
from feedmesh.ingest.term import Term
from feedmesh.ingest.watchdog import SystemClock, Watchdog, WatchedLink
from feedmesh.ingest.wire import tls_context
from feedmesh.metrics import BusMetrics, IngestMetrics
from feedmesh.ops import together
from feedmesh.service import Job, StopRequested, job_group, unless_stopped
from feedmesh.status import StatusPublisher
from feedmesh.streams import SERVED
from feedmesh.trading_hours import Phase
from ingest_fmp.ingest import FEED, FmpIngest
from ingest_fmp.routing import LINKS, hours_of, route
from ingest_fmp.settings import Settings
from ingest_fmp.upstream import FmpDialect


__all__ = ["Replica"]

logger = logging.getLogger(__name__)

_SHOW_SECONDS = 1.0
_WARM_SECONDS = 1.0
_LEAVE_SECONDS = 1.0
_LOOK_SECONDS = 0.05
# Prices that nobody can be told are not worth the only connection for longer.
_PATIENCE_SECONDS = 90.0


class Replica:
    """
    The parts of the ingest and the jobs that keep them going.

    Args:
        settings: What the operator has set.
        bus: The connection.
        registry: For the metrics.
    """

    def __init__(
        self, settings: Settings, bus: Bus, registry: CollectorRegistry
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._metrics = IngestMetrics(registry, FEED)
        self._bus_metrics = BusMetrics(registry)
        self._streams = StreamGate(bus, *SERVED)
        self._publisher = PricePublisher(bus)
        self._letters = DeadLetters(bus, "ingest-fmp")
        self._handler = FmpIngest(
            settings.fmp_product,
            self._publisher,
            self._letters,
            self._metrics,
            settings.fmp_crypto_venue,
        )
        self._frames = HeldFrames(self._handler.handle)
        self._gaps = GapKeeper(
            bus, self._handler.next_version, self._metrics, watched=self._watched
        )
        self._leadership = Leadership(
            bus,
            FEED,
            complete=self._gaps.complete,
            usual=lambda: self._watchdog.usual(),
            show=self._metrics.leader.labels(FEED).set,
            intruded=self._publisher.republish_all,
            patience=_PATIENCE_SECONDS,
        )
        self._status = StatusPublisher(
            bus, FEED, self._handler.next_version, self._gaps.complete
        )
        self._canary = Canary(
            self._metrics,
            settings.fmp_canary,
            self._publisher,
            self._handler.next_version,
        )
        self._pauses = HeirPauses()
        self._warming = asyncio.Lock()
        self._hours = {
            name: hours_of(name, settings.fmp_streams)
            for name in LINKS[settings.fmp_product]
        }
        self._links = self._make_links()
        clock = SystemClock()
        watched = [
            WatchedLink(link, self._hours[link.name], clock) for link in self._links
        ]
        self._watchdog = Watchdog(watched, self._metrics, self._status.changed)
        self._demand = DemandListener(
            bus,
            [symbol for symbol in settings.fmp_symbols if symbol != "*"],
            settings.fmp_grace,
            self._wanted,
        )

    def problem(self) -> str | None:
        """Return what is wrong, for readiness; standing by is not."""
        return together(
            self._leadership.problem, self._bus.check, self._streams.problem
        )

    def jobs(self) -> dict[str, Job]:
        """Return what runs whether we lead or not."""
        jobs: dict[str, Job] = {
            "demand": self._demand.run,
            "show": self._show,
            "streams": self._streams.run,
        }
        second = second_bus(self._settings, "ingest-fmp", self._bus)
        if second is not None:
            jobs["second"] = partial(self._publisher.keep, second)
        return jobs

    async def take_turns(self, stop: asyncio.Event) -> None:
        """Stand by and lead until *stop* is set."""
        await self._leadership.run(stop, self._stand_by, self._lead, self._warm)

    async def _stand_by(self) -> None:
        while True:
            await self._warm()
            await asyncio.sleep(_WARM_SECONDS)

    async def _warm(self) -> None:
        # Two that read at the same time would read the same.
        async with self._warming:
            with contextlib.suppress(BusError):
                await self._handler.warm(self._bus)
                await self._gaps.warm(self._bus)

    async def _lead(self, term: Term) -> None:
        """Write until the term is over."""
        self._pauses.begin()
        self._frames.hold()
        read, written = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            # Connecting takes time: what comes is held until it may be written.
            links = {
                f"link_{link.name}": partial(self._run_link, link, term)
                for link in self._links
            }
            readers = group.create_task(job_group(read, **links), name="readers")
            try:
                await unless_stopped(term.over, self._take_over(term))
            except StopRequested:
                read.set()
                return
            term.claimed = lambda claim: self._handler.begin(claim.epoch)
            await self._frames.release()
            writers = job_group(
                written,
                publisher=self._publisher.run,
                gaps=partial(self._gaps.run, self._links, term.over),
            )
            group.create_task(writers, name="writers")
            await job_group(
                term.over,
                status=partial(self._status.run, self._watchdog.links),
                watchdog=self._watchdog.run,
                canary=self._canary.run,
            )
            with contextlib.suppress(StopRequested):
                await unless_stopped(term.overtaken, self._leave())
            read.set()
            await readers
            term.closed.set()
            with contextlib.suppress(StopRequested):
                flushed = self._gaps.flushed(self._settings.shutdown_timeout)
                await unless_stopped(term.overtaken, flushed)
            written.set()

    async def _run_link(self, link: Link, term: Term) -> None:
        # Nobody takes an upstream's place for a stream that has not been made.
        while self._streams.problem() and not term.working:
            await asyncio.sleep(_LOOK_SECONDS)
        await link.run()

    async def _leave(self) -> None:
        """Close the links, and publish all that was sent until then."""
        await asyncio.gather(*(link.leave(_LEAVE_SECONDS) for link in self._links))

    async def _take_over(self, term: Term) -> None:
        """Continue from what the last leader published, once it is all there."""
        warmed = await take_over(term, self._bus, self._gaps, self._handler.warm)
        self._handler.begin(term.claim.epoch)
        self._watchdog.expect(term.before.usual if term.before else {})
        term.working = True
        logger.info("took over", extra={"symbols": warmed})

    def _watched(self) -> None:
        self._status.changed()

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
                self._frames.take,
                self._metrics,
                LinkLimits(silence_seconds=settings.fmp_silence),
                pauses=self._pauses,
                changed=self._link_changed,
                rests=True,
                owed=partial(self._owes, name),
            )
            for name in LINKS[settings.fmp_product]
        ]

    def _owes(self, link: str) -> bool:
        return self._hours[link].at(now_ns()).phase is not Phase.CLOSED

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
            self._metrics.price_servers.labels(FEED).set(self._publisher.servers)
            self._handler.show(asyncio.get_running_loop().time())
            self._metrics.show(
                epoch=self._leadership.epoch,
                resent=self._publisher.resent,
                kept=self._letters.kept,
                dropped=self._letters.dropped,
            )
            await asyncio.sleep(_SHOW_SECONDS)
