"""
How fast updates go to those who listen: at once, or at most so often.

A *group* is all clients that get one symbol in one form at one pace. An update is noted
once for each group, however many clients are in it; they come in when the lane flushes.
So an update costs next to nothing until it is sent, and on a slow lane all but the
newest value of a symbol are never handed out at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any

from edge.clients.sender import Flusher, Sender
from edge.prices.updates import Update


__all__ = ["Group", "Lane", "LatestLane"]

# Waiting less than this is not worth a timer.
_AT_ONCE = 0.001
_LONGEST = 0.02

Form = Callable[[Update], bytes]
"""Returns an update in the bytes that a kind of client gets."""


class Group:
    """
    The clients that get one symbol in one form at one pace.

    Attributes:
        lane: The pace.
        form: The form.
        members: How many clients there are, with those that do not read just now.
        pushes: By client that reads, what adds a piece to its buffer.
        replaced: Updates left out since the last flush.
    """

    __slots__ = ("form", "lane", "members", "pushes", "replaced")

    def __init__(self, lane: Lane, form: Form) -> None:
        self.lane = lane
        self.form = form
        self.members = 0
        self.pushes: dict[Sender, Callable[[bytes], None]] = {}
        self.replaced = 0


class Lane:
    """
    Hands out every update, in order.

    With an *interval*, at most once in so many seconds. Without, at once if it is
    quiet; under load, a flush is followed by a pause as long as itself, so that more
    and more updates share a write the more there are.
    """

    def __init__(self, flusher: Flusher, interval: float = 0.0) -> None:
        self._flusher = flusher
        self._interval = interval
        self._updates: list[tuple[Group, Update]] = []
        self._armed = False
        self._not_before = 0.0

    def add(self, group: Group, update: Update) -> None:
        """Have *update* handed to all of *group*."""
        self._updates.append((group, update))
        if not self._armed:
            self._arm()

    def settle(self) -> None:
        """Hand out what waits, if it must not reach those who come in after it."""
        if self._updates:
            self.flush()

    def flush(self) -> None:
        """Hand out what waits, now."""
        started = perf_counter()
        self.hand_out(self._flusher)
        self._flusher.write()
        if not self._interval:
            ended = perf_counter()
            self._not_before = ended + min(ended - started, _LONGEST)

    def hand_out(self, flusher: Flusher) -> None:
        """Put what waits into the buffers of the clients."""
        updates, self._updates = self._updates, []
        for group, update in updates:
            piece = group.form(update)
            pushes = group.pushes
            for push in pushes.values():
                push(piece)
            flusher.add(pushes)

    def _arm(self) -> None:
        self._armed = True
        loop = asyncio.get_running_loop()
        wait = self._interval or self._not_before - perf_counter()
        if wait < _AT_ONCE:
            loop.call_soon(self._run)
        else:
            loop.call_later(wait, self._run)

    def _run(self) -> None:
        self._armed = False
        self.flush()


class LatestLane(Lane):
    """Hands out the newest update of each group; those before it are left out."""

    def __init__(self, flusher: Flusher, interval: float = 0.0) -> None:
        super().__init__(flusher, interval)
        self._newest: dict[Group, Update] = {}

    def add(self, group: Group, update: Update) -> None:
        """Have *update* handed to all of *group*, unless a newer one comes before."""
        if group in self._newest:
            group.replaced += 1
        self._newest[group] = update
        if not self._armed:
            self._arm()

    def settle(self) -> None:
        """Do nothing: what waits is no older than what a newcomer is given first."""

    def hand_out(self, flusher: Flusher) -> None:
        """Put what waits into the buffers of the clients."""
        newest, self._newest = self._newest, {}
        for group, update in newest.items():
            piece = group.form(update)
            pushes: dict[Sender, Any] = group.pushes
            for push in pushes.values():
                push(piece)
            if group.replaced:
                for sender in pushes:
                    sender.conflated += group.replaced
                flusher.conflated += group.replaced * len(pushes)
                group.replaced = 0
            flusher.add(pushes)
