"""
The news log as this edge reads it: in order, each item once, none left out.

The stream is the truth. What comes live on the wire only says that there is something
to read; messages are then read from the stream, from the last position on. So neither
a slow moment nor a reconnect can lose one, and an item that the stream refused is
never shown.

Every message of the stream is read, copies for symbols and epochs too, because then
the numbers must follow each other: a number that is missing is a message that was
removed, and that is told as a *hole* rather than passed over.

Readers pull: each client has a position and takes what is past it, at its own pace,
from memory if it is recent and from the stream if not. No client has a queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple, Protocol

from edge.metrics import EdgeMetrics
from edge.news.items import Entry, Hole, StoredItem, read_entries
from edge.news.pace import Pace
from edge.news.window import Window
from edge.positions import NewsPosition, stream_mark
from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.canary import NEWS_TYPE
from feedmesh.errors import BusError
from feedmesh.fast_lane import LaneMessage
from feedmesh.stored import StoredPage, StreamState, read_page, stream_state
from feedmesh.streams import NEWS


__all__ = ["BusNewsStream", "NewsLog", "NewsStream", "Page", "Recovery"]

logger = logging.getLogger(__name__)

# Items lie among epochs and copies for symbols; this many messages hold enough items.
_LOOK_BACK = 20_000
# Less than the longest pause between two looks: while all is quiet, each one checks.
_CHECK_SECONDS = 0.9
# So many are read in a few milliseconds; prices wait for no longer. Before there are
# clients, nothing waits.
_PAGE, _FIRST_PAGES = 100, 1000


class Page(NamedTuple):
    """
    A part of the log.

    Attributes:
        entries: Items and holes, oldest first.
        end: The position after them.
        more: Whether there was more after that.
    """

    entries: list[Entry]
    end: NewsPosition
    more: bool


class Recovery(NamedTuple):
    """
    Whether everything after a position can still be had.

    Attributes:
        complete: It can.
        reason: A constant word why not; empty if it can.
    """

    complete: bool
    reason: str = ""


class NewsStream(Protocol):
    """The stream that holds the log."""

    async def page(self, sequence: int, limit: int) -> StoredPage:
        """
        Return at most *limit* messages from *sequence* on; none if there are none.

        Raises:
            BusError: If the stream does not answer.
        """

    async def state(self) -> StreamState:
        """
        Return what the stream is now, with what was deleted in it.

        Raises:
            BusError: If the stream does not answer.
        """


class BusNewsStream:
    """The stream as NATS has it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def page(self, sequence: int, limit: int) -> StoredPage:
        """Return at most *limit* messages from *sequence* on."""
        return await read_page(self._bus, NEWS, sequence, limit)

    async def state(self) -> StreamState:
        """Return what the stream is now."""
        return await stream_state(self._bus, NEWS, deleted=True)


class NewsLog:
    """
    Reads the log for all clients of this edge.

    Args:
        stream: Where the log is.
        metrics: Counts.
        replay_limit: How many messages a client may be behind to be given all of them.

    Attributes:
        warm: Set once the recent items are in memory.
        advanced: Called when the log has grown, before its readers are.
    """

    def __init__(
        self, stream: NewsStream, metrics: EdgeMetrics, replay_limit: int
    ) -> None:
        self._stream = stream
        self._metrics = metrics
        self._replay_limit = replay_limit
        self._window = Window()
        self._identity = ""
        self._read_to = 0
        self._wake = asyncio.Event()
        self._in_doubt = True
        self._readers: dict[Callable[[], None], None] = {}
        self._asking: asyncio.Future[StreamState] | None = None
        self.warm = asyncio.Event()
        self.advanced: Callable[[], None] = lambda: None

    def count(self) -> None:
        """Bring the metrics up to date."""
        self._metrics.subscriptions.labels("news").set(len(self._readers))
        self._metrics.read_sequence.labels(NEWS).set(self._read_to)

    def spilled(self) -> None:
        """Note that a client is so far behind that it is given what the stream has."""
        self._metrics.news_spilled.inc()

    @property
    def position(self) -> NewsPosition:
        """Where the log ends now."""
        return NewsPosition(stream_mark(self._identity), self._read_to)

    def recent(self, limit: int) -> list[StoredItem]:
        """Return the newest items in memory, at most *limit*, oldest first."""
        return self._window.items(limit)

    def on_advance(self, reader: Callable[[], None]) -> None:
        """Call *reader* whenever the log has grown."""
        self._readers[reader] = None

    def forget(self, reader: Callable[[], None]) -> None:
        """Call *reader* no more."""
        self._readers.pop(reader, None)

    def in_memory(self, position: NewsPosition) -> bool:
        """Return whether all that comes after *position* is in memory."""
        return (
            position.stream == stream_mark(self._identity)
            and position.sequence >= self._window.complete_from
        )

    def after(self, position: NewsPosition, limit: int) -> Page:
        """Return what comes after *position*, which must be in memory."""
        found = self._window.after(position.sequence)
        if len(found) > limit:
            del found[limit:]
            end = found[-1].sequence
            return Page(found, position._replace(sequence=end), more=True)
        end = max(position.sequence, self._read_to)
        return Page(found, position._replace(sequence=end), more=False)

    async def read(self, position: NewsPosition) -> Page:
        """
        Return a part of what the stream has after *position*.

        Raises:
            BusError: If the stream does not answer.
        """
        limit = _PAGE if self.warm.is_set() else _FIRST_PAGES
        messages, more = await self._stream.page(position.sequence + 1, limit)
        entries = list(read_entries(messages, position))
        end = messages[-1].sequence if messages else position.sequence
        return Page(entries, position._replace(sequence=end), more)

    async def recovery(self, position: NewsPosition) -> Recovery:
        """Return whether a client at *position* can be given all that it missed."""
        if self.in_memory(position) and position.sequence <= self._read_to:
            page = self.after(position, len(self._window))
            holed = any(isinstance(entry, Hole) for entry in page.entries)
            return Recovery(False, "removed") if holed else Recovery(True)
        try:
            state = await self._fresh_state()
        except BusError:
            return Recovery(False, "stream_unavailable")
        if position.stream != stream_mark(state.identity):
            return Recovery(False, "stream_recreated")
        if state.identity != self._identity:
            # This edge has yet to begin with it.
            self._doubt()
            return Recovery(False, "stream_unavailable")
        if position.sequence > state.last:
            return Recovery(False, "unknown_position")
        if position.sequence + 1 < state.first:
            return Recovery(False, "expired")
        if state.last - position.sequence > self._replay_limit:
            return Recovery(False, "too_far_behind")
        if state.deleted_after(position.sequence):
            return Recovery(False, "removed")
        return Recovery(True)

    async def run(self, bus: Bus) -> None:
        """Follow the stream for ever; *bus* tells when there is something new."""

        pace = Pace()

        def heard(items: Sequence[LaneMessage]) -> None:
            pace.heard(len(items))
            self._wake.set()

        bus.on_doubt(self._doubt)
        await bus.nc.open_lane(subjects.ALL_NEWS_ITEMS, heard)
        checked = -_CHECK_SECONDS
        while True:
            if await self._woken(pace.next):
                await asyncio.sleep(pace.first)
                # What came meanwhile is looked for now, too.
                self._wake.clear()
            # However much comes: another stream must not be taken for this one.
            check = perf_counter() > checked + _CHECK_SECONDS
            if check:
                checked = perf_counter()
                pace.forget()
            try:
                pace.looked(await self.advance(check=check))
            except BusError as error:
                logger.debug("news log: %s", error)
                pace.failed()

    async def advance(self, *, check: bool) -> int:
        """
        Read what is new; return how many items there were.

        With *check*, look first whether it is still the same stream.

        Raises:
            BusError: If the stream does not answer.
        """
        self._in_doubt = self._in_doubt or check
        if self._in_doubt:
            await self._check_identity()
            self._in_doubt = False
        items, more = 0, True
        while more:
            page = await self.read(self.position)
            for entry in page.entries:
                self._take(entry)
                items += isinstance(entry, StoredItem)
            if page.end.sequence > self._read_to:
                self._read_to = page.end.sequence
                self.advanced()
                for reader in list(self._readers):
                    reader()
            more = page.more
        if not self.warm.is_set():
            self.warm.set()
            logger.info("news log is warm", extra={"items": len(self._window)})
        return items

    async def _woken(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    async def _fresh_state(self) -> StreamState:
        # One question answers all who ask while it is under way; the answer is no
        # older than the question of the first of them.
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._stream.state())
        return await asyncio.shield(self._asking)

    def _doubt(self) -> None:
        self._in_doubt = True
        self._wake.set()

    async def _check_identity(self) -> None:
        state = await self._stream.state()
        if state.identity != self._identity or state.last < self._read_to:
            self._start_over(state)

    def _start_over(self, state: StreamState) -> None:
        self._identity = state.identity
        self._read_to = max(state.first - 1, state.last - _LOOK_BACK, 0)
        self._window.start_over(self._read_to)

    def _take(self, entry: Entry) -> None:
        if isinstance(entry, Hole):
            self._metrics.news_holes.inc()
            logger.error(
                "messages of the news stream were removed before they were read",
                extra={"after": entry.after, "to": entry.sequence},
            )
        elif entry.news_type != NEWS_TYPE:
            self._metrics.news_items.inc()
        self._window.add(entry)
