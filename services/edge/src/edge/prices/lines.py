"""
Prices over two connections, to two servers of NATS; one of them is listened to.

When a server dies, what it had not passed on is gone, and so is what comes until
another one serves us. So where there are several servers, prices come from a second
one, too. What comes from there is kept until the first one must have brought it. If
that breaks, or brings nothing that the second one has, what was kept is taken, and from
there on the second one is listened to. Most of that is known already, which its version
tells.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

from feedmesh import subjects
from feedmesh.bus import Bus, OpenBus, count_servers
from feedmesh.fast_lane import Lane, LaneMessage


__all__ = ["PriceLines"]

# One server may be behind the other by so much.
_APART_SECONDS = 0.25
_MOST_KEPT = 50_000
# What has brought nothing for so long, while the other one did, is cut off, or stuck.
_SILENT_SECONDS = 0.5


class _Line:
    """One connection, and the last of what came while nobody listened to it."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._kept: deque[tuple[float, Sequence[LaneMessage]]] = deque()
        self._count = 0

    def keep(
        self, messages: Sequence[LaneMessage], now: float, other_heard_at: float
    ) -> None:
        kept = self._kept
        kept.append((now, messages))
        self._count += len(messages)
        while len(kept) > 1 and (
            kept[0][0] < other_heard_at - _APART_SECONDS or self._count > _MOST_KEPT
        ):
            self._count -= len(kept.popleft()[1])

    def taken(self) -> list[Sequence[LaneMessage]]:
        kept = [messages for _, messages in self._kept]
        self._kept.clear()
        self._count = 0
        return kept


class PriceLines:
    """
    All prices, over one connection or two.

    Args:
        bus: The first one, which is connected.
        second: Opens another one; None if there is only one server.
    """

    def __init__(
        self,
        bus: Bus,
        second: OpenBus | None = None,
    ) -> None:
        self._second = second
        self._active = _Line(bus)
        self._lines = [self._active]
        self._heard_at = 0.0
        # Since when the other one has something that was not heard yet, if it has.
        self._behind_since: float | None = None
        self._take: Lane = lambda messages: None
        self._doubt: Callable[[], None] = lambda: None

    @property
    def bus(self) -> Bus:
        """The connection that is listened to: requests go there, too."""
        return self._active.bus

    @property
    def servers(self) -> int:
        """From how many servers prices come."""
        return count_servers(line.bus for line in self._lines)

    async def open(self, take: Lane, doubt: Callable[[], None]) -> None:
        """
        Have all prices handed to *take*, some of them twice.

        Args:
            take: Told what came, in order.
            doubt: Told whenever messages may have been missed.

        Raises:
            nats.errors.Error: As ``subscribe`` does.
        """
        self._take = take
        self._doubt = doubt
        await self._open(self._active)

    async def run(self) -> None:
        """Keep the second connection, if there is to be one, for ever."""
        async with AsyncExitStack() as stack:
            if self._second is not None:
                line = _Line(await stack.enter_async_context(self._second()))
                self._lines.append(line)
                await self._open(line)
            await asyncio.Event().wait()

    async def _open(self, line: _Line) -> None:
        line.bus.on_doubt(self._doubt)
        line.bus.on_lost(partial(self._lost, line))
        await line.bus.nc.open_lane(subjects.ALL_PRICES, partial(self._heard, line))

    def _heard(self, line: _Line, messages: Sequence[LaneMessage]) -> None:
        now = asyncio.get_running_loop().time()
        if line is self._active:
            self._heard_at = now
            self._behind_since = None
            self._take(messages)
            return
        line.keep(messages, now, self._heard_at)
        if self._behind_since is None:
            if now - self._heard_at > _APART_SECONDS:
                self._behind_since = now
        elif now - self._behind_since > _SILENT_SECONDS:
            self._listen_to(line)

    def _lost(self, line: _Line) -> None:
        if line is self._active:
            for other in self._lines:
                if other is not line and other.bus.connected:
                    self._listen_to(other)

    def _listen_to(self, line: _Line) -> None:
        self._active = line
        self._behind_since = None
        for messages in line.taken():
            self._take(messages)
        self._doubt()
