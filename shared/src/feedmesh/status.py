"""
What is known about the truth of a feed's data, as the feed itself tells it.

Published on ``status.<feed>`` at every change and every few seconds; the newest one
lies in a stream. Whoever reads one that is older than :data:`STALE_SECONDS` knows that
the ingest itself is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Final, NamedTuple, Protocol

import msgspec

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.clock import iso, now_ns
from feedmesh.errors import BusError
from feedmesh.messages import Version, encode, head
from feedmesh.trading_hours import Phase


__all__ = [
    "STALE_SECONDS",
    "FeedFrame",
    "Flow",
    "HasStatus",
    "LinkFrame",
    "LinkState",
    "LinkStatus",
    "StatusPublisher",
    "decode_status",
]

logger = logging.getLogger(__name__)

_EVERY_SECONDS = 3.0
STALE_SECONDS: Final = 4 * _EVERY_SECONDS


class LinkState(Enum):
    """How a link to an upstream is."""

    LIVE = "live"
    DEGRADED = "degraded"  # it brings a few per cent of what is usual
    CLOSED = "closed"  # the market is closed, and nothing comes
    IDLE = "idle"  # nothing is wanted from it, so it is not connected
    CONNECTING = "connecting"
    DOWN = "down"
    BUSY = "busy"
    REFUSED = "refused"


class Flow(Enum):
    """How the data of a link flows, compared with what is due."""

    FLOWING = "flowing"
    QUIET = "quiet"  # nothing comes; too little is known to call it a fault
    DEGRADED = "degraded"
    CLOSED = "closed"  # nothing is due


class LinkStatus(NamedTuple):
    """
    One link at one instant.

    That it is alive, that we are logged in, that data flows, and that the market is
    open are four things, and each can be so without the others.

    Attributes:
        state: How it is, in a word.
        since_ns: Since when.
        last_frame_ns: When it last said anything.
        reconnects: How often it ended.
        reason: Why it last ended, while it is not live again.
        desired: Subscriptions that should be.
        confirmed: Subscriptions that the upstream agreed to.
        alive: Whether it is connected, and answers.
        logged_in: Whether the upstream has accepted us.
        last_data_ns: When it last brought data.
        data_frames: How many frames with data it has brought.
        narrowed: How many subscriptions were wanted no more.
        market: Whether its market is open; None if nobody has looked.
        flow: How its data flows; None if nobody has looked, or nothing could flow.
        per_minute: Frames with data in the last minutes, if that was watched.
        usual_per_minute: As many are usual, if that is known.
        flows_ns: Since when this connection brings what is wanted; None before.
    """

    state: LinkState
    since_ns: int
    last_frame_ns: int | None
    reconnects: int
    reason: str | None
    desired: int
    confirmed: int
    alive: bool = False
    logged_in: bool = False
    last_data_ns: int | None = None
    data_frames: int = 0
    narrowed: int = 0
    market: Phase | None = None
    flow: Flow | None = None
    per_minute: float | None = None
    usual_per_minute: float | None = None
    flows_ns: int | None = None


class HasStatus(Protocol):
    """A link, as far as the status goes."""

    name: str

    def status(self) -> LinkStatus:
        """Return what is known now."""


class LinkFrame(msgspec.Struct, frozen=True):
    """
    One link, as clients see it; times are ISO 8601, UTC.

    All that the upstream sent until *complete_to*, as far as it was known when this was
    said, is stored; null before the link was first heard, and while it rests.

    Attributes:
        alive: Whether it is connected, and answers.
        logged_in: Whether the upstream has accepted us.
        last_data_at: When it last brought data; null if never.
        market: `open`, `closed`, or `unknown`: whether data is due.
        flow: How data flows; null while the link is down.
        per_minute: Frames with data in the last minutes; null if that was not watched.
        usual_per_minute: As many are usual at this time; null while that is not known.
    """

    state: str
    since: str
    last_message_at: str | None
    reconnects: int
    reason: str | None
    desired: int
    confirmed: int
    complete_to: str | None = None
    alive: bool = False
    logged_in: bool = False
    last_data_at: str | None = None
    market: str | None = None
    flow: str | None = None
    per_minute: float | None = None
    usual_per_minute: float | None = None


class FeedFrame(msgspec.Struct, frozen=True, tag="status", tag_field="type"):
    """One feed, as clients see it: as bad as the worst of its links."""

    feed: str
    state: str
    since: str
    last_message_at: str | None
    reconnects: int
    links: dict[str, LinkFrame]
    at: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(FeedFrame).decode
_WORST_FIRST = (
    *("refused", "busy", "down", "connecting", "degraded", "live", "closed", "idle"),
)


def decode_status(frame: bytes) -> FeedFrame:
    """
    Return the feed that *frame* shows.

    Raises:
        ValueError: If it is not a frame of this module.
    """
    try:
        return _decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError("not a status frame") from error


def feed_frame(
    feed: str, links: Iterable[HasStatus], at_ns: int, complete: Mapping[str, int]
) -> FeedFrame:
    """Return what *links* add up to at *at_ns*; *complete* is an instant by link."""
    frames = {
        link.name: _link_frame(link.status(), complete.get(link.name)) for link in links
    }
    worst = min(frames.values(), key=lambda link: _WORST_FIRST.index(link.state))
    heard = [link.last_message_at for link in frames.values() if link.last_message_at]
    return FeedFrame(
        feed=feed,
        state=worst.state,
        since=worst.since,
        last_message_at=max(heard, default=None),
        reconnects=sum(link.reconnects for link in frames.values()),
        links=frames,
        at=iso(at_ns),
    )


def _link_frame(status: LinkStatus, complete_ns: int | None) -> LinkFrame:
    last = status.last_frame_ns
    return LinkFrame(
        state=status.state.value,
        since=iso(status.since_ns),
        last_message_at=None if last is None else iso(last),
        reconnects=status.reconnects,
        reason=status.reason,
        desired=status.desired,
        confirmed=status.confirmed,
        complete_to=None if complete_ns is None else iso(complete_ns),
        alive=status.alive,
        logged_in=status.logged_in,
        last_data_at=None if status.last_data_ns is None else iso(status.last_data_ns),
        market=status.market.value if status.market else None,
        flow=status.flow.value if status.flow else None,
        per_minute=_rounded(status.per_minute),
        usual_per_minute=_rounded(status.usual_per_minute),
    )


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 2)


class StatusPublisher:
    """
    Tells the state of *feed* while it leads; *next_version* numbers the messages.

    *complete* returns by link until when, in ns, all is stored.
    """

    def __init__(
        self,
        bus: Bus,
        feed: str,
        next_version: Callable[[], Version],
        complete: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._bus = bus
        self._feed = feed
        self._next_version = next_version
        self._complete = complete
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Say that the state has changed in kind; it is told at once."""
        self._changed.set()

    async def run(self, links: Iterable[HasStatus]) -> None:
        """Publish at each change and every few seconds."""
        links = tuple(links)
        while True:
            self._changed.clear()
            await self._publish(links)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_SECONDS):
                    await self._changed.wait()
                    # Several changes in a row are one message.
                    await asyncio.sleep(0.05)

    async def _publish(self, links: Iterable[HasStatus]) -> None:
        now = now_ns()
        frame = _encode(feed_frame(self._feed, links, now, self._complete()))
        message = encode(
            head(
                "status",
                self._feed,
                self._next_version(),
                event_ns=now,
                received_ns=now,
                published_ns=now,
            ),
            frame,
        )
        with contextlib.suppress(BusError):  # the next one is a few seconds away
            await self._bus.publish(subjects.status(self._feed), message)
