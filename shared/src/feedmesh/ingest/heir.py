"""How soon a link asks again that takes over from another replica's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from feedmesh.backoff import backoff
from feedmesh.ingest.feed import usual_pauses


__all__ = ["HeirPauses"]

_HEIR_SECONDS = 120.0


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
        return self._quick() if slow else usual_pauses(False)

    def _quick(self) -> Iterator[float]:
        pauses = backoff(2.0, 12.0)
        while asyncio.get_running_loop().time() < self._until:
            yield next(pauses)
        yield from usual_pauses(True)
