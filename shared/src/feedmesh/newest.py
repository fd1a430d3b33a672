"""
What is new among the prices that a service gets; no I/O.

A message may have come before: everything is sent again when NATS comes back. Or it may
be older than what is known: a writer that was asleep when another one took over writes
on for a moment when it wakes. The stream refuses its news, but prices are published
without asking, so it is for readers to drop them.

Both show in the version of a message. What comes live is new if nobody with a higher
epoch was heard of that feed, and if no higher version of that symbol is known. What the
stream holds may well be of an earlier epoch: it is the newest value of a symbol that
the present writer has not sent yet. But the stream keeps the order in which it was
written to, so what lies there behind a message of a higher epoch was written too late.
"""

from __future__ import annotations

from typing import NamedTuple

from feedmesh.messages import Head, Version, decode_head
from feedmesh.prices import PriceState, decode_frame


__all__ = ["NewPrice", "NewestPrices", "StoredOrder"]


class NewPrice(NamedTuple):
    """
    A state that was not known before.

    Attributes:
        head: Where it comes from, and when.
        state: What it says of its symbol; numbers are texts, as the feed wrote them.
    """

    head: Head
    state: PriceState


class NewestPrices:
    """
    Drops what is not new, whatever comes twice, late or from two sides.

    Subscribe, then read the stream ``PRICES`` from its start, and again whenever
    messages may have been missed; what comes live meanwhile may come in between.
    Nothing is kept but a version for each symbol and two epochs for each feed.
    """

    def __init__(self) -> None:
        self._versions: dict[str, Version] = {}
        self._heard: dict[str, int] = {}
        self._stored: dict[str, int] = {}

    def live(self, payload: bytes) -> NewPrice | None:
        """
        Take a message that came on a subject of prices; return it if it is new.

        Raises:
            ValueError: If it is not a price message, or one of a later schema.
        """
        price = _read(payload)
        return self._newer(price) if _leads(self._heard, price.head) else None

    def stored(self, payload: bytes) -> NewPrice | None:
        """
        Take a message that was read from the stream; return it if it is new.

        Raises:
            ValueError: If it is not a price message, or one of a later schema.
        """
        price = _read(payload)
        if not _leads(self._stored, price.head):
            return None
        _leads(self._heard, price.head)
        return self._newer(price)

    def _newer(self, price: NewPrice) -> NewPrice | None:
        symbol, version = price.state.symbol, price.head.version
        known = self._versions.get(symbol)
        if known is not None and version <= known:
            return None
        self._versions[symbol] = version
        return price


class StoredOrder:
    """Tells what was written too late, of all that is read from one stream in order."""

    def __init__(self) -> None:
        self._identity = ""
        self._epochs: dict[str, int] = {}

    def is_late(self, identity: str, head: Head) -> bool:
        """
        Return whether a message of a higher epoch lies before that of *head*.

        Args:
            identity: Of the stream, which may have been made anew.
            head: Of the next message that was read.
        """
        if identity != self._identity:
            self._identity = identity
            self._epochs.clear()
        return not _leads(self._epochs, head)


def _leads(epochs: dict[str, int], head: Head) -> bool:
    """Note the epoch of *head*; return whether none that is higher was noted."""
    highest = max(head.epoch, epochs.get(head.source, head.epoch))
    epochs[head.source] = highest
    return head.epoch == highest


def _read(payload: bytes) -> NewPrice:
    head, frame = decode_head(payload)
    return NewPrice(head, decode_frame(frame))
