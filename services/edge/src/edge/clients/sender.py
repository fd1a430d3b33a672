"""
What one client has coming, and the one write that brings it there.

The system call is what delivery costs, not the bytes: everything that one pass finds
for a client leaves in one write. A pass over thousands of clients is cut into slices,
so that it does not hold up the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from operator import attrgetter
from time import perf_counter, thread_time
from typing import Any, Protocol

from edge.clients.wire_frames import array_frames, text_frame
from edge.clients.write_meter import WriteMeter


__all__ = ["Flusher", "Rest", "Sender", "Waiting", "Writable"]

_SLICE_SECONDS = 0.002
_CLOCK_EVERY = 32
_MUCH = 100
# Larger blocks of memory are had from the system each time, empty page by empty page,
# and that costs more than to fill them.
_AT_A_TIME = 400
# Waiting less than this is not worth a timer.
_AT_ONCE = 0.001
_TURN = attrgetter("turn")
_LONGEST_PAUSE = 0.05
# Idle time for each second of CPU time, while pauses are short: it keeps the edge below
# two thirds of a core. Longer pauses are only worth it the less time there is: each of
# so many seconds halves that time, down to the least.
_REST, _HALF, _LEAST_REST = 0.55, 0.004, 0.05


class Writable(Protocol):
    """An outlet, as far as writing goes."""

    blocked: bool

    def write(self, frames: bytes | memoryview) -> None:
        """Write whole frames."""


class Waiting(Protocol):
    """Who has something for clients and waits for the next pass."""

    def flush(self) -> None:
        """Put it before the clients and have it written."""

    def join(self) -> None:
        """Put it before those whom the pass that is under way has yet to reach."""


class Sender:
    """
    Collects the pieces for one client.

    Attributes:
        arrays: Whether the client takes arrays: then pieces are JSON objects, which
            leave as one array; else they are finished frames.
        buffer: The pieces that wait for the next write; always the same list.
        conflated: How many updates were left out because newer ones replaced them.
        size: Of the last write, in bytes.
        turn: Which of all writes that was.
    """

    __slots__ = ("_outlet", "arrays", "buffer", "conflated", "size", "turn")

    def __init__(self, outlet: Writable, *, arrays: bool = False) -> None:
        self._outlet = outlet
        self.arrays = arrays
        self.buffer: list[bytes] = []
        self.conflated = 0
        self.size = 0
        self.turn = 0

    @property
    def blocked(self) -> bool:
        """Whether the client takes no more for now."""
        return self._outlet.blocked

    def put(self, payload: bytes) -> None:
        """Add a JSON object."""
        self.buffer.append(payload if self.arrays else text_frame(payload))

    def flush(self) -> int:
        """Write everything, in one go unless it is much; return how many pieces."""
        count = len(self.buffer)
        if count > _AT_A_TIME:
            pieces = self.buffer.copy()
            self.buffer.clear()
            self.size = 0
            for start in range(0, count, _AT_A_TIME):
                joined = self._join(pieces[start : start + _AT_A_TIME])
                self.size += len(joined)
                self._outlet.write(joined)
        elif count:
            joined = self._join(self.buffer)
            # Before the write: that may find the client slow, and add what it misses.
            self.buffer.clear()
            self.size = len(joined)
            self._outlet.write(joined)
        return count

    def _join(self, pieces: list[bytes]) -> bytes | memoryview:
        return array_frames(pieces) if self.arrays else b"".join(pieces)


class Rest:
    """
    The idle time that the edge owes its machine for the CPU time it has used.

    What one pass owes may be too short to wait for; it adds up until it is worth a
    pause, unless the edge is idle anyway. So the share of a core that is used stays
    even, however short the passes are, and what is done during a pause makes the next
    one longer. The longer the pauses are already, the less is owed, as clients would
    wait and little would be saved; the longest come when a core is nearly full.

    Args:
        now: As ``perf_counter`` counts.
        cpu: CPU time used so far, as ``thread_time`` counts. The time for which a pass
            waits for the CPU is neither work nor rest.
    """

    def __init__(self, now: float, cpu: float) -> None:
        self._now = now
        self._cpu = cpu
        self._owed = 0.0

    def begin(self, now: float, cpu: float) -> None:
        """Note that a pass begins: the time since the last one may have been idle."""
        idle = now - self._now - (cpu - self._cpu)
        self._owed = max(self._owed - idle, 0.0)

    def end(self, now: float, cpu: float) -> float:
        """Return for how long to rest after a pass, in seconds."""
        rest = max(_REST * 0.5 ** (self._owed / _HALF), _LEAST_REST)
        due = (cpu - self._cpu) * rest
        self._owed = min(self._owed + due, _LONGEST_PAUSE)
        self._now, self._cpu = now, cpu
        return self._owed


class Flusher:
    """
    Writes what senders have collected, first to whom nothing was written for longest.

    Attributes:
        pieces: How many pieces have been written in all.
        conflated: How many updates were left out, over all clients.
        bytes: How many bytes have been written.
        writes: How many writes that took.
        meter: Times what is written.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.writes = 0
        self.meter = WriteMeter()
        self._dirty: dict[Sender, Any] = {}
        self._added: dict[int, Mapping[Sender, Any]] = {}
        self._left: list[Sender] = []
        self._scheduled = False
        self._turn = 0
        self._rest = Rest(perf_counter(), thread_time())
        self._not_before = 0.0
        self._waiting: list[Waiting] = []
        self.pieces = 0
        self.conflated = 0

    def __len__(self) -> int:
        self._gather()
        return len(self._dirty) + len(self._left)

    def add(self, senders: Mapping[Sender, Any]) -> None:
        """
        Have the keys of *senders* written in the next pass: those that it has then.

        Who leaves it before that, and has something coming, must be told :meth:`soon`.
        """
        # The same few hundred come up to once for each slice of a pass: to look at
        # their keys only once for all took 7 % less CPU.
        self._added[id(senders)] = senders

    def soon(self, sender: Sender) -> None:
        """Have *sender* written at the end of this turn of the event loop."""
        self._dirty[sender] = None
        self._schedule()

    def now_if_much(self, sender: Sender) -> None:
        """Write *sender* now if so much waits that its client may not keep up."""
        if len(sender.buffer) > _MUCH:
            self.pieces += sender.flush()

    def discard(self, sender: Sender) -> None:
        """Forget *sender*; its client is gone."""
        self._dirty.pop(sender, None)

    def when_rested(self, waiting: Waiting) -> None:
        """
        Call *waiting* when the last pass is over and a pause has been made.

        The pause grows with the CPU time that is used, and there is none if that is
        little: so more and more updates share a write the more there are. What comes
        during a pass still reaches those who are not yet written to.
        """
        if self._left:
            self._waiting.append(waiting)
        else:
            self._call(waiting.flush)

    def write(self) -> bool:
        """Write now, for a slice of time; return whether nothing is left."""
        if not self._left:
            self._gather()
            if not self._dirty:
                self.meter.ended()
                return True
            self._rest.begin(perf_counter(), thread_time())
            # Who was written to last comes last: so nobody waits longer than from one
            # pass to the next. In any order, it can be almost twice as long.
            self._left = sorted(self._dirty, key=_TURN)
            self._left.reverse()
            self._dirty.clear()
        self._write_slice(self._left)
        if self._left:
            self._schedule()
            return False
        self.meter.ended()
        self._pause()
        clean = not self._dirty and not self._added
        if not clean:
            self._call(self._run)
        return clean

    def _gather(self) -> None:
        for senders in self._added.values():
            self._dirty.update(senders)
        self._added.clear()

    def _write_slice(self, senders: list[Sender]) -> None:
        end = perf_counter() + _SLICE_SECONDS
        pieces = size = writes = 0
        turn = self._turn
        while senders:
            for _ in range(min(_CLOCK_EVERY, len(senders))):
                sender = senders.pop()
                count = sender.flush()
                if count:
                    pieces += count
                    size += sender.size
                    writes += 1
                    sender.turn = turn + writes
            if perf_counter() > end:
                break
        self._turn += writes
        self.pieces += pieces
        self.bytes += size
        self.writes += writes
        self.meter.wrote(pieces)

    def _pause(self) -> None:
        now = perf_counter()
        self._not_before = now + self._rest.end(now, thread_time())
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._call(each.flush)

    def _call(self, callback: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        wait = self._not_before - perf_counter()
        if wait < _AT_ONCE:
            loop.call_soon(callback)
        else:
            loop.call_later(wait, callback)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        for each in self._waiting:
            each.join()
        self.write()
