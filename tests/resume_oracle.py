"""
Whether what clients were told is true, judged by all that was ever published.

A client keeps everything it is told, over all its connections. From the moment on at
which the edge says ``recovered``, or ends a snapshot, it must have been given every
item up to each position that it is told, once and in order, unless it is told of a gap.
The judge looks at nothing but these messages and at the truth.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from edge.positions import NewsPosition, parse_news_position, parse_price_position


Message = dict[str, Any]


class Item(NamedTuple):
    """A news item as it was stored."""

    stream: str
    sequence: int
    title: str
    news_type: str


class Price(NamedTuple):
    """A value of a symbol as it was published; no value is published twice."""

    version: tuple[int, int]
    symbol: str
    value: int


class Truth:
    """Everything that was ever published."""

    def __init__(self) -> None:
        self.news: list[Item] = []
        self.prices: list[Price] = []

    def untrue(self, told: Sequence[Message]) -> list[str]:
        """Return what is not true of what a client was *told*."""
        return _NewsJudge(self).judge(told) + _PriceJudge(self).judge(told)


class _Judge:
    """Follows one client through what it is told of one *channel*."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._untrue: list[str] = []

    def judge(self, told: Iterable[Message]) -> list[str]:
        for message in told:
            if message.get("channel", self._channel) == self._channel:
                self._take(message)
        return self._untrue

    def _take(self, message: Message) -> None:
        raise NotImplementedError


class _NewsJudge(_Judge):
    """Judges the news."""

    def __init__(self, truth: Truth) -> None:
        super().__init__("news")
        self._items = sorted(truth.news)
        self._types: set[str] | None = None
        # Up to where it was told to have everything; None while nothing is promised.
        self._at: NewsPosition | None = None
        self._since = ""

    def _take(self, message: Message) -> None:
        match message["type"]:
            case "asked":
                self._at = None
                self._types = set(message["types"]) if "types" in message else None
                self._since = message.get("since", "")
            case "ack" if message.get("recovered"):
                self._at = parse_news_position(self._since)
            case "gap" if self._at is not None:
                self._at = parse_news_position(message["to"])
            case "news" if self._at is not None:
                self._reach(message["position"], [message["title"]])
            case "heartbeat" | "snapshot_end" if "news" in message["positions"]:
                position = message["positions"]["news"]
                if self._at is not None:
                    self._reach(position, [])
                self._at = parse_news_position(position)

    def _reach(self, token: str, titles: list[str]) -> None:
        assert self._at is not None
        start, end = self._at, parse_news_position(token)
        due = [
            item.title
            for item in self._items[
                bisect_right(self._items, (*start, "\U0010ffff")) : bisect_right(
                    self._items, (*end, "\U0010ffff")
                )
            ]
            if self._types is None or item.news_type in self._types
        ]
        if start.stream != end.stream or due != titles:
            self._untrue.append(f"{start} to {end}: {due} but given {titles}")
        self._at = end


class _PriceJudge(_Judge):
    """Judges the prices of one feed."""

    def __init__(self, truth: Truth) -> None:
        super().__init__("prices")
        self._prices = sorted(truth.prices)
        self._by_value = {price.value: price for price in truth.prices}
        self._wanted: set[str] = set()
        # Those of which it must know the newest value at the end of the snapshot.
        self._known: set[str] = set()
        self._mode = "latest"
        self._since: list[str] = []
        # What it knows of each symbol, and which updates it heard on this connection.
        self._state: dict[str, tuple[int, int]] = {}
        self._heard: set[tuple[int, int]] = set()
        self._at: tuple[int, int] | None = None

    def _take(self, message: Message) -> None:
        match message["type"]:
            case "asked":
                self._at = None
                self._heard.clear()
                self._known, self._wanted = self._wanted, set(message["symbols"])
                self._mode = message.get("mode", "latest")
                self._since = message.get("since", [])
            case "ack" if not message.get("recovered") or self._mode == "latest":
                self._known = self._wanted
            case "ack":
                # Of symbols that are new to it, it has not asked for the state.
                self._known &= self._wanted
                self._at = version_of(self._since[0])
            case "gap":
                self._at = None
            case "price_update":
                self._hear(message)
            case "heartbeat" | "snapshot_end" if message["positions"].get("prices"):
                at = version_of(message["positions"]["prices"][0])
                if self._at is not None:
                    self._reach(at)
                if message["type"] == "snapshot_end":
                    self._must_know(at)
                if self._mode == "every":
                    self._at = at

    def _hear(self, message: Message) -> None:
        price = self._by_value[int(message["last_price"])]
        known = self._state.get(price.symbol, (0, 0))
        self._state[price.symbol] = max(known, price.version)
        if self._at is not None:
            if price.version in self._heard or price.version <= self._at:
                self._untrue.append(f"{price} was given twice")
            self._heard.add(price.version)
            self._reach(max(self._at, version_of(message["position"])))

    def _reach(self, end: tuple[int, int]) -> None:
        assert self._at is not None
        for price in self._up_to(end, self._at):
            if price.symbol in self._wanted and price.version not in self._heard:
                self._untrue.append(f"{price} is missing before {end}")
        self._at = end

    def _must_know(self, at: tuple[int, int]) -> None:
        newest = {price.symbol: price for price in self._up_to(at)}
        for symbol in self._known:
            price = newest.get(symbol)
            if price is not None and self._state.get(symbol, (0, 0)) < price.version:
                self._untrue.append(f"{price} is not known at {at}")

    def _up_to(
        self, end: tuple[int, int], start: tuple[int, int] = (0, 0)
    ) -> list[Price]:
        first = bisect_right(self._prices, (start, "\U0010ffff"))
        return self._prices[first : bisect_right(self._prices, (end, "\U0010ffff"))]


def version_of(token: str) -> tuple[int, int]:
    """Return epoch and number of a position among prices."""
    position = parse_price_position(token)
    return position.epoch, position.seq
