"""Who leads after a leader that goes, and how soon its links ask for their places."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from feedmesh.backoff import backoff
from feedmesh.ingest.beat import Beat
from feedmesh.ingest.pauses import usual_pauses


__all__ = ["HeirPauses", "HeirSearch"]

_HEIR_SECONDS = 120.0
# Whoever stands by answers within milliseconds, and needs about a second for a token.
_ANSWER_SECONDS = 0.5
_READY_SECONDS = 4.0


class HeirSearch:
    """Takes the answers of those who stand by."""

    def __init__(self) -> None:
        self._somebody = asyncio.Event()
        self._ready = asyncio.Event()
        self._heir = ""

    def answered(self, beat: Beat) -> None:
        """Take an answer; the first who is ready is the heir."""
        self._somebody.set()
        if beat.state == "ready" and not self._ready.is_set():
            self._heir = beat.heir
            self._ready.set()

    async def found(self) -> str:
        """Return who is ready, after seconds at most; nobody if that is too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._somebody.wait()
            async with asyncio.timeout(_READY_SECONDS):
                await self._ready.wait()
        return self._heir


class HeirPauses:
    """
    Pauses for a link that takes over from another replica's.

    The upstream may hold the place of a dead connection for a while, and refuse ours.
    That is no quarrel with a stranger: for two minutes it is asked again soon.
    """

    def __init__(self) -> None:
        self._until = 0.0

    def begin(self) -> None:
        """Be quick from now on, for two minutes."""
        self._until = asyncio.get_running_loop().time() + _HEIR_SECONDS

    def __call__(self, slow: bool) -> Iterator[float]:
        """Return a series of pauses, in seconds."""
        # It may refuse us, or just close the connection: LS does the latter.
        pauses = backoff(0.25, 12.0)
        while asyncio.get_running_loop().time() < self._until:
            yield next(pauses)
        yield from usual_pauses(slow)
