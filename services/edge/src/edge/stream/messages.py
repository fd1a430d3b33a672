"""
What a client of protocol v3 hears, besides prices, news and status; no I/O.

Each message is a JSON object with a ``type``. An answer has the ``id`` of its request
if that had one; what comes unasked has none. Fields are only ever added.
"""

from __future__ import annotations

import msgspec

from edge.stream.requests import Channel, Rejected, RequestId


__all__ = [
    "Ack",
    "Error",
    "Gap",
    "GoingAway",
    "Heartbeat",
    "Hello",
    "Limits",
    "Listed",
    "Listing",
    "Message",
    "Pong",
    "Positions",
    "SnapshotEnd",
    "encode",
]


class Positions(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    Up to where this client has got everything.

    Attributes:
        prices: One token for each feed.
        news: One token.
    """

    prices: list[str] | None = None
    news: str | None = None


class Limits(msgspec.Struct, frozen=True):
    """What the edge takes from one client."""

    max_symbols: int
    max_symbols_per_request: int
    max_message_bytes: int
    max_requests_per_second: int
    replay_messages: int


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """
    The first message.

    Attributes:
        protocol: Name of this protocol, as in the subprotocol.
        edge: Name of this edge.
        at: Its clock; ISO 8601, UTC.
        heartbeat_ms: Silence of twice as long means that the connection is dead.
        auth: Whether ``auth`` must come first.
        limits: What the edge takes.
        feeds: State of each feed.
    """

    protocol: str
    edge: str
    at: str
    heartbeat_ms: int
    auth: bool
    limits: Limits
    feeds: dict[str, str]


class Ack(msgspec.Struct, frozen=True, tag_field="type", tag="ack", omit_defaults=True):
    """
    The request was carried out.

    Attributes:
        accepted: Symbols that are subscribed, or are no more.
        rejected: Symbols that are not, and why.
        max_rate_hz: The rate that holds: the next one that is not above the asked one.
        recovered: With ``since``: whether all that was missed follows.
        reason: Why not.
    """

    op: str
    id: RequestId = None
    channel: Channel | None = None
    accepted: list[str] | None = None
    rejected: list[Rejected] | None = None
    max_rate_hz: float | None = None
    recovered: bool | None = None
    reason: str | None = None


class SnapshotEnd(
    msgspec.Struct,
    frozen=True,
    tag_field="type",
    tag="snapshot_end",
    omit_defaults=True,
):
    """What was there, or was missed, has been sent; what follows is new."""

    channel: Channel
    id: RequestId = None
    positions: Positions = Positions()


class Gap(msgspec.Struct, frozen=True, tag_field="type", tag="gap", omit_defaults=True):
    """
    Something was lost, and cannot be had any more.

    Attributes:
        reason: ``lost_on_the_way``, ``slow_client``, ``removed``, ``stream_recreated``.
        feed: Of prices: of which feed; none if of several.
        symbols: Of prices: of which symbols, if that is known.
        missed: How many updates, if that is known.
        after: The last position before.
        to: The last position that is lost.
    """

    channel: Channel
    reason: str
    feed: str | None = None
    symbols: list[str] | None = None
    missed: int | None = None
    after: str | None = None
    to: str | None = None


class Heartbeat(msgspec.Struct, frozen=True, tag_field="type", tag="heartbeat"):
    """
    The connection lives, and the client has everything up to *positions*.

    Attributes:
        at: The edge's clock; ISO 8601, UTC.
        conflated: Price updates left out for newer ones since the connection began.
    """

    at: str
    conflated: int
    positions: Positions


class Error(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """
    A request was not carried out.

    Attributes:
        code: A constant word for programs.
        message: A text for people.
        temporary: Whether the same request may succeed later.
        retry_after_ms: When, at the earliest.
    """

    id: RequestId
    code: str
    message: str
    temporary: bool = False
    retry_after_ms: int | None = None


class GoingAway(msgspec.Struct, frozen=True, tag_field="type", tag="going_away"):
    """The edge will close this connection; come back, here or elsewhere, after that."""

    reconnect_after_ms: int


class Pong(msgspec.Struct, frozen=True, tag_field="type", tag="pong"):
    """The answer to ``ping``."""

    id: RequestId
    at: str


class Listed(msgspec.Struct, frozen=True, omit_defaults=True):
    """One subscription; of prices, all symbols of one pace."""

    channel: Channel
    symbols: list[str] | None = None
    types: list[str] | None = None
    mode: str | None = None
    max_rate_hz: float | None = None


class Listing(msgspec.Struct, frozen=True, tag_field="type", tag="list"):
    """The answer to ``list``."""

    id: RequestId
    subscriptions: list[Listed]


Message = (
    Hello | Ack | SnapshotEnd | Gap | Heartbeat | Error | GoingAway | Pong | Listing
)

_encode = msgspec.json.Encoder().encode


def encode(message: Message) -> bytes:
    """Return *message* as JSON."""
    return _encode(message)
