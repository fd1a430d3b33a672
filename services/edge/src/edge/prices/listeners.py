"""
What one client hears of prices: which symbols, in what bytes, how often.

A client that does not keep up is *suspended*: updates pass it by, and only how many is
remembered.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from edge.clients.sender import Sender
from edge.prices.lanes import Form, Group, Lane, Topic
from edge.prices.updates import Update


__all__ = [
    "CONTRACT",
    "EVERY",
    "LATEST",
    "Missed",
    "Pace",
    "Place",
    "PriceListener",
    "form_of",
]

CONTRACT: Form = Update.as_contract_frame
"""The form of the older price contract."""
_OBJECT: Form = Update.as_object_frame
_FRAGMENT: Form = Update.as_fragment

# Seconds between two values of a symbol; few enough that clients share them.
_INTERVALS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Pace(NamedTuple):
    """
    What a client wants to hear of a symbol.

    Attributes:
        mode: ``every`` update, or the ``latest`` whenever one can be sent.
        interval: Seconds between two values; 0 for as fast as they come.
    """

    mode: Literal["every", "latest"]
    interval: float = 0.0

    @classmethod
    def at_most(cls, rate_hz: float) -> Pace:
        """Return the fastest pace that is not faster than *rate_hz*."""
        for interval in _INTERVALS:
            if interval * rate_hz >= 1 - 1e-9:
                return cls("latest", interval)
        return cls("latest", _INTERVALS[-1])


EVERY = Pace("every")
LATEST = Pace("latest")


class Missed(NamedTuple):
    """
    What passed a client by while it did not read.

    Attributes:
        changed: Symbols that have a newer value.
        lost: Of symbols of which it wanted every update: how many it did not get, the
            newest not counted; those of which it got all are left out.
    """

    changed: list[str]
    lost: dict[str, int]


class Place(NamedTuple):
    """Where a client stands for one symbol."""

    topic: Topic
    group: Group
    pace: Pace

    @property
    def waiting(self) -> int:
        """How many updates are noted and will be handed out as one, the newest."""
        return self.group.lane.waiting(self.group)


class PriceListener:
    """
    The price subscriptions of one client.

    Attributes:
        sender: Where updates go.
        form: In what bytes.
        places: By symbol.
    """

    __slots__ = ("_marks", "form", "places", "sender")

    def __init__(self, sender: Sender, form: Form) -> None:
        self.sender = sender
        self.form = form
        self.places: dict[str, Place] = {}
        self._marks: dict[str, int] | None = None

    @property
    def suspended(self) -> bool:
        """Whether updates pass it by because it does not read."""
        return self._marks is not None

    def suspend(self) -> None:
        """Let updates pass by, and remember where they were."""
        if self._marks is not None:
            return
        self._marks = {}
        groups: dict[Lane, set[Group]] = {}
        for symbol, place in self.places.items():
            place.group.buffers.pop(self.sender, None)
            groups.setdefault(place.group.lane, set()).add(place.group)
            self._marks[symbol] = place.topic.count - place.waiting
        for lane, left in groups.items():
            lane.hand_over(left, self.sender)

    def came(self, symbol: str) -> None:
        """Note that *symbol* was subscribed, or its pace changed."""
        if self._marks is not None:
            self._marks.setdefault(symbol, self.places[symbol].topic.count)

    def went(self, symbol: str) -> None:
        """Note that *symbol* was unsubscribed."""
        if self._marks is not None:
            self._marks.pop(symbol, None)

    def passed_by(self) -> dict[str, int]:
        """
        Return how many updates of each symbol passed by, and forget it.

        What its lane has yet to hand out is not counted: the client will get that.
        """
        marks, self._marks = self._marks or {}, None
        passed = {}
        for symbol, mark in marks.items():
            place = self.places[symbol]
            count = place.topic.count - mark - place.waiting
            if count > 0:
                passed[symbol] = count
        return passed


def form_of(sender: Sender) -> Form:
    """Return the form of protocol v3 that *sender* collects."""
    return _FRAGMENT if sender.arrays else _OBJECT
