"""Being the writer of the feed: taking over, and staying it when NATS comes back."""

from __future__ import annotations

import asyncio
import logging

from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.epoch import Claim, claim_when_possible, is_current
from feedmesh.errors import BusError
from ingest_fmp.ingest import FEED, FmpIngest


__all__ = ["Turn"]

logger = logging.getLogger(__name__)


class Turn:
    """Claims the feed for *handler*, and again whenever the claim is not the last."""

    def __init__(self, bus: Bus, handler: FmpIngest) -> None:
        self._bus = bus
        self._handler = handler
        self._claim: Claim | None = None
        self._doubt = asyncio.Event()
        bus.on_doubt(self._doubt.set)

    async def take(self) -> None:
        """Become the writer, and continue from what the last one published."""
        after = self._claim.epoch if self._claim else 0
        self._claim = await claim_when_possible(self._bus, FEED, after=after)
        pauses = backoff(0.05, 1.0)
        while True:
            try:
                symbols = await self._handler.take_over(self._bus, self._claim.epoch)
            except BusError as error:
                logger.debug("last prices: %s", error)
                await asyncio.sleep(next(pauses))
                continue
            logger.info("took over", extra={"symbols": symbols})
            return

    async def run(self) -> None:
        """Look again after every doubt, for ever."""
        while True:
            await self._doubt.wait()
            self._doubt.clear()
            if not await self._is_ours():
                logger.warning("the claim on the feed is gone; claiming again")
                await self.take()

    async def _is_ours(self) -> bool:
        pauses = backoff(0.05, 1.0)
        while True:
            try:
                return self._claim is not None and await is_current(
                    self._bus, self._claim
                )
            except BusError as error:
                logger.debug("claim: %s", error)
                await asyncio.sleep(next(pauses))
