"""How a leader continues what the one before it published."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.errors import BusError
from feedmesh.ingest.gaps import GapKeeper
from feedmesh.ingest.term import Term


__all__ = ["take_over"]

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")


async def take_over(
    term: Term, bus: Bus, gaps: GapKeeper, warm: Callable[[Bus], Awaitable[int]]
) -> int:
    """
    Read what the last leader has left, once all of it is stored, and start its gaps.

    Reading does not wait for the claim of *term*: it goes on while the stream takes
    that. Only gaps are told after it. Returns what *warm* does, which reads all else.
    """
    await term.stored.wait()
    async with asyncio.TaskGroup() as group:
        warming = group.create_task(_retried(partial(warm, bus)))
        group.create_task(_retried(partial(gaps.warm, bus)))
    await term.granted.wait()
    await _retried(partial(gaps.take_over, bus, term.before))
    return warming.result()


async def _retried(ask: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Return what *ask* returns, asking until NATS answers."""
    pauses = backoff(0.05, 1.0)
    while True:
        try:
            return await ask()
        except BusError as error:
            logger.debug("%s", error)
            await asyncio.sleep(next(pauses))
