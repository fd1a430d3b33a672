"""
What a leader does besides its work: it says that it is there, and looks whether it is.

It doubts its claim when it was asleep, when NATS was away, and when the stream refuses
it, and then looks at the stream before it believes that it still leads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Literal

from feedmesh import subjects
from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.errors import BusError
from feedmesh.ingest.beat import BEAT_SECONDS, SILENCE_SECONDS, Beat, encode_beat
from feedmesh.ingest.epoch import claim_epoch, last_claim
from feedmesh.ingest.heir import HeirSearch
from feedmesh.ingest.term import Term


__all__ = ["Reign", "Voice"]

logger = logging.getLogger(__name__)

_AWAY_LOOK_SECONDS = 0.5


class Voice:
    """
    Says on ``leader.<feed>`` what a replica has to say of itself.

    Args:
        bus: The connection.
        feed: Which one.
        name: Of the replica.
        complete: Returns what :attr:`Beat.complete` is about now.
        usual: The same of :attr:`Beat.usual`.
        share: The same of :attr:`Beat.shared`.
    """

    def __init__(
        self,
        bus: Bus,
        feed: str,
        name: str,
        *,
        complete: Callable[[], Mapping[str, int]],
        usual: Callable[[], Mapping[str, float]],
        share: Callable[[], str],
    ) -> None:
        self._bus = bus
        self._subject = subjects.leader(feed)
        self._name = name
        self._complete = complete
        self._usual = usual
        self._share = share

    async def lead(
        self,
        term: Term,
        state: Literal["leading", "leaving", "left"],
        *,
        asks: bool = False,
    ) -> None:
        """Say how it is with *term*."""
        await self._publish(
            Beat(
                1,
                term.claim.epoch,
                state,
                dict(self._complete()),
                asks=asks,
                heir=term.heir if term.closed.is_set() else "",
                token=term.claim.token,
                usual=dict(self._usual()),
                shared=self._share(),
            )
        )

    async def answer(self, state: Literal["warming", "ready"], epoch: int) -> None:
        """Answer the leader of *epoch*, which has asked who will follow."""
        await self._publish(Beat(1, epoch, state, {}, heir=self._name))

    async def _publish(self, beat: Beat) -> None:
        with contextlib.suppress(BusError):
            await self._bus.publish(self._subject, encode_beat(beat))


class Reign:
    """
    The duties of a leader for one term.

    Args:
        bus: The connection.
        feed: Which one.
        term: Ends when it is over.
        voice: Says things.
        patience: As for :class:`Leadership`.

    Attributes:
        other: The epoch of who has overtaken us; 0 while nobody has.
    """

    def __init__(
        self, bus: Bus, feed: str, term: Term, voice: Voice, patience: float | None
    ) -> None:
        self.term = term
        self.other = 0
        self._bus = bus
        self._feed = feed
        self._voice = voice
        self._patience = patience
        self._search: HeirSearch | None = None
        self._doubt = asyncio.Event()

    def doubt(self) -> None:
        """Have the claim looked at."""
        self._doubt.set()

    def answered(self, beat: Beat) -> None:
        """Take the answer of one who stands by."""
        if self._search is not None and beat.epoch == self.term.claim.epoch:
            self._search.answered(beat)

    def overtaken(self, epoch: int) -> None:
        """Note that another leads."""
        if not self.term.overtaken.is_set():
            ours = self.term.claim.epoch
            logger.warning(
                "another leads; stepping down",
                extra={"feed": self._feed, "epoch": ours, "other": epoch},
            )
        self.other = max(self.other, epoch)
        self.term.end()

    async def run(self) -> None:
        """Do all of it, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat(), name="beat")
            group.create_task(self._watch(), name="watch")
            group.create_task(self._name_heir(), name="heir")

    async def end_with(self, stop: asyncio.Event) -> None:
        """End the term once *stop* is set, and an heir is ready if anybody is there."""
        await stop.wait()
        if self.term.granted.is_set() and not self.term.over.is_set():
            self._search = HeirSearch()
            await self._voice.lead(self.term, "leading", asks=True)
            self.term.heir = await self._search.found()
            self._search = None
        self.term.over.set()

    async def lose_patience(self) -> None:
        """End the term once NATS was away for too long."""
        now = asyncio.get_running_loop().time
        heard = now()
        while self._patience is None or now() - heard < self._patience:
            await asyncio.sleep(_AWAY_LOOK_SECONDS)
            if self._bus.connected:
                heard = now()
        logger.warning("NATS is away for too long; leading no more")
        self.term.over.set()

    async def _name_heir(self) -> None:
        await self.term.closed.wait()
        await self._voice.lead(self.term, "leading")

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        said = loop.time()
        while True:
            if loop.time() - said > SILENCE_SECONDS:
                # Not waited for: after an outage the stream may take seconds to answer,
                # and would then take the claim of whoever has heard nothing meanwhile.
                self.doubt()
            if not self.term.overtaken.is_set():
                asks = self._search is not None
                await self._voice.lead(self.term, "leading", asks=asks)
            said = loop.time()
            await asyncio.sleep(BEAT_SECONDS)

    async def _watch(self) -> None:
        while True:
            await self._doubt.wait()
            self._doubt.clear()
            await self._check()

    async def _check(self) -> None:
        """Look at the stream: is ours still the last claim?"""
        term = self.term
        pauses = backoff(0.05, 1.0)
        while not term.overtaken.is_set():
            try:
                last = await last_claim(self._bus, self._feed)
                if last is not None and last.epoch > term.claim.epoch:
                    self.overtaken(last.epoch)
                    return
                if last != term.claim:
                    # The stream was lost and made anew: nobody else has claimed.
                    after = term.claim.epoch
                    term.renew(await claim_epoch(self._bus, self._feed, after=after))
                term.claimed(term.claim)
                return
            except BusError as error:
                logger.debug("%s", error)
                await asyncio.sleep(next(pauses))
