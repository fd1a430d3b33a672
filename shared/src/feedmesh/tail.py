"""
What a stream has got since it was last looked at.

A standby reads along every few seconds, so that at a take-over only little is left to
read. Each look ends at what the stream held when it began: somebody else goes on
writing, and the end would never be reached.

The leader of the stream says what it holds, and any replica gives it, which may have
got less so far. So what a look did not find counts as not there, deleted or of another
subject, once the next one has not found it either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from feedmesh.bus import Bus
from feedmesh.stored import StoredMessage, read_from, stream_state


__all__ = ["StreamTail"]


class StreamTail:
    """
    Reads *stream* on from where the last look ended.

    Args:
        stream: Its name.
        subject: Only messages on subjects that match.
        look_back: How many messages before the end the first look begins, if not at
            the start of the stream.

    Attributes:
        identity: Of the stream that is read; empty before the first look.
        skipped_to: Number of the last message that the stream no longer had, or that
            lay too far back, when the first look began.
        read_to: Number of the last message that has been read.
    """

    def __init__(
        self, stream: str, subject: str, *, look_back: int | None = None
    ) -> None:
        self._stream = stream
        self._subject = subject
        self._look_back = look_back
        self.identity = ""
        self.skipped_to = 0
        self.read_to = 0
        # What the stream held when the last look began.
        self._held = 0

    async def read(self, bus: Bus) -> AsyncIterator[StoredMessage]:
        """
        Yield what is new, oldest first; all of it if the stream was made anew.

        Raises:
            BusError: If the stream does not answer; the next look goes on from there.
        """
        state = await stream_state(bus, self._stream)
        if state.identity != self.identity or state.last < self.read_to:
            self.identity = state.identity
            self.skipped_to = max(0, state.first - 1)
            if self._look_back is not None:
                self.skipped_to = max(self.skipped_to, state.last - self._look_back)
            self.read_to = self._held = self.skipped_to
        if self.read_to >= state.last:
            return
        async for message in read_from(
            bus, self._stream, self.read_to + 1, self._subject
        ):
            yield message
            self.read_to = message.sequence
            if message.sequence >= state.last:
                break
        self.read_to = max(self.read_to, self._held)
        self._held = state.last
