"""An example of every REST answer, for the OpenAPI description; a test checks them."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from edge.example_price import price_frame
from edge.positions import GapPosition, NewsPosition, PricePosition
from edge.rest.models import (
    CachedPrices,
    GapsAnswer,
    Health,
    LegacyError,
    LegacyStatus,
    LegacySymbols,
    NewsAnswer,
    PriceAnswer,
    PriceFrame,
    PricesAnswer,
    StatusAnswer,
)


__all__ = ["EXAMPLES"]

_POSITION: Final = PricePosition("fmp", 1731240000000, 40712).token()
_NEWS_POSITION: Final = NewsPosition("5d41402abc4b", 90210).token()
_AT: Final = "2024-11-10T12:00:00.125000Z"

_PRICE_FRAME: Final = price_frame(1731240000000, "2024-11-10T12:00:00")
_ROW: Final[dict[str, Any]] = {
    **_PRICE_FRAME,
    "position": _POSITION,
    "source": "fmp",
    "state": "live",
    "age_ms": 240,
}
_PRICE: Final[dict[str, Any]] = {**_ROW, "stale": False}
_PRICES: Final[dict[str, Any]] = {
    "prices": [_ROW],
    "missing": ["XYZ"],
    "positions": [_POSITION],
    "stale": False,
    "next_cursor": None,
}
_NEWS: Final[dict[str, Any]] = {
    "items": [
        {
            "type": "news",
            "date": "20241110",
            "time": "210000",
            "id": "27",
            "realkey": "202411102100002704000165",
            "title": "STX, 2차전지 핵심 광물 MOU",
            "bodysize": "4841",
            "code": "000000011810",
            "provider": "헤럴드경제",
            "news_type": "article",
            "stocks": [{"code": "011810", "name": "STX"}],
            "published_at": "2024-11-10T21:00:00+09:00",
            "received_at": _AT,
            "repeat_of": None,
            "position": _NEWS_POSITION,
        }
    ],
    "position": _NEWS_POSITION,
    "next": None,
    "complete": True,
    "reason": None,
    "stale": False,
}
_GAP_POSITION: Final = GapPosition("5d41402abc4b", 12).token()
_GAPS: Final[dict[str, Any]] = {
    "gaps": [
        {
            "type": "feed_gap",
            "id": "ls.news.1731240000125000",
            "feed": "ls",
            "link": "news",
            "from": _AT,
            "to": None,
            "reason": "dropped",
            "backfilled": False,
        }
    ],
    "position": _GAP_POSITION,
    "next": None,
    "complete": True,
    "reason": None,
    "stale": False,
}
_FEED: Final[dict[str, Any]] = {
    "feed": "fmp",
    "state": "live",
    "since": _AT,
    "last_message_at": _AT,
    "reconnects": 0,
    "links": {
        "stocks": {
            "state": "live",
            "since": _AT,
            "last_message_at": _AT,
            "reconnects": 0,
            "reason": None,
            "desired": 2,
            "confirmed": 2,
            "complete_to": _AT,
            "alive": True,
            "logged_in": True,
            "last_data_at": _AT,
            "market": "open",
            "flow": "flowing",
            "per_minute": 412.0,
            "usual_per_minute": 430.5,
        }
    },
    "at": _AT,
}
_NATS: Final = {"connected": True, "reconnects": 0}
_STATUS: Final[dict[str, Any]] = {
    "feeds": {"fmp": {**_FEED, "age_ms": 240, "position": _POSITION}},
    "edge": {
        "status": "healthy",
        "problems": {},
        "nats": _NATS,
        "clients": 12,
        "cached_symbols": 2,
    },
    "positions": {"prices": [_POSITION], "news": _NEWS_POSITION},
    "stale": False,
}
_CACHE: Final[dict[str, Any]] = {"AAPL": _PRICE_FRAME}
_HEALTH: Final[dict[str, Any]] = {
    "status": "healthy",
    "problems": {},
    "feeds": {"fmp": {"state": "live", "last_message_at": _AT}},
    "nats": _NATS,
}
_LEGACY_STATUS: Final[dict[str, Any]] = {
    "feeds": {"fmp": {"type": "status", **_FEED}},
    "symbols": ["AAPL", "BTCUSD"],
    "clients": 12,
    "reconnects": 0,
    "nats": _NATS,
}
_SYMBOLS: Final[dict[str, Any]] = {"symbols": ["AAPL", "TSLA"]}

EXAMPLES: Final[dict[type[BaseModel], dict[str, Any]]] = {
    PriceFrame: _PRICE_FRAME,
    PriceAnswer: _PRICE,
    PricesAnswer: _PRICES,
    NewsAnswer: _NEWS,
    GapsAnswer: _GAPS,
    StatusAnswer: _STATUS,
    CachedPrices: _CACHE,
    Health: _HEALTH,
    LegacyStatus: _LEGACY_STATUS,
    LegacySymbols: _SYMBOLS,
    LegacyError: {"detail": "what is wrong, in words"},
}
"""By the model of the answer."""
