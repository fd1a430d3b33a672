"""What every feed last said about itself, and whether it still says anything."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

import msgspec
from nats.aio.msg import Msg

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.clock import from_iso, now_ns
from feedmesh.errors import BusError
from feedmesh.messages import Version, decode_head
from feedmesh.status import STALE_SECONDS, FeedFrame, decode_status
from feedmesh.stored import read_from
from feedmesh.streams import STATUS


__all__ = ["StatusBoard"]

logger = logging.getLogger(__name__)

_MAX_FEEDS = 100
_encode = msgspec.json.Encoder().encode
_SWEEP_SECONDS = 5.0


class StatusBoard:
    """The newest status of each feed, by version."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._feeds: dict[str, tuple[Version, FeedFrame]] = {}
        # What listeners were last told of each feed.
        self._told: dict[str, FeedFrame] = {}
        self._listeners: dict[Callable[[bytes], None], None] = {}
        self._doubt = asyncio.Event()
        bus.on_doubt(self._doubt.set)

    def feeds(self) -> dict[str, FeedFrame]:
        """Return each feed's status; ``unknown`` for one that has fallen silent."""
        oldest = now_ns() - int(STALE_SECONDS * 1e9)
        return {
            feed: frame if from_iso(frame.at) >= oldest else _unknown(frame)
            for feed, (_, frame) in sorted(self._feeds.items())
        }

    def frames(self) -> list[bytes]:
        """Return each feed's status as clients get it."""
        return [_encode(frame) for frame in self.feeds().values()]

    def on_change(self, listener: Callable[[bytes], None]) -> None:
        """Call *listener* with the status of a feed whenever it has changed."""
        self._listeners[listener] = None

    def forget(self, listener: Callable[[bytes], None]) -> None:
        """Call *listener* no more."""
        self._listeners.pop(listener, None)

    def tell_changes(self) -> None:
        """Tell listeners what is not as they were last told, silence included."""
        for feed, frame in self.feeds().items():
            told = self._told.get(feed)
            if told is not None and _gist(told) == _gist(frame):
                continue
            self._told[feed] = frame
            encoded = _encode(frame)
            for listener in list(self._listeners):
                listener(encoded)

    async def run(self) -> None:
        """Listen, and read what was said before, for ever."""
        await self._bus.nc.subscribe(subjects.ALL_STATUS, cb=self._live)
        while True:
            self._doubt.clear()
            try:
                async for message in read_from(self._bus, STATUS, 1):
                    self._take(message.payload)
            except BusError as error:
                logger.debug("status: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_SECONDS):
                    await self._doubt.wait()

    async def _live(self, message: Msg) -> None:
        self._take(message.data)
        self.tell_changes()

    def _take(self, payload: bytes) -> None:
        try:
            head, raw = decode_head(payload)
            frame = decode_status(raw)
        except ValueError:
            logger.warning("a status message makes no sense")
            return
        known = self._feeds.get(frame.feed)
        if known is None and len(self._feeds) >= _MAX_FEEDS:
            return
        if known is None or head.version > known[0]:
            self._feeds[frame.feed] = (head.version, frame)


def _gist(frame: FeedFrame) -> object:
    """Return what makes a difference to clients; the age of data is not in it."""
    links = {
        name: (
            *(link.state, link.since, link.reconnects, link.reason),
            *(link.alive, link.logged_in, link.market, link.flow),
        )
        for name, link in frame.links.items()
    }
    return frame.state, frame.since, links


def _unknown(frame: FeedFrame) -> FeedFrame:
    return msgspec.structs.replace(frame, state="unknown", since=frame.at)
