"""
Messages of the news stream as entries of the log: items, and holes between; no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from edge.clients.wire_frames import text_frame
from edge.positions import NewsPosition
from feedmesh import subjects
from feedmesh.canary import NEWS_TYPE
from feedmesh.messages import split
from feedmesh.news import decode_news
from feedmesh.stored import StoredMessage


__all__ = ["Entry", "Hole", "NewsFilter", "StoredItem", "read_entries"]


class StoredItem(NamedTuple):
    """
    One item of the log, ready for clients.

    Attributes:
        sequence: Its number in the stream.
        frame: The JSON object of the news contract.
        news_type: As in its subject.
        symbols: The stocks that it names.
        position: Of a client that has it.
        contract_frame: The WebSocket frame of the news contract.
        fragment: The JSON object of protocol v3.
        object_frame: The WebSocket frame of protocol v3.
    """

    sequence: int
    frame: bytes
    news_type: str
    symbols: frozenset[str]
    position: NewsPosition
    contract_frame: bytes
    fragment: bytes
    object_frame: bytes


class Hole(NamedTuple):
    """
    Messages that were removed before they were read.

    Attributes:
        after: Number of the last message before them.
        sequence: Number of the last one of them.
    """

    after: int
    sequence: int


Entry = StoredItem | Hole


class NewsFilter(NamedTuple):
    """Which items a client wants; None is no restriction but that of canaries."""

    types: frozenset[str] | None = None
    symbols: frozenset[str] | None = None

    def wants(self, item: StoredItem) -> bool:
        """Return whether *item* passes."""
        if self.types is None:
            if item.news_type == NEWS_TYPE:
                return False
        elif item.news_type not in self.types:
            return False
        return self.symbols is None or not self.symbols.isdisjoint(item.symbols)


def read_entries(
    messages: Iterable[StoredMessage], position: NewsPosition
) -> Iterator[Entry]:
    """Yield the items among *messages*, which follow *position*, and the holes."""
    last = position.sequence
    for message in messages:
        if message.sequence != last + 1:
            yield Hole(last, message.sequence - 1)
        last = message.sequence
        item = _item(message, position.stream)
        if item is not None:
            yield item


def _item(message: StoredMessage, stream: str) -> StoredItem | None:
    try:
        kind, *rest = subjects.tokens(message.subject)
        if kind != "news" or len(rest) != 1:
            return None  # an epoch, or a copy for one symbol
        _, frame = split(message.payload)
        item = decode_news(frame)
    except ValueError:
        return None
    position = NewsPosition(stream, message.sequence)
    fragment = b'%b,"position":"%b"}' % (frame[:-1], position.token().encode())
    return StoredItem(
        message.sequence,
        frame,
        rest[0],
        frozenset(stock.code for stock in item.stocks),
        position,
        text_frame(frame),
        fragment,
        text_frame(fragment),
    )
