"""
Counters that are told once in a turn of the event loop.

Each of them has a lock of its own, and a busy socket brings hundreds of events in one
turn: counted one by one, they took a fifth of what a frame costs. All counts of an
event go through the same tally, so that what adds up does so whenever somebody looks.
"""

from __future__ import annotations

import asyncio

from prometheus_client import Counter


__all__ = ["Tally"]


class Tally:
    """What was counted in this turn of the event loop."""

    def __init__(self) -> None:
        self._counts: dict[Counter, int] = {}

    def add(self, counter: Counter, amount: int = 1) -> None:
        """Have *counter* grow by *amount* at the end of this turn."""
        counts = self._counts
        if not counts:
            asyncio.get_running_loop().call_soon(self._tell)
        counts[counter] = counts.get(counter, 0) + amount

    def _tell(self) -> None:
        for counter, amount in self._counts.items():
            counter.inc(amount)
        self._counts.clear()
