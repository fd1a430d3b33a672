"""
A feed that trickles says so on NATS, and says when it flows again.

The ingests are the real ones, wired as in production, and so is all they talk to. Only
the clock by which they judge rates is ours: it stands in trading hours of a past year,
and goes on as they look at it, so that a minute takes a moment on any machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
)
from datetime import datetime
from typing import Any, NamedTuple

import pytest
from integration.ingest_fmp.conftest import Message, Reader, eventually
from mesh import Simulator, free_block, start_simulator
from nats_process import NatsProcess
from processes import plain_http
from prometheus_client.parser import text_string_to_metric_families

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.ingest import watchdog
from feedmesh.settings import ServiceSettings
from feedmesh.status import LinkFrame, decode_status
from ingest_fmp.__main__ import main as fmp_main
from ingest_fmp.settings import Settings as FmpSettings
from ingest_ls.__main__ import main as ls_main
from ingest_ls.settings import Settings as LsSettings


SECOND = 1_000_000_000
USUAL = 120
TRICKLE = 2


class Clock:
    """Goes on by two seconds at each look, up to where a test lets it."""

    def __init__(self, start: str) -> None:
        self._now = int(datetime.fromisoformat(start).timestamp()) * SECOND
        self._ends = self._now
        self._arrived = asyncio.Event()

    def now_ns(self) -> int:
        if self._now < self._ends:
            self._now += 2 * SECOND
        else:
            self._arrived.set()
        return self._now

    async def minute(self) -> None:
        """Let a minute pass."""
        self._ends += 60 * SECOND
        self._arrived.clear()
        async with asyncio.timeout(30):
            await self._arrived.wait()


class Feed(NamedTuple):
    """
    An ingest, and what one of its links reads.

    Attributes:
        main: Runs the ingest, as its process does.
        env: Its settings; of those that end in ``_URL``, the simulator's names.
        frame: What its upstream says.
    """

    name: str
    link: str
    target: str
    main: Callable[[Any, asyncio.Event], Coroutine[Any, Any, None]]
    settings: type[ServiceSettings]
    env: dict[str, str]
    frame: dict[str, Any]


FMP = Feed(
    "fmp",
    "stocks",
    "fmp.stocks",
    fmp_main,
    FmpSettings,
    {"FMP_STOCKS_URL": "fmp_stocks_url", "FMP_SYMBOLS": "AAPL"},
    {"s": "aapl", "t": 1645216790788174600, "type": "T", "lp": 1.5, "ls": 1},
)
LS = Feed(
    "ls",
    "news",
    "ls.ws",
    ls_main,
    LsSettings,
    {"LS_REST_URL": "ls_rest_url", "LS_WS_URL": "ls_ws_url"},
    {
        "header": {"tr_cd": "NWS", "tr_key": "NWS001"},
        "body": {
            "date": "20240717",
            "time": "110000",
            "id": "15",
            "realkey": "202407171100000100000001",
            "title": "공시",
            "code": "000000005930",
            "bodysize": "1",
        },
    },
)


class World:
    """An ingest that reads from a simulator, and its clock."""

    def __init__(
        self, feed: Feed, simulator: Simulator, clock: Clock, port: int
    ) -> None:
        self._feed = feed
        self._simulator = simulator
        self._clock = clock
        self._port = port
        self.status = Reader()

    async def run(self, minutes: int, per_minute: int) -> None:
        """Let time pass in which so much comes."""
        order = {"target": self._feed.target, "frames": [self._feed.frame]}
        for _ in range(minutes):
            wanted = await self._received() + per_minute
            sent = await self._simulator.call(
                "POST", "/inject", **order, times=per_minute
            )
            assert sent["connections"] == 1

            async def arrived(wanted: float = wanted) -> bool:
                return await self._received() >= wanted

            await eventually(arrived, f"{wanted} events")
            await self._clock.minute()

    async def told(self, state: str) -> LinkFrame:
        """Return the link as the first status shows it that says *state*."""
        found = await self.status.until(lambda m: self._link(m).state == state)
        return self._link(found)

    def forget(self) -> set[str]:
        """Forget what was told so far; return the states that the link was in."""
        states = {self._link(message).state for message in self.status.messages}
        self.status.messages.clear()
        return states

    def _link(self, message: Message) -> LinkFrame:
        return decode_status(message.raw).links[self._feed.link]

    async def _received(self) -> float:
        async with plain_http() as http:
            text = (await http.get(f"http://127.0.0.1:{self._port}/metrics")).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "feedmesh_ingest_received_total"
        )


@asynccontextmanager
async def run_feed(
    feed: Feed, nats: NatsProcess, bus: Bus, clock: Clock
) -> AsyncIterator[World]:
    """Run an ingest and its simulator while the context is open."""
    async with AsyncExitStack() as stack:
        simulator = await start_simulator(stack)
        port = free_block(1)
        world = World(feed, simulator, clock, port)
        await bus.nc.subscribe(subjects.status(feed.name), cb=world.status.take)
        await bus.nc.flush()
        env = {
            name: simulator.urls.get(value, value) for name, value in feed.env.items()
        }
        env |= {"NATS_URL": nats.url, "OPS_PORT": str(port)}
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(feed.main(feed.settings.from_env(env), stop))
            await world.status.until(
                lambda m: decode_status(m.raw).links[feed.link].confirmed > 0
            )
            yield world
            stop.set()


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, nats_server: NatsProcess, bus: Bus
) -> Callable[[Feed, str], AbstractAsyncContextManager[World]]:
    """Run an ingest whose clock shows what a test wants."""

    def runs(feed: Feed, start: str) -> AbstractAsyncContextManager[World]:
        clock = Clock(start)
        monkeypatch.setattr(f"ingest_{feed.name}.replica.SystemClock", lambda: clock)
        monkeypatch.setattr(watchdog, "_LOOK_SECONDS", 0.002)
        return run_feed(feed, nats_server, bus, clock)

    return runs


Run = Callable[[Feed, str], AbstractAsyncContextManager[World]]


@pytest.mark.parametrize(
    ("feed", "trading"),
    [(FMP, "2024-07-17T11:00:30-04:00"), (LS, "2024-07-17T11:00:30+09:00")],
    ids=["fmp", "ls"],
)
async def test_a_feed_that_trickles_is_degraded_until_it_flows_again(
    run: Run, feed: Feed, trading: str
) -> None:
    async with run(feed, trading) as world:
        await world.run(14, USUAL)
        before = world.forget()
        await world.run(3, TRICKLE)
        degraded = await world.told("degraded")
        world.forget()
        await world.run(3, USUAL)
        live = await world.told("live")

    assert "degraded" not in before
    assert (degraded.alive, degraded.market) == (True, "open")
    assert degraded.usual_per_minute == pytest.approx(USUAL, rel=0.1)
    assert degraded.per_minute == pytest.approx(TRICKLE, abs=1)
    assert live.per_minute == pytest.approx(USUAL, rel=0.1)


@pytest.mark.parametrize(
    ("start", "later"),
    [
        ("2024-07-17T11:00:30-04:00", USUAL),
        # After hours nothing is due.
        ("2024-07-17T18:00:30-04:00", TRICKLE),
    ],
    ids=["flows on", "market closed"],
)
async def test_a_feed_that_brings_what_is_due_is_not(
    run: Run, start: str, later: int
) -> None:
    """The control: the same way, without the one thing."""
    async with run(FMP, start) as world:
        await world.run(14, USUAL)
        await world.run(3, later)
        states = world.forget()
        await world.told("live")

    assert "degraded" not in states
