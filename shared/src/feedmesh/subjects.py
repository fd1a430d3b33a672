"""
Names of everything that travels over NATS.

A subject is a kind and a key, ``prices.us.AAPL``. Each part of the key is escaped
so that it is one legal token of a subject and of a key-value key alike: NATS allows
``=`` in both, so ``BRK.B`` becomes ``BRK=2EB``. Subjects never name the feed, so a
further feed changes nothing for those who read.
"""

from __future__ import annotations

import string


__all__ = [
    "ALL_DEMAND",
    "ALL_GAPS",
    "ALL_NEWS",
    "ALL_NEWS_ITEMS",
    "ALL_PINS",
    "ALL_PRICES",
    "ALL_STATUS",
    "DEMAND_ASK",
    "dead_letters",
    "demand",
    "epoch",
    "escape",
    "gaps",
    "leader",
    "left_overs",
    "master",
    "news",
    "pin",
    "price",
    "status",
    "tokens",
    "unescape",
]

ALL_PRICES = "prices.>"
ALL_NEWS = "news.>"
# Every item once, on the subject of its type; copies for symbols lie one level deeper.
ALL_NEWS_ITEMS = "news.*"
ALL_STATUS = "status.*"
ALL_GAPS = "gaps.*"
ALL_DEMAND = "demand.*"
ALL_PINS = "pins.*"
# Whoever wants symbols answers this with a fresh announcement.
DEMAND_ASK = "demand_ask"

_PLAIN = frozenset(string.ascii_letters + string.digits + "-_")


def price(market: str, symbol: str) -> str:
    """Return the subject of the prices of *symbol* on *market*."""
    return f"prices.{escape(market)}.{escape(symbol)}"


def news(news_type: str, symbol: str | None = None) -> str:
    """Return the subject of all news of *news_type*, or of the copies for *symbol*."""
    if symbol is None:
        return f"news.{escape(news_type)}"
    return f"news.{escape(news_type)}.{escape(symbol)}"


def status(feed: str) -> str:
    """Return the subject of what is known about the truth of *feed*'s data."""
    return f"status.{escape(feed)}"


def dead_letters(service: str) -> str:
    """Return the subject of frames that *service* could not understand."""
    return f"dlq.{escape(service)}"


def demand(who: str) -> str:
    """Return the subject on which *who* announces the symbols it wants."""
    return f"demand.{escape(who)}"


def pin(symbol: str) -> str:
    """Return the subject that keeps *symbol* flowing though no client wants it."""
    return f"pins.{escape(symbol)}"


def epoch(feed: str) -> str:
    """Return the subject on which writers of *feed* take turns."""
    return f"epoch.{escape(feed)}"


def leader(feed: str) -> str:
    """Return the subject on which the leader of *feed* says that it is there."""
    return f"leader.{escape(feed)}"


def left_overs(feed: str) -> str:
    """Return the subject on which the leader of *feed* takes what others still hold."""
    return f"left_overs.{escape(feed)}"


def master(feed: str) -> str:
    """Return the subject on which the leader of *feed* tells its instruments."""
    return f"master.{escape(feed)}"


def gaps(feed: str) -> str:
    """Return the subject of the times for which *feed*'s data may lack something."""
    return f"gaps.{escape(feed)}"


def escape(text: str) -> str:
    """
    Return *text* as one subject token.

    Raises:
        ValueError: If *text* is empty; an empty token would merge two levels.
    """
    if not text:
        raise ValueError("a subject token cannot be empty")
    if _PLAIN.issuperset(text):
        return text
    return "".join(_escape_character(character) for character in text)


def unescape(token: str) -> str:
    """
    Return the text that :func:`escape` turned into *token*.

    Raises:
        ValueError: If *token* is not something that :func:`escape` returns.
    """
    if token and _PLAIN.issuperset(token):
        # Nearly all are, and a start reads tens of thousands.
        return token
    head, *escaped = token.split("=")
    raw = head.encode() + b"".join(
        bytes.fromhex(part[:2]) + part[2:].encode() for part in escaped
    )
    text = raw.decode()
    if not text or escape(text) != token:
        raise ValueError("not an escaped subject token")
    return text


def tokens(subject: str) -> list[str]:
    """Return the parts of *subject*, unescaped: ``["prices", "us", "BRK.B"]``."""
    return [unescape(token) for token in subject.split(".")]


def _escape_character(character: str) -> str:
    if character in _PLAIN:
        return character
    return "".join(f"={byte:02X}" for byte in character.encode())
