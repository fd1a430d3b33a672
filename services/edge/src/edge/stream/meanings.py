"""
What the fields of protocol v3 mean, where the code that makes them does not say.

The price update is here as a whole: it is cut out of messages as bytes, and no struct
describes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from edge.stream.words import (
    ERRORS,
    FEED_GAPS,
    FEED_STATES,
    FLOWS,
    GAPS,
    MARKETS,
    NOT_RECOVERED,
    REJECTIONS,
)


__all__ = ["MEANINGS", "POSITION", "PRICE_SUMMARY", "PRICE_UPDATE", "WORDS"]

POSITION: Final = "Whoever has this message has everything up to here."
PRICE_SUMMARY: Final = "A new value of a symbol, with all that is known of it."

MEANINGS: Final = {
    "op": "What is asked.",
    "type": "Which message this is.",
    "id": "Of the client's choice; repeated in the answer.",
    "channel": "Prices, news, or the state of the feeds.",
    "at": "The edge's clock; ISO 8601, UTC.",
    "positions": "Up to where the client has everything.",
    "position": POSITION,
    "subscriptions": "One or more, as in `subscribe`; begun in this order.",
    "Unsubscribe.symbols": "Of prices: which; all if there are none.",
    "Ack.op": "Which request was carried out.",
    "Auth.token": "A JWT. Never put it into the address.",
    "GoingAway.reconnect_after_ms": "From now on; the edge closes before that.",
    "Limits.max_symbols": "How many symbols may be subscribed at a time.",
    "Limits.max_symbols_per_request": "How many symbols a request may name.",
    "Limits.max_message_bytes": "Largest message that the edge takes.",
    "Limits.max_requests_per_second": "More, for more than a second, end it with 4101.",
    "Limits.replay_messages": "How many messages of the news log may have been missed.",
    "Listing.subscriptions": "What is subscribed; prices by pace.",
    "Listed.symbols": "Which symbols; absent if news of all.",
    "Listed.types": "Of news: which types; absent if all.",
    "Listed.mode": "Of prices: `every` or `latest`.",
    "Listed.max_rate_hz": "Of prices: the rate that holds; absent if there is none.",
    "Rejected.symbol": "As it was asked for, at most 20 characters of it.",
    "Rejected.code": "Why, as a constant word.",
    "Stock.code": "Short code of the stock.",
    "Stock.name": "Its name; null where the master has no such code.",
    "feed": "Name of the feed, such as `fmp`.",
    "state": "How it is.",
    "since": "Since when it is so; ISO 8601, UTC.",
    "last_message_at": "When it last said anything; null if never.",
    "reconnects": "How often its connections have ended.",
    "FeedFrame.links": "Its connections to the upstream, by name.",
    "FeedFrame.at": "When the feed said so; ISO 8601, UTC.",
    "LinkFrame.reason": "Why it last ended, while it is not live again; else null.",
    "LinkFrame.desired": "How many subscriptions there should be.",
    "LinkFrame.confirmed": "How many of them the upstream has agreed to.",
    "FeedGap.from": "All that the upstream sent before is there; ISO 8601, UTC.",
    "FeedGap.to": "Data flows again from here on; null while it does not.",
    "FeedGap.id": "The same in all records of this gap; the last one holds.",
    "LinkFrame.complete_to": "All that the upstream sent until then is stored.",
}
"""By ``Struct.field``, or by the field where it means the same everywhere."""

WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "Error.code": ERRORS,
    "Rejected.code": REJECTIONS,
    "Ack.reason": NOT_RECOVERED,
    "Gap.reason": GAPS,
    "FeedGap.reason": FEED_GAPS,
    "FeedFrame.state": FEED_STATES,
    "LinkFrame.state": FEED_STATES,
    "LinkFrame.market": MARKETS,
    "LinkFrame.flow": FLOWS,
}
"""Constant words, by the field that carries them."""

_NUMBER: Final = {"type": ["number", "null"]}
_TRADE: Final = {**_NUMBER, "description": "Of the last trade; null if unknown."}
_QUOTE: Final = {**_NUMBER, "description": "Of the last quote; null if unknown."}
PRICE_UPDATE: Final[dict[str, dict[str, Any]]] = {
    "type": {"enum": ["price_update"], "description": MEANINGS["type"]},
    "symbol": {"type": "string", "description": "In upper case."},
    "timestamp": {
        "type": "integer",
        "description": "Time of the event; milliseconds since the epoch, UTC.",
    },
    "data_type": {
        "enum": ["T", "Q", "B"],
        "description": "What changed it last: a trade, a quote, or a trade taken back.",
    },
    "last_price": _TRADE,
    "last_size": _TRADE,
    "ask_price": _QUOTE,
    "ask_size": _QUOTE,
    "bid_price": _QUOTE,
    "bid_size": _QUOTE,
    "cached_at": {
        "type": "string",
        "description": "When it was received; UTC, without a zone, to the second.",
    },
    "position": {
        "type": "string",
        "description": "After `snapshot_end`: who has this message has all of its feed"
        " up to here.",
    },
}
"""The fields of a price update, in their order."""
