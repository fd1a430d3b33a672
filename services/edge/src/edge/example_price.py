"""The price that the descriptions of REST and of the stream both show."""

from __future__ import annotations

from typing import Any


__all__ = ["price_frame"]


def price_frame(timestamp_ms: int, cached_at: str) -> dict[str, Any]:
    """Return the frame of a trade, with its keys in the order that clients get."""
    return {
        "type": "price_update",
        "symbol": "AAPL",
        "timestamp": timestamp_ms,
        "data_type": "T",
        "last_price": 189.45,
        "last_size": 1000,
        "ask_price": 189.46,
        "ask_size": 5000,
        "bid_price": None,
        "bid_size": None,
        "cached_at": cached_at,
    }
