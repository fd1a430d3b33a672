"""
When a feed's data may lack something: from, to, why, and whether it was filled.

No upstream sends again what was missed, so every interruption of a link is written
down, in a stream of its own, as soon as the link brings something again. A gap begins
with the last instant of which all was stored, and ends when the link was heard again;
so whatever is missing was sent between the two. A leader that dies leaves its last such
instant in what it said of itself (`leadership`, `status`), and the next one goes on
from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec
from nats.errors import Error as NatsError

from feedmesh import subjects
from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.clock import from_iso, iso, now_ns
from feedmesh.errors import BusError
from feedmesh.ingest.leadership import Beat
from feedmesh.messages import Version, decode_head, encode, head
from feedmesh.metrics import IngestMetrics
from feedmesh.status import HasStatus, LinkState, LinkStatus, decode_status
from feedmesh.stored import last_of, read_from
from feedmesh.streams import GAPS, STATUS


__all__ = [
    "Gap",
    "GapKeeper",
    "GapWatch",
    "StoredGap",
    "decode_gap",
    "encode_gap",
    "last_complete",
    "read_gaps",
]

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25
# What was sent so shortly before may still have been in a buffer, unread.
_UNREAD_NS = 1_000_000_000
_MAX_WAITING = 1000
_ACK_SECONDS = 3.0


class Gap(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag="gap",
    tag_field="type",
    rename={"since": "from", "until": "to"},
):
    """
    A time for which data may be missing, as clients see it.

    Attributes:
        feed: Of which feed.
        link: On which of its links.
        since: All from before is there; ISO 8601, UTC; ``from`` on the wire.
        until: Data flows again from here on; ``to`` on the wire.
        reason: A short constant word, as links end by, or ``takeover``, ``handover``,
            ``restart``, ``spool_full``, ``queue_full``.
        backfilled: Whether what was missed was got by other means.
    """

    feed: str
    link: str
    since: str
    until: str
    reason: str
    backfilled: bool = False


class StoredGap(msgspec.Struct, frozen=True):
    """A gap, its place in the stream, and its exact bytes as clients get them."""

    sequence: int
    gap: Gap
    frame: bytes


encode_gap = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Gap).decode


def decode_gap(frame: bytes) -> Gap:
    """
    Return the gap that *frame* shows.

    Raises:
        ValueError: If it is not a frame of this module.
    """
    try:
        return _decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError("not a gap frame") from error


async def read_gaps(
    bus: Bus, sequence: int = 1, feed: str | None = None
) -> AsyncIterator[StoredGap]:
    """
    Yield the gaps that the stream has from *sequence* on, oldest first.

    Args:
        bus: The connection.
        sequence: Of the stream; go on at the last one's plus one.
        feed: Only those of this feed.

    Raises:
        BusError: If the stream does not answer.
    """
    subject = subjects.ALL_GAPS if feed is None else subjects.gaps(feed)
    async for message in read_from(bus, GAPS, sequence, subject):
        try:
            _, frame = decode_head(message.payload)
            yield StoredGap(message.sequence, decode_gap(frame), frame)
        except ValueError:
            logger.warning("a gap record makes no sense")


async def last_complete(bus: Bus, feed: str) -> dict[str, int]:
    """
    Return by link until when, in ns, *feed*'s data was complete, as its status said.

    Raises:
        BusError: If the stream does not answer.
    """
    last = await last_of(bus, STATUS, subjects.status(feed))
    if last is None:
        return {}
    try:
        _, frame = decode_head(last.payload)
        links = decode_status(frame).links
        return {
            name: from_iso(link.complete_to)
            for name, link in links.items()
            if link.complete_to is not None
        }
    except ValueError:
        return {}


@dataclass
class _Link:
    live: bool = False
    since_ns: int | None = None
    reason: str = ""


class GapWatch:
    """
    Tells from what links say of themselves when gaps begin and end; no I/O.

    Args:
        feed: Of which feed.
    """

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._links: dict[str, _Link] = {}

    def begin(self, complete: Mapping[str, int], reason: str) -> None:
        """Go on after a leader whose links were complete until then."""
        for name, instant_ns in complete.items():
            link = self._links.setdefault(name, _Link())
            if link.since_ns is None:
                link.since_ns = instant_ns
                link.reason = reason

    def look(self, name: str, status: LinkStatus, at_ns: int) -> Gap | None:
        """Return the gap of the link that has ended by *at_ns*, if one has."""
        link = self._links.setdefault(name, _Link())
        last = status.last_frame_ns
        if status.state is LinkState.IDLE:
            # Nothing is wanted from it, so nothing is missed.
            link.live = False
            link.since_ns = None
        elif status.state is not LinkState.LIVE:
            if link.live and link.since_ns is None:
                link.since_ns = (last or status.since_ns) - _UNREAD_NS
                link.reason = status.reason or "lost"
            link.live = False
        elif last is not None and last >= status.since_ns:
            link.live = True
            return self._end(name, link, at_ns)
        return None

    def complete(self, at_ns: int) -> dict[str, int]:
        """Return by link until when all was received, at *at_ns*."""
        return {
            name: at_ns - _UNREAD_NS if link.since_ns is None else link.since_ns
            for name, link in self._links.items()
            if link.live or link.since_ns is not None
        }

    def _end(self, name: str, link: _Link, at_ns: int) -> Gap | None:
        if link.since_ns is None:
            return None
        gap = Gap(
            feed=self._feed,
            link=name,
            since=iso(min(link.since_ns, at_ns)),
            until=iso(at_ns),
            reason=link.reason,
        )
        link.since_ns = None
        return gap


class GapKeeper:
    """
    Watches the links of a feed while it leads, and publishes their gaps.

    Args:
        bus: The connection.
        next_version: Numbers the messages.
        metrics: Of the feed.
        waiting_ns: Returns when the oldest was received that is not stored yet.
    """

    def __init__(
        self,
        bus: Bus,
        next_version: Callable[[], Version],
        metrics: IngestMetrics,
        waiting_ns: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._bus = bus
        self._next_version = next_version
        self._metrics = metrics
        self._waiting_ns = waiting_ns
        self._watch = GapWatch(metrics.feed)
        self._waiting: deque[Gap] = deque(maxlen=_MAX_WAITING)
        self._changed = asyncio.Event()
        self._arrived = asyncio.Event()

    async def take_over(self, bus: Bus, before: Beat | None) -> None:
        """
        Start afresh, from where the leader before us was complete.

        Args:
            bus: The connection.
            before: What that leader said last; without it, its status tells.

        Raises:
            BusError: If a stream does not answer.
        """
        if before is not None and before.complete:
            complete = before.complete
            reason = "handover" if before.state == "leaving" else "takeover"
        else:
            complete = await last_complete(bus, self._metrics.feed)
            reason = "restart"
        self._watch = GapWatch(self._metrics.feed)
        self._watch.begin(complete, reason)

    def changed(self) -> None:
        """Say that the state of a link has changed."""
        self._changed.set()

    def lost(self, link: str, since_ns: int, until_ns: int, reason: str) -> None:
        """Note that what came between the two instants could not be kept."""
        self._add(
            Gap(
                feed=self._metrics.feed,
                link=link,
                since=iso(since_ns),
                until=iso(until_ns),
                reason=reason,
            )
        )

    def complete(self) -> dict[str, int]:
        """Return by link until when all that was sent is stored."""
        complete = self._watch.complete(now_ns())
        oldest = self._waiting_ns()
        if oldest is None:
            return complete
        oldest -= _UNREAD_NS
        return {name: min(instant, oldest) for name, instant in complete.items()}

    async def run(self, links: Iterable[HasStatus]) -> None:
        """Watch *links* and publish what they lacked, for ever."""
        links = tuple(links)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish(), name="publish")
            while True:
                self._changed.clear()
                for link in links:
                    gap = self._watch.look(link.name, link.status(), now_ns())
                    if gap is not None:
                        self._add(gap)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._changed.wait()

    def _add(self, gap: Gap) -> None:
        seconds = (from_iso(gap.until) - from_iso(gap.since)) / 1e9
        self._metrics.gaps.labels(gap.feed, gap.link, gap.reason).inc()
        self._metrics.gap_seconds.labels(gap.feed, gap.link).inc(seconds)
        logger.warning(
            "data may be missing",
            extra={"link": gap.link, "reason": gap.reason, "seconds": seconds},
        )
        self._waiting.append(gap)
        self._arrived.set()

    async def flushed(self, timeout: float) -> bool:
        """Wait until every gap is stored; False if *timeout* passes before."""
        ends = asyncio.get_running_loop().time() + timeout
        while self._waiting:
            if asyncio.get_running_loop().time() > ends:
                return False
            await asyncio.sleep(0.01)
        return True

    async def _publish(self) -> None:
        while True:
            pauses = backoff(0.05, 2.0)
            self._arrived.clear()
            while self._waiting:
                try:
                    await self._store(self._waiting[0])
                    self._waiting.popleft()
                except BusError as error:
                    logger.debug("gap: %s", error)
                    await asyncio.sleep(next(pauses))
            await self._arrived.wait()

    async def _store(self, gap: Gap) -> None:
        now = now_ns()
        message = encode(
            head(
                "gap",
                gap.feed,
                self._next_version(),
                event_ns=now,
                received_ns=now,
                published_ns=now,
            ),
            encode_gap(gap),
        )
        if not self._bus.connected:
            raise BusError("NATS is not connected")
        headers = {"Nats-Msg-Id": f"{gap.feed}.{gap.link}.{gap.since}.{gap.reason}"}
        try:
            reply = await self._bus.nc.request(
                subjects.gaps(gap.feed), message, timeout=_ACK_SECONDS, headers=headers
            )
        except NatsError as error:
            raise BusError(str(error) or type(error).__name__) from error
        refusal = json.loads(reply.data).get("error")
        if refusal is not None:
            raise BusError(str(refusal.get("description")))
