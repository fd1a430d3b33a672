"""A link that is cancelled while it leaves ends, whatever its connection says then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from prometheus_client import CollectorRegistry

from feedmesh.errors import FeedLostError
from feedmesh.ingest.dialect import Opened, Reading
from feedmesh.ingest.feed import Link
from feedmesh.ingest.subscriptions import Request, SubscriptionBook
from feedmesh.metrics import IngestMetrics


class LastWords:
    """A wire that is lost in the very moment in which its reader is cancelled."""

    def __init__(self) -> None:
        self.read = asyncio.Event()

    async def receive(self) -> bytes:
        self.read.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise FeedLostError("closed_1000") from None
        raise AssertionError

    async def leave(self) -> None:
        await asyncio.Event().wait()


class Dialect:
    link = "one"

    def __init__(self, wire: LastWords) -> None:
        self._wire = wire

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Opened]:
        yield Opened(cast(Any, self._wire))

    def ask(self, request: Request) -> str:
        raise AssertionError

    def read(self, frame: bytes) -> Reading:
        raise AssertionError


async def test_a_link_that_is_cancelled_while_it_leaves_ends() -> None:
    wire = LastWords()
    metrics = IngestMetrics(CollectorRegistry(), "feed")
    link = Link(Dialect(wire), SubscriptionBook(), _nobody, metrics)
    running = asyncio.create_task(link.run())
    await wire.read.wait()

    leaving = asyncio.create_task(link.leave(10))
    await asyncio.sleep(0)
    running.cancel()
    leaving.cancel()

    done, _ = await asyncio.wait([running], timeout=5)
    assert running in done
    assert running.cancelled()


async def _nobody(link: str, frame: bytes, received_ns: int) -> None:
    raise AssertionError
