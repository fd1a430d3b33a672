"""
The negative control of the news suites: a writer that publishes and believes it.

It does what is right for a bus without a memory, and so loses what is published while
no node decides for its stream. A suite in which even it loses nothing proves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib

from nats.js.api import StorageType

from feedmesh.bus import Bus
from feedmesh.errors import BusError


_STREAM = "CONTROL"


class NaiveWriter:
    """
    Writes *per_second* items a second to a stream of its own.

    Attributes:
        offered: How many items it had to write.
        sent: How many of them the connection has taken.
    """

    def __init__(self, bus: Bus, per_second: float = 200.0) -> None:
        self._bus = bus
        self._pause = 1 / per_second
        self.offered = 0
        self.sent = 0

    async def prepare(self, replicas: int) -> None:
        """Make its stream."""
        await self._bus.nc.jetstream().add_stream(
            name=_STREAM,
            subjects=["control.>"],
            storage=StorageType.FILE,
            num_replicas=replicas,
        )

    async def run(self) -> None:
        """Publish, for ever, and never ask."""
        while True:
            self.offered += 1
            with contextlib.suppress(BusError):
                await self._bus.publish("control.item", b"%d" % self.sent)
                self.sent += 1
            await asyncio.sleep(self._pause)

    async def lost(self) -> int:
        """Return how many of the items that it sent are not in its stream."""
        return self.sent - await self._stored()

    async def missing(self) -> int:
        """Return how many of all items are not in its stream."""
        return self.offered - await self._stored()

    async def _stored(self) -> int:
        found = await self._bus.nc.jetstream().stream_info(_STREAM)
        return int(found.state.messages)
