"""
What networks do to an upstream link, and how soon and how politely the ingests react.

Each link of the real ingests leads through a proxy to the simulator. However a link
ends, it is found within twice the heartbeat; the upstream never sees more than ten
connects a minute, and never two connections at once; and whatever was received before,
between and after can be accounted for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
from faults.careless import KEYS, careless
from faults.identity import unaccounted
from faults.proxy import Break, FaultProxy, most_within, run_proxy
from faults.results import (
    FULL,
    Figure,
    Run,
    percentile,
    record,
    record_all,
    scaled,
)
from mesh import Simulator, start_simulator
from nats_process import open_bus, run_nats
from processes import ServiceProcess, plain_http, run_service

from feedmesh.errors import FeedError
from feedmesh.ingest.wire import open_wire


# What FMP is pinged with here; LS has the pace of production and cannot be told.
FMP_PING_SECONDS = 2.0
LS_PING_SECONDS = 20.0
# For what is not waiting: the poll of the metric, and other tests beside this one.
SLACK_SECONDS = scaled(1.5, 0.5)
STORM_SECONDS = scaled(12, 150)
EAGER_SECONDS = 4
CONNECTS_A_MINUTE = 10
_LOOK_SECONDS = 0.05
# Less than any frame has, even an empty ping to a server.
_FEW_BYTES = 5
CUT_REQUEST = "cut mid-request"

QUICK: dict[str, Break] = {
    "closed": lambda proxy: proxy.close(),
    "reset": lambda proxy: proxy.reset(),
    "cut mid-frame": lambda proxy: proxy.set("down", limit_bytes=_FEW_BYTES),
    "cut mid-frame by reset": lambda proxy: proxy.set(
        "down", limit_bytes=_FEW_BYTES, limit_resets=True
    ),
}
# At the pace of the pings: a client that says nothing else sends them.
SLOW: dict[str, Break] = {
    CUT_REQUEST: lambda proxy: proxy.set("up", limit_bytes=_FEW_BYTES),
    "half-open": lambda proxy: proxy.set(black_hole=True),
    "one byte a second": lambda proxy: proxy.set("down", bytes_per_second=1),
}

pytestmark = pytest.mark.timeout(scaled(180, 3600))


@dataclass
class Link:
    """One link of an ingest, and the proxy that it leads through."""

    name: str
    proxy: FaultProxy
    ping_seconds: float
    http: httpx.AsyncClient
    found: dict[str, list[float]] = field(default_factory=dict)

    async def figures(self) -> dict[str, float]:
        """Return what the ingest tells of it, by the name of the metric."""
        # A connection that is kept may be closed as it is used.
        headers = {"Connection": "close"}
        text = (await self.http.get("/metrics", headers=headers)).text
        found: dict[str, float] = {}
        for line in text.splitlines():
            if f'link="{self.name}"' in line:
                name = line.partition("{")[0].removeprefix("feedmesh_ingest_")
                found[name] = found.get(name, 0.0) + float(line.rpartition(" ")[2])
        return found

    async def ends(self) -> float:
        return (await self.figures()).get("reconnects_total", 0.0)

    async def healthy(self) -> None:
        """Wait until it is up, with all that was asked for."""
        async with asyncio.timeout(120):
            while True:
                figures = await self.figures()
                if figures.get("link_up") and figures.get("subscriptions_confirmed"):
                    return
                await asyncio.sleep(_LOOK_SECONDS)

    async def suffer(self, name: str, fault: Break) -> None:
        """Break it and note how long the ingest takes to find out."""
        loop = asyncio.get_running_loop()
        await self.healthy()
        before = await self.ends()
        started = loop.time()
        fault(self.proxy)
        ends = await self._more_ends(before)
        self.found.setdefault(name, []).append(loop.time() - started)
        if name == CUT_REQUEST:
            # As it comes back, what it asks for first is cut, too.
            limit = self.proxy.opening_bytes + _FEW_BYTES
            self.proxy.set("up", limit_bytes=limit)
            # That may have to wait for the next minute's connects.
            await self._more_ends(ends, 60)
        self.proxy.heal()

    async def _more_ends(self, before: float, longer: float = 0) -> float:
        async with asyncio.timeout(4 * self.ping_seconds + 10 + longer):
            while (ends := await self.ends()) <= before:
                await asyncio.sleep(_LOOK_SECONDS)
        return ends


class Upstreams(NamedTuple):
    """Both ingests, their four links, and whom these lead to."""

    simulator: Simulator
    ingests: tuple[ServiceProcess, ServiceProcess]
    links: list[Link]


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Upstreams]:
    """Run NATS, the simulator and both ingests while the context is open."""
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(run_nats(folder))
        await stack.enter_async_context(open_bus(nats))
        simulator = await start_simulator(
            stack,
            *("--rate", "100", "--news-rate", "120"),
            *("--fmp-heartbeat-seconds", "0.5", "--api-key", "simulator"),
            *(word for key in KEYS for word in ("--api-key", key)),
        )
        proxies: dict[str, FaultProxy] = {}

        async def through_proxy(name: str) -> str:
            url = urlsplit(simulator.urls[name])
            proxy = await stack.enter_async_context(run_proxy(url.port or 0))
            proxies[name] = proxy
            return url._replace(netloc=f"127.0.0.1:{proxy.port}").geturl()

        common = {"NATS_URL": nats.url, "OPS_PORT": "0"}
        fmp = await stack.enter_async_context(
            run_service(
                "ingest_fmp",
                common
                | {
                    "FMP_STOCKS_URL": await through_proxy("fmp_stocks_url"),
                    "FMP_CRYPTO_URL": await through_proxy("fmp_crypto_url"),
                    "FMP_FOREX_URL": await through_proxy("fmp_forex_url"),
                    "FMP_SYMBOLS": "AAPL,BTCUSD,EURUSD",
                    "FMP_PING": f"{FMP_PING_SECONDS:g}s",
                    "FMP_SILENCE": "60s",
                },
            )
        )
        ls = await stack.enter_async_context(
            run_service(
                "ingest_ls",
                common
                | {
                    "LS_REST_URL": simulator.urls["ls_rest_url"],
                    "LS_WS_URL": await through_proxy("ls_ws_url"),
                },
            )
        )
        of_fmp, of_ls = [
            await stack.enter_async_context(plain_http(base_url=await service.ops()))
            for service in (fmp, ls)
        ]
        links = [
            Link(kind, proxies[f"fmp_{kind}_url"], FMP_PING_SECONDS, of_fmp)
            for kind in ("stocks", "crypto", "forex")
        ]
        links.append(Link("news", proxies["ls_ws_url"], LS_PING_SECONDS, of_ls))
        for link in links:
            await link.healthy()
        yield Upstreams(simulator, (fmp, ls), links)


async def test_every_way_a_link_ends_is_found_in_time(tmp_path: Path) -> None:
    async def rounds(link: Link) -> None:
        for _ in range(scaled(1, 10 if link.name == "news" else 30)):
            for name, fault in faults_of(link).items():
                await link.suffer(name, fault)
        await link.healthy()

    async with running(tmp_path) as upstreams:
        simulator, ingests, links = upstreams
        controls = asyncio.create_task(
            careless(simulator, QUICK | SLOW, 2 * FMP_PING_SECONDS)
        )
        await asyncio.gather(controls, *(rounds(link) for link in links))
        control = controls.result()
        await simulator.call("POST", "/generate", prices=False, news=False)
        unaccounted_events = await unaccounted(*ingests)

    # Told before any of them can fail.
    runs = []
    for name in QUICK | SLOW:
        figures, bounds = found(name, links)
        figures["control_frames_missed"] = control.missed[name]
        at_least = {"control_frames_missed": 1}
        runs.append(Run("upstream " + name, figures, bounds, at_least))
    runs.append(
        Run(
            "manners towards upstreams, all faults together",
            {
                "connects_in_any_minute": max(
                    most_within(link.proxy.connected_at) for link in links
                ),
                "connections_at_once": max(link.proxy.most_open for link in links),
                "unaccounted_events": unaccounted_events,
                "control_connections_at_once": control.at_once,
            },
            {
                "connects_in_any_minute": CONNECTS_A_MINUTE,
                "connections_at_once": 1,
                "unaccounted_events": 0,
            },
            {"control_connections_at_once": 2},
        )
    )
    record_all(runs)


def faults_of(link: Link) -> dict[str, Break]:
    """Return what is done to *link* in turn."""
    if FULL:
        return QUICK | SLOW
    if link.name == "news":
        # LS's own pace makes a short run too long.
        return QUICK
    # More than these would have to wait for the next minute's connects.
    half_said = link.name == "stocks"
    left_out = ("closed", "reset") if half_said else (CUT_REQUEST,)
    return {n: fault for n, fault in (QUICK | SLOW).items() if n not in left_out}


def found(name: str, links: list[Link]) -> tuple[dict[str, Figure], dict[str, float]]:
    """Return how soon the fault *name* was found on *links*, and the bounds."""
    figures: dict[str, Figure] = {}
    bounds: dict[str, float] = {}
    for feed, of_feed in (("fmp", links[:3]), ("ls", links[3:])):
        seconds = [s for link in of_feed for s in link.found.get(name, [])]
        if seconds:
            figures[f"{feed}_pinged_every_s"] = of_feed[0].ping_seconds
            figures[f"{feed}_faults"] = len(seconds)
            figures[f"{feed}_found_p50_s"] = round(percentile(seconds, 0.5), 2)
            figures[f"{feed}_found_max_s"] = round(max(seconds), 2)
            bounds[f"{feed}_found_max_s"] = 2 * of_feed[0].ping_seconds + SLACK_SECONDS
    return figures, bounds


async def test_an_upstream_that_hangs_up_again_and_again_is_not_stormed(
    tmp_path: Path,
) -> None:
    """Data comes each time, so the pauses stay short: only the limiter holds it."""
    async with (
        running(tmp_path) as upstreams,
        run_proxy(upstreams.links[0].proxy.target[1]) as other,
    ):
        proxy = upstreams.links[0].proxy
        eager = asyncio.create_task(_connect_at_once(other))
        await asyncio.gather(
            _hang_up(proxy, STORM_SECONDS, after=0.5),
            _hang_up(other, EAGER_SECONDS, after=0.2),
        )
        eager.cancel()
        await asyncio.gather(eager, return_exceptions=True)

    record(
        "upstream hangs up after its first data",
        {
            "seconds": STORM_SECONDS,
            "connects": len(proxy.connected_at),
            "connects_in_any_minute": most_within(proxy.connected_at),
            "connections_at_once": proxy.most_open,
            "control_connects_in_any_minute": most_within(other.connected_at),
        },
        at_most={
            "connects_in_any_minute": CONNECTS_A_MINUTE,
            "connections_at_once": 1,
        },
        # A link that stays away has good manners, too.
        at_least={
            "connects": CONNECTS_A_MINUTE / 2,
            "control_connects_in_any_minute": CONNECTS_A_MINUTE + 1,
        },
    )


async def _hang_up(proxy: FaultProxy, seconds: float, *, after: float) -> None:
    """Reset each connection a moment *after* it was made, for so many seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        if proxy.open:
            await asyncio.sleep(after)
            proxy.reset()
        await asyncio.sleep(0.02)


async def _connect_at_once(proxy: FaultProxy) -> None:
    """The negative control: lost, it comes back without a pause."""
    while True:
        try:
            async with open_wire(f"ws://127.0.0.1:{proxy.port}") as wire:
                await wire.receive()
        except FeedError:
            await asyncio.sleep(0.05)
