"""
The channel ``prices`` of one client of protocol v3.

A snapshot is the newest value of each symbol. Whoever comes back with positions and
wants the ``latest`` values gets a snapshot too: a state is recovered by its newest
value, provided that this edge is not itself behind the client. Whoever wants ``every``
update gets exactly what it missed, if that is still on the tape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from edge.clients.sender import Sender
from edge.door.tokens import Identity
from edge.parts import EdgeParts
from edge.positions import PricePosition, parse_price_position
from edge.prices.listeners import LATEST, Missed, Pace, PriceListener, form_of
from edge.prices.updates import Update
from edge.stream.messages import Gap, Listed
from edge.stream.requests import (
    BadRequestError,
    Rejected,
    Subscription,
    parse_symbols,
)


__all__ = ["Opening", "PriceChannel"]


class Opening(NamedTuple):
    """
    How a subscription begins.

    Attributes:
        accepted: Symbols that are subscribed now.
        rejected: Those that are not.
        rate_hz: The rate that holds; None if there is no limit.
        updates: What the client hears first.
        recovered: Whether that is all that it missed; None if it did not ask.
        reason: A constant word why not.
    """

    accepted: list[str]
    rejected: list[Rejected]
    rate_hz: float | None
    updates: list[Update]
    recovered: bool | None
    reason: str | None


class PriceChannel:
    """
    The price subscriptions of one client.

    Args:
        parts: The rest of the edge.
        sender: Where updates go.
    """

    __slots__ = ("_left_at", "_listener", "_losses", "_parts")

    def __init__(self, parts: EdgeParts, sender: Sender) -> None:
        self._parts = parts
        self._listener = PriceListener(sender, form_of(sender))
        # By feed, up to where it had everything when it stopped reading.
        self._left_at: dict[str, str] = {}
        self._losses: Mapping[str, int] = {}

    @property
    def active(self) -> bool:
        """Whether anything is subscribed."""
        return bool(self._listener.places)

    def check(self, wanted: Subscription) -> None:
        """
        Pass if *wanted* makes sense.

        Raises:
            BadRequestError: If not.
        """
        _pace(wanted)
        if not wanted.symbols:
            raise BadRequestError("bad_request", "prices need symbols")

    def subscribe(self, wanted: Subscription, identity: Identity) -> Opening:
        """Subscribe to what is allowed of *wanted*, which makes sense."""
        pace = _pace(wanted)
        legal, rejected = parse_symbols(wanted.symbols or [])
        accepted = self._allowed(legal, identity, rejected)
        self._parts.hub.subscribe(self._listener, accepted, pace)
        recovered: bool | None = None
        reason = ""
        updates: list[Update] | None = None
        if wanted.since is not None:
            updates, reason = self._missed(wanted.since, accepted, pace)
            recovered = not reason
        if updates is None:
            # What was missed is no snapshot that one can do without.
            due = recovered or wanted.snapshot is not False
            updates = self._newest(accepted) if due else []
        rate_hz = 1 / pace.interval if pace.interval else None
        return Opening(accepted, rejected, rate_hz, updates, recovered, reason or None)

    def unsubscribe(self, symbols: list[str] | None) -> list[str]:
        """End *symbols*, or all; return those that are subscribed no more."""
        legal = list(self._listener.places) if symbols is None else _legal(symbols)
        self._parts.hub.unsubscribe(self._listener, legal)
        return legal

    def keep(self, allowed: Callable[[str], bool]) -> list[str]:
        """End the symbols that are not *allowed*; return them."""
        gone = [symbol for symbol in self._listener.places if not allowed(symbol)]
        self._parts.hub.unsubscribe(self._listener, gone)
        return gone

    def send(self, updates: list[Update]) -> None:
        """Put *updates* before the client."""
        listener = self._listener
        listener.sender.buffer.extend(listener.form(update) for update in updates)

    def suspend(self) -> None:
        """Let updates pass by: the client does not read."""
        if not self._listener.suspended:
            self._left_at = self._ends()
            self._losses = self._parts.hub.losses.copy()
            self._listener.suspend()

    def resume(self) -> Missed:
        """Let updates reach the client again; return what has passed it by."""
        return self._parts.hub.resume(self._listener)

    def gaps(self, missed: Missed) -> list[Gap]:
        """Return what is to be told of *missed*, and of losses meanwhile, by feed."""
        by_feed = self._by_feed(missed.lost)
        ends = self._ends()
        return self._losses_told() + [
            Gap(
                "prices",
                "slow_client",
                feed=feed,
                symbols=symbols,
                missed=sum(missed.lost[symbol] for symbol in symbols),
                after=self._left_at.get(feed),
                to=ends.get(feed),
            )
            for feed, symbols in by_feed.items()
        ]

    def catch_up(self, missed: Missed) -> None:
        """Send the newest value of each symbol that has changed meanwhile."""
        self.send(self._newest(missed.changed))

    def close(self) -> None:
        """Subscribe to nothing any more."""
        self._parts.hub.leave(self._listener)

    def listed(self) -> list[Listed]:
        """Return what is subscribed, by pace."""
        places = sorted(
            (place.pace, symbol) for symbol, place in self._listener.places.items()
        )
        return [
            Listed(
                "prices",
                symbols=[symbol for _, symbol in group],
                mode=pace.mode,
                max_rate_hz=1 / pace.interval if pace.interval else None,
            )
            for pace, group in groupby(places, key=lambda place: place[0])
        ]

    def _allowed(
        self, symbols: list[str], identity: Identity, rejected: list[Rejected]
    ) -> list[str]:
        limit = self._parts.settings.edge_max_symbols
        if identity.max_symbols is not None:
            limit = min(limit, identity.max_symbols)
        have = self._listener.places
        room = limit - len(have)
        allowed = []
        for symbol in symbols:
            if not identity.may_see(symbol):
                # The same, whether the symbol exists or not.
                rejected.append(Rejected(symbol, "not_available"))
            elif symbol in have:
                allowed.append(symbol)
            elif room > 0:
                room -= 1
                allowed.append(symbol)
            else:
                rejected.append(Rejected(symbol, "too_many_symbols"))
        return allowed

    def _ends(self) -> dict[str, str]:
        tokens = self._parts.tape.positions()
        return {parse_price_position(token).source: token for token in tokens}

    def _losses_told(self) -> list[Gap]:
        now = self._parts.hub.losses
        feeds = [feed for feed in now if now[feed] != self._losses.get(feed, 0)]
        if not feeds:
            return []
        places = self._listener.places.items()
        wanted = self._by_feed([s for s, p in places if p.pace.mode == "every"])
        return [
            Gap("prices", "lost_on_the_way", feed=feed)
            for feed in feeds
            if feed in wanted
        ]

    def _by_feed(self, symbols: Iterable[str]) -> dict[str, list[str]]:
        by_feed: dict[str, list[str]] = {}
        for entry in self._newest(symbols):
            by_feed.setdefault(entry.source, []).append(entry.symbol)
        return by_feed

    def _newest(self, symbols: Iterable[str]) -> list[Update]:
        entries = (self._parts.cache.entry(symbol) for symbol in symbols)
        # In the order of their positions: wherever the connection is cut, a client has
        # everything up to the last one that it got.
        return sorted(
            (entry for entry in entries if entry is not None),
            key=attrgetter("version"),
        )

    def _missed(
        self, since: list[str] | str, symbols: list[str], pace: Pace
    ) -> tuple[list[Update] | None, str]:
        """Return what came of *symbols* after *since*; or None, and why not."""
        try:
            positions = _by_source([since] if isinstance(since, str) else since)
        except ValueError:
            return None, "bad_position"
        by_source: dict[str, set[str]] = {}
        known = self._newest(symbols)
        for entry in known:
            by_source.setdefault(entry.source, set()).add(entry.symbol)
        if len(known) < len(symbols):
            # Of which feed the others are is not known: it may be any.
            for source in positions:
                by_source.setdefault(source, set())
        if not positions:
            return None, "no_position"
        missed: list[Update] = []
        for source, names in by_source.items():
            position = positions.get(source)
            if position is None:
                return None, "no_position"
            settled = self._parts.tape.settled(source)
            if settled is None or settled < (position.epoch, position.seq):
                return None, "edge_is_behind"
            if pace.mode == "every":
                updates = self._parts.tape.since(position, names)
                if updates is None:
                    return None, "too_far_behind"
                missed += updates
        return missed if pace.mode == "every" else None, ""


def _pace(wanted: Subscription) -> Pace:
    if wanted.types is not None:
        raise BadRequestError("bad_request", "prices have no types")
    if wanted.mode == "every":
        if wanted.max_rate_hz is not None:
            raise BadRequestError("bad_request", "max_rate_hz needs the mode latest")
        return Pace("every")
    return LATEST if wanted.max_rate_hz is None else Pace.at_most(wanted.max_rate_hz)


def _legal(symbols: list[str]) -> list[str]:
    legal, _ = parse_symbols(symbols)
    return legal


def _by_source(tokens: list[str]) -> dict[str, PricePosition]:
    """Return the furthest position of each feed."""
    furthest: dict[str, PricePosition] = {}
    for token in tokens:
        position = parse_price_position(token)
        known = furthest.get(position.source)
        if known is None or position > known:
            furthest[position.source] = position
    return furthest
