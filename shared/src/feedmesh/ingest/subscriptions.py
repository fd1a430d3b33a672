"""
What an upstream should send us, and what it has agreed to send.

Two sets, desired and confirmed, reconciled for ever: the difference becomes requests,
an acknowledgement moves keys from one side to the other, and an acknowledgement that
does not come makes its keys due again. Upstreams do not say what they acknowledge, or
of what kind it is at best, so answers are matched to requests in the order sent. What
was refused is set aside and asked for again later: one key that the plan lacks must not
cost the others. No I/O, and time is an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Literal, NamedTuple


__all__ = ["Request", "SubscriptionBook"]

Verb = Literal["subscribe", "unsubscribe"]


class Request(NamedTuple):
    """Something to ask of the upstream: *keys* are never empty."""

    verb: Verb
    keys: tuple[str, ...]


class _Asked(NamedTuple):
    request: Request
    at: float


class SubscriptionBook:
    """
    The desired and the confirmed subscriptions of one link.

    Args:
        batch: Of how many keys a request is at most.
        ack_seconds: For how long an answer is waited for.
        refused_seconds: For how long what was refused is not asked for again.
        first: A key that is asked for before all others and matters more, if any.

    Attributes:
        desired: What should flow.
        confirmed: What the upstream has acknowledged on this connection.
        unanswered: How often an acknowledgement did not come in time.
    """

    def __init__(
        self,
        *,
        batch: int = 50,
        ack_seconds: float = 10.0,
        refused_seconds: float = 300.0,
        first: str | None = None,
    ) -> None:
        self._batch = batch
        self._ack_seconds = ack_seconds
        self._refused_seconds = refused_seconds
        self._first = first
        self._asked: deque[_Asked] = deque()
        # When each refused key may be asked for again; as of the last `due`.
        self._aside: dict[str, float] = {}
        self._now = 0.0
        self.desired: frozenset[str] = frozenset()
        self.confirmed: frozenset[str] = frozenset()
        self.unanswered = 0

    def want(self, keys: Iterable[str]) -> None:
        """Replace what should flow by *keys*."""
        self.desired = frozenset(keys)

    def connection_lost(self) -> None:
        """Forget what was confirmed: no upstream remembers it for us."""
        self._asked.clear()
        self._aside.clear()
        self.confirmed = frozenset()

    def due(self, now: float) -> list[Request]:
        """Return what to ask at *now*, and take it as asked."""
        self._now = now
        self._expire(now)
        aside = {key for key, until in self._aside.items() if now < until}
        busy = {key for asked in self._asked for key in asked.request.keys}
        add = sorted(
            self.desired - self.confirmed - busy - aside,
            key=lambda key: (key != self._first, key),
        )
        drop = sorted(self.confirmed - self.desired - busy)
        requests = [
            Request(verb, tuple(keys[start : start + self._batch]))
            for verb, keys in _in_order(add, drop)
            for start in range(0, len(keys), self._batch)
        ]
        self._asked.extend(_Asked(request, now) for request in requests)
        return requests

    def acknowledged(self, verb: Verb, about: str = "") -> Request | None:
        """
        Take the oldest unanswered request of *verb* as done; return it.

        Args:
            verb: What was asked.
            about: How its first key begins.
        """
        asked = self._take(verb, about)
        if asked is None:
            return None
        keys = frozenset(asked.request.keys)
        if verb == "subscribe":
            self.confirmed |= keys
        else:
            self.confirmed -= keys
        return asked.request

    def refused(self, verb: Verb, about: str = "") -> Request | None:
        """Take the request as refused that `acknowledged` would take as done."""
        asked = self._take(verb, about)
        if asked is None:
            return None
        if verb == "subscribe":
            until = self._now + self._refused_seconds
            self._aside.update(dict.fromkeys(asked.request.keys, until))
        return asked.request

    @property
    def hopeless(self) -> bool:
        """Whether nothing was agreed to and no answer is left that might agree."""
        return not self.confirmed and not any(
            asked.request.verb == "subscribe" for asked in self._asked
        )

    def flows(self, *, data: bool) -> bool:
        """
        Return whether what should flow does, as far as one can tell.

        Args:
            data: Whether data came just now.
        """
        if self._first is None:
            return data or self.desired <= self.confirmed | self._aside.keys()
        # Data may be of another key; but some upstreams never answer.
        return self._first in self.confirmed or (
            data and self._first not in self._aside
        )

    def _take(self, verb: Verb, about: str) -> _Asked | None:
        for asked in self._asked:
            request = asked.request
            if request.verb == verb and request.keys[0].startswith(about):
                self._asked.remove(asked)
                return asked
        return None

    def _expire(self, now: float) -> None:
        while self._asked and now - self._asked[0].at >= self._ack_seconds:
            self._asked.popleft()
            self.unanswered += 1


def _in_order(add: list[str], drop: list[str]) -> list[tuple[Verb, list[str]]]:
    return [("unsubscribe", drop), ("subscribe", add)]
