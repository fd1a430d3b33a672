"""
Messages of our own that go the whole way, so that the way is known to work.

Every second an ingest that leads sends the price of a symbol that nobody trades, and
now and then a news item that nobody wrote. They take the same way as all others, and
say of themselves when they were sent and as which; so whoever gets them knows how long
it took, and whether one is missing or out of turn. Clients get them only if they ask
for them by name, and no upstream is ever asked for them.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from feedmesh.digits import Digits


__all__ = [
    "MARKET",
    "NEWS_TYPE",
    "Mark",
    "is_canary",
    "news_title",
    "price_digits",
    "read_mark",
    "symbol_of",
]

MARKET = "canary"
NEWS_TYPE = "canary"
_PREFIX = "^CANARY."


class Mark(NamedTuple):
    """
    What a canary says of itself.

    Attributes:
        run: Who counts: another number after every change of leader.
        number: 1, 2, 3 … within the run.
        sent_ns: When it left, nanoseconds since the epoch.
    """

    run: int
    number: int
    sent_ns: int


def symbol_of(feed: str) -> str:
    """Return the symbol of *feed*'s canary."""
    return _PREFIX + feed.upper()


def is_canary(symbol: str) -> bool:
    """Return whether *symbol* is one of a canary."""
    return symbol.startswith(_PREFIX)


def price_digits(mark: Mark) -> tuple[Digits, Digits, Digits]:
    """Return last price, last size and ask price of the state that carries *mark*."""
    return str(mark.number), str(mark.sent_ns), str(mark.run)


def news_title(mark: Mark) -> str:
    """Return the title of the item that carries *mark*."""
    return f"canary {mark.run} {mark.number} {mark.sent_ns}"


def read_mark(frame: str | bytes) -> Mark | None:
    """Return the mark in a client's *frame*; None if it is of no canary."""
    try:
        message = json.loads(frame)
        if message.get("news_type") == NEWS_TYPE:
            _, run, number, sent = message["title"].split(" ")
        elif is_canary(message.get("symbol", "")):
            run, number = message["ask_price"], message["last_price"]
            sent = message["last_size"]
        else:
            return None
        return Mark(int(run), int(number), int(sent))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
