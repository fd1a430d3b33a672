"""
A news item, as the feed said it and as clients get it.

What the upstream said keeps the upstream's names and its exact text; what we add is
beside it. The frame of a client is this struct as JSON with ``"type": "news"`` first.
"""

from __future__ import annotations

import msgspec


__all__ = ["NewsItem", "Stock", "decode_news", "encode_news"]


class Stock(msgspec.Struct, frozen=True):
    """A stock that an item names; *name* is null where the master has no such code."""

    code: str
    name: str | None


class NewsItem(msgspec.Struct, frozen=True, kw_only=True, tag="news", tag_field="type"):
    """
    One item of the news log.

    Attributes:
        date: Day as the upstream wrote it, ``YYYYMMDD`` in the feed's own zone.
        time: Time as the upstream wrote it, ``HHMMSS`` in the feed's own zone.
        id: The provider's id, ``"15"``; kept as text, unknown ones too.
        realkey: The feed's id of the item.
        title: Text, never markup to be interpreted.
        bodysize: Length of the body as the upstream wrote it.
        code: The stock codes as the upstream wrote them.
        provider: Name of the provider, null where the id is unknown.
        news_type: ``disclosure`` or ``article``.
        stocks: The parsed codes, in order, each once, with their names.
        published_at: The provider's stamp; ISO 8601 with the feed's offset.
        received_at: When we read it; ISO 8601, UTC.
        repeat_of: The realkey of the first item with this title on this day, if any.
    """

    date: str
    time: str
    id: str
    realkey: str
    title: str
    bodysize: str
    code: str
    provider: str | None
    news_type: str
    stocks: tuple[Stock, ...]
    published_at: str
    received_at: str
    repeat_of: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(NewsItem).decode


def encode_news(item: NewsItem) -> bytes:
    """Return the client frame of *item*: JSON, UTF-8, Korean text as it is."""
    return _encode(item)


def decode_news(frame: bytes) -> NewsItem:
    """
    Return the item that *frame* shows.

    Raises:
        ValueError: If it is not a frame of :func:`encode_news`.
    """
    try:
        return _decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError("not a news frame") from error
