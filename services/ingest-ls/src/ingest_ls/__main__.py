"""Wire the parts of the LS ingest together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from contextlib import AsyncExitStack
from datetime import UTC, datetime, time
from functools import partial

import httpx
from prometheus_client import CollectorRegistry

from feedmesh import subjects
from feedmesh.backoff import backoff
from feedmesh.bus import Bus, connect_bus
from feedmesh.dead_letters import DeadLetters
from feedmesh.demand import DemandListener
from feedmesh.epoch import claim_when_possible
from feedmesh.errors import BusError, FeedError, FeedRefusedError, SettingsError
from feedmesh.feed import Link, LinkLimits
from feedmesh.log_publisher import LogPublisher
from feedmesh.metrics import BusMetrics, IngestMetrics
from feedmesh.ops import Readiness, serve_ops
from feedmesh.price_publisher import PricePublisher
from feedmesh.service import Job, bind, job_group, run_service, unless_stopped
from feedmesh.status import StatusPublisher
from feedmesh.stored import last_of
from feedmesh.streams import NEWS
from feedmesh.subscriptions import SubscriptionBook
from feedmesh.symbols import market_of
from feedmesh.wire import tls_context
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
# News must not wait for names for ever.
_MASTER_SECONDS = 15.0
_MASTER_AT = time(7, 10)
# Tokens end at 07:00; the socket is opened anew with a fresh one a little later.
_RECONNECT_AT = time(7, 5)
_JITTER_SECONDS = 60.0
_TRADES = {"KOSPI": "S3_", "KOSDAQ": "K3_"}


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Run the ingest until *stop* is set, then flush what the log still lacks."""
    registry = CollectorRegistry()
    problems = {"start": "starting"}
    readiness = Readiness({"ingest": lambda: "; ".join(problems.values()) or None})
    async with AsyncExitStack() as stack:
        listener = bind(settings.ops_host, settings.ops_port, "OPS_PORT")
        await stack.enter_async_context(serve_ops(listener, registry, readiness))
        bus = await unless_stopped(
            stop, stack.enter_async_context(connect_bus(settings, "ingest-ls"))
        )
        http = await stack.enter_async_context(_http(settings))
        ingest = _Ingest(settings, bus, http, registry, problems)
        await unless_stopped(stop, ingest.take_over())
        flushed = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(job_group(flushed, **ingest.writers()), name="writers")
            await job_group(stop, **ingest.readers())
            if not await ingest.flush(settings.shutdown_timeout):
                logger.error("stopped before the log had every item")
            flushed.set()


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
        problems: dict[str, str],
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._problems = problems
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
            self._prices, DeadLetters(bus, "ingest-ls"), self._metrics, self._master
        )
        self._status = StatusPublisher(bus, FEED, self._handler.next_version)
        self._link = Link(
            LsDialect(
                settings.ls_ws_url, self._tokens, tls_context(settings.ls_ca_file)
            ),
            # One key a message, since an acknowledgement does not say of which.
            SubscriptionBook(batch=1),
            self._handler.handle,
            self._metrics,
            LinkLimits(silence_seconds=settings.ls_silence),
            changed=self._status.changed,
        )
        self._wanted_codes: frozenset[str] = frozenset()
        self._demand = DemandListener(
            bus, settings.ls_stock_codes, settings.ls_grace, self._wanted
        )

    async def take_over(self) -> None:
        """Become the writer and continue from what the last one published."""
        self._problems["start"] = "waiting for the streams"
        self._claim = await claim_when_possible(self._bus, FEED)
        self._log = LogPublisher(self._bus, self._claim)
        epoch = self._claim.epoch
        items = await self._handler.take_over(self._bus, epoch, self._log)
        logger.info("took over", extra={"items": items})

    async def flush(self, seconds: float) -> bool:
        """Wait until the log has every item; False if it takes longer."""
        return await self._log.flushed(seconds)

    def writers(self) -> dict[str, Job]:
        """Return what must outlive the link, so that nothing is left unwritten."""
        return {"log": self._log.run, "prices": self._prices.run, "fence": self._fence}

    def readers(self) -> dict[str, Job]:
        """Return everything else that runs side by side."""
        return {
            "link": self._run_link,
            "master": self._keep_master,
            "reconnect": self._plan_reconnects,
            "demand": self._demand.run,
            "status": partial(self._status.run, [self._link]),
            "show": self._show,
        }

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
        while True:
            if await self._load_master():
                pauses = backoff(1.0, 300.0)
                await _sleep_until(_MASTER_AT)
            else:
                await asyncio.sleep(next(pauses))

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
        self._own_metrics.companies.set(len(self._master))
        logger.info("stock master is loaded", extra={"companies": len(self._master)})
        self._master_tried.set()
        self._want()
        return True

    async def _plan_reconnects(self) -> None:
        while True:
            await _sleep_until(_RECONNECT_AT)
            self._link.renew("planned")

    async def _fence(self) -> None:
        """End the process once another writer has taken over."""
        while True:
            await self._log.fenced.wait()
            last = await self._last_claim()
            if last is None:
                # The stream was lost and made anew: nobody else has claimed.
                epoch = self._claim.epoch
                self._claim = await claim_when_possible(self._bus, FEED, after=epoch)
                self._handler.continue_under(self._claim.epoch)
            elif last != self._claim.token:
                raise RuntimeError("another writer has taken over")
            # Otherwise it was a late answer to a publish under the claim before.
            self._log.adopt(self._claim)

    async def _last_claim(self) -> int | None:
        """Return the token of the newest claim; None if the stream has none."""
        pauses = backoff(0.05, 1.0)
        while True:
            try:
                last = await last_of(self._bus, NEWS, subjects.epoch(FEED))
            except BusError as error:
                logger.debug("claim: %s", error)
                await asyncio.sleep(next(pauses))
            else:
                return last.sequence if last else None

    async def _show(self) -> None:
        while True:
            problem = self._bus.check()
            self._problems.clear()
            if problem:
                self._problems["nats"] = problem
            self._bus_metrics.show(self._bus)
            self._metrics.backlog.labels(FEED, "news").set(self._log.waiting)
            self._metrics.backlog.labels(FEED, "price").set(self._prices.unconfirmed)
            await asyncio.sleep(_SHOW_SECONDS)


async def _sleep_until(clock: time) -> None:
    now = datetime.now(UTC)
    pause = (next_time_of_day(now, clock) - now).total_seconds()
    await asyncio.sleep(pause + random.uniform(0, _JITTER_SECONDS))


if __name__ == "__main__":
    run_service("ingest-ls", Settings, main)
