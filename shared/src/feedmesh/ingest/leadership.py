"""
Two replicas of a service, and one of them leads.

Who may write is decided by the claim alone (see `epoch`): the stream refuses the news
of everybody else, and readers drop their prices. All that is here only decides *when*
to claim. The leader says every few milliseconds that it is there, on
``leader.<feed>``; a standby that has heard nothing for a while claims and leads. A
leader that goes on purpose says so last of all, and the standby need not wait.

A standby that cannot hear must not conclude that the leader is dead: its own time away
from NATS, or asleep, counts for nothing; and after an outage of NATS everybody is given
the time to come back. A leader that was asleep, or was away from NATS, or is told of a
higher epoch, looks at the stream before it believes that it still leads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, TypeVar

from nats.aio.msg import Msg

from feedmesh import subjects
from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.errors import BusError
from feedmesh.ingest.beat import (
    BEAT_SECONDS,
    SILENCE_SECONDS,
    Beat,
    Silence,
    decode_beat,
    encode_beat,
)
from feedmesh.ingest.epoch import Claim, claim_epoch, last_claim
from feedmesh.service import Job, StopRequested, unless_stopped


__all__ = ["Leadership", "Term", "retried"]

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.02
_AWAY_LOOK_SECONDS = 0.5

ResultT = TypeVar("ResultT")


class Term:
    """
    The time from a claim until another leads or the process ends.

    Attributes:
        claim: The claim; a new one when the stream was lost and made anew.
        before: What the leader before us said last, if we heard it.
        over: Set when leading shall end.
        overtaken: Set with it if it ends because another leads.
        working: To be set once all is read that a leader must know.
        claimed: Called with the claim whenever it was looked at and found to hold.
    """

    def __init__(self, claim: Claim, before: Beat | None) -> None:
        self.claim = claim
        self.before = before
        self.over = asyncio.Event()
        self.overtaken = asyncio.Event()
        self.working = False
        self.claimed: Callable[[Claim], None] = lambda claim: None


class Leadership:
    """
    Takes turns at leading *feed* with the other replicas.

    Args:
        bus: The connection.
        feed: Which one.
        complete: Returns what :attr:`Beat.complete` is about now.
        show: Called with whether this process leads.
        intruded: Called when somebody who was overtaken has stopped writing: what it
            wrote last may lie in a stream of states over newer values.
        patience: For so many seconds a leader may be away from NATS. Beyond, another
            has long claimed, and needs the one connection that the upstream allows.
            None for a feed of which every item counts: it is kept until NATS is back.
    """

    def __init__(
        self,
        bus: Bus,
        feed: str,
        *,
        complete: Callable[[], Mapping[str, int]] = dict,
        show: Callable[[bool], None] = lambda leads: None,
        intruded: Callable[[], None] = lambda: None,
        patience: float | None = None,
    ) -> None:
        self._bus = bus
        self._feed = feed
        self._complete = complete
        self._show = show
        self._intruded = intruded
        self._patience = patience
        self._term: Term | None = None
        self._doubt = asyncio.Event()
        self._highest = 0
        self._last: Beat | None = None
        self._silence = Silence(asyncio.get_running_loop().time())
        self._heard_one = False
        self._stir = asyncio.Event()
        bus.on_doubt(self.doubt)

    def problem(self) -> str | None:
        """Return why this is no replica of use yet; standing by is of use."""
        working = self._term.working if self._term else self._heard_one
        return None if working else "waiting for the streams"

    @property
    def epoch(self) -> int:
        """The highest epoch that is known; 0 before any is."""
        return self._highest

    def doubt(self) -> None:
        """Have the claim looked at: the stream refused us, or NATS was away."""
        self._doubt.set()

    async def run(
        self,
        stop: asyncio.Event,
        stand_by: Job,
        lead: Callable[[Term], Awaitable[None]],
    ) -> None:
        """
        Stand by and lead in turns until *stop* is set.

        Args:
            stop: Ends it; a leader hands over first.
            stand_by: Keeps what a leader must know up to date, while another leads.
            lead: Leads until its term is over, and returns once nothing of it writes.
        """
        await self._bus.nc.subscribe(subjects.leader(self._feed), cb=self._heard)
        while not stop.is_set():
            self._show(False)
            try:
                claim = await unless_stopped(stop, self._turn(stand_by))
            except StopRequested:
                return
            await self._lead(claim, stop, lead)

    async def _turn(self, stand_by: Job) -> Claim:
        """Return a claim, once nobody leads."""
        standing = asyncio.ensure_future(stand_by())
        try:
            self._silence = Silence(asyncio.get_running_loop().time())
            pauses = backoff(0.05, 1.0)
            while True:
                await self._until_silent(standing)
                try:
                    return await claim_epoch(
                        self._bus,
                        self._feed,
                        after=self._highest,
                        still=self._silent,
                    )
                except BusError as error:
                    logger.debug("%s", error)
                    await asyncio.sleep(next(pauses))
        finally:
            standing.cancel()
            await asyncio.wait([standing])

    async def _until_silent(self, standing: asyncio.Future[None]) -> None:
        while not self._silent():
            if standing.done():
                await standing
                raise RuntimeError("standing by ended although nothing asked it to")
            # Silence is what does not happen: it can only be looked for.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._stir.wait()
            self._stir.clear()

    def _silent(self) -> bool:
        now = asyncio.get_running_loop().time()
        if not self._bus.connected:
            self._silence.deaf(now)
        return self._silence.enough(now)

    async def _lead(
        self,
        claim: Claim,
        stop: asyncio.Event,
        lead: Callable[[Term], Awaitable[None]],
    ) -> None:
        term = Term(claim, self._last)
        self._term = term
        self._last = None
        self._doubt.clear()
        self._highest = max(self._highest, claim.epoch)
        self._heard_one = False
        logger.info("leading", extra={"feed": self._feed, "epoch": claim.epoch})
        self._show(True)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._beat(term), name="beat"),
                    group.create_task(self._watch(term), name="watch"),
                    group.create_task(_relay(stop, term), name="relay"),
                    group.create_task(self._lose_patience(term), name="patience"),
                ]
                await lead(term)
                for task in tasks:
                    task.cancel()
            if not term.over.is_set():
                raise RuntimeError("leading ended although nothing asked it to")
        finally:
            self._term = None
        await self._say(term, "left" if term.overtaken.is_set() else "leaving")

    async def _beat(self, term: Term) -> None:
        loop = asyncio.get_running_loop()
        said = loop.time()
        while True:
            if loop.time() - said > SILENCE_SECONDS:
                await self._check(term)
            if not term.overtaken.is_set():
                await self._say(term, "leading")
            said = loop.time()
            await asyncio.sleep(BEAT_SECONDS)

    async def _lose_patience(self, term: Term) -> None:
        now = asyncio.get_running_loop().time
        heard = now()
        while self._patience is None or now() - heard < self._patience:
            await asyncio.sleep(_AWAY_LOOK_SECONDS)
            if self._bus.connected:
                heard = now()
        logger.warning("NATS is away for too long; leading no more")
        term.over.set()

    async def _say(
        self, term: Term, state: Literal["leading", "leaving", "left"]
    ) -> None:
        beat = Beat(1, term.claim.epoch, state, dict(self._complete()))
        with contextlib.suppress(BusError):
            await self._bus.publish(subjects.leader(self._feed), encode_beat(beat))

    async def _watch(self, term: Term) -> None:
        while True:
            await self._doubt.wait()
            self._doubt.clear()
            await self._check(term)

    async def _check(self, term: Term) -> None:
        """Look at the stream: is ours still the last claim?"""
        pauses = backoff(0.05, 1.0)
        while not term.overtaken.is_set():
            try:
                last = await last_claim(self._bus, self._feed)
                if last is not None and last.epoch > term.claim.epoch:
                    self._overtaken(term, last.epoch)
                    return
                if last != term.claim:
                    # The stream was lost and made anew: nobody else has claimed.
                    term.claim = await claim_epoch(
                        self._bus, self._feed, after=term.claim.epoch
                    )
                term.claimed(term.claim)
                return
            except BusError as error:
                logger.debug("%s", error)
                await asyncio.sleep(next(pauses))

    def _overtaken(self, term: Term, epoch: int) -> None:
        if not term.overtaken.is_set():
            logger.warning(
                "another leads; stepping down",
                extra={"feed": self._feed, "epoch": term.claim.epoch, "other": epoch},
            )
        self._highest = max(self._highest, epoch)
        term.overtaken.set()
        term.over.set()

    async def _heard(self, message: Msg) -> None:
        try:
            beat = decode_beat(message.data)
        except ValueError:
            logger.warning("what a leader said makes no sense")
            return
        term = self._term
        if term is None:
            self._heard_standing_by(beat)
        elif beat.epoch > term.claim.epoch:
            self._overtaken(term, beat.epoch)
            self._heard_standing_by(beat)
        elif beat.epoch < term.claim.epoch and beat.state == "left":
            self._intruded()

    def _heard_standing_by(self, beat: Beat) -> None:
        if beat.epoch < self._highest:
            return
        self._last = beat
        self._highest = beat.epoch
        if not self._heard_one:
            self._heard_one = True
            logger.info("standing by", extra={"feed": self._feed, "leader": beat.epoch})
        if beat.state == "leading":
            self._silence.heard(asyncio.get_running_loop().time())
        elif beat.state == "leaving":
            self._silence.left()
            self._stir.set()


async def retried(ask: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Return what *ask* returns, asking until NATS answers."""
    pauses = backoff(0.05, 1.0)
    while True:
        try:
            return await ask()
        except BusError as error:
            logger.debug("%s", error)
            await asyncio.sleep(next(pauses))


async def _relay(stop: asyncio.Event, term: Term) -> None:
    await stop.wait()
    term.over.set()
    await asyncio.Event().wait()
