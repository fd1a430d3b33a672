"""An example or more of every message of protocol v3, by the name of its schema."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from edge.example_price import price_frame
from edge.positions import NewsPosition, PricePosition
from edge.stream import messages
from edge.stream.requests import Rejected
from feedmesh.gaps import FeedGap
from feedmesh.news import NewsItem, Stock
from feedmesh.status import FeedFrame, LinkFrame


__all__ = ["EXAMPLES"]

_AT: Final = "2026-01-05T01:02:03.250000Z"
_PRICES: Final = PricePosition("fmp", 1767574800000, 40712).token()
_NEWS: Final = NewsPosition("5d41402abc4b", 90210).token()
_LATER: Final = NewsPosition("5d41402abc4b", 90231).token()

_HELLO: Final = messages.Hello(
    protocol="feedmesh.v1.json",
    edge="edge-0",
    at=_AT,
    heartbeat_ms=10_000,
    auth=False,
    limits=messages.Limits(
        max_symbols=2000,
        max_symbols_per_request=1000,
        max_message_bytes=65_536,
        max_requests_per_second=100,
        replay_messages=20_000,
    ),
    feeds={"fmp": "live", "ls": "live"},
)
_ITEM: Final = NewsItem(
    date="20260105",
    time="100202",
    id="15",
    realkey="202601051002020100000001",
    title="삼성전자 자기주식 취득 결정",
    bodysize="4841",
    code="000000005930",
    provider="공시",
    news_type="disclosure",
    stocks=(Stock("005930", "삼성전자"),),
    published_at="2026-01-05T10:02:02+09:00",
    received_at="2026-01-05T01:02:02.917000Z",
    repeat_of=None,
)
_LINK: Final = LinkFrame(
    state="live",
    since="2026-01-05T00:00:01.000000Z",
    last_message_at="2026-01-05T01:02:02.917000Z",
    reconnects=1,
    reason=None,
    desired=1,
    confirmed=1,
    complete_to="2026-01-05T01:02:02.917000Z",
    alive=True,
    logged_in=True,
    last_data_at="2026-01-05T01:02:02.917000Z",
    market="open",
    flow="flowing",
    per_minute=2.5,
    usual_per_minute=3.0,
)
_FEED: Final = FeedFrame(
    feed="ls",
    state="live",
    since=_LINK.since,
    last_message_at=_LINK.last_message_at,
    reconnects=1,
    links={"news": _LINK},
    at=_AT,
)
_ACK: Final = messages.Ack(
    "subscribe",
    id=1,
    channel="prices",
    accepted=["AAPL"],
    rejected=[Rejected("A B", "bad_symbol")],
)
_SENT: Final[tuple[Any, ...]] = (
    _HELLO,
    _ACK,
    messages.Ack("resume", id=2, channel="news", recovered=True),
    messages.Ack("resume", id=2, channel="news", recovered=False, reason="expired"),
    messages.SnapshotEnd("prices", 1, messages.Positions(prices=[_PRICES])),
    messages.Gap("prices", "slow_client", symbols=["AAPL"], missed=12),
    messages.Gap("news", "removed", after=_NEWS, to=_LATER),
    messages.Heartbeat(_AT, 40, messages.Positions(prices=[_PRICES], news=_NEWS)),
    messages.Error(3, "unknown_op", "op must be one of subscribe, unsubscribe, ..."),
    messages.GoingAway(1800),
    messages.Pong(4, _AT),
    messages.Listing(
        5,
        [
            messages.Listed("prices", symbols=["AAPL"], mode="latest", max_rate_hz=5.0),
            messages.Listed("news", types=["disclosure"]),
        ],
    ),
    _FEED,
    FeedGap(
        id="ls.news.1767574803250000",
        feed="ls",
        link="news",
        since="2026-01-05T01:00:03.250000Z",
        until=None,
        reason="dropped",
    ),
)


def _by_schema() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for message in _SENT:
        # Through JSON: defaults are left out as on the wire.
        example = msgspec.json.decode(msgspec.json.encode(message))
        found.setdefault(type(message).__name__, []).append(example)
    return found


EXAMPLES: Final[dict[str, list[dict[str, Any]]]] = {
    "Auth": [{"op": "auth", "id": 0, "token": "eyJhbGciOiJFZERTQSJ9.e30.c2lnbmVk"}],
    "Subscribe": [
        {
            "op": "subscribe",
            "id": 1,
            "channel": "prices",
            "symbols": ["AAPL", "A B"],
            "max_rate_hz": 5,
        },
        {
            "op": "subscribe",
            "channel": "prices",
            "symbols": ["BTCUSD"],
            "mode": "every",
        },
        {"op": "subscribe", "channel": "news", "types": ["disclosure"]},
        {
            "op": "subscribe",
            "channel": "news",
            "symbols": ["005930"],
            "snapshot": True,
        },
        {"op": "subscribe", "channel": "status"},
    ],
    "Unsubscribe": [
        {"op": "unsubscribe", "channel": "prices", "symbols": ["AAPL"]},
        {"op": "unsubscribe", "channel": "news"},
    ],
    "Resume": [
        {
            "op": "resume",
            "id": 2,
            "subscriptions": [
                {"channel": "prices", "symbols": ["AAPL"], "since": [_PRICES]},
                {"channel": "news", "since": _NEWS},
                {"channel": "status"},
            ],
        }
    ],
    "List": [{"op": "list", "id": 5}],
    "Ping": [{"op": "ping", "id": 4}],
    "PriceUpdate": [
        {**price_frame(1767574923123, "2026-01-05T01:02:03"), "position": _PRICES}
    ],
    **_by_schema(),
}
EXAMPLES["NewsItem"] = [
    {**msgspec.json.decode(msgspec.json.encode(_ITEM)), "position": _NEWS}
]
