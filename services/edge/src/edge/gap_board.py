"""
The gaps of all feeds, newest records last, as the stream has them.

Live records only wake the board: it reads the stream from where it was, so it misses
none. Bounded: beyond some thousands, the oldest gap that has ended is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from nats.aio.msg import Msg

from edge.positions import GapPosition, stream_mark
from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.errors import BusError
from feedmesh.gaps import StoredGap, parse_stored
from feedmesh.streams import GAPS
from feedmesh.tail import StreamTail


__all__ = ["GapBoard"]

logger = logging.getLogger(__name__)

_MAX_GAPS = 10_000
_LOOK_BACK = 20_000
_SWEEP_SECONDS = 5.0


class GapBoard:
    """
    The last record of each gap, in the order of the stream.

    Args:
        limit: How many gaps are kept.
    """

    def __init__(self, limit: int = _MAX_GAPS) -> None:
        self._limit = limit
        self._gaps: dict[str, StoredGap] = {}
        self._open: dict[str, StoredGap] = {}
        self._forgotten_to = 0
        self._tail = StreamTail(GAPS, subjects.ALL_GAPS, look_back=_LOOK_BACK)
        self._identity = ""
        self._listeners: dict[Callable[[bytes], None], None] = {}
        self._wake = asyncio.Event()

    @property
    def position(self) -> GapPosition:
        """Up to where the stream has been read; of no stream before it has been."""
        mark = stream_mark(self._identity) if self._identity else ""
        return GapPosition(mark, self._tail.read_to)

    @property
    def forgotten_to(self) -> int:
        """Number of the last record that may be missing here."""
        return max(self._forgotten_to, self._tail.skipped_to)

    def records(self) -> list[StoredGap]:
        """Return the last record of each gap, in order."""
        return list(self._gaps.values())

    def open_frames(self) -> list[bytes]:
        """Return the gaps that last, as clients get them."""
        return [stored.frame for stored in self._open.values()]

    def frames_since(self, position: GapPosition) -> list[bytes]:
        """Return the last record of each gap that was told of behind *position*."""
        behind = position.sequence if position.stream == self.position.stream else 0
        return [s.frame for s in self._gaps.values() if s.sequence > behind]

    def on_change(self, listener: Callable[[bytes], None]) -> None:
        """Call *listener* with each new record."""
        self._listeners[listener] = None

    def forget(self, listener: Callable[[bytes], None]) -> None:
        """Call *listener* no more."""
        self._listeners.pop(listener, None)

    def take(self, stored: StoredGap) -> None:
        """Take a record, and tell it."""
        gap = stored.gap
        self._gaps.pop(gap.id, None)
        self._open.pop(gap.id, None)
        self._gaps[gap.id] = stored
        if gap.until is None:
            self._open[gap.id] = stored
        if len(self._gaps) > self._limit:
            ended = next((id for id in self._gaps if id not in self._open), gap.id)
            self._forgotten_to = max(self._forgotten_to, self._gaps[ended].sequence)
            del self._gaps[ended]
            self._open.pop(ended, None)
        for listener in list(self._listeners):
            listener(stored.frame)

    async def run(self, bus: Bus) -> None:
        """Read what was told, and what is told, for ever."""
        bus.on_doubt(self._wake.set)
        await bus.nc.subscribe(subjects.ALL_GAPS, cb=self._live)
        while True:
            self._wake.clear()
            try:
                await self._read(bus)
            except BusError as error:
                logger.debug("gaps: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_SECONDS):
                    await self._wake.wait()

    async def _read(self, bus: Bus) -> None:
        async for message in self._tail.read(bus):
            self._begin_anew()
            stored = parse_stored(message)
            if stored is not None:
                self.take(stored)
        self._begin_anew()

    def _begin_anew(self) -> None:
        if self._identity != self._tail.identity:
            self._identity = self._tail.identity
            self._gaps.clear()
            self._open.clear()
            self._forgotten_to = 0

    async def _live(self, _: Msg) -> None:
        self._wake.set()
