"""
Frames that could not be understood, kept with the reason for a human to look at.

Best effort and bounded: what a broken upstream sends must neither fill NATS nor slow
the good frames, so letters over the rate are counted and not kept.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.clock import iso
from feedmesh.errors import BusError


__all__ = ["DeadLetters"]

_PER_MINUTE = 600
_MAX_BYTES = 64 * 1024


class DeadLetters:
    """
    Publishes on ``dlq.<service>``.

    Attributes:
        kept: Letters that were handed to NATS.
        dropped: Letters over the rate, or while NATS was away.
    """

    def __init__(self, bus: Bus, service: str) -> None:
        self._bus = bus
        self._subject = subjects.dead_letters(service)
        self._recent: deque[float] = deque(maxlen=_PER_MINUTE)
        self.kept = 0
        self.dropped = 0

    async def keep(self, reason: str, frame: bytes, received_ns: int) -> None:
        """Keep *frame*, cut to 64 KiB, with *reason*."""
        now = asyncio.get_running_loop().time()
        full = len(self._recent) == _PER_MINUTE
        if full and now - self._recent[0] < 60.0:
            self.dropped += 1
            return
        self._recent.append(now)
        letter = {
            "v": 1,
            "reason": reason,
            "received_at": iso(received_ns),
            "bytes": len(frame),
            "frame_base64": base64.b64encode(frame[:_MAX_BYTES]).decode(),
        }
        try:
            await self._bus.publish(self._subject, json.dumps(letter).encode())
            self.kept += 1
        except BusError:
            self.dropped += 1
