"""Status over REST: how every feed is, how this edge is, and how far both have come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from edge.positions import parse_price_position
from edge.rest.answers import fingerprint
from feedmesh.clock import from_iso, now_ns
from feedmesh.status import FeedFrame


__all__ = ["status_body", "status_mark"]

# They change from one answer to the next without meaning anything.
_RESTLESS = (
    "at",
    "last_message_at",
    "last_data_at",
    "complete_to",
    "per_minute",
    "usual_per_minute",
)


def status_body(
    feeds: Mapping[str, FeedFrame],
    edge: Mapping[str, Any],
    prices: Sequence[str],
    news: str,
    stale: bool,
) -> bytes:
    """
    Return the status as JSON.

    Args:
        feeds: What each feed says of itself, by name.
        edge: What this edge says of itself.
        prices: Token of each feed's newest price.
        news: Token of the newest news item.
        stale: Whether the edge is cut off.
    """
    positions = {parse_price_position(token).source: token for token in prices}
    now = now_ns()
    return msgspec.json.encode(
        {
            "feeds": {
                name: {
                    **_plain(frame),
                    "age_ms": _age_ms(frame, now),
                    "position": positions.get(name),
                }
                for name, frame in feeds.items()
            },
            "edge": edge,
            "positions": {"prices": list(prices), "news": news},
            "stale": stale,
        }
    )


def status_mark(
    feeds: Mapping[str, FeedFrame], edge: Mapping[str, Any], stale: bool
) -> str:
    """Return what tells two states apart; positions and ages are no part of them."""
    states = {name: _states(frame) for name, frame in feeds.items()}
    return fingerprint(msgspec.json.encode([states, edge, stale]))


def _plain(frame: FeedFrame) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(frame)
    del plain["type"]
    return plain


def _states(frame: FeedFrame) -> dict[str, Any]:
    plain = _plain(frame)
    for part in (plain, *plain["links"].values()):
        for name in _RESTLESS:
            part.pop(name, None)
    return plain


def _age_ms(frame: FeedFrame, now: int) -> int | None:
    if frame.last_message_at is None:
        return None
    return max(0, (now - from_iso(frame.last_message_at)) // 1_000_000)
