"""
One connection over which prices leave, and what its server has said of them.

Now and then a message to ourselves goes through the server. Its echo tells that the
server has read what was sent before, and that it is not stuck: a connection to a frozen
machine looks alive for as long as nobody asks.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from nats.aio.client import DEFAULT_PENDING_SIZE
from nats.errors import Error as NatsError

from feedmesh.bus import Bus
from feedmesh.errors import BusError
from feedmesh.fast_lane import LaneMessage
from feedmesh.ingest.confirmations import Confirmations


__all__ = ["PriceLine"]

# With more bytes unsent, a publish waits for the server to read, but not for long.
# Where there still are more, it does not read.
_UNREAD = DEFAULT_PENDING_SIZE


class PriceLine:
    """
    One of the connections of a publisher.

    Args:
        bus: The connection.
        ticks: After which a confirmation is overdue.

    Attributes:
        bus: As given.
        sent: What the stream has confirmed of what left here.
        echo: The subject of its echoes.
        unheard: How many of them were asked for since one was heard.
    """

    def __init__(self, bus: Bus, ticks: int) -> None:
        self.bus = bus
        self._inbox = bus.nc.new_inbox()
        self.sent = Confirmations(self._inbox, ticks)
        self.echo = f"{self._inbox}.echo"
        self.unheard = 0
        bus.on_doubt(self._anew)

    @property
    def connection(self) -> tuple[int, int]:
        """What is another one after each reconnect, and for each line."""
        return id(self), self.bus.nc.stats["reconnects"]

    @property
    def silence(self) -> float:
        """How many echoes are missing; all there could be without a connection."""
        return self.unheard if self.bus.connected else math.inf

    @property
    def full(self) -> bool:
        """Whether the server takes nothing more now."""
        return not self.bus.connected or self.bus.nc.pending_data_size > _UNREAD

    async def ask(self, text: bytes) -> None:
        """Have *text* come back, unless the server takes nothing."""
        self.unheard += 1
        if not self.full:
            with contextlib.suppress(BusError):
                await self.bus.publish(self.echo, text)

    @asynccontextmanager
    async def heard(
        self, take: Callable[[PriceLine, Sequence[LaneMessage]], None]
    ) -> AsyncIterator[None]:
        """
        Have echoes and confirmations handed to *take* while the context is open.

        Raises:
            nats.errors.Error: As ``subscribe`` does.
        """
        nc = self.bus.nc
        lane = await nc.open_lane(f"{self._inbox}.>", partial(take, self))
        try:
            yield
        finally:
            with contextlib.suppress(NatsError):
                await nc.close_lane(lane)

    def _anew(self) -> None:
        self.unheard = 0
