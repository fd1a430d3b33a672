"""What is due from a link, and whether it comes; the clock is ours."""

from __future__ import annotations

from datetime import datetime

import pytest
from prometheus_client import CollectorRegistry

from feedmesh.ingest.watchdog import Watchdog, WatchedLink
from feedmesh.metrics import IngestMetrics
from feedmesh.status import Flow, LinkState, LinkStatus, feed_frame
from feedmesh.trading_hours import (
    ALWAYS_OPEN,
    FOREX,
    UNKNOWN_HOURS,
    Hours,
    Phase,
    any_of,
    exchange,
)


SECOND = 1_000_000_000


class Clock:
    """Shows what it is set to."""

    def __init__(self, text: str) -> None:
        self.now = int(datetime.fromisoformat(text).timestamp()) * SECOND

    def now_ns(self) -> int:
        return self.now


class World:
    """A link, its market, and a clock that a test moves on."""

    def __init__(self, hours: Hours, start: str) -> None:
        self.name = "stocks"
        self.clock = Clock(start)
        self.state = LinkState.LIVE
        self.since_ns = self.clock.now
        self.last_data_ns: int | None = None
        self.frames = 0
        self.narrowed = 0
        self.desired = 1
        self.changes = 0
        self.metrics = IngestMetrics(CollectorRegistry(), "fmp")
        self.watched = WatchedLink(self, hours, self.clock)
        self.dog = Watchdog([self.watched], self.metrics, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def status(self) -> LinkStatus:
        live = self.state is LinkState.LIVE
        return LinkStatus(
            state=self.state,
            since_ns=self.since_ns,
            last_frame_ns=self.clock.now if live else None,
            reconnects=0,
            reason=None,
            desired=self.desired,
            confirmed=self.desired,
            alive=live,
            logged_in=live,
            last_data_ns=self.last_data_ns,
            data_frames=self.frames,
            narrowed=self.narrowed,
        )

    def run(self, minutes: float, per_minute: float = 0.0) -> set[LinkState]:
        """Let time pass while data comes; return the states that were seen."""
        seen = set()
        owed = 0.0
        for _ in range(int(minutes * 6)):
            self.clock.now += 10 * SECOND
            owed += per_minute / 6
            if owed >= 1 and self.state is LinkState.LIVE:
                self.frames += int(owed)
                self.last_data_ns = self.clock.now
                owed -= int(owed)
            self.dog.look()
            seen.add(self.watched.status().state)
        return seen


def new_york(start: str) -> World:
    return World(exchange("XNYS"), start)


def test_a_closed_market_that_is_silent_is_closed_not_dead() -> None:
    world = new_york("2026-07-15T15:00:00-04:00")
    world.run(59, 600)
    trading = world.watched.status()
    world.run(20)
    closed = world.watched.status()

    assert (trading.state, trading.flow, trading.market) == (
        LinkState.LIVE,
        Flow.FLOWING,
        Phase.OPEN,
    )
    assert (closed.state, closed.flow, closed.market) == (
        LinkState.CLOSED,
        Flow.CLOSED,
        Phase.CLOSED,
    )
    assert closed.alive
    assert closed.logged_in


def test_what_comes_from_a_closed_market_flows() -> None:
    """There is trading before and after hours."""
    world = new_york("2026-07-15T18:00:00-04:00")
    seen = world.run(60, 5)

    assert seen == {LinkState.LIVE}
    assert world.watched.status().market is Phase.CLOSED


def test_an_open_market_that_brings_too_little_is_degraded() -> None:
    world = new_york("2026-07-15T11:00:00-04:00")
    world.run(60, 600)
    world.run(10, 12)
    degraded = world.watched.status()
    world.run(10, 600)

    assert (degraded.state, degraded.flow) == (LinkState.DEGRADED, Flow.DEGRADED)
    assert degraded.per_minute is not None
    assert degraded.usual_per_minute is not None
    assert degraded.per_minute < 0.05 * degraded.usual_per_minute
    assert world.watched.status().state is LinkState.LIVE


def test_a_silent_open_market_of_which_little_is_known_is_quiet() -> None:
    world = new_york("2026-07-15T11:00:00-04:00")
    world.run(10)
    status = world.watched.status()

    assert (status.state, status.flow) == (LinkState.LIVE, Flow.QUIET)


def test_less_that_is_asked_for_is_no_fault() -> None:
    world = new_york("2026-07-15T11:00:00-04:00")
    world.run(60, 600)
    world.narrowed += 1

    assert world.run(60, 6) == {LinkState.LIVE}


def test_a_trickle_is_noticed_though_clients_come_and_go() -> None:
    world = new_york("2026-07-15T11:00:00-04:00")
    world.desired = 100
    world.run(60, 600)
    world.narrowed, world.desired = 5, 95
    usual = world.watched.usual()
    world.run(2, 570)
    world.narrowed, world.desired = 6, 94

    assert LinkState.DEGRADED in world.run(10, 10)
    assert world.watched.usual() == pytest.approx(0.94 * (usual or 0), rel=0.1)


def test_nothing_is_due_from_a_market_before_it_opens() -> None:
    """Right after a weekend, silence is no older than the week."""
    world = World(FOREX, "2026-07-17T16:00:00-04:00")
    world.run(50, 600)
    world.clock.now = Clock("2026-07-19T17:00:05-04:00").now
    opened = world.watched.status()
    world.clock.now = Clock("2026-07-19T17:05:05-04:00").now

    assert opened.flow is Flow.FLOWING
    assert world.watched.status().flow is Flow.QUIET


def test_the_close_of_one_market_of_several_is_no_alarm() -> None:
    """On one link most is stocks while they trade; crypto always does."""
    hours = any_of(exchange("XNYS"), ALWAYS_OPEN)
    world = World(hours, "2026-07-15T00:00:00-04:00")
    seen = set()
    for _ in range(4 * 1440):
        stocks = exchange("XNYS").at(world.clock.now).phase is Phase.OPEN
        seen |= world.run(1, 6000 if stocks else 60)

    assert seen == {LinkState.LIVE}


def test_a_link_that_is_down_says_so_whatever_the_market() -> None:
    world = new_york("2026-07-15T20:00:00-04:00")
    world.state = LinkState.DOWN
    world.run(10)
    status = world.watched.status()

    assert (status.state, status.flow, status.market) == (
        LinkState.DOWN,
        None,
        Phase.CLOSED,
    )


def test_where_nothing_is_known_of_the_market_that_is_said() -> None:
    world = World(UNKNOWN_HOURS, "2026-07-15T12:00:00Z")
    world.run(60, 600)
    seen = world.run(60)
    status = world.watched.status()

    assert seen == {LinkState.LIVE}
    assert (status.market, status.flow) == (Phase.UNKNOWN, Flow.QUIET)


def test_beyond_the_table_silence_is_not_excused_as_closed() -> None:
    world = new_york("2031-01-04T12:00:00Z")
    world.run(10)

    assert world.watched.status().flow is Flow.QUIET


@pytest.mark.parametrize(
    ("hours", "start", "days"),
    [
        # An early close, a holiday, two weekends.
        (exchange("XNYS"), "2026-11-23T00:00:00-05:00", 10),
        (exchange("XNYS"), "2026-12-22T00:00:00-05:00", 12),
        # Clocks change.
        (exchange("XNYS"), "2026-03-05T00:00:00-05:00", 7),
        # Lunar new year.
        (exchange("XKRX"), "2026-02-12T00:00:00+09:00", 10),
        (exchange("XKRX"), "2025-12-29T00:00:00+09:00", 7),
        (FOREX, "2026-10-29T00:00:00Z", 7),
        (ALWAYS_OPEN, "2026-10-29T00:00:00Z", 4),
    ],
)
def test_nights_weekends_holidays_and_early_closes_are_no_alarm(
    hours: Hours, start: str, days: int
) -> None:
    world = World(hours, start)
    seen = set()
    for _ in range(days * 1440 * 2):
        world.clock.now += 30 * SECOND
        if hours.at(world.clock.now).phase is Phase.OPEN:
            world.frames += 150
            world.last_data_ns = world.clock.now
        world.watched.look()
        seen.add(world.watched.status().state)

    closes = set() if hours is ALWAYS_OPEN else {LinkState.CLOSED}
    assert seen == {LinkState.LIVE} | closes


def test_a_change_in_kind_is_told_once() -> None:
    world = new_york("2026-07-15T15:30:00-04:00")
    world.run(28, 600)
    before = world.changes
    world.run(60)

    # The market closes, and later nothing comes any more.
    assert (before, world.changes - before) == (1, 2)


def test_the_metrics_keep_the_four_apart() -> None:
    world = new_york("2026-07-15T20:00:00-04:00")
    world.run(10)
    labels = ("fmp", "stocks")
    metrics = world.metrics

    assert metrics.link_alive.labels(*labels)._value.get() == 1
    assert metrics.link_logged_in.labels(*labels)._value.get() == 1
    assert metrics.link_flow.labels(*labels, "flowing")._value.get() == 0
    assert metrics.market_open.labels(*labels)._value.get() == 0


def test_a_feed_is_closed_when_all_of_it_is() -> None:
    closed, open_ = new_york("2026-07-18T12:00:00Z"), new_york("2026-07-18T12:00:00Z")
    closed.run(10)
    open_.run(10, 60)
    open_.watched.name = "crypto"

    both = feed_frame("fmp", [closed.watched, open_.watched], closed.clock.now, {})
    alone = feed_frame("fmp", [closed.watched], closed.clock.now, {})

    assert both.state == "live"
    assert alone.state == "closed"
    assert alone.links["stocks"].market == "closed"


def test_what_the_leader_before_us_found_usual_is_usual() -> None:
    before = new_york("2026-07-15T11:00:00-04:00")
    before.run(60, 600)
    heir = new_york("2026-07-15T12:00:00-04:00")
    heir.frames = 5000
    heir.dog.expect(before.dog.usual())

    assert LinkState.DEGRADED in heir.run(5, 12)
    assert heir.dog.usual() == pytest.approx({"stocks": 600.0}, rel=0.1)


@pytest.mark.parametrize(("minutes", "told"), [(5, True), (90, False)])
def test_an_heir_knows_what_was_usual_before_the_link_went_down(
    minutes: int, told: bool
) -> None:
    before = new_york("2026-07-15T10:00:00-04:00")
    before.run(60, 600)
    before.state = LinkState.DOWN
    before.run(minutes)
    first = new_york("2026-07-15T12:30:00-04:00")
    first.dog.expect(before.dog.usual())
    # It, too, dies at once.
    second = new_york("2026-07-15T12:30:00-04:00")
    second.dog.expect(first.dog.usual())

    assert ("stocks" in second.dog.usual()) is told
    assert (LinkState.DEGRADED in second.run(5, 12)) is told
