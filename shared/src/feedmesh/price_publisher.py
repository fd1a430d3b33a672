"""
Publish prices at full speed and still know that the stream has them.

A plain publish is fast but unconfirmed; a confirmed one waits. Here every publish
carries a reply subject below one shared inbox, and the confirmations are counted as
they come in. What is not confirmed in time is sent again, with the symbol's newest
state, because an older one would be of no use. The live path never waits: when the
window of unconfirmed publishes is full, or NATS is away, the symbol is only noted,
and its newest state is sent later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from nats.aio.msg import Msg

from feedmesh.bus import Bus
from feedmesh.errors import BusError


__all__ = ["PricePublisher"]

logger = logging.getLogger(__name__)

_WINDOW = 32_768
_CONFIRM_SECONDS = 2.0
_SWEEP_SECONDS = 0.25


class _Sent(NamedTuple):
    subject: str
    at: float


class PricePublisher:
    """
    Keeps the newest payload of each subject and sees to it that the stream has it.

    Memory is bounded by the number of subjects and by the window.

    Attributes:
        confirmed: How many publishes the stream confirmed.
        resent: How many were sent again.
    """

    def __init__(self, bus: Bus, *, confirm: bool = True) -> None:
        self._bus = bus
        self._confirm = confirm
        self._newest: dict[str, Callable[[], bytes]] = {}
        self._pending: OrderedDict[str, _Sent] = OrderedDict()
        self._dirty: dict[str, None] = {}
        self._inbox = ""
        self._counter = 0
        self.confirmed = 0
        self.resent = 0
        bus.on_doubt(self.republish_all)

    @property
    def unconfirmed(self) -> int:
        """How many publishes still wait for their confirmation."""
        return len(self._pending)

    def remember(self, subject: str, encode: Callable[[], bytes]) -> None:
        """Take what *encode* returns as the newest state of *subject*, unsent."""
        self._newest[subject] = encode

    def forget(self, subject: str) -> None:
        """Drop what is kept for *subject*; nobody writes it any more."""
        self._newest.pop(subject, None)
        self._dirty.pop(subject, None)

    def republish_all(self) -> None:
        """Have every subject's newest state sent again: the stream may be empty."""
        self._pending.clear()
        self._dirty.update(dict.fromkeys(self._newest))

    async def publish(self, subject: str, encode: Callable[[], bytes]) -> None:
        """
        Send what *encode* returns, now or as soon as possible.

        *encode* is called at every sending, so that a message which waited carries
        the time at which it really left.
        """
        self._newest[subject] = encode
        if not self._inbox or len(self._pending) >= _WINDOW or not self._bus.connected:
            self._dirty[subject] = None
            return
        # What was noted for later is out of date now.
        self._dirty.pop(subject, None)
        await self._send(subject, encode())

    async def run(self) -> None:
        """Count confirmations and resend what lacks one, for ever."""
        await self._subscribe()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._expire()
            await self._resend()

    async def _subscribe(self) -> None:
        inbox = self._bus.nc.new_inbox()
        await self._bus.nc.subscribe(f"{inbox}.*", cb=self._confirmation)
        self._inbox = inbox

    async def _send(self, subject: str, payload: bytes) -> None:
        self._counter += 1
        token = str(self._counter)
        reply = f"{self._inbox}.{token}" if self._confirm else ""
        try:
            await self._bus.publish(subject, payload, reply=reply)
        except BusError:
            self._dirty[subject] = None
            return
        if self._confirm:
            self._pending[token] = _Sent(subject, asyncio.get_running_loop().time())

    async def _confirmation(self, message: Msg) -> None:
        sent = self._pending.pop(message.subject.rpartition(".")[2], None)
        if sent is None:
            return
        if b'"error"' in message.data or message.headers:
            # Refused, or nobody listens ("no responders"): the stream is not there.
            self._dirty[sent.subject] = None
        else:
            self.confirmed += 1

    def _expire(self) -> None:
        oldest = asyncio.get_running_loop().time() - _CONFIRM_SECONDS
        while self._pending:
            token, sent = next(iter(self._pending.items()))
            if sent.at > oldest:
                return
            del self._pending[token]
            self._dirty[sent.subject] = None

    async def _resend(self) -> None:
        if not self._dirty or not self._bus.connected:
            return
        for subject in list(self._dirty)[: _WINDOW - len(self._pending)]:
            self._dirty.pop(subject, None)
            encode = self._newest.get(subject)
            if encode is not None:
                self.resent += 1
                await self._send(subject, encode())
