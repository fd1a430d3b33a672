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


__all__ = ["Group", "Lane", "LatestLane", "Topic"]

# How much later than asked for a value may leave, seconds.
_LONGEST_TICK = 0.1

Form = Callable[[Update], bytes]
"""Returns an update in the bytes that a kind of client gets."""


class Topic:
    """
    One symbol.

    Attributes:
        count: How many updates there have been since somebody listens.
        groups: Who listens, by pace and form.
    """

    __slots__ = ("count", "groups")

    def __init__(self) -> None:
        self.count = 0
        self.groups: dict[tuple[Lane, Form], Group] = {}


class Group:
    """
    The clients that get one symbol in one form at one pace.

    Attributes:
        topic: The symbol.
        lane: The pace.
        form: The form.
        note: Notes an update for the group; the lane must be armed afterwards.
        members: How many clients there are, with those that do not read just now.
        buffers: By client that reads, what collects its pieces.
        handed: At which count of the topic a lane of newest values last handed it out.
        rests_until: When such a lane may hand it out again, as ``perf_counter`` counts.
    """

    __slots__ = (
        "buffers",
        "form",
        "handed",
        "lane",
        "members",
        "note",
        "rests_until",
        "topic",
    )

    def __init__(self, topic: Topic, lane: Lane, form: Form) -> None:
        self.topic = topic
        self.lane = lane
        self.form = form
        self.note = lane.note
        self.members = 0
        self.buffers: dict[Sender, list[bytes]] = {}
        self.handed = topic.count
        self.rests_until = 0.0


class Lane:
    """
    Hands out every update, in order: at once if it is quiet; under load, whenever the
    flusher has rested.

    Attributes:
        note: Notes an update for a group, as a pair. Whoever has noted something arms
            the lane afterwards, once for all that came in one read.
    """

    def __init__(self, flusher: Flusher) -> None:
        self._flusher = flusher
        # Always the same list, so that noting an update is one call of C.
        self._updates: list[tuple[Group, Update]] = []
        self.note: Callable[[tuple[Group, Update]], object] = self._updates.append
        self._armed = False

    def arm(self) -> None:
        """Have what has been noted handed out when it is time."""
        if self._updates and not self._armed:
            self._armed = True
            self._flusher.when_rested(self)

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
        sender.buffer.extend(pieces)
        if sender.buffer:
            self._flusher.soon(sender)

    def flush(self) -> None:
        """Hand out what it is time for, and write it."""
        self._armed = False
        self._hand_out()
        self._flusher.write()

    def join(self) -> None:
        """Hand out what waits to those whom a pass has yet to reach."""
        self._hand_out()

    def _hand_out(self) -> None:
        updates = self._updates.copy()
        self._updates.clear()
        self._flusher.meter.handed_out([update for _, update in updates])
        for group, update in updates:
            piece = group.form(update)
            for buffer in group.buffers.values():
                buffer.append(piece)
        for group in dict(updates):
            self._flusher.add(group.buffers)


class LatestLane(Lane):
    """
    Hands out the newest update of each group; those before it are left out.

    With an *interval*, in seconds, each group at most so often: an update waits only
    for those before it of the same symbol.
    """

    def __init__(self, flusher: Flusher, interval: float = 0.0) -> None:
        super().__init__(flusher)
        self._interval = interval
        self._tick = min(interval / 4, _LONGEST_TICK)
        self._newest: dict[Group, Update] = {}
        # Those whose time has not come yet.
        self._early: dict[Group, Update] = {}
        self._ticking = False
        self.note = self._replace

    def arm(self) -> None:
        """Have what has been noted handed out when it is time."""
        if self._newest and not self._armed:
            self._armed = True
            self._flusher.when_rested(self)
        if self._early and not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(self._tick, self._look)

    def ripen(self, now: float) -> None:
        """Note that it is *now*, as ``perf_counter`` counts."""
        ripe = [group for group in self._early if group.rests_until <= now]
        for group in ripe:
            self._newest[group] = self._early.pop(group)

    def settle(self) -> None:
        """Do nothing: what waits is no older than what a newcomer is given first."""

    def waiting(self, group: Group) -> int:
        """Return how many updates of *group* the next newest one will stand for."""
        return group.topic.count - group.handed

    def hand_over(self, groups: Collection[Group], sender: Sender) -> None:
        """Hand over nothing: whoever comes back gets a newer value."""
        if sender.buffer:
            self._flusher.soon(sender)

    def join(self) -> None:
        """Do nothing: a client must not get two values of a symbol in one write."""

    def _hand_out(self) -> None:
        newest, self._newest = self._newest, {}
        flusher = self._flusher
        if not self._interval:
            flusher.meter.handed_out(list(newest.values()))
        rests_until = perf_counter() + self._interval
        for group, update in newest.items():
            piece = group.form(update)
            buffers = group.buffers
            for buffer in buffers.values():
                buffer.append(piece)
            left_out = group.topic.count - group.handed - 1
            group.handed = group.topic.count
            group.rests_until = rests_until
            if left_out:
                for sender in buffers:
                    sender.conflated += left_out
                flusher.conflated += left_out * len(buffers)
            flusher.add(buffers)

    def _replace(self, noted: tuple[Group, Update]) -> None:
        group, update = noted
        if group.rests_until > perf_counter():
            self._early[group] = update
        else:
            # What was early is ripe by now, and outdated.
            self._early.pop(group, None)
            self._newest[group] = update

    def _look(self) -> None:
        self._ticking = False
        self.ripen(perf_counter())
        self.arm()
