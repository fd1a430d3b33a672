"""
What one client has coming, and the one write that brings it there.

The system call is what delivery costs, not the bytes: everything that one pass finds
for a client leaves in one write. A pass over thousands of clients is cut into slices,
so that it does not hold up the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Protocol

from edge.clients.wire_frames import array_frames, text_frame


__all__ = ["Flusher", "Sender", "Writable"]

_SLICE_SECONDS = 0.005
_CLOCK_EVERY = 32


class Writable(Protocol):
    """An outlet, as far as writing goes."""

    blocked: bool

    def write(self, frames: bytes) -> None:
        """Write whole frames."""


class Sender:
    """
    Collects the pieces for one client.

    Attributes:
        arrays: Whether the client takes arrays: then pieces are JSON objects, which
            leave as one array; else they are finished frames.
        buffer: The pieces that wait for the next write; always the same list.
        conflated: How many updates were left out because newer ones replaced them.
    """

    __slots__ = ("_outlet", "arrays", "buffer", "conflated")

    def __init__(self, outlet: Writable, *, arrays: bool = False) -> None:
        self._outlet = outlet
        self.arrays = arrays
        self.buffer: list[bytes] = []
        self.conflated = 0

    @property
    def blocked(self) -> bool:
        """Whether the client takes no more for now."""
        return self._outlet.blocked

    def put(self, payload: bytes) -> None:
        """Add a JSON object."""
        self.buffer.append(payload if self.arrays else text_frame(payload))

    def flush(self) -> int:
        """Write everything in one go; return how many pieces it was."""
        count = len(self.buffer)
        if count:
            joined = array_frames(self.buffer) if self.arrays else b"".join(self.buffer)
            self.buffer.clear()
            self._outlet.write(joined)
        return count


class Flusher:
    """
    Writes what senders have collected, in the order in which they asked.

    Attributes:
        pieces: How many pieces have been written in all.
        conflated: How many updates were left out, over all clients.
    """

    def __init__(self) -> None:
        self._dirty: dict[Sender, Any] = {}
        self._left: list[Sender] = []
        self._scheduled = False
        self.pieces = 0
        self.conflated = 0

    def add(self, senders: Mapping[Sender, Any]) -> None:
        """Have the keys of *senders* written with the next :meth:`write`."""
        self._dirty.update(senders)

    def soon(self, sender: Sender) -> None:
        """Have *sender* written at the end of this turn of the event loop."""
        self._dirty[sender] = None
        self._schedule()

    def discard(self, sender: Sender) -> None:
        """Forget *sender*; its client is gone."""
        self._dirty.pop(sender, None)

    def write(self) -> bool:
        """Write now, for a slice of time; return whether nothing is left."""
        if not self._left:
            self._left = list(self._dirty)
            self._left.reverse()
            self._dirty.clear()
        self._write_slice(self._left)
        if self._left or self._dirty:
            self._schedule()
            return False
        return True

    def _write_slice(self, senders: list[Sender]) -> None:
        end = perf_counter() + _SLICE_SECONDS
        pieces = 0
        while senders:
            for _ in range(min(_CLOCK_EVERY, len(senders))):
                pieces += senders.pop().flush()
            if perf_counter() > end:
                break
        self.pieces += pieces

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        self.write()
