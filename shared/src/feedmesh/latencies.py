"""
A histogram for the hot path: one entry may stand for many.

Where thousands of messages pass in a turn of the event loop, only some are looked at,
and each of those speaks for its neighbours. A histogram that counted it once would hold
a stall, in which hundreds waited, for a single slow message.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from feedmesh.metrics import LATENCY_BUCKETS


__all__ = ["Latencies"]

_BOUNDS: list[str] = [
    floatToGoString(bound)  # type: ignore[no-untyped-call] # it has no types
    for bound in (*LATENCY_BUCKETS, math.inf)
]


class Latencies:
    """The histogram *name*, with the buckets that all latencies have."""

    def __init__(self, name: str, text: str, registry: CollectorRegistry) -> None:
        self._name = name
        self._text = text
        self._counts = [0.0] * len(_BOUNDS)
        self._sum = 0.0
        registry.register(self)

    def take(self, seconds: float, count: float = 1) -> None:
        """Note that *count* messages took so many *seconds* each."""
        self._counts[bisect_left(LATENCY_BUCKETS, seconds)] += count
        self._sum += seconds * count

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield what a scrape is told."""
        buckets = list(zip(_BOUNDS, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(
            self._name, self._text, buckets=buckets, sum_value=self._sum
        )
