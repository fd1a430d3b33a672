"""
One replica of the LS ingest: its parts, and its turns at standing by and leading.

A leader writes for longer than it reads: when its term ends, the link is closed first,
and what came until then is stored before another may lead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import time
from functools import partial

import httpx
from prometheus_client import CollectorRegistry

from feedmesh.bus import Bus
from feedmesh.clock import now_ns
from feedmesh.demand import DemandListener
from feedmesh.doctor import StreamGate
from feedmesh.errors import BusError, FeedError
from feedmesh.ingest.canary import Canary
from feedmesh.ingest.dead_letters import DeadLetters
from feedmesh.ingest.epoch import Claim
from feedmesh.ingest.feed import Link, LinkLimits
from feedmesh.ingest.gaps import GapKeeper
from feedmesh.ingest.heir import HeirPauses
from feedmesh.ingest.held import HeldFrames
from feedmesh.ingest.leadership import Leadership
from feedmesh.ingest.left_overs import hand_over, take_left_overs
from feedmesh.ingest.log_entry import LogEntry
from feedmesh.ingest.log_publisher import LogPublisher
from feedmesh.ingest.price_publisher import PricePublisher
from feedmesh.ingest.spool import Spool
from feedmesh.ingest.spools import Spools
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
from feedmesh.symbols import market_of
from feedmesh.trading_hours import Phase, exchange
from ingest_ls.ingest import LsIngest
from ingest_ls.korea import sleep_until
from ingest_ls.master import Master
from ingest_ls.master_keeper import MasterKeeper
from ingest_ls.metrics import LsMetrics
from ingest_ls.outgoing import FEED
from ingest_ls.rest import RestClient
from ingest_ls.settings import Settings
from ingest_ls.token import TokenKeeper
from ingest_ls.token_seal import TokenSeal
from ingest_ls.upstream import NEWS_KEY, LsDialect


__all__ = ["Replica"]

logger = logging.getLogger(__name__)

_SHOW_SECONDS = 1.0
_WARM_SECONDS = 1.0
_TOKEN_SECONDS = 3.0
_LEAVE_SECONDS = 1.0
_REST_SECONDS = 5.0
_LOOK_SECONDS = 0.05
_CANARY_WAITING = 1000
# Tokens end at 07:00; the socket is opened anew with a fresh one a little later.
_RECONNECT_AT = time(7, 5)
_TRADES = {"KOSPI": "S3_", "KOSDAQ": "K3_"}
# News come at any time, but they are due while trading goes on.
_HOURS = exchange("XKRX")


class Replica:
    """
    The parts of the ingest and the jobs that keep them going.

    Args:
        settings: What the operator has set.
        bus: The connection.
        http: Its base URL is LS.
        registry: For the metrics.
        spools: Where news wait while NATS is away; None for in memory.
    """

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        http: httpx.AsyncClient,
        registry: CollectorRegistry,
        spools: Spools | None,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._spools = spools
        self._metrics = IngestMetrics(registry, FEED)
        self._bus_metrics = BusMetrics(registry)
        self._own_metrics = LsMetrics(registry)
        self._streams = StreamGate(bus, *SERVED)
        rest = RestClient(http, settings.ls_app_key, settings.ls_app_secret)
        self._tokens = TokenKeeper(
            rest.issue_token,
            file=settings.ls_token_file,
            issued=self._own_metrics.issued,
        )
        self._seal = TokenSeal(settings.ls_app_secret)
        self._master = Master()
        self._master_keeper = MasterKeeper(
            self._master, bus, FEED, rest, self._tokens, self._master_loaded
        )
        self._prices = PricePublisher(bus)
        self._letters = DeadLetters(bus, "ingest-ls")
        self._handler = LsIngest(
            self._prices,
            self._letters,
            self._metrics,
            self._master,
            self._overflowed,
            self._has_room,
        )
        self._frames = HeldFrames(self._handler.handle)
        self._log: LogPublisher | None = None
        self._gaps = GapKeeper(
            bus,
            self._handler.next_version,
            self._metrics,
            self._waiting_ns,
            self._watched,
        )
        self._leadership = Leadership(
            bus,
            FEED,
            complete=self._gaps.complete,
            usual=lambda: self._watchdog.usual(),
            share=self._share,
            shared=self._was_shared,
            show=self._metrics.leader.labels(FEED).set,
            intruded=self._prices.republish_all,
        )
        self._status = StatusPublisher(
            bus, FEED, self._handler.next_version, self._gaps.complete
        )
        self._canary = Canary(
            self._metrics,
            settings.ls_canary,
            self._prices,
            self._handler.next_version,
            self._offer_canary,
        )
        self._pauses = HeirPauses()
        self._warming = asyncio.Lock()
        self._link = self._make_link()
        watched = WatchedLink(self._link, _HOURS, SystemClock())
        self._watchdog = Watchdog([watched], self._metrics, self._status.changed)
        self._wanted_codes: frozenset[str] = frozenset()
        self._demand = DemandListener(
            bus, settings.ls_stock_codes, settings.ls_grace, self._wanted
        )

    def _make_link(self) -> Link:
        settings = self._settings
        tls = tls_context(settings.ls_ca_file)
        return Link(
            LsDialect(settings.ls_ws_url, self._tokens, tls),
            # One key a message, since an acknowledgement does not say of which.
            SubscriptionBook(batch=1, first=NEWS_KEY),
            self._frames.take,
            self._metrics,
            LinkLimits(silence_seconds=settings.ls_silence),
            pauses=self._pauses,
            changed=self._link_changed,
            # At night no news may come for hours; pings tell that the line is there.
            owed=lambda: _HOURS.at(now_ns()).phase is not Phase.CLOSED,
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
        spools = self._spools
        if spools is not None:
            left = partial(self._hand_over, lambda: spools.left)
            jobs |= {"spools": spools.run, "left_overs": left}
        return jobs

    async def take_turns(self, stop: asyncio.Event) -> None:
        """Stand by and lead until *stop* is set."""
        await self._leadership.run(stop, self._stand_by, self._lead, self._prepare)
        await self._hand_over_rest()

    # Turns.

    async def _stand_by(self) -> None:
        """Know what a leader must know, and have the leader take what we still hold."""
        self._tokens.start_over()
        spools = self._spools
        async with asyncio.TaskGroup() as group:
            if spools is not None:
                rest = self._hand_over(lambda: spools.own)
                group.create_task(rest, name="rest")
            while True:
                # The link of an heir waits for it; reading the log may take long.
                await self._master_keeper.ask()
                await self._warm()
                await asyncio.sleep(_WARM_SECONDS)

    async def _warm(self) -> None:
        # Two that read at the same time would read the same.
        async with self._warming:
            with contextlib.suppress(BusError):
                await self._handler.warm(self._bus)
                await self._gaps.warm(self._bus)

    async def _prepare(self) -> None:
        """Do what would take time while nobody is connected."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._warm())
            group.create_task(self._take_token())

    async def _lead(self, term: Term) -> None:
        """Write until the term is over; on a stop, all that came is stored first."""
        self._pauses.begin()
        self._frames.hold()
        read, written = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            # Connecting takes time: what comes is held until it may be written.
            reader = group.create_task(job_group(read, link=self._run_link))
            try:
                await unless_stopped(term.over, self._take_over(term))
            except StopRequested:
                read.set()
                return
            if self._spools is not None and term.before is not None:
                await self._spools.set_aside()
            log = self._begin(term)
            await self._frames.release()
            writers = job_group(written, **self._writers(term, log))
            group.create_task(writers, name="writers")
            await job_group(term.over, **self._others())
            # Overtaken or not: what was sent to us, perhaps nobody else has.
            await self._link.leave(_LEAVE_SECONDS)
            read.set()
            await reader
            term.closed.set()
            await self._flush(term, log)
            written.set()
        self._handler.end(*log.give_up())

    def _begin(self, term: Term) -> LogPublisher:
        """Write from now on."""
        log = LogPublisher(
            self._bus,
            term.claim,
            spool=None if self._spools is None else self._spools.own,
            renew=self._handler.renew,
            known=self._handler.is_stored,
            reread=partial(self._handler.read_news, self._bus),
            doubt=self._fenced,
        )

        def claimed(claim: Claim) -> None:
            self._handler.continue_under(claim.epoch)
            log.adopt(claim)

        self._log = log
        self._handler.begin(term.claim.epoch, log)
        term.claimed = claimed
        return log

    def _fenced(self) -> None:
        self._own_metrics.fenced.inc()
        self._leadership.doubt()

    async def _take_over(self, term: Term) -> None:
        """Continue from what the last leader published, once it is all there."""
        warmed = await take_over(term, self._bus, self._gaps, self._handler.warm)
        self._watchdog.expect(term.before.usual if term.before else {})
        term.working = True
        logger.info("took over", extra={"items": warmed})

    async def _take_token(self) -> None:
        # The link asks for it anyway; here it is taken while another is connected.
        with contextlib.suppress(FeedError, TimeoutError):
            async with asyncio.timeout(_TOKEN_SECONDS):
                await self._tokens.token()

    async def _flush(self, term: Term, log: LogPublisher) -> None:
        """Wait until all is stored that came, unless another leads already."""
        seconds = self._settings.shutdown_timeout
        with contextlib.suppress(StopRequested):
            flushed = await unless_stopped(term.overtaken, log.flushed(seconds))
            if not flushed:
                logger.error("stopped before the log had every item")
            await unless_stopped(term.overtaken, self._gaps.flushed(seconds))

    async def _hand_over(self, which: Callable[[], Spool]) -> None:
        await hand_over(self._bus, FEED, which, self._handler.has_stored)

    async def _hand_over_rest(self) -> None:
        """Have whoever leads after us take what we hold: our disk may end with us."""
        if self._spools is None:
            return
        await self._spools.set_aside()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REST_SECONDS):
                while self._spools.left:
                    await asyncio.sleep(_LOOK_SECONDS)

    def _writers(self, term: Term, log: LogPublisher) -> dict[str, Job]:
        """Return what must outlive the link, so that nothing is left unwritten."""
        return {
            "log": log.run,
            "prices": self._prices.run,
            "gaps": partial(self._gaps.run, [self._link], term.over),
        }

    def _others(self) -> dict[str, Job]:
        """Return what a leader does besides reading and writing."""
        return {
            "master": self._master_keeper.keep,
            "tell_master": self._master_keeper.tell,
            "left_overs": partial(
                take_left_overs,
                self._bus,
                FEED,
                self._handler.take_left_over,
                self._handler.is_stored,
                self._handler.renew,
            ),
            "reconnect": self._plan_reconnects,
            "status": partial(self._status.run, self._watchdog.links),
            "watchdog": self._watchdog.run,
            "canary": self._canary.run,
        }

    async def _run_link(self) -> None:
        await self._master_keeper.tried()
        self._want()
        await self._link.run()

    async def _plan_reconnects(self) -> None:
        while True:
            await sleep_until(_RECONNECT_AT)
            self._link.renew("planned")

    # What the parts tell one another.

    def _share(self) -> str:
        token = self._tokens.current
        return "" if token is None else self._seal.close(token)

    def _was_shared(self, text: str) -> None:
        token = self._seal.open(text)
        if token is not None:
            self._tokens.adopt(token)

    def _link_changed(self) -> None:
        self._status.changed()
        self._gaps.changed()

    def _watched(self) -> None:
        self._status.changed()

    def _waiting_ns(self) -> int | None:
        return self._log.complete_ns if self._log else None

    def _overflowed(self, at_ns: int) -> None:
        reason = "queue_full" if self._spools is None else "spool_full"
        self._gaps.overflowed(self._link.name, at_ns, reason)

    def _has_room(self, at_ns: int) -> None:
        self._gaps.has_room(self._link.name, at_ns)

    def _offer_canary(self, entry: LogEntry) -> bool:
        # It must not take the place of news.
        log = self._log
        return log is not None and log.waiting < _CANARY_WAITING and log.offer(entry)

    def _master_loaded(self) -> None:
        self._own_metrics.companies.set(len(self._master))
        self._want()

    def _wanted(self, symbols: frozenset[str]) -> None:
        self._wanted_codes = frozenset(s for s in symbols if market_of(s) == "kr")
        self._want()

    def _want(self) -> None:
        """Register for news, and for the trades of stocks whose market is known."""
        keys = {NEWS_KEY}
        for code in self._wanted_codes:
            company = self._master.find(code)
            if company is not None:
                keys.add(f"{_TRADES[company.board]}:{code}")
        self._handler.expected = self._wanted_codes
        self._link.want(frozenset(keys))

    async def _show(self) -> None:
        """Show what others have counted, every second."""
        while True:
            self._bus_metrics.show(self._bus)
            waiting = self._log.in_memory if self._log else 0
            waiting += len(self._spools or ())
            self._metrics.backlog.labels(FEED, "news").set(waiting)
            if self._spools is not None:
                self._own_metrics.show_spools(self._spools)
                limit = self._settings.ls_spool_max << 20
                self._own_metrics.spool_limit.set(limit)
            self._metrics.backlog.labels(FEED, "price").set(self._prices.unconfirmed)
            self._handler.show(asyncio.get_running_loop().time())
            self._metrics.show(
                epoch=self._leadership.epoch,
                resent=self._prices.resent,
                kept=self._letters.kept,
                dropped=self._letters.dropped,
            )
            await asyncio.sleep(_SHOW_SECONDS)
