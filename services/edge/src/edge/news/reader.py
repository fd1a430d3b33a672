"""
One client's place in the news log, and how it gets from there to the end.

It has no queue: whenever the log has grown, or the client takes bytes again, what is
past its position is handed to its sender, a part at a time, until the client is at the
end or does not keep up. What is no longer in memory is read from the stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from edge.clients.chores import Chores
from edge.clients.sender import Flusher, Sender
from edge.news.items import Hole, NewsFilter, StoredItem
from edge.news.log import NewsLog, Page
from edge.positions import NewsPosition
from feedmesh.backoff import backoff
from feedmesh.errors import BusError


__all__ = ["NewsReader"]

logger = logging.getLogger(__name__)

_PART = 100
_PAUSE_SECONDS = (0.05, 2.0)


class NewsReader:
    """
    Follows *log* for one client.

    Args:
        log: The log.
        sender: Where items go.
        flusher: Writes what the sender has.
        chores: Runs what has to wait for the stream.
        form: Returns an item in the bytes that the client gets.
        lost: Called with what is not there any more: the position before and after,
            and a constant word for the reason.

    Attributes:
        position: Up to where the client has been given everything.
        wanted: Which items it wants.
    """

    def __init__(
        self,
        log: NewsLog,
        sender: Sender,
        flusher: Flusher,
        chores: Chores,
        form: Callable[[StoredItem], bytes],
        lost: Callable[[NewsPosition, NewsPosition, str], None],
    ) -> None:
        self._log = log
        self._sender = sender
        self._flusher = flusher
        self._chores = chores
        self._form = form
        self._lost = lost
        self._chore: asyncio.Task[None] | None = None
        # Where a replay ends, and what is to be done then.
        self._milestone: tuple[NewsPosition, Callable[[], None]] | None = None
        self.position = log.position
        self.wanted = NewsFilter()
        log.on_advance(self.pump)

    def go_to(self, position: NewsPosition, done: Callable[[], None]) -> None:
        """Go on after *position*; call *done* when what is there now has been sent."""
        if self._chore is not None:
            self._chore.cancel()
            self._chore = None
        if self._milestone is not None:
            # Whoever waits for the end of another replay has had all up to here.
            _, left_off = self._milestone
            left_off()
        self.position = position
        self._milestone = (self._log.position, done)
        self._pass_milestone()
        self.pump()

    def close(self) -> None:
        """Follow the log no more."""
        self._log.forget(self.pump)
        if self._chore is not None:
            self._chore.cancel()

    def pump(self) -> None:
        """Hand on what can be handed on now."""
        if self._chore is not None:
            return
        while not self._sender.blocked and self.position != self._log.position:
            if self.position.stream != self._log.position.stream:
                self._change_stream()
            if not self._log.in_memory(self.position):
                self._log.spilled()
                self._chore = self._chores.start(self._read)
                return
            before = self.position
            self._hand_on(self._log.after(self.position, _PART))
            if self.position == before:
                return  # ahead of what this edge has read so far

    def _hand_on(self, page: Page) -> None:
        for entry in page.entries:
            if isinstance(entry, Hole):
                stream = page.end.stream
                self._lost(
                    NewsPosition(stream, max(entry.after, self.position.sequence)),
                    NewsPosition(stream, entry.sequence),
                    "removed",
                )
            elif self.wanted.wants(entry):
                self._sender.buffer.append(self._form(entry))
        self.position = page.end
        self._pass_milestone()
        if self.position == self._log.position:
            self._flusher.soon(self._sender)
        else:
            # Far behind: what is next must see whether the client still keeps up.
            self._sender.flush()

    def _pass_milestone(self) -> None:
        if self._milestone is None:
            return
        end, done = self._milestone
        if self.position.stream != end.stream or self.position >= end:
            self._milestone = None
            done()

    def _change_stream(self) -> None:
        start = NewsPosition(self._log.position.stream, 0)
        self._lost(self.position, start, "stream_recreated")
        self.position = start

    async def _read(self) -> None:
        pauses = backoff(*_PAUSE_SECONDS)
        while True:
            try:
                page = await self._log.read(self.position)
            except BusError as error:
                logger.debug("news for a client: %s", error)
            else:
                same = page.end.stream == self._log.position.stream
                if page.end != self.position or not same:
                    break
                # All of it was removed; the next message will tell how much.
            await asyncio.sleep(next(pauses))
        self._chore = None
        if page.end.stream == self._log.position.stream:
            self._hand_on(page)
        self.pump()
