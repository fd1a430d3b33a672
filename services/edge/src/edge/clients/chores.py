"""
Work for clients that has to wait for NATS: few at a time, each with an owner.

Everything else that a client asks is answered at once, without a task. What is left,
reading the stored log for somebody who was away, goes through here, so that a thousand
clients that come back together do not ask a thousand questions together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any


__all__ = ["Chores"]

logger = logging.getLogger(__name__)

_AT_A_TIME = 32


class Chores:
    """Runs coroutines for clients; at most one for each client waits or runs."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_AT_A_TIME)
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(
        self, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> asyncio.Task[None]:
        """Run *work* as soon as there is a place; whoever starts it may cancel it."""
        task = asyncio.create_task(self._run(work), name="chore")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def run(self) -> None:
        """Wait for ever; whatever still runs ends with it."""
        try:
            await asyncio.Event().wait()
        finally:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with self._places:
            try:
                await work()
            except Exception:
                logger.exception("work for a client failed")
