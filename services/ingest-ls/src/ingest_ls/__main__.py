"""Wire the parts of the LS ingest together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, time
from functools import partial

import httpx
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from prometheus_client import CollectorRegistry

from feedmesh import subjects
from feedmesh.backoff import backoff
from feedmesh.bus import Bus, connect_bus
from feedmesh.demand import DemandListener
from feedmesh.errors import (
    BusError,
    FeedError,
    FeedRefusedError,
    SettingsError,
    SpoolError,
)
from feedmesh.ingest.dead_letters import DeadLetters
from feedmesh.ingest.epoch import Claim
from feedmesh.ingest.feed import Link, LinkLimits
from feedmesh.ingest.gaps import GapKeeper
from feedmesh.ingest.leadership import HeirPauses, Leadership, Term, retried
from feedmesh.ingest.left_overs import hand_over, take_left_overs
from feedmesh.ingest.log_publisher import LogPublisher
from feedmesh.ingest.price_publisher import PricePublisher
from feedmesh.ingest.spool import Spool
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
from feedmesh.symbols import market_of
from ingest_ls.ingest import FEED, LsIngest
from ingest_ls.korea import next_time_of_day
from ingest_ls.master import Master
from ingest_ls.metrics import LsMetrics
from ingest_ls.rest import RestClient
from ingest_ls.settings import Settings
from ingest_ls.token import TokenKeeper
from ingest_ls.upstream import NEWS_KEY, LsDialect


logger = logging.getLogger(__name__)

_SHOW_SECONDS = 1.0
_WARM_SECONDS = 1.0
_TOKEN_SECONDS = 1.0
# News must not wait for names for ever.
_MASTER_SECONDS = 15.0
_MASTER_AT = time(7, 10)
# Tokens end at 07:00; the socket is opened anew with a fresh one a little later.
_RECONNECT_AT = time(7, 5)
_JITTER_SECONDS = 60.0
_TRADES = {"KOSPI": "S3_", "KOSDAQ": "K3_"}


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
        ingest = _Ingest(settings, bus, http, registry, spool)
        check.append(ingest.problem)
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(job_group(ended, **ingest.jobs()), name="jobs")
            await ingest.take_turns(stop)
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


class _Ingest:
    """The parts of the ingest and the jobs that keep them going."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        http: httpx.AsyncClient,
        registry: CollectorRegistry,
        spool: Spool | None,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._spool = spool
        self._metrics = IngestMetrics(registry, FEED)
        self._bus_metrics = BusMetrics(registry)
        self._own_metrics = LsMetrics(registry)
        self._rest = RestClient(http, settings.ls_app_key, settings.ls_app_secret)
        self._tokens = TokenKeeper(
            self._rest.issue_token,
            file=settings.ls_token_file,
            issued=self._own_metrics.issued,
        )
        self._master = Master()
        self._master_tried = asyncio.Event()
        self._prices = PricePublisher(bus)
        self._handler = LsIngest(
            self._prices,
            DeadLetters(bus, "ingest-ls"),
            self._metrics,
            self._master,
            self._no_room,
        )
        self._log: LogPublisher | None = None
        self._gaps = GapKeeper(
            bus, self._handler.next_version, self._metrics, self._waiting_ns
        )
        self._leadership = Leadership(
            bus,
            FEED,
            complete=self._gaps.complete,
            show=self._metrics.leader.labels(FEED).set,
            intruded=self._prices.republish_all,
        )
        self._status = StatusPublisher(
            bus, FEED, self._handler.next_version, self._gaps.complete
        )
        self._pauses = HeirPauses()
        self._link = Link(
            LsDialect(
                settings.ls_ws_url, self._tokens, tls_context(settings.ls_ca_file)
            ),
            # One key a message, since an acknowledgement does not say of which.
            SubscriptionBook(batch=1),
            self._handler.handle,
            self._metrics,
            LinkLimits(silence_seconds=settings.ls_silence),
            pauses=self._pauses,
            changed=self._link_changed,
        )
        self._wanted_codes: frozenset[str] = frozenset()
        self._demand = DemandListener(
            bus, settings.ls_stock_codes, settings.ls_grace, self._wanted
        )

    def problem(self) -> str | None:
        """Return what is wrong, for readiness; standing by is not."""
        return self._leadership.problem() or self._bus.check()

    def jobs(self) -> dict[str, Job]:
        """Return what runs whether we lead or not."""
        jobs: dict[str, Job] = {"demand": self._demand.run, "show": self._show}
        return jobs if self._spool is None else jobs | {"spool": self._spool.run}

    async def take_turns(self, stop: asyncio.Event) -> None:
        """Stand by and lead until *stop* is set."""
        await self._leadership.run(stop, self._stand_by, self._lead)

    async def _stand_by(self) -> None:
        """Know what a leader must know, and have the leader take what we still hold."""
        async with asyncio.TaskGroup() as group:
            if self._spool is not None:
                left = hand_over(self._bus, FEED, self._spool)
                group.create_task(left, name="left_over")
            while True:
                with contextlib.suppress(BusError):
                    await self._handler.warm(self._bus)
                if not self._master_tried.is_set():
                    await self._ask_for_master()
                await asyncio.sleep(_WARM_SECONDS)

    async def _lead(self, term: Term) -> None:
        """Write until the term is over; on a stop, all that came is stored first."""
        log = LogPublisher(
            self._bus,
            term.claim,
            spool=self._spool,
            renew=self._handler.renew,
            known=self._handler.is_stored,
            doubt=self._leadership.doubt,
        )

        def claimed(claim: Claim) -> None:
            self._handler.continue_under(claim.epoch)
            log.adopt(claim)

        try:
            await unless_stopped(term.over, self._take_over(term))
        except StopRequested:
            return
        self._log = log
        self._handler.begin(term.claim.epoch, log)
        term.claimed = claimed
        written = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            writers = job_group(written, **self._writers(log))
            group.create_task(writers, name="writers")
            await job_group(term.over, **self._readers())
            await self._flush(term, log)
            written.set()
        self._handler.end(*log.give_up())

    async def _take_over(self, term: Term) -> None:
        """Continue from what the last leader published."""
        self._tokens.start_over()
        self._pauses.begin()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_token(), name="token")
            warming = group.create_task(retried(partial(self._handler.warm, self._bus)))
            taking = partial(self._gaps.take_over, self._bus, term.before)
            group.create_task(retried(taking))
        term.working = True
        logger.info("took over", extra={"items": warming.result()})

    async def _take_token(self) -> None:
        # The link asks for it anyway; here it is taken while the streams are read.
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

    def _writers(self, log: LogPublisher) -> dict[str, Job]:
        """Return what must outlive the link, so that nothing is left unwritten."""
        return {
            "log": log.run,
            "prices": self._prices.run,
            "gaps": partial(self._gaps.run, [self._link]),
        }

    def _readers(self) -> dict[str, Job]:
        """Return everything else that a leader does."""
        return {
            "link": self._run_link,
            "master": self._keep_master,
            "tell_master": self._tell_master,
            "left_overs": partial(
                take_left_overs,
                self._bus,
                FEED,
                self._handler.take_left_over,
                self._handler.is_stored,
                self._handler.renew,
            ),
            "reconnect": self._plan_reconnects,
            "status": partial(self._status.run, [self._link]),
        }

    def _link_changed(self) -> None:
        self._status.changed()
        self._gaps.changed()

    def _waiting_ns(self) -> int | None:
        return self._log.complete_ns if self._log else None

    def _no_room(self, since_ns: int, until_ns: int) -> None:
        reason = "queue_full" if self._spool is None else "spool_full"
        self._gaps.lost(self._link.name, since_ns, until_ns, reason)

    async def _run_link(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MASTER_SECONDS):
                await self._master_tried.wait()
        self._want()
        await self._link.run()

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

    async def _keep_master(self) -> None:
        """Load the stock master at the start and every morning."""
        pauses = backoff(1.0, 300.0)
        if len(self._master):
            # The leader before us has told it.
            await _sleep_until(_MASTER_AT)
        while True:
            if await self._load_master():
                pauses = backoff(1.0, 300.0)
                await _sleep_until(_MASTER_AT)
            else:
                await asyncio.sleep(next(pauses))

    async def _ask_for_master(self) -> None:
        # A standby must not take a token of its own: that may end the leader's.
        with contextlib.suppress(BusError):
            packed = await self._bus.request(
                subjects.master(FEED), timeout=_WARM_SECONDS
            )
            if packed and self._master.unpack(packed):
                self._master_is_there()

    async def _tell_master(self) -> None:
        """Tell the stock master to replicas that stand by, for ever."""

        async def asked(message: Msg) -> None:
            with contextlib.suppress(NatsError):
                await message.respond(self._master.pack() if len(self._master) else b"")

        subscription = await self._bus.nc.subscribe(subjects.master(FEED), cb=asked)
        try:
            await asyncio.Event().wait()
        finally:
            with contextlib.suppress(NatsError):
                await subscription.unsubscribe()

    def _master_is_there(self) -> None:
        self._own_metrics.companies.set(len(self._master))
        logger.info("stock master is loaded", extra={"companies": len(self._master)})
        self._master_tried.set()
        self._want()

    async def _load_master(self) -> bool:
        try:
            companies = await self._rest.companies(await self._tokens.token())
        except FeedRefusedError as error:
            # There is nothing to wait for: the link will say what is wrong.
            self._master_tried.set()
            logger.warning("stock master: %s", error)
            return False
        except FeedError as error:
            logger.warning("stock master: %s", error)
            return False
        if not self._master.replace(companies):
            return False
        self._master_is_there()
        return True

    async def _plan_reconnects(self) -> None:
        while True:
            await _sleep_until(_RECONNECT_AT)
            self._link.renew("planned")

    async def _show(self) -> None:
        while True:
            self._bus_metrics.show(self._bus)
            waiting = self._log.waiting if self._log else len(self._spool or ())
            self._metrics.backlog.labels(FEED, "news").set(waiting)
            if self._spool is not None:
                self._own_metrics.show_spool(self._spool)
            self._metrics.backlog.labels(FEED, "price").set(self._prices.unconfirmed)
            await asyncio.sleep(_SHOW_SECONDS)


async def _sleep_until(clock: time) -> None:
    now = datetime.now(UTC)
    pause = (next_time_of_day(now, clock) - now).total_seconds()
    await asyncio.sleep(pause + random.uniform(0, _JITTER_SECONDS))


if __name__ == "__main__":
    run_service("ingest-ls", Settings, main)
