"""
How the process itself is: memory, processor, descriptors, tasks, and its event loop.

The lag of the event loop is measured by sleeping: whatever comes later than asked was
kept waiting by something else, and so was everything else that the process does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector


__all__ = ["show_vitals"]

_EVERY_SECONDS = 0.1
_WINDOW_SECONDS = 10.0
_LAG_BUCKETS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)


@asynccontextmanager
async def show_vitals(registry: CollectorRegistry) -> AsyncIterator[None]:
    """Export how the process is while the context is open."""
    ProcessCollector(namespace="feedmesh", registry=registry)
    lag = Histogram(
        "feedmesh_loop_lag_seconds",
        "How much later than asked a sleep ended.",
        buckets=_LAG_BUCKETS,
        registry=registry,
    )
    worst = Gauge(
        "feedmesh_loop_lag_worst_seconds",
        "The longest lag of the last 10 to 20 seconds.",
        registry=registry,
    )
    tasks = Gauge(
        "feedmesh_tasks",
        "Tasks of the event loop; steadily more of them are forgotten ones.",
        registry=registry,
    )
    loop = asyncio.get_running_loop()
    tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
    task = asyncio.create_task(_measure(lag, worst), name="vitals")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _measure(lag: Histogram, worst: Gauge) -> None:
    now = asyncio.get_running_loop().time
    before = current = 0.0
    ends = now() + _WINDOW_SECONDS
    while True:
        asked = now() + _EVERY_SECONDS
        await asyncio.sleep(_EVERY_SECONDS)
        late = max(0.0, now() - asked)
        lag.observe(late)
        current = max(current, late)
        worst.set(max(before, current))
        if now() > ends:
            ends = now() + _WINDOW_SECONDS
            before, current = current, 0.0
