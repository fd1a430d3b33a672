"""
The news log as this edge reads it: in order, each item once, none left out.

The stream is the truth. What comes live on the wire only says that there is something
to read; the items are then read from the stream, from the last position on. So neither
a slow moment nor a reconnect can lose one, and an item that the stream refused is
never shown. Readers pull: each client has a position and takes what is past it, at its
own pace, from memory if it is recent and from the stream if not. No client has a queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import NamedTuple

from nats.aio.msg import Msg

from edge.metrics import EdgeMetrics
from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.errors import BusError
from feedmesh.messages import split
from feedmesh.stored import StreamState, read_from, stream_state
from feedmesh.streams import NEWS


__all__ = ["NewsLog", "Position", "StoredItem"]

logger = logging.getLogger(__name__)

_RECENT = 1000
# Items lie among epochs and copies for symbols; this many messages hold enough items.
_LOOK_BACK = 20_000
_SWEEP_SECONDS = 1.0
_FIRST_RETRY_SECONDS = 0.002


class Position(NamedTuple):
    """Up to where somebody has read: which stream, and which number in it."""

    stream: str
    sequence: int


class StoredItem(NamedTuple):
    """One item of the log, ready for clients."""

    sequence: int
    frame: bytes


class NewsLog:
    """
    Reads the log for all clients of this edge.

    Attributes:
        warm: Set once the recent items are in memory.
    """

    def __init__(self, bus: Bus, metrics: EdgeMetrics) -> None:
        self._bus = bus
        self._metrics = metrics
        self._recent: deque[StoredItem] = deque(maxlen=_RECENT)
        self._identity = ""
        self._read_to = 0
        # All items past this number, up to the position, are in `_recent`.
        self._complete_from = 0
        self._wake = asyncio.Event()
        self._advanced = asyncio.Event()
        self.warm = asyncio.Event()
        bus.on_doubt(self._wake.set)

    @property
    def position(self) -> Position:
        """Where the log ends now."""
        return Position(self._identity, self._read_to)

    def recent(self, limit: int) -> list[bytes]:
        """Return the newest frames, at most *limit*, oldest first."""
        return [item.frame for item in list(self._recent)[-limit:]]

    async def run(self) -> None:
        """Follow the stream for ever."""

        async def heard(_: Msg) -> None:
            self._wake.set()

        await self._bus.nc.subscribe(subjects.ALL_NEWS_ITEMS, cb=heard)
        wait = 0.0
        while True:
            woken = await self._woken(wait)
            try:
                if not woken:
                    await self._check_identity()
                found = await self._read_on()
            except BusError as error:
                logger.debug("news log: %s", error)
                found = False
            if found:
                wait = _SWEEP_SECONDS
            elif woken:
                # An item may be heard before the stream has it: ask again, soon.
                wait = _FIRST_RETRY_SECONDS
            else:
                wait = min(max(wait, _FIRST_RETRY_SECONDS) * 2, _SWEEP_SECONDS)

    async def _woken(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    async def after(self, position: Position) -> tuple[list[bytes], Position]:
        """
        Return what comes after *position*, waiting for it; and the position after it.

        A position in a stream that is no more continues at the start of the new one.

        Raises:
            BusError: If the stream must be asked and does not answer.
        """
        while position == self.position:
            await self._advanced.wait()
        if position.stream != self._identity:
            position = Position(self._identity, 0)
        end = self.position
        if position.sequence >= self._complete_from:
            items = [i for i in self._recent if i.sequence > position.sequence]
        else:
            items = await self._from_stream(position.sequence, end.sequence)
        return [item.frame for item in items], end

    async def _from_stream(self, after: int, to: int) -> list[StoredItem]:
        return [
            StoredItem(message.sequence, split(message.payload)[1])
            async for message in read_from(
                self._bus, NEWS, after + 1, subjects.ALL_NEWS_ITEMS
            )
            if message.sequence <= to
        ]

    async def _check_identity(self) -> None:
        state = await stream_state(self._bus, NEWS)
        if state.identity != self._identity or state.last < self._read_to:
            self._start_over(state)

    async def _read_on(self) -> bool:
        """Take what is new; return whether there was anything."""
        before = self._read_to
        async for message in read_from(
            self._bus, NEWS, before + 1, subjects.ALL_NEWS_ITEMS
        ):
            self._take(message.sequence, message.payload)
        if self._read_to > before:
            self._advanced.set()
            self._advanced.clear()
        if not self.warm.is_set():
            self.warm.set()
            logger.info("news log is warm", extra={"items": len(self._recent)})
        return self._read_to > before

    def _start_over(self, state: StreamState) -> None:
        self._identity = state.identity
        self._recent.clear()
        self._read_to = max(state.first - 1, state.last - _LOOK_BACK, 0)
        self._complete_from = self._read_to

    def _take(self, sequence: int, payload: bytes) -> None:
        self._read_to = sequence
        try:
            _, frame = split(payload)
        except ValueError:
            self._metrics.unreadable.inc()
            return
        self._metrics.news_items.inc()
        if len(self._recent) == _RECENT:
            self._complete_from = self._recent[0].sequence
        self._recent.append(StoredItem(sequence, frame))
