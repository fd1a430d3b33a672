"""What goes out: a news item with its copies into the log, and the state of a stock."""

from __future__ import annotations

from functools import partial

from feedmesh import subjects
from feedmesh.clock import now_ns
from feedmesh.ingest.log_entry import LogEntry, LogMessage
from feedmesh.messages import Version, encode, head
from feedmesh.news import encode_news
from feedmesh.prices import PriceState, encode_price
from ingest_ls.normalize import News, Trade


__all__ = ["FEED", "item_id", "news_entry", "price_message"]

FEED = "ls"
# What an item takes in memory beside its text, about.
_OVERHEAD_BYTES = 1024


def news_entry(news: News, version: Version, received_ns: int) -> LogEntry:
    """Return *news* as it lies in the log: the item, and a copy for each stock."""
    frame = encode_news(news.item)
    payload = partial(_news_message, news, frame, version, received_ns)
    kind = news.item.news_type
    copies = (
        LogMessage(
            subjects.news(kind, stock.code), f"{FEED}.{news.id}:{stock.code}", payload
        )
        for stock in news.item.stocks
    )
    return LogEntry(
        (LogMessage(subjects.news(kind), f"{FEED}.{news.id}", payload), *copies),
        received_ns,
        len(frame) + _OVERHEAD_BYTES,
    )


def item_id(entry: LogEntry) -> str:
    """Return the id of the item that *entry* was made of."""
    return entry.message_id.removeprefix(f"{FEED}.")


def _news_message(
    news: News, frame: bytes, version: Version, received_ns: int
) -> bytes:
    return encode(
        head(
            "news",
            FEED,
            version,
            event_ns=news.event_ns,
            event_at=news.item.published_at,
            received_ns=received_ns,
            published_ns=now_ns(),
            flags=news.flags,
            id=news.id,
            extra=news.extra,
        ),
        frame,
    )


def price_message(
    event_ns: int,
    shown: Trade,
    flags: tuple[str, ...],
    received_ns: int,
    version: Version,
) -> bytes:
    """Return the state of a stock: *shown*, after a trade of *event_ns*."""
    state = PriceState(
        symbol=shown.code,
        timestamp_ms=shown.event_ns // 1_000_000,
        data_type="T",
        last_price=shown.price,
        last_size=shown.size,
        ask_price=shown.ask,
        bid_price=shown.bid,
        cached_s=received_ns // 1_000_000_000,
    )
    return encode_price(
        FEED,
        version,
        state,
        event_ns=event_ns,
        received_ns=received_ns,
        published_ns=now_ns(),
        flags=flags,
    )
