"""
Invented histories of a news stream, of edges that read it, and of one client.

Everything that may happen to a stream happens here: items, their copies, epochs, items
deleted or purged, expiry, a stream made anew, edges that lag or cannot ask. The client
goes from edge to edge with its position. What it was told must be true.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from operator import attrgetter
from typing import Any

from prometheus_client import CollectorRegistry

from edge.clients.chores import Chores
from edge.clients.sender import Flusher, Sender
from edge.metrics import EdgeMetrics
from edge.news.log import NewsLog
from edge.news.reader import NewsReader
from edge.positions import NewsPosition, parse_news_position, stream_mark
from feedmesh import messages
from feedmesh.errors import BusError
from feedmesh.news import NewsItem, encode_news
from feedmesh.stored import StoredMessage, StoredPage, StreamState


REPLAY_LIMIT = 40
# To make them takes longer than a history, and nobody looks at them.
_METRICS = EdgeMetrics(CollectorRegistry())


class InventedStream:
    """A stream in memory, of which everything that was ever stored is known."""

    def __init__(self) -> None:
        self.generation = 0
        self.messages: dict[int, StoredMessage] = {}
        self.first = 1
        self.last = 0
        # Every item that was ever stored: which stream, which number, which title.
        self.ever: list[tuple[str, int, str]] = []
        self.away = False
        self.asked = 0

    @property
    def mark(self) -> str:
        return stream_mark(self.identity)

    @property
    def identity(self) -> str:
        return f"made at {self.generation}"

    def publish(self, title: str, copies: int) -> None:
        item = NewsItem(
            date="20260101",
            time="090000",
            id="15",
            realkey=title,
            title=title,
            bodysize="1",
            code="",
            provider=None,
            news_type="article",
            stocks=(),
            published_at="2026-01-01T09:00:00+09:00",
            received_at="2026-01-01T00:00:00.000000Z",
        )
        head = messages.head(
            "news", "t", (1, 1), event_ns=0, received_ns=0, published_ns=0
        )
        payload = messages.encode(head, encode_news(item))
        self._store("news.article", payload)
        self.ever.append((self.mark, self.last, title))
        for copy in range(copies):
            self._store(f"news.article.00000{copy}", payload)

    def epoch(self) -> None:
        self._store("epoch.t", b"{}")

    def delete(self, sequence: int) -> None:
        self.messages.pop(sequence, None)
        self._move_first()

    def expire(self, to: int) -> None:
        for sequence in range(self.first, to + 1):
            self.messages.pop(sequence, None)
        self._move_first()

    def recreate(self) -> None:
        self.generation += 1
        self.messages.clear()
        self.first, self.last = 1, 0

    async def page(self, sequence: int, limit: int) -> StoredPage:
        self._ask()
        there = sorted(number for number in self.messages if number >= sequence)
        # The server may return fewer than it was asked for.
        part = there[: min(limit, 7)]
        return StoredPage([self.messages[n] for n in part], len(part) < len(there))

    async def state(self) -> StreamState:
        self._ask()
        inside = range(self.first, self.last + 1)
        deleted = tuple(number for number in inside if number not in self.messages)
        return StreamState(self.identity, self.first, self.last, deleted)

    def _ask(self) -> None:
        self.asked += 1
        if self.away:
            raise BusError("away")

    def _store(self, subject: str, payload: bytes) -> None:
        self.last += 1
        self.messages[self.last] = StoredMessage(subject, self.last, payload)

    def _move_first(self) -> None:
        self.first = min(self.messages, default=self.last + 1)


class Outlet:
    """Takes everything, unless it is blocked."""

    def __init__(self) -> None:
        self.blocked = False
        self.frames: list[bytes] = []

    def write(self, frames: bytes | memoryview) -> None:
        self.frames.append(bytes(frames))


class History:
    """One stream, two edges, one client; *random* decides what happens."""

    def __init__(self, random: random.Random) -> None:
        self.random = random
        self.stream = InventedStream()
        self.edges = [self._edge(), self._edge()]
        self.items = 0
        # What the client was told to be everything after its position, and was not.
        self.untrue: list[str] = []
        self.recovered = 0
        self._client: NewsReader | None = None
        self._outlet = Outlet()
        self._position: NewsPosition | None = None
        self._from: NewsPosition | None = None
        self._heard: list[str] = []

    def _edge(self) -> NewsLog:
        return NewsLog(self.stream, _METRICS, REPLAY_LIMIT)

    async def run(self, steps: int) -> None:
        """Let *steps* things happen, then look whether what was told is true."""
        for edge in self.edges:
            await edge.advance(check=True)
        happenings = (
            *(self._publish,) * 6,
            *(self._advance,) * 5,
            *(self._come,) * 3,
            *(self._go,) * 2,
            self._block,
            self._expire,
            self._delete,
            self._recreate,
            self._lose_contact,
        )
        for _ in range(steps):
            await self.random.choice(happenings)()
        await self._go()

    async def _publish(self) -> None:
        for _ in range(self.random.randint(1, 6)):
            self.items += 1
            self.stream.publish(f"item {self.items}", self.random.randint(0, 2))
        if self.random.random() < 0.3:
            self.stream.epoch()

    async def _advance(self) -> None:
        edge = self.random.choice(self.edges)
        # Now and then only what is new is read, as after a wake-up.
        await self._quietly(edge.advance(check=self.random.random() < 0.7))
        await asyncio.sleep(0)

    async def _quietly(self, work: Any) -> None:
        with contextlib.suppress(BusError):
            await work

    async def _expire(self) -> None:
        if self.stream.last:
            first = self.stream.first - 1
            self.stream.expire(self.random.randint(first, self.stream.last))

    async def _delete(self) -> None:
        if self.stream.messages:
            self.stream.delete(self.random.choice(list(self.stream.messages)))

    async def _recreate(self) -> None:
        if self.random.random() < 0.3:
            self.stream.recreate()
            for edge in self.edges:
                # Every edge checks within a second; a stream is not made anew and
                # filled past where an edge has read in that time.
                await self._quietly(edge.advance(check=True))

    async def _lose_contact(self) -> None:
        self.stream.away = not self.stream.away

    async def _block(self) -> None:
        self._outlet.blocked = not self._outlet.blocked
        if not self._outlet.blocked and self._client is not None:
            self._client.pump()

    async def _come(self) -> None:
        """Come to an edge, with the position if there is one."""
        await self._go()
        log = self.random.choice(self.edges)
        self._outlet = Outlet()
        sender = Sender(self._outlet)
        since = self._position
        complete = False
        if since is not None:
            complete = (await log.recovery(since)).complete
        client = NewsReader(
            log, sender, Flusher(), Chores(), attrgetter("frame"), self._lost
        )
        if complete:
            assert since is not None
            self.recovered += 1
            client.go_to(since, lambda: None)
        else:
            # The client knows that it may have missed something: a new count begins.
            self._begin(client.position)
        self._client = client
        self._sender = sender

    async def _go(self) -> None:
        """Leave, and look whether all that was promised has come."""
        if self._client is None:
            return
        for _ in range(3):
            await asyncio.sleep(0)
        self._client.close()
        self._take()
        self._position = parse_news_position(self._client.position.token())
        self._client = None
        self._check()

    def _take(self) -> None:
        self._sender.flush()
        for frame in self._outlet.frames:
            decoder = json.JSONDecoder()
            text = frame.decode()
            while text:
                item, end = decoder.raw_decode(text)
                self._heard.append(item["title"])
                text = text[end:]
        self._outlet.frames.clear()

    def _begin(self, position: NewsPosition) -> None:
        self._from = position
        self._heard = []

    def _lost(self, _: NewsPosition, to: NewsPosition, __: str) -> None:
        """Hear of a gap: what comes after it is a new count."""
        self._take()
        self._begin(to)

    def _check(self) -> None:
        start, end = self._from, self._position
        assert start is not None
        assert end is not None
        due = [
            title
            for stream, sequence, title in self.stream.ever
            if stream == end.stream and start.sequence < sequence <= end.sequence
        ]
        if start.stream != end.stream or due != self._heard:
            self.untrue.append(f"{start} to {end}: {due} but heard {self._heard}")
