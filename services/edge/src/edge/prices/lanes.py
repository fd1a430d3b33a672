"""
How fast updates go to those who listen: at once, or at most so often.

A *group* is all clients that get one symbol in one form at one pace. An update is noted
once for each group, however many clients are in it; they come in when the lane flushes.
So an update costs next to nothing until it is sent, and on a slow lane all but the
newest value of a symbol are never handed out at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from time import perf_counter

from edge.clients.sender import Flusher, Sender
from edge.prices.updates import Update


__all__ = ["Group", "Lane", "LatestLane"]

Form = Callable[[Update], bytes]
"""Returns an update in the bytes that a kind of client gets."""


class Group:
    """
    The clients that get one symbol in one form at one pace.

    Attributes:
        lane: The pace.
        form: The form.
        members: How many clients there are, with those that do not read just now.
        buffers: By client that reads, what collects its pieces.
        replaced: Updates left out since the last flush.
    """

    __slots__ = ("buffers", "form", "lane", "members", "replaced")

    def __init__(self, lane: Lane, form: Form) -> None:
        self.lane = lane
        self.form = form
        self.members = 0
        self.buffers: dict[Sender, list[bytes]] = {}
        self.replaced = 0


class Lane:
    """
    Hands out every update, in order.

    At once if it is quiet; under load, whenever the flusher has rested; and with an
    *interval*, at most once in so many seconds.
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

    @property
    def first_ns(self) -> int:
        """When the first of what waits came; 0 if nothing waits."""
        return self._updates[0][1].received_ns if self._updates else 0

    def settle(self) -> None:
        """Hand out what waits, if it must not reach those who come in after it."""
        if self._updates:
            self._hand_out()
            self._flusher.write()

    def waiting(self, _: Group) -> int:
        """Return how many updates of a group the next newest one will stand for."""
        return 0

    def hand_over(self, groups: Collection[Group], sender: Sender) -> None:
        """Put what waits for *groups* before *sender*, which leaves them for now."""
        pieces = [g.form(update) for g, update in self._updates if g in groups]
        if pieces:
            sender.buffer.extend(pieces)
            self._flusher.soon(sender)

    def flush(self) -> None:
        """Hand out what waits, and write it."""
        self._armed = False
        if self._interval:
            self._not_before = perf_counter() + self._interval
        self._hand_out()
        self._flusher.write()

    def join(self) -> None:
        """Hand out what waits to those whom a pass has yet to reach."""
        self._hand_out()

    def _hand_out(self) -> None:
        if not self._interval:
            self._flusher.since(self.first_ns)
        started = perf_counter()
        self._empty(self._flusher)
        self._flusher.spend(perf_counter() - started)

    def _empty(self, flusher: Flusher) -> None:
        updates, self._updates = self._updates, []
        for group, update in updates:
            piece = group.form(update)
            for buffer in group.buffers.values():
                buffer.append(piece)
        for group in dict(updates):
            flusher.add(group.buffers)

    def _arm(self) -> None:
        self._armed = True
        wait = self._not_before - perf_counter() if self._interval else 0.0
        if wait > 0:
            loop = asyncio.get_running_loop()
            loop.call_later(wait, self._flusher.when_rested, self)
        else:
            self._flusher.when_rested(self)


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

    @property
    def first_ns(self) -> int:
        """When the first of what waits came; 0 if nothing waits."""
        return next((u.received_ns for u in self._newest.values()), 0)

    def settle(self) -> None:
        """Do nothing: what waits is no older than what a newcomer is given first."""

    def waiting(self, group: Group) -> int:
        """Return how many updates of *group* the next newest one will stand for."""
        return group.replaced + 1 if group in self._newest else 0

    def hand_over(self, groups: Collection[Group], sender: Sender) -> None:
        """Do nothing: whoever comes back gets a newer value."""

    def join(self) -> None:
        """Do nothing: a client must not get two values of a symbol in one write."""

    def _empty(self, flusher: Flusher) -> None:
        newest, self._newest = self._newest, {}
        for group, update in newest.items():
            piece = group.form(update)
            buffers = group.buffers
            for buffer in buffers.values():
                buffer.append(piece)
            if group.replaced:
                for sender in buffers:
                    sender.conflated += group.replaced
                flusher.conflated += group.replaced * len(buffers)
                group.replaced = 0
            flusher.add(buffers)
