"""
The shapes of the REST answers, for the OpenAPI description alone.

The bytes are written without these models, because prices must keep their digits; a
test holds every answer of a running edge to the description.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema


__all__ = [
    "CachedPrices",
    "FeedStatus",
    "GapsAnswer",
    "Health",
    "LegacyError",
    "LegacyStatus",
    "LegacySymbols",
    "NewsAnswer",
    "PriceAnswer",
    "PriceFrame",
    "PriceWithState",
    "PricesAnswer",
    "Problem",
    "StatusAnswer",
]

# A JSON number with the digits that the upstream wrote.
Number = Annotated[
    Any,
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]}),
]
Position = Annotated[
    str, Field(description="Opaque; give it back as it is.", max_length=128)
]


class _Shape(BaseModel):
    # Keys are only ever added, so readers must expect others.
    model_config = ConfigDict(extra="allow")


class PriceFrame(_Shape):
    """The state of one symbol; what the feed has not given yet is null."""

    type: Literal["price_update"]
    symbol: str = Field(examples=["AAPL"])
    timestamp: int = Field(description="Of the event; ms since the epoch, UTC.")
    data_type: Literal["T", "Q", "B"] = Field(
        description="Trade, quote, or a trade that was taken back."
    )
    last_price: Number
    last_size: Number
    ask_price: Number
    ask_size: Number
    bid_price: Number
    bid_size: Number
    cached_at: str = Field(description="ISO 8601 without a zone; it is UTC.")


class PriceWithState(PriceFrame):
    """A price, and what is known about its truth."""

    position: Position
    source: str = Field(description="The feed it comes from.", examples=["fmp"])
    state: Literal["live", "degraded", "closed", "recovering", "stale"] = Field(
        description="Of the feed: connected; bringing far less than usual; its markets"
        " are closed; trying to be connected; not heard of."
    )
    age_ms: int = Field(ge=0, description="Since the event.")


class PriceAnswer(PriceWithState):
    """One price."""

    stale: bool = Field(description="Whether the edge is cut off; see the header Age.")


class PricesAnswer(_Shape):
    """A page of prices, by symbol."""

    prices: list[PriceWithState]
    missing: list[str] = Field(description="Asked for, and without a value.")
    positions: list[Position] = Field(
        description="Resume from these on the stream and no change is missed; the same"
        " on all pages of a listing."
    )
    stale: bool = Field(description="Whether the edge is cut off; see the header Age.")
    next_cursor: str | None = Field(description="For the next page, null on the last.")


class NamedStock(_Shape):
    """A stock that an item names."""

    code: str
    name: str | None


class NewsRow(_Shape):
    """One item; what the upstream wrote keeps the upstream's names."""

    type: Literal["news"]
    date: str
    time: str
    id: str
    realkey: str
    title: str = Field(description="Text, never markup.")
    bodysize: str
    code: str
    provider: str | None
    news_type: str = Field(examples=["article", "disclosure"])
    stocks: list[NamedStock]
    published_at: str
    received_at: str
    repeat_of: str | None
    position: Position


class NewsAnswer(_Shape):
    """A part of the log, oldest first."""

    items: list[NewsRow]
    position: Position = Field(
        description="Resume from here on the stream, or ask for what is since."
    )
    next: Position | None = Field(
        description="Give it as `cursor` for the next page; null if there is none yet."
    )
    complete: bool = Field(description="Whether nothing after `since` was lost.")
    reason: str | None = Field(description="Why it is not complete.")
    stale: bool


class GapRow(_Shape):
    """A time for which data of a feed may be missing."""

    type: Literal["feed_gap"]
    id: str = Field(description="The same in all records of this gap.")
    feed: str
    link: str
    since: str = Field(
        alias="from", description="All that the upstream sent before is there."
    )
    until: str | None = Field(
        alias="to", description="Data flows again from here on; null while it does not."
    )
    reason: str = Field(description="Why, as a constant word.", examples=["takeover"])
    backfilled: bool = Field(
        description="Whether what was missed was got by other means."
    )


class GapsAnswer(_Shape):
    """Gaps, in the order in which they were last told."""

    gaps: list[GapRow]
    position: Position = Field(description="Ask for what is told since.")
    next: Position | None = Field(
        description="Give it as `cursor` for the next page; null if there is none yet."
    )
    complete: bool = Field(description="Whether none after `since` was forgotten.")
    reason: str | None = Field(description="Why it is not complete.")
    stale: bool


class LinkStatus(_Shape):
    """One connection of a feed."""

    state: str
    since: str
    last_message_at: str | None
    reconnects: int
    reason: str | None
    desired: int = Field(description="Subscriptions that should be.")
    confirmed: int = Field(description="Subscriptions that the upstream agreed to.")
    complete_to: str | None = Field(
        None, description="All that the upstream sent until then is stored."
    )
    alive: bool = Field(False, description="Whether it is connected, and answers.")
    logged_in: bool = Field(
        False, description="Whether the upstream has accepted the account."
    )
    last_data_at: str | None = Field(None, description="When it last brought data.")
    market: Literal["open", "closed", "unknown"] | None = Field(
        None, description="Whether data is due, by the trading calendar."
    )
    flow: Literal["flowing", "quiet", "degraded", "closed"] | None = Field(
        None, description="How data flows, held against what is due."
    )
    per_minute: float | None = Field(
        None, description="Frames with data in the last minutes."
    )
    usual_per_minute: float | None = Field(
        None, description="As many are usual at this time, if that is known."
    )


class _FeedFrame(_Shape):
    feed: str
    state: Literal[
        "live",
        "degraded",
        "closed",
        "idle",
        "connecting",
        "down",
        "busy",
        "refused",
        "unknown",
    ] = Field(description="As bad as the worst link; unknown if the ingest is silent.")
    since: str
    last_message_at: str | None
    reconnects: int
    links: dict[str, LinkStatus]
    at: str = Field(description="When the feed said so.")


class FeedStatus(_FeedFrame):
    """One feed."""

    age_ms: int | None = Field(description="Since the last message of its upstream.")
    position: Position | None = Field(description="Of its newest price.")


class NatsStatus(_Shape):
    """The connection of this edge to NATS."""

    connected: bool
    reconnects: int


class EdgeStatus(_Shape):
    """This edge."""

    status: Literal["healthy", "unhealthy"]
    problems: dict[str, str]
    nats: NatsStatus
    clients: int = Field(description="Open WebSockets.")
    cached_symbols: int


class Positions(_Shape):
    """How far this edge has come."""

    prices: list[Position]
    news: Position


class StatusAnswer(_Shape):
    """The feeds and this edge."""

    feeds: dict[str, FeedStatus]
    edge: EdgeStatus
    positions: Positions
    stale: bool


class Problem(_Shape):
    """What went wrong, as RFC 9457 has it."""

    type: str = Field(examples=["urn:feedmesh:problem:unknown_symbol"])
    title: str
    status: int
    detail: str
    code: str = Field(description="For programs.", examples=["unknown_symbol"])
    parameter: str | None = Field(None, description="The one that breaks a rule.")


class CachedPrices(_Shape):
    """Every cached price, by symbol."""

    __pydantic_extra__: dict[str, PriceFrame]


class FeedHealth(_Shape):
    """A feed in short."""

    state: str
    last_message_at: str | None


class Health(_Shape):
    """Whether this edge is healthy."""

    status: Literal["healthy", "unhealthy"]
    problems: dict[str, str]
    feeds: dict[str, FeedHealth]
    nats: NatsStatus


class LegacyFeed(_FeedFrame):
    """A feed as it says itself."""

    type: Literal["status"]


class LegacyStatus(_Shape):
    """Feeds, symbols, clients."""

    feeds: dict[str, LegacyFeed]
    symbols: list[str]
    clients: int
    reconnects: int
    nats: NatsStatus


class LegacySymbols(_Shape):
    """The symbols that were named, in upper case."""

    symbols: list[str]


class LegacyError(_Shape):
    """What went wrong, as the older contract has it."""

    detail: str
