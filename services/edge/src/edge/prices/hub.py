"""
Who listens to which symbol, and how an update reaches them.

A frame is built once for an update and shared by all who listen (see ``lanes.py``).
A client that does not keep up is taken out of the way of updates altogether; once it
takes bytes again, it gets the newest value of each symbol that has changed meanwhile,
and is told how many it did not get. Nothing piles up for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Literal, NamedTuple

from edge.clients.sender import Flusher, Sender
from edge.metrics import EdgeMetrics
from edge.prices.cache import PriceCache
from edge.prices.lanes import Form, Group, Lane, LatestLane
from edge.prices.updates import Update


__all__ = [
    "CONTRACT",
    "EVERY",
    "LATEST",
    "Missed",
    "Pace",
    "PriceHub",
    "PriceListener",
    "form_of",
]

CONTRACT: Form = attrgetter("contract_frame")
"""The form of the older price contract."""
_OBJECT: Form = attrgetter("object_frame")
_FRAGMENT: Form = attrgetter("fragment")

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


class _Topic:
    """One symbol: its groups, and how many updates there have been."""

    __slots__ = ("count", "groups")

    def __init__(self) -> None:
        self.count = 0
        self.groups: dict[tuple[Lane, Form], Group] = {}


class _Place(NamedTuple):
    """Where a client stands for one symbol."""

    topic: _Topic
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
        self.places: dict[str, _Place] = {}
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


class PriceHub:
    """
    All price clients of this edge.

    Args:
        cache: Where the value comes from that a new subscriber hears first.
        flusher: Writes to the clients.
        metrics: Counts.
        demand_changed: Called when a symbol gains its first or loses its last client.

    Attributes:
        subscriptions: Symbols of all clients together.
        losses: By feed, how often its updates were missing.
    """

    def __init__(
        self,
        cache: PriceCache,
        flusher: Flusher,
        metrics: EdgeMetrics,
        demand_changed: Callable[[], None],
    ) -> None:
        self._cache = cache
        self._flusher = flusher
        self._metrics = metrics
        self._demand_changed = demand_changed
        self._topics: dict[str, _Topic] = {}
        self._lanes: dict[Pace, Lane] = {}
        self.subscriptions = 0
        self.losses: Counter[str] = Counter()

    @property
    def symbols(self) -> list[str]:
        """The symbols that clients listen to."""
        return sorted(self._topics)

    def subscribe(
        self, listener: PriceListener, symbols: Iterable[str], pace: Pace
    ) -> None:
        """
        Have *listener* get *symbols* at *pace* from now on.

        A symbol that it has already changes its pace.
        """
        lane = self._lane(pace)
        # What others wait for must not come after newer values that the client gets
        # first.
        self.flush()
        grown = False
        for symbol in symbols:
            known = listener.places.get(symbol)
            if known is not None:
                if known.pace == pace:
                    continue
                self._leave(listener, known)
            topic = self._topics.get(symbol)
            if topic is None:
                topic = self._topics[symbol] = _Topic()
                grown = True
            key = (lane, listener.form)
            group = topic.groups.get(key)
            if group is None:
                group = topic.groups[key] = Group(lane, listener.form)
            listener.places[symbol] = _Place(topic, group, pace)
            group.members += 1
            self.subscriptions += 1
            listener.came(symbol)
            if not listener.suspended:
                group.buffers[listener.sender] = listener.sender.buffer
        self._count(grown)

    def unsubscribe(self, listener: PriceListener, symbols: Iterable[str]) -> None:
        """Take *symbols* away from *listener*; those it does not have are ignored."""
        shrunk = False
        for symbol in symbols:
            place = listener.places.pop(symbol, None)
            if place is None:
                continue
            listener.went(symbol)
            self._leave(listener, place)
            if not place.topic.groups:
                del self._topics[symbol]
                shrunk = True
        self._count(shrunk)

    def leave(self, listener: PriceListener) -> None:
        """Forget *listener* and all it has subscribed."""
        self.unsubscribe(listener, list(listener.places))
        self._flusher.discard(listener.sender)

    def snapshot(self, listener: PriceListener, symbols: Iterable[str]) -> None:
        """Send *listener* the newest value of each of *symbols* that has one."""
        put = listener.sender.buffer.append
        for symbol in symbols:
            entry = self._cache.entry(symbol)
            if entry is not None:
                put(listener.form(entry))
        self._flusher.soon(listener.sender)

    def resume(self, listener: PriceListener) -> Missed:
        """Let updates reach *listener* again; return what has passed it by."""
        self.flush()
        if listener.sender.blocked:
            return Missed([], {})
        passed = listener.passed_by()
        for place in listener.places.values():
            place.group.buffers[listener.sender] = listener.sender.buffer
        changed = [s for s in passed if not listener.places[s].waiting]
        conflated = sum(passed.values()) - len(changed)
        listener.sender.conflated += conflated
        self._flusher.conflated += conflated
        lost = {
            symbol: passed[symbol] - 1
            for symbol in changed
            if passed[symbol] > 1 and listener.places[symbol].pace.mode == "every"
        }
        return Missed(changed, lost)

    def flush(self) -> None:
        """Hand out all that those wait for who want every update."""
        for lane in self._lanes.values():
            lane.settle()

    def update(self, update: Update) -> None:
        """Send *update* to all who listen to its symbol."""
        topic = self._topics.get(update.symbol)
        if topic is not None:
            topic.count += 1
            for group in topic.groups.values():
                group.lane.add(group, update)

    def tell_of_loss(self, source: str, payload: bytes) -> None:
        """Send *payload* to all who wanted every update of the feed *source*."""
        self.losses[source] += 1
        told: dict[Sender, None] = {}
        for symbol, topic in self._topics.items():
            entry = self._cache.entry(symbol)
            if entry is None or entry.source != source:
                continue
            for (lane, form), group in topic.groups.items():
                if form is not CONTRACT and lane is self._lanes.get(EVERY):
                    told.update(dict.fromkeys(group.buffers))
        self.flush()
        for sender in told:
            sender.put(payload)
        self._flusher.add(told)
        self._flusher.write()

    def _lane(self, pace: Pace) -> Lane:
        lane = self._lanes.get(pace)
        if lane is None:
            kind = Lane if pace.mode == "every" else LatestLane
            lane = self._lanes[pace] = kind(self._flusher, pace.interval)
        return lane

    def _leave(self, listener: PriceListener, place: _Place) -> None:
        group = place.group
        group.buffers.pop(listener.sender, None)
        group.members -= 1
        self.subscriptions -= 1
        if not group.members:
            del place.topic.groups[group.lane, group.form]

    def _count(self, demand_changed: bool) -> None:
        self._metrics.symbols.set(len(self._topics))
        if demand_changed:
            self._demand_changed()
