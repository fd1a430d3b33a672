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
        sent: How many items the connection has taken from it.
    """

    def __init__(self, bus: Bus, per_second: float = 200.0) -> None:
        self._bus = bus
        self._pause = 1 / per_second
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
            with contextlib.suppress(BusError):
                await self._bus.publish("control.item", b"%d" % self.sent)
                self.sent += 1
            await asyncio.sleep(self._pause)

    async def lost(self) -> int:
        """Return how many of the items that it sent are not in its stream."""
        found = await self._bus.nc.jetstream().stream_info(_STREAM)
        return self.sent - int(found.state.messages)
