"""What flows without being ordered: prices at a rate, news now and then."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Mapping
from typing import Any

from simulator.clock import Clock
from simulator.faults import FaultError
from simulator.fmp import FmpSocket
from simulator.ls_ws import LsSocket, NewsArchive, remember
from simulator.news import NewsDesk, NewsItem, gaps, per_minute
from simulator.settings import Settings


__all__ = ["Generators", "Product", "shares"]

# A late tick catches up, but a process that slept for a minute must not flood.
_MOST_CATCH_UP_SECONDS = 0.5

Product = FmpSocket | LsSocket


class Generators:
    """
    Makes prices and news for *products*.

    Attributes:
        archive: The news of the last days, for whoever asks for them.
        rate: Prices a second, over all products.
        news_rate: News a minute; 0 for none.
        generated: How many of each were made without being ordered.
    """

    def __init__(
        self, settings: Settings, clock: Clock, products: Mapping[str, Product]
    ) -> None:
        self.archive: NewsArchive = NewsArchive()
        self.rate = settings.rate
        self.news_rate = settings.news_per_minute
        self.generated = {"prices": 0, "news": 0}
        self._settings = settings
        self._clock = clock
        self._products = products
        self._desk = NewsDesk(settings.seed)
        self._news_changed = asyncio.Event()
        self._phases = random.Random(f"{settings.seed}/phases")

    async def prices(self) -> None:
        """Make prices for ever."""
        previous = time.monotonic()
        owed = 0.0
        while True:
            await asyncio.sleep(self._settings.tick)
            now = time.monotonic()
            elapsed = min(now - previous, _MOST_CATCH_UP_SECONDS)
            previous = now
            weights = {p: w for p in self._products.values() if (w := p.weight())}
            owed = owed + self.rate * elapsed if weights else 0.0
            count = int(owed)
            owed -= count
            self.generated["prices"] += count
            split = shares(weights, count, self._phases.random())
            for product, share in split.items():
                product.emit(share)

    async def news(self) -> None:
        """Make news for ever."""
        due = time.monotonic()
        pauses = None
        while True:
            if pauses is None:
                # Before the pauses are made: a change from now on counts.
                self._news_changed.clear()
                pauses = gaps(self._settings.seed, self.news_rate or 1.0)
                due = time.monotonic()
            due += next(pauses)
            wait = due - time.monotonic() if self.news_rate else None
            if wait is not None and wait <= 0:
                # Behind: say what is due, but let others run now and then.
                self.publish_news()
                if wait < -1:
                    due = time.monotonic()
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(wait):
                    await self._news_changed.wait()
                pauses = None
            except TimeoutError:
                self.publish_news()

    def write_news(self) -> NewsItem:
        """Write one item and file it."""
        item = self._desk.write(self._clock.now())
        remember(self.archive, item, time.time())
        return item

    def publish_news(self) -> None:
        """Write one item and send it to everyone registered for news."""
        item = self.write_news()
        self.generated["news"] += 1
        for product in self._products.values():
            if isinstance(product, LsSocket):
                product.publish(item)

    def change(self, order: Mapping[str, Any]) -> dict[str, object]:
        """
        Change the rates as *order* says and return them.

        Raises:
            FaultError: If a rate is none.
        """
        try:
            if "rate" in order:
                self.rate = _rate(order["rate"])
            if "news_per_minute" in order:
                self.news_rate = per_minute(str(order["news_per_minute"]))
        except (TypeError, ValueError) as error:
            raise FaultError(str(error)) from error
        if order.get("prices") is not None:
            self.rate = (self.rate or self._settings.rate) if order["prices"] else 0.0
        if order.get("news") is not None:
            usual = self.news_rate or self._settings.news_per_minute
            self.news_rate = usual if order["news"] else 0.0
        self._news_changed.set()
        for _ in range(int(order.get("news_items", 0))):
            self.publish_news()
        return {"rate": self.rate, "news_per_minute": self.news_rate}


def _rate(value: Any) -> float:
    rate = float(value)
    # An endless rate would end the generator, and with it everything else.
    if not 0 <= rate < float("inf"):
        raise ValueError(f"rate was {value!r}, not a number of 0 or more")
    return rate


def shares(
    weights: Mapping[Product, int], count: int, phase: float
) -> dict[Product, int]:
    """
    Split *count* in proportion to *weights*; nothing is lost to rounding.

    A new *phase*, at least 0 and below 1, each time makes it fair in the long run.
    """
    total = sum(weights.values())
    if not total:
        return {}
    edges = [0, *itertools.accumulate(weights.values())]
    cuts = [int(count * edge / total + phase) for edge in edges[:-1]]
    cuts.append(count)
    return {
        product: after - before
        for product, before, after in zip(weights, cuts, cuts[1:], strict=False)
    }
