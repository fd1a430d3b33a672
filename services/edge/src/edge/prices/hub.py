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

from edge.clients.sender import Flusher, Sender
from edge.metrics import EdgeMetrics
from edge.prices.cache import PriceCache
from edge.prices.lanes import Group, Lane, LatestLane, Topic
from edge.prices.listeners import CONTRACT, EVERY, Missed, Pace, Place, PriceListener
from edge.prices.updates import Update


__all__ = ["PriceHub"]


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
        self._topics: dict[str, Topic] = {}
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
                topic = self._topics[symbol] = Topic()
                grown = True
            key = (lane, listener.form)
            group = topic.groups.get(key)
            if group is None:
                group = topic.groups[key] = Group(topic, lane, listener.form)
            listener.places[symbol] = Place(topic, group, pace)
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
        self.update_all((update,))

    def update_all(self, updates: Iterable[Update]) -> None:
        """Send *updates*, in order, each to all who listen to its symbol."""
        topics = self._topics
        for update in updates:
            topic = topics.get(update.symbol)
            if topic is not None:
                topic.count += 1
                for group in topic.groups.values():
                    group.note((group, update))
        for lane in self._lanes.values():
            lane.arm()

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
            if pace.mode == "every":
                lane = Lane(self._flusher)
            else:
                lane = LatestLane(self._flusher, pace.interval)
            self._lanes[pace] = lane
        return lane

    def _leave(self, listener: PriceListener, place: Place) -> None:
        group = place.group
        group.buffers.pop(listener.sender, None)
        if listener.sender.buffer:
            self._flusher.soon(listener.sender)
        group.members -= 1
        self.subscriptions -= 1
        if not group.members:
            del place.topic.groups[group.lane, group.form]

    def _count(self, demand_changed: bool) -> None:
        self._metrics.symbols.set(len(self._topics))
        if demand_changed:
            self._demand_changed()
