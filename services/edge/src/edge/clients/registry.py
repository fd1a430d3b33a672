"""
All clients that are connected: their heartbeats, those that are stuck, and their end.

At a restart they are not dropped together: they would come back together. They leave in
slices, never faster than the rest of a deployment can take them, and those that
understand it are told at the beginning when their turn to come back is.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from typing import Protocol

from edge.metrics import EdgeMetrics


__all__ = ["HEARTBEAT_SECONDS", "Client", "Clients"]

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10
# A few clients need not wait long; many leave over the whole time of the drain.
_LEAVING_PER_SECOND = 50.0
_SLICE_SECONDS = 0.1
# Share of the time in which nobody leaves yet: whoever comes back first must not be
# sent here again, and a load balancer takes a moment to see that we are not ready.
_LEAD = 0.1


class Client(Protocol):
    """One connected client, of whatever contract."""

    endpoint: str

    def stuck_since(self) -> float | None:
        """Return the loop time since which it takes no bytes; None if it does."""

    def check_login(self) -> None:
        """End the connection if the client's time is up."""

    def evict(self) -> None:
        """End the connection of a client that takes no bytes."""

    def heartbeat(self) -> None:
        """Say that all is well, if the contract has words for that."""

    def going_away(self, reconnect_after_ms: int) -> None:
        """Say that the edge will close, if the contract has words for that."""

    def close_for_restart(self) -> None:
        """Close the connection; the client may come back."""


class Clients:
    """The connected clients."""

    def __init__(self, metrics: EdgeMetrics) -> None:
        self._metrics = metrics
        # Each second, one of these gets its heartbeat.
        self._beats: list[dict[Client, None]] = [{} for _ in range(HEARTBEAT_SECONDS)]
        self._slots: dict[Client, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[Client]:
        return iter(self._slots)

    def add(self, client: Client) -> None:
        """Count *client* as connected."""
        slot = min(range(HEARTBEAT_SECONDS), key=lambda i: len(self._beats[i]))
        self._beats[slot][client] = None
        self._slots[client] = slot
        self._metrics.clients.labels(client.endpoint).inc()

    def remove(self, client: Client) -> None:
        """Forget *client*, if it is there."""
        slot = self._slots.pop(client, None)
        if slot is not None:
            del self._beats[slot][client]
            self._metrics.clients.labels(client.endpoint).dec()

    def tend(self, stuck_seconds: float) -> None:
        """Do what is due each second: heartbeats, and clients that are stuck."""
        self._next = (self._next + 1) % HEARTBEAT_SECONDS
        for client in list(self._beats[self._next]):
            client.heartbeat()
        oldest = asyncio.get_running_loop().time() - stuck_seconds
        slow = 0
        for client in list(self._slots):
            client.check_login()
            since = client.stuck_since()
            slow += since is not None
            if since is not None and since < oldest:
                self._metrics.evicted.labels(client.endpoint).inc()
                client.evict()
                self.remove(client)
        self._metrics.slow.set(slow)

    async def send_away(self, seconds: float) -> None:
        """Close all clients in slices over at most *seconds*."""
        end = asyncio.get_running_loop().time() + seconds
        told: set[Client] = set()
        # A few may still have been at the door.
        while leaving := [client for client in self._slots if client not in told]:
            told.update(leaving)
            left = max(0.0, end - asyncio.get_running_loop().time())
            await self._send_away(leaving, left)

    async def _send_away(self, leaving: list[Client], seconds: float) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        logger.info("sending clients away", extra={"clients": len(leaving)})
        random.shuffle(leaving)
        seconds = min(seconds, len(leaving) / _LEAVING_PER_SECOND / (1 - _LEAD))
        slices = max(1, round(seconds * (1 - _LEAD) / _SLICE_SECONDS))
        turns = [(i * slices // len(leaving), c) for i, c in enumerate(leaving)]
        lead = seconds * _LEAD
        for turn, client in turns:
            wait = lead + (turn + random.random()) * _SLICE_SECONDS
            client.going_away(int(wait * 1000))
        await asyncio.sleep(lead)
        done = 0
        # What closing itself takes must not add up: the time to leave is limited.
        for turn in range(slices):
            while done < len(turns) and turns[done][0] <= turn:
                turns[done][1].close_for_restart()
                done += 1
            await asyncio.sleep(began + lead + (turn + 1) * _SLICE_SECONDS - clock())
