"""
The stock master of whoever leads, and of those who stand by.

Only a leader asks LS for it: that takes a token, and a new token may end the one in
use. A standby has the leader tell it, over NATS.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import time

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from feedmesh import subjects
from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.errors import BusError, FeedError
from ingest_ls.korea import sleep_until
from ingest_ls.master import Master
from ingest_ls.rest import RestClient, TokenRejectedError
from ingest_ls.token import TokenKeeper


__all__ = ["MasterKeeper"]

logger = logging.getLogger(__name__)

# News must not wait for names for ever.
_WAIT_SECONDS = 15.0
_ASK_SECONDS = 1.0
_RELOAD_AT = time(7, 10)


class MasterKeeper:
    """
    Loads *master*, tells it, and has it told.

    Args:
        master: What is kept.
        bus: The connection.
        feed: Name of the feed.
        rest: Where it is loaded from.
        tokens: Give the token for that.
        loaded: Called whenever it is there anew.
    """

    def __init__(
        self,
        master: Master,
        bus: Bus,
        feed: str,
        rest: RestClient,
        tokens: TokenKeeper,
        loaded: Callable[[], None],
    ) -> None:
        self._master = master
        self._bus = bus
        self._subject = subjects.master(feed)
        self._rest = rest
        self._tokens = tokens
        self._loaded = loaded
        self._tried = asyncio.Event()
        # Whether a token was rejected, and nothing was loaded since.
        self._rejected = False

    async def tried(self) -> None:
        """Wait until it is there, or was not to be had."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._tried.wait()

    async def keep(self) -> None:
        """Load it at the start and every morning, for ever; for a leader."""
        pauses = backoff(1.0, 300.0)
        self._rejected = False
        if len(self._master):
            # The leader before us has told it.
            await sleep_until(_RELOAD_AT)
        while True:
            if await self._load():
                pauses = backoff(1.0, 300.0)
                await sleep_until(_RELOAD_AT)
            else:
                await asyncio.sleep(next(pauses))

    async def tell(self) -> None:
        """Answer those who stand by, for ever; for a leader."""

        async def asked(message: Msg) -> None:
            with contextlib.suppress(NatsError):
                await message.respond(self._master.pack() if len(self._master) else b"")

        subscription = await self._bus.nc.subscribe(self._subject, cb=asked)
        try:
            await asyncio.Event().wait()
        finally:
            with contextlib.suppress(NatsError):
                await subscription.unsubscribe()

    async def ask(self) -> None:
        """Have the leader tell it, if it is not here yet; for a standby."""
        if len(self._master):
            return
        with contextlib.suppress(BusError):
            packed = await self._bus.request(self._subject, timeout=_ASK_SECONDS)
            if packed and self._master.unpack(packed):
                self._is_there()
            # Or whoever leads has none either, for which no heir should wait.
            self._tried.set()

    async def _load(self) -> bool:
        token = ""
        try:
            token = await self._tokens.token()
            companies = await self._rest.companies(token)
        except TokenRejectedError as error:
            logger.warning("stock master: %s", error)
            self._reject(token)
            return False
        except FeedError as error:
            # News without names are better than none.
            self._tried.set()
            logger.warning("stock master: %s", error)
            return False
        if not self._master.replace(companies):
            return False
        self._rejected = False
        self._is_there()
        return True

    def _reject(self, token: str) -> None:
        """Have the next try take a new token, but not one token after the other."""
        if self._rejected:
            # It is not the token, then; and the link must not go without one for names.
            self._tried.set()
            return
        self._rejected = True
        current = self._tokens.current
        # The link may have taken a new one meanwhile.
        if current is not None and current.value == token:
            self._tokens.reject()

    def _is_there(self) -> None:
        logger.info("stock master is loaded", extra={"companies": len(self._master)})
        self._tried.set()
        self._loaded()
