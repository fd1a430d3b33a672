"""
Two replicas of a service, and one of them leads.

Who may write is decided by the claim alone (see `epoch`): the stream refuses the news
of everybody else, and readers drop their prices. All that is here only decides *when*
to claim. The leader says every few milliseconds that it is there, on
``leader.<feed>``; a standby that has heard nothing for a while claims and leads.

A leader that goes on purpose is not waited for. It asks who stands by, goes on until
one of them is ready, closes its links and names that one, and leaves once all it had is
stored. So an heir connects while the leader before it still writes, and never while
that one is connected; it writes once it has claimed.

A standby that cannot hear must not conclude that the leader is dead: its own time away
from NATS, or asleep, counts for nothing; and after an outage of NATS everybody is given
the time to come back. A leader that was asleep, or was away from NATS, or is told of a
higher epoch, looks at the stream before it believes that it still leads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from uuid import uuid4

import msgspec
from nats.aio.msg import Msg

from feedmesh import subjects
from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.errors import BusError
from feedmesh.ingest.beat import BEAT_SECONDS, decode_beat
from feedmesh.ingest.epoch import claim_epoch
from feedmesh.ingest.reign import Reign, Voice
from feedmesh.ingest.standing import Standing
from feedmesh.ingest.term import Term
from feedmesh.service import Job, StopRequested, job_group, unless_stopped


__all__ = ["Leadership"]

logger = logging.getLogger(__name__)

_HEARD_SECONDS = 1.0
_STANDING_SECONDS = 10.0
# An election of the stream's servers takes seconds; longer, somebody must know.
_REFUSED_SECONDS = 10.0
# All clients of a server that died turn to the others at once, which have prices to
# pass on; to find an old claim they read megabytes.
_CALM_SECONDS = 0.2


async def _nothing() -> None:
    return


class Leadership:
    """
    Takes turns at leading *feed* with the other replicas.

    Args:
        bus: The connection.
        feed: Which one.
        complete: Returns what :attr:`Beat.complete` is about now.
        usual: The same of :attr:`Beat.usual`.
        share: The same of :attr:`Beat.shared`.
        shared: Told what the leader shares, while we stand by.
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
        usual: Callable[[], Mapping[str, float]] = dict,
        share: Callable[[], str] = str,
        shared: Callable[[str], None] = lambda text: None,
        show: Callable[[bool], None] = lambda leads: None,
        intruded: Callable[[], None] = lambda: None,
        patience: float | None = None,
    ) -> None:
        self._bus = bus
        self._feed = feed
        self._show = show
        self._intruded = intruded
        self._patience = patience
        name = uuid4().hex
        self._voice = Voice(
            bus, feed, name, complete=complete, usual=usual, share=share
        )
        self._standing = Standing(feed, name, lambda: bus.connected, shared)
        self._reign: Reign | None = None
        # Since when nobody leads and our claim is not taken.
        self._refused_since: float | None = None
        bus.on_doubt(self._was_away)
        bus.on_lost(self._standing.lost)

    def problem(self) -> str | None:
        """Return why this is no replica of use; standing by is of use."""
        if self._refused_for() > _REFUSED_SECONDS:
            return "nobody leads, and the stream does not take a claim"
        reign = self._reign
        fit = self._standing.heard_one if reign is None else reign.term.working
        return None if fit else "waiting for the streams"

    @property
    def epoch(self) -> int:
        """The highest epoch that is known; 0 before any is."""
        return self._standing.highest

    def doubt(self) -> None:
        """Have the claim looked at: the stream refused us, or NATS was away."""
        if self._reign is not None:
            self._reign.doubt()

    def _was_away(self) -> None:
        asyncio.get_running_loop().call_later(_CALM_SECONDS, self.doubt)

    async def run(
        self,
        stop: asyncio.Event,
        stand_by: Job,
        lead: Callable[[Term], Awaitable[None]],
        prepare: Job = _nothing,
    ) -> None:
        """
        Stand by and lead in turns until *stop* is set.

        Args:
            stop: Ends it; a leader hands over first.
            stand_by: Keeps what a leader must know up to date, while another leads.
            lead: Leads until its term is over, and returns once nothing of it writes.
            prepare: Does all that a leader must do before it connects; called while
                another leads that is to go.
        """
        await self._bus.nc.subscribe(subjects.leader(self._feed), cb=self._heard)
        while not stop.is_set():
            self._show(False)
            try:
                term = await unless_stopped(stop, self._turn(stand_by, prepare))
            except StopRequested:
                return
            await self._lead(term, stop, lead)

    # Standing by.

    async def _turn(self, stand_by: Job, prepare: Job) -> Term:
        """Return a term, once nobody leads, or a leader that goes has named us."""
        answer = partial(self._answer, prepare)
        jobs = job_group(asyncio.Event(), stand_by=stand_by, answer=answer)
        standing = asyncio.ensure_future(jobs)
        known = self._standing
        term = Term()
        try:
            known.begin()
            pauses = backoff(0.05, 1.0)
            while True:
                await known.until(lambda: known.named or known.silent(), standing)
                if known.named:
                    logger.info("named as the heir", extra={"feed": self._feed})
                    return term
                if await self._claim(term, known.silent):
                    return term
                await asyncio.sleep(next(pauses))
        finally:
            await self._end(standing, term)

    async def _end(self, standing: asyncio.Future[None], term: Term) -> None:
        standing.cancel()
        now = asyncio.get_running_loop().time
        ends = now() + _STANDING_SECONDS
        while not standing.done():
            if now() > ends:
                # A process that ends is started again; one that hangs never leads.
                raise RuntimeError("standing by did not end")
            if term.granted.is_set():
                # Or a third one would think that nobody leads.
                await self._voice.lead(term, "leading")
            await asyncio.wait([standing], timeout=BEAT_SECONDS)

    async def _answer(self, prepare: Job) -> None:
        """Be ready for a leader that asks for an heir, and tell it, for ever."""
        ready_for = 0
        while True:
            await self._standing.asked.wait()
            self._standing.asked.clear()
            epoch = self._standing.highest
            if ready_for != epoch:
                await self._voice.answer("warming", epoch)
                await prepare()
                ready_for = epoch
            await self._voice.answer("ready", epoch)

    async def _claim(self, term: Term, still: Callable[[], bool]) -> bool:
        """Have *term* granted; False if that must be tried again."""
        known = self._standing
        last = known.claim()
        looking = asyncio.create_task(known.look(), name="look")
        try:
            if not known.left:
                await self._hear()
            claim = await claim_epoch(
                self._bus, self._feed, after=known.highest, last=last, still=still
            )
        except BusError as error:
            self._was_refused(error)
            if known.last is not None and last is not None:
                # What it said of its claim may hold no more.
                known.last = msgspec.structs.replace(known.last, token=0)
            return False
        finally:
            looking.cancel()
        self._refused_since = None
        term.grant(claim, known.last)
        return True

    async def _hear(self) -> None:
        """
        Read what has come: short of time ourselves, we may be late to hear the leader.

        A server that does not answer is left. It may have died together with the
        leader, and its connection would look alive for many seconds.

        Raises:
            BusError: If it does not answer.
        """
        try:
            await self._bus.flush(timeout=_HEARD_SECONDS)
        except BusError:
            self._bus.leave()
            raise

    def _was_refused(self, error: BusError) -> None:
        logger.debug("%s", error)
        before = self._refused_for()
        if self._refused_since is None:
            self._refused_since = asyncio.get_running_loop().time()
        if before <= _REFUSED_SECONDS < self._refused_for():
            logger.warning("nobody leads, and the stream does not take a claim")

    def _refused_for(self) -> float:
        since = self._refused_since
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    # Leading.

    async def _lead(
        self,
        term: Term,
        stop: asyncio.Event,
        lead: Callable[[Term], Awaitable[None]],
    ) -> None:
        reign = Reign(self._bus, self._feed, term, self._voice, self._patience)
        if term.granted.is_set():
            self._begin(reign)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._govern(reign), name="reign"),
                    group.create_task(reign.end_with(stop), name="stop"),
                    group.create_task(reign.lose_patience(), name="patience"),
                ]
                await lead(term)
                for task in tasks:
                    task.cancel()
            if not term.over.is_set():
                raise RuntimeError("leading ended although nothing asked it to")
        finally:
            self._reign = None
            self._standing.highest = max(self._standing.highest, reign.other)
        if term.granted.is_set():
            overtaken = term.overtaken.is_set()
            await self._voice.lead(term, "left" if overtaken else "leaving")

    def _begin(self, reign: Reign) -> None:
        epoch = reign.term.claim.epoch
        self._reign = reign
        self._standing.highest = max(self._standing.highest, epoch)
        self._standing.forget()
        logger.info("leading", extra={"feed": self._feed, "epoch": epoch})
        self._show(True)

    async def _govern(self, reign: Reign) -> None:
        if reign.term.granted.is_set() or await self._inherit(reign):
            await reign.run()

    async def _inherit(self, reign: Reign) -> bool:
        """Claim once the leader that has named us has stored all, or is silent."""
        known = self._standing
        before = known.highest
        pauses = backoff(0.02, 0.5)
        while True:
            await known.until(lambda: known.highest > before or known.silent())
            if known.highest > before:
                logger.warning("another leads; no heir any more")
                reign.term.end()
                return False
            if known.left:
                # What it wrote can be read while the stream takes our claim.
                reign.term.stored.set()
            if await self._claim(
                reign.term, lambda: known.highest == before and known.silent()
            ):
                self._begin(reign)
                return True
            await asyncio.sleep(next(pauses))

    async def _heard(self, message: Msg) -> None:
        try:
            beat = decode_beat(message.data)
        except ValueError:
            logger.warning("what a leader said makes no sense")
            return
        reign = self._reign
        if reign is None:
            if beat.state == "leading":
                self._refused_since = None
            self._standing.heard(beat)
            return
        ours = reign.term.claim.epoch
        if beat.state in ("warming", "ready"):
            reign.answered(beat)
        elif beat.epoch > ours:
            reign.overtaken(beat.epoch)
            self._standing.heard(beat)
        elif beat.epoch < ours and beat.state == "left":
            self._intruded()
