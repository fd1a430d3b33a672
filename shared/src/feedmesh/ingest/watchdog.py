"""
What is due from each link, and whether it comes.

A link says what it knows of itself: whether it is connected, whether it was accepted,
when it last brought data. Here that is held against the hours of its market and the
rate that is usual: nothing is due from a closed market, and where it is not known
whether a market is open, silence is called silence and nothing more.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from feedmesh.clock import now_ns
from feedmesh.ingest.rate_watch import RateWatch, Slot
from feedmesh.metrics import IngestMetrics
from feedmesh.status import Flow, HasStatus, LinkState, LinkStatus
from feedmesh.trading_hours import Hours, Phase, TradingTime


__all__ = ["Clock", "SystemClock", "Watchdog", "WatchedLink"]

_LOOK_SECONDS = 5.0
_QUIET_NS = 300_000_000_000
_SLOT_NS = 1_800_000_000_000
# Where less than this share stays, who knows what came how often.
_MOST_STAYS = 0.9


class Clock(Protocol):
    """Knows what time it is."""

    def now_ns(self) -> int:
        """Return nanoseconds since the epoch."""


class SystemClock:
    """The clock of this machine."""

    def now_ns(self) -> int:
        """Return nanoseconds since the epoch."""
        return now_ns()


class WatchedLink:
    """
    A link whose status says whether it brings what is due.

    Args:
        link: Says what it knows of itself.
        hours: When its market is open.
        clock: The time.
    """

    def __init__(self, link: HasStatus, hours: Hours, clock: Clock) -> None:
        self.name = link.name
        self._link = link
        self._hours = hours
        self._clock = clock
        self._rate = RateWatch()
        self._frames = 0
        self._narrowed = 0
        self._desired = 0
        self._trading: int | None = None

    def status(self) -> LinkStatus:
        """Return what is known now."""
        at_ns = self._clock.now_ns()
        status = self._link.status()
        trading = self._hours.at(at_ns)
        flow = self._flow(status, trading, at_ns)
        return status._replace(
            state=_state(status.state, flow),
            market=trading.phase,
            flow=flow,
            per_minute=self._rate.per_minute,
            usual_per_minute=self._rate.usual_per_minute,
        )

    def expect(self, usual_per_minute: float | None) -> None:
        """Count from now on, and take for usual what the leader before us found so."""
        status = self._link.status()
        self._frames, self._narrowed = status.data_frames, status.narrowed
        self._desired = status.desired
        if usual_per_minute is not None:
            self._rate = RateWatch()
            self._rate.expect(usual_per_minute, self._clock.now_ns())

    def usual(self) -> float | None:
        """Return what it usually brings a minute; known for an hour after it did so."""
        return self._rate.known_usual(self._clock.now_ns())

    def look(self) -> None:
        """Count what has come since the last look; every few seconds."""
        at_ns = self._clock.now_ns()
        status = self._link.status()
        trading = self._hours.at(at_ns)
        new, self._frames = status.data_frames - self._frames, status.data_frames
        if status.narrowed != self._narrowed:
            dropped, self._narrowed = status.narrowed - self._narrowed, status.narrowed
            self._narrow(1 - dropped / max(1, self._desired))
        self._desired = status.desired
        if self._trading not in (None, trading.trading):
            self._rate.turn()
        self._trading = trading.trading
        if status.state is LinkState.LIVE and trading.phase is Phase.OPEN:
            self._rate.take(at_ns, new, _slot(trading, at_ns))
        else:
            self._rate.rest()

    def _narrow(self, share: float) -> None:
        """Expect less from now on: of what was asked for, *share* still is."""
        if share > _MOST_STAYS:
            self._rate.scale(share)
        else:
            self._rate = RateWatch()

    def _flow(
        self, status: LinkStatus, trading: TradingTime, at_ns: int
    ) -> Flow | None:
        if status.state is not LinkState.LIVE:
            return None
        if self._rate.degraded:
            return Flow.DEGRADED
        due_ns = max(status.since_ns, trading.opened_ns or 0)
        heard_ns = max(status.last_data_ns or 0, due_ns)
        if at_ns - heard_ns <= _QUIET_NS:
            return Flow.FLOWING
        return Flow.CLOSED if trading.phase is Phase.CLOSED else Flow.QUIET


class Watchdog:
    """
    Looks at links every few seconds, and shows what it sees.

    Args:
        links: All of a feed.
        metrics: Of the feed.
        changed: Called when a link has changed in kind.
    """

    def __init__(
        self,
        links: Iterable[WatchedLink],
        metrics: IngestMetrics,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.links = tuple(links)
        self._metrics = metrics
        self._changed = changed
        self._seen: dict[str, tuple[LinkState, Phase | None, Flow | None]] = {}

    def usual(self) -> dict[str, float]:
        """Return by link what it usually brings a minute, where that is known."""
        found = {link.name: link.usual() for link in self.links}
        return {name: rate for name, rate in found.items() if rate is not None}

    def expect(self, usual: Mapping[str, float]) -> None:
        """Go on from what another's :meth:`usual` has said."""
        for link in self.links:
            link.expect(usual.get(link.name))

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Look once."""
        for link in self.links:
            link.look()
            status = link.status()
            self._show(link.name, status)
            seen = (status.state, status.market, status.flow)
            if self._seen.get(link.name) != seen:
                self._seen[link.name] = seen
                self._changed()

    def _show(self, name: str, status: LinkStatus) -> None:
        metrics, feed = self._metrics, self._metrics.feed
        market = {Phase.OPEN: 1.0, Phase.CLOSED: 0.0}.get(
            status.market or Phase.UNKNOWN, math.nan
        )
        metrics.market_open.labels(feed, name).set(market)
        metrics.link_alive.labels(feed, name).set(status.alive)
        metrics.link_logged_in.labels(feed, name).set(status.logged_in)
        for flow in Flow:
            metrics.link_flow.labels(feed, name, flow.value).set(status.flow is flow)
        for state in LinkState:
            shown = metrics.link_state.labels(feed, name, state.value)
            shown.set(status.state is state)
        for gauge, rate in (
            (metrics.data_rate, status.per_minute),
            (metrics.usual_data_rate, status.usual_per_minute),
        ):
            gauge.labels(feed, name).set(math.nan if rate is None else rate / 60)


def _state(state: LinkState, flow: Flow | None) -> LinkState:
    if flow is Flow.DEGRADED:
        return LinkState.DEGRADED
    return LinkState.CLOSED if flow is Flow.CLOSED else state


def _slot(trading: TradingTime, at_ns: int) -> Slot:
    """Return which half hour of trading it is; of the day, if trading never ends."""
    if trading.opened_ns is None:
        return trading.trading, at_ns // _SLOT_NS % 48
    return trading.trading, (at_ns - trading.opened_ns) // _SLOT_NS
