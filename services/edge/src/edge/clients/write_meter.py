"""
How long updates take from their arrival to the socket, over all who get them.

A pass writes many updates to many clients, and not at one instant: the last client of
a long pass waits for all others. So each slice of a pass is timed by itself, as many
times as it wrote pieces, against the arrivals of the updates in it. The instant is the
turn of the event loop *after* the slice: uvloop makes the system calls at the end of a
turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Protocol

from feedmesh.clock import now_ns


__all__ = ["Arrived", "Takes", "WriteMeter"]

# So many arrivals of one hand-out, and of one pass, are enough to know them all.
_SAMPLES = 8
_MOST = 4 * _SAMPLES


class Arrived(Protocol):
    """An update, as far as its arrival goes."""

    @property
    def received_ns(self) -> int:
        """When it came, nanoseconds since the epoch."""


class Takes(Protocol):
    """Where latencies go."""

    def __call__(self, seconds: float, count: float) -> None:
        """Note that *count* pieces took so many *seconds* each."""


def _nowhere(seconds: float, count: float) -> None: ...


class WriteMeter:
    """
    Follows the passes of one flusher.

    Attributes:
        take: Where latencies go.
        passed: Called when all that a pass had to write has been written.
    """

    def __init__(self) -> None:
        self.take: Takes = _nowhere
        self.passed: Callable[[], None] | None = None
        # What the pass carries: when it came, and for how many updates that stands.
        self._arrivals: list[tuple[int, int]] = []
        self._slices: list[tuple[list[tuple[int, int]], int]] = []
        self._ended = False
        self._due = False

    def handed_out(self, updates: Sequence[Arrived]) -> None:
        """Note that clients which the pass has yet to reach get *updates*."""
        # From the middle of each part, as its first has waited longest.
        step = len(updates) // _SAMPLES + 1
        sampled = [(update.received_ns, step) for update in updates[step // 2 :: step]]
        self._arrivals = [*self._arrivals, *sampled]
        if len(self._arrivals) > _MOST:
            one, other = self._arrivals[::2], self._arrivals[1::2]
            pairs = zip_longest(one, other, fillvalue=(0, 0))
            self._arrivals = [(at, more + less) for (at, more), (_, less) in pairs]

    def wrote(self, pieces: int) -> None:
        """Note that a slice of the pass has written so many *pieces*."""
        if pieces and self._arrivals:
            self._slices.append((self._arrivals, pieces))
            self._look_later()

    def ended(self) -> None:
        """Note that the pass is over, or that nobody was there to write to."""
        self._arrivals = []
        if self.passed is not None:
            self._ended = True
            self._look_later()

    def _look_later(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._due = False
        now = now_ns()
        slices, self._slices = self._slices, []
        for arrivals, pieces in slices:
            share = pieces / sum(count for _, count in arrivals)
            for at, count in arrivals:
                self.take((now - at) / 1e9, count * share)
        if self._ended and self.passed is not None:
            self._ended = False
            self.passed()
