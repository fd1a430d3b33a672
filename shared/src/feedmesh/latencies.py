"""
A histogram for the hot path: an entry costs little, and may stand for many.

prometheus-client's own takes a lock for the sum and another for a bucket, which is most
of what all metrics of a message cost. This one belongs to one thread and needs none.
Where thousands of messages pass in a turn of the event loop, only some are looked at,
and each of those speaks for its neighbours. A histogram that counted it once would hold
a stall, in which hundreds waited, for a single slow message.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate
from types import MappingProxyType

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString


__all__ = ["LATENCY_BUCKETS", "Latencies"]

# Dense round the promise (milliseconds), coarse where only the order matters.
LATENCY_BUCKETS = (
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
    60.0,
)

_BOUNDS: list[str] = [
    floatToGoString(bound)  # type: ignore[no-untyped-call] # it has no types
    for bound in (*LATENCY_BUCKETS, math.inf)
]


class Latencies:
    """
    The histogram *name*, with the buckets that all latencies have.

    Args:
        name: Of the series.
        text: What it tells.
        registry: Where a scrape finds it.
        labels: The same for all entries.
    """

    def __init__(
        self,
        name: str,
        text: str,
        registry: CollectorRegistry,
        labels: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._name = name
        self._text = text
        self._labelnames = tuple(labels)
        self._labelvalues = tuple(labels.values())
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
        family = HistogramMetricFamily(self._name, self._text, labels=self._labelnames)
        family.add_metric(self._labelvalues, buckets, self._sum)
        yield family
