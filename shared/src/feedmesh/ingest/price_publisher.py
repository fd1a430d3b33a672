"""
Publish prices at full speed and still know that the stream has them.

A plain publish is fast but unconfirmed; a confirmed one waits. Here every publish
carries a reply subject below one shared inbox, and the confirmations are counted as
they come in (:mod:`feedmesh.ingest.confirmations`). What is not confirmed in time is
sent again, with the symbol's newest state, because an older one would be of no use.
The live path does not wait: when the window of unconfirmed publishes is full, or NATS
is away, or its server has read nothing for a second, the symbol is only noted, and its
newest state is sent later.

A state gets its version when it is first sent, so the numbers on the wire have no holes
(:mod:`feedmesh.messages`). When NATS comes back, what had a version goes out before
anything new, in the order of the versions. First of all that is each message, as it
was, of which nobody knows whether the server before had passed it on: whoever was
connected to another server all the time misses none. What came before an echo, the
server has passed on: to wait for the stream's word, which may be electing a leader,
would send seconds of prices again, and keep new ones waiting.

With a second connection, to another server, all of that goes on there at once when the
first one breaks, or when its server has echoed nothing for a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from nats.errors import Error as NatsError

from feedmesh.bus import Bus, OpenBus, count_servers
from feedmesh.fast_lane import LaneMessage
from feedmesh.ingest.price_line import PriceLine
from feedmesh.messages import Version


__all__ = ["Encode", "PricePublisher"]

logger = logging.getLogger(__name__)

_WINDOW = 32_768
_ECHOES_A_SECOND = 100
# Of what came before the oldest of so many echoes, nothing is left in the server.
_ECHOES = 3
_ECHOES_A_TICK = _ECHOES_A_SECOND // 4
# Whose server owes more echoes is left, for one that owes fewer.
_STUCK, _ALIVE = _ECHOES_A_SECOND, _ECHOES_A_SECOND // 5
# After which nothing old is under way any more.
_SETTLED = _ECHOES_A_SECOND
# After which a confirmation is overdue: 2 s.
_CONFIRM_TICKS = 8
# Messages that are kept to be sent again as they were.
_KEPT = 8_192
# Resends between two turns of the event loop.
_RESENDS_PER_TURN = 256

Encode = Callable[[Version], bytes]
"""Makes the message of a state that is sent with the given version."""


class _State:
    """The newest state of a subject; *version* is None until it is sent."""

    __slots__ = ("encode", "subject", "version")

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.encode: Encode
        self.version: Version | None = None


class PricePublisher:
    """
    Keeps the newest state of each subject and sees to it that the stream has it.

    Memory is bounded by the number of subjects and by the window.

    Attributes:
        resent: How many publishes were of a state sent again, or sent late.
    """

    def __init__(self, bus: Bus) -> None:
        self._wake = asyncio.Event()
        self._line = self._over(bus)
        self._lines = [self._line]
        self._epoch = 0
        self._seq = 0
        self._states: dict[str, _State] = {}
        self._dirty: dict[str, None] = {}
        # The last messages that were sent, with their subjects.
        self._kept: deque[tuple[str, bytes]] = deque(maxlen=_KEPT)
        self._published = 0
        # How many that were when the last echoes were sent that were heard.
        self._echoes = deque([0], maxlen=_ECHOES)
        self._quiet = 0
        # In how many echoes the newest states go out once more.
        self._unsettled = 0
        # Which connection has all that was due; None while not running.
        self._connection: tuple[int, int] | None = None
        self.resent = 0

    @property
    def confirmed(self) -> int:
        """How many publishes the stream confirmed."""
        return sum(line.sent.confirmed for line in self._lines)

    @property
    def unconfirmed(self) -> int:
        """How many publishes wait for their confirmation, or to be sent at all."""
        return self._line.sent.waiting + len(self._dirty)

    @property
    def servers(self) -> int:
        """By how many servers of NATS prices can leave."""
        return count_servers(line.bus for line in self._lines)

    def begin(self, epoch: int) -> None:
        """
        Number what is sent from now on under *epoch*, from 1.

        What was sent before gets another version if it is sent again: an epoch that is
        over must not come back.
        """
        if epoch != self._epoch:
            self._epoch = epoch
            self._seq = 0
            self._kept.clear()

    def remember(self, subject: str, encode: Encode) -> None:
        """Take what *encode* returns as the newest state of *subject*, unsent."""
        state = self._states.get(subject)
        if state is None:
            state = self._states[subject] = _State(subject)
        state.encode = encode
        state.version = None

    def republish_all(self) -> None:
        """Have every subject's newest state sent again: the stream may be empty."""
        self._line.sent.give_up()
        self._note(self._states)
        self._wake.set()

    async def publish(self, subject: str, encode: Encode) -> None:
        """
        Send what *encode* returns, now or as soon as possible.

        *encode* is called at every sending, so that a message which waited carries
        the time at which it really left.
        """
        state = self._states.get(subject)
        if state is None:
            state = self._states[subject] = _State(subject)
        state.encode = encode
        state.version = None
        if self._connection != self._line.connection or self._full():
            self._dirty[subject] = None
            return
        if self._dirty:
            # What was noted for later is out of date now.
            self._dirty.pop(subject, None)
        await self._send(state)

    async def keep(self, second: OpenBus) -> None:
        """Have what *second* opens to go on with when the first breaks, for ever."""
        async with second() as bus:
            line = self._over(bus)
            async with line.heard(self._answered):
                self._lines.append(line)
                await asyncio.Event().wait()

    def _over(self, bus: Bus) -> PriceLine:
        bus.on_doubt(self._wake.set)
        bus.on_lost(self._wake.set)
        return PriceLine(bus, _CONFIRM_TICKS)

    async def run(self) -> None:
        """Count confirmations and resend what lacks one, for ever."""
        async with self._lines[0].heard(self._answered):
            first = self._line.connection
            try:
                while True:
                    await self._catch_up(first)
                    await self._pause()
            finally:
                self._connection = None
                self._note(self._line.sent.give_up())

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(1 / _ECHOES_A_SECOND):
                await self._wake.wait()
                self._wake.clear()
        except TimeoutError:
            self._quiet += 1
            if self._quiet % _ECHOES_A_TICK == 0:
                self._note(self._line.sent.tick())
            self._settle()
            for line in self._lines:
                published = b"%d" % self._published if line is self._line else b""
                await line.ask(published)

    def _settle(self) -> None:
        """
        Send the newest states once more when a change of servers is over.

        What the one before had passed on may come to the stream after what is newer,
        and would be the last there.
        """
        if self._unsettled:
            self._unsettled -= 1
            if not self._unsettled:
                self._note(self._states)

    async def _catch_up(self, first: tuple[int, int]) -> None:
        """Send what is due; only then may what is new go out by itself."""
        line = self._choose()
        if not line.bus.connected:
            return
        connection = line.connection
        if connection != (first if self._connection is None else self._connection):
            waiting = self._line.sent.waiting
            unsure = min(waiting, self._published - self._echoes[0])
            self.republish_all()
            self._line = line
            self._unsettled = _SETTLED
            await self._replay(unsure)
        while self._dirty:
            if not await self._resend():
                return
        self._connection = connection
        unended = line.sent.unended()
        if unended is not None:
            self._note([unended])
            await self._resend()

    def _choose(self) -> PriceLine:
        """Return the line to go on with: the same one, unless it is dead or stuck."""
        if self._line.silence > _STUCK:
            best = min(self._lines, key=lambda line: line.silence)
            if best.silence <= _ALIVE:
                return best
        return self._line

    async def _replay(self, count: int) -> None:
        """Send the last *count* messages again, as they were."""
        kept = list(self._kept)
        for number, (subject, payload) in enumerate(kept[max(0, len(kept) - count) :]):
            if number and number % _RESENDS_PER_TURN == 0:
                await asyncio.sleep(0)
            if not await self._publish(subject, payload):
                return
            self.resent += 1

    def _note(self, subjects: Iterable[str]) -> None:
        self._dirty.update(dict.fromkeys(subjects))

    async def _resend(self) -> bool:
        """Send what is noted; return whether there was no need to stop."""
        for count, (state, version) in enumerate(self._due()):
            # Not before the first: what comes meanwhile must be sent later, too.
            if count and count % _RESENDS_PER_TURN == 0:
                await asyncio.sleep(0)
            if self._full():
                return False
            if state.version is version:  # a newer one must not overtake the others
                self._dirty.pop(state.subject, None)
                self.resent += 1
                await self._send(state)
        return True

    def _full(self) -> bool:
        """Whether what is sent now would wait."""
        return self._line.sent.waiting >= _WINDOW or self._line.full

    def _due(self) -> list[tuple[_State, Version | None]]:
        """Return what is noted: first what has a number, as it was numbered."""
        noted = [self._states[subject] for subject in self._dirty]
        known = [state for state in noted if self._numbered(state)]
        known.sort(key=lambda state: state.version or (0, 0))
        unknown = [state for state in noted if not self._numbered(state)]
        return [(state, state.version) for state in (*known, *unknown)]

    def _numbered(self, state: _State) -> bool:
        return state.version is not None and state.version[0] == self._epoch

    async def _send(self, state: _State) -> None:
        subject = state.subject
        version = state.version
        fresh = version is None or version[0] != self._epoch
        if fresh:
            self._seq += 1
            version = state.version = (self._epoch, self._seq)
        assert version is not None
        if await self._publish(subject, state.encode(version)):
            return
        # It was refused before anything else could be sent.
        if fresh:
            self._seq -= 1
            state.version = None
        self._dirty[subject] = None

    async def _publish(self, subject: str, payload: bytes) -> bool:
        try:
            # Past the bus, which would look once more whether there is a connection.
            line = self._line
            await line.bus.nc.publish(subject, payload, line.sent.reply(subject))
        except NatsError:
            return False
        self._kept.append((subject, payload))
        self._published += 1
        return True

    def _answered(self, line: PriceLine, answers: Sequence[LaneMessage]) -> None:
        for raw, data, _ in answers:
            subject = raw.decode()
            if subject == line.echo:
                self._echoed(line, data)
            elif missing := line.sent.answered(subject, data):
                self._note(missing)

    def _echoed(self, line: PriceLine, data: bytes) -> None:
        if line.unheard > _STUCK:
            # What lay in it until now was passed on.
            self._unsettled = _SETTLED
        line.unheard = 0
        if data:
            self._echoes.append(int(data))
