"""
When the garbage collector looks at what: at little, and often.

By itself it looks as soon as new objects outnumber those that were freed. Where a tape
is full, as many are freed as are new; so a minute may pass, and then it looks at all
that is new since at once: 30 ms in which nobody gets a price. By the clock, it is less
than one.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


__all__ = ["collecting"]

_SECONDS = 0.1
# Every so many looks, also at what was seen once before: each 2 s.
_SURVIVORS = 20
# And at everything, each 10 min, if so many survived that, and a quarter of what there
# is: of a big process that seldom is the case, and it takes long there.
_EVERYTHING = 6_000
_LEAST = 2_000


@asynccontextmanager
async def collecting() -> AsyncIterator[None]:
    """
    Collect garbage by the clock alone while the context is open.

    What there is when it is entered is taken to live as long as the process.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    task = asyncio.create_task(_collect(), name="collector")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        gc.enable()
        gc.unfreeze()


async def _collect() -> None:
    total = survived = 0
    for look in itertools.count(1):
        await asyncio.sleep(_SECONDS)
        if look % _SURVIVORS:
            gc.collect(0)
            continue
        survived += len(gc.get_objects(generation=1))
        if look % _EVERYTHING == 0 and survived > max(_LEAST, total // 4):
            gc.collect()
            total, survived = len(gc.get_objects()), 0
        else:
            gc.collect(1)
