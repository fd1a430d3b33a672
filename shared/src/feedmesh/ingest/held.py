"""Frames of a link that is up before anybody may handle what it brings."""

from __future__ import annotations

import asyncio
from collections import deque

from feedmesh.ingest.feed import Handle


__all__ = ["HeldFrames"]

_MOST_BYTES = 64 << 20


class HeldFrames:
    """
    Hands frames to *handle*, or keeps them in order until that is allowed.

    Beyond the limit links are read no further, so that the upstream waits.

    Args:
        handle: Takes them, with the instant at which they came.
        limit: How many bytes of them are kept.
    """

    def __init__(self, handle: Handle, limit: int = _MOST_BYTES) -> None:
        self._handle = handle
        self._limit = limit
        self._bytes = 0
        self._held: deque[tuple[str, bytes, int]] = deque()
        self._open = asyncio.Event()

    def hold(self) -> None:
        """Keep what comes from now on; what was kept before is forgotten."""
        self._open.clear()
        self._held.clear()
        self._bytes = 0

    async def take(self, link: str, frame: bytes, received_ns: int) -> None:
        """Take a frame of *link*."""
        if not self._open.is_set():
            if self._bytes < self._limit:
                self._bytes += len(frame)
                self._held.append((link, frame, received_ns))
                return
            await self._open.wait()
        await self._handle(link, frame, received_ns)

    async def release(self) -> None:
        """Hand on what is kept, and from then on each frame at once."""
        while self._held:
            await self._handle(*self._held.popleft())
        self._open.set()
