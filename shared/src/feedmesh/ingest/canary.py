"""
Sends a feed's canaries while it leads; see :mod:`feedmesh.canary`.

They are accounted for like everything else, under a name of their own: received from
ourselves on the link ``canary``, published as the kind ``canary``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from feedmesh import canary, subjects
from feedmesh.canary import Mark
from feedmesh.clock import iso, now_ns
from feedmesh.ingest.log_entry import LogEntry, LogMessage
from feedmesh.ingest.price_publisher import PricePublisher
from feedmesh.messages import Version, encode, head
from feedmesh.metrics import IngestMetrics
from feedmesh.news import NewsItem, encode_news
from feedmesh.prices import PriceState, encode_price


__all__ = ["Canary", "is_canary_item"]

# Items stay in the log for two weeks; prices replace each other.
_PRICES_TO_A_NEWS_ITEM = 15
_ID = "canary."

Offer = Callable[[LogEntry], bool]
"""Takes an item for the log; False if it did not."""


def is_canary_item(item_id: str) -> bool:
    """Return whether *item_id*, without the feed's name, is one of a canary."""
    return item_id.startswith(_ID)


class Canary:
    """
    Sends canaries of the feed of *metrics*.

    Args:
        metrics: Of the feed.
        every: Seconds between two prices; 0 sends nothing at all.
        prices: Takes the prices.
        next_version: Numbers the news.
        offer: Takes the news; None for a feed that has none.
    """

    def __init__(
        self,
        metrics: IngestMetrics,
        every: float,
        prices: PricePublisher,
        next_version: Callable[[], Version],
        offer: Offer | None = None,
    ) -> None:
        self._metrics = metrics
        self._feed = metrics.feed
        self._every = every
        self._prices = prices
        self._next_version = next_version
        self._offer = offer

    async def run(self) -> None:
        """Send canaries, numbered anew, for ever."""
        if not self._every:
            await asyncio.Event().wait()
        run = now_ns() // 1_000_000
        number = 0
        while True:
            number += 1
            await self._send_price(Mark(run, number, now_ns()))
            if self._offer is not None and number % _PRICES_TO_A_NEWS_ITEM == 1:
                turn = number // _PRICES_TO_A_NEWS_ITEM + 1
                self._send_news(self._offer, Mark(run, turn, now_ns()))
            await asyncio.sleep(self._every)

    async def _send_price(self, mark: Mark) -> None:
        symbol = canary.symbol_of(self._feed)
        self._count("received")
        self._count("published")
        await self._prices.publish(
            subjects.price(canary.MARKET, symbol),
            partial(_price, self._feed, symbol, mark),
        )

    def _send_news(self, offer: Offer, mark: Mark) -> None:
        payload = partial(_news, self._feed, mark, self._next_version())
        subject = subjects.news(canary.NEWS_TYPE)
        message_id = f"{self._feed}.{_ID}{mark.run}.{mark.number}"
        message = LogMessage(subject, message_id, payload)
        # It counts as published once it is stored, as all news do.
        if offer(LogEntry((message,), mark.sent_ns)):
            self._count("received")

    def _count(self, what: str) -> None:
        counter = getattr(self._metrics, what)
        counter.labels(self._feed, "canary").inc()


def _price(feed: str, symbol: str, mark: Mark, version: Version) -> bytes:
    number, sent, run = canary.price_digits(mark)
    state = PriceState(
        symbol=symbol,
        timestamp_ms=mark.sent_ns // 1_000_000,
        data_type="T",
        last_price=number,
        last_size=sent,
        ask_price=run,
        cached_s=mark.sent_ns // 1_000_000_000,
    )
    return encode_price(
        feed,
        version,
        state,
        event_ns=mark.sent_ns,
        received_ns=mark.sent_ns,
        published_ns=now_ns(),
    )


def _news(feed: str, mark: Mark, version: Version) -> bytes:
    at = iso(mark.sent_ns)
    item = NewsItem(
        date=at[:10].replace("-", ""),
        time=at[11:19].replace(":", ""),
        id="",
        realkey=f"{_ID}{mark.run}.{mark.number}",
        title=canary.news_title(mark),
        bodysize="0",
        code="",
        provider=None,
        news_type=canary.NEWS_TYPE,
        stocks=(),
        published_at=at,
        received_at=at,
    )
    said = head(
        "news",
        feed,
        version,
        event_ns=mark.sent_ns,
        received_ns=mark.sent_ns,
        published_ns=now_ns(),
        id=f"{_ID}{mark.run}.{mark.number}",
    )
    return encode(said, encode_news(item))
