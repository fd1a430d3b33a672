"""
The doctor's verdict on the streams, as a check of readiness.

A service cannot work on a stream that is missing or has the wrong settings, so it is
not ready then. How many copies there are is no reason: with one of three, everything
works. Nor is an answer that does not come: NATS away for a moment must not make every
service unready at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from nats.js.api import StreamConfig

from feedmesh.bus import Bus
from feedmesh.doctor.findings import Finding, Level
from feedmesh.doctor.stream_settings import check_stream
from feedmesh.errors import BusError
from feedmesh.streams import definitions


__all__ = ["StreamGate"]

_LOOK_SECONDS = 5.0
_REQUEST_SECONDS = 2.0


class StreamGate:
    """
    Looks again and again at streams whose settings this identity may read.

    Args:
        bus: The connection.
        names: Of the streams without which the service is of no use.
        look_seconds: Between two looks.
    """

    def __init__(
        self, bus: Bus, *names: str, look_seconds: float = _LOOK_SECONDS
    ) -> None:
        self._bus = bus
        self._wanted = [config for config in definitions() if config.name in names]
        self._look_seconds = look_seconds
        self._fine: set[str] = set()
        self._wrong: dict[str, list[Finding]] = {}

    def problem(self) -> str | None:
        """Return what is wrong, for readiness; None before the first look, too."""
        found = [
            f"{finding.about}: {finding.text}"
            for name, findings in self._wrong.items()
            if name not in self._fine
            for finding in findings
        ]
        return "; ".join(found) or None

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            for wanted in self._wanted:
                await self._look(wanted)
            await asyncio.sleep(self._look_seconds)

    async def _look(self, wanted: StreamConfig) -> None:
        name = str(wanted.name)
        answer = await self._ask(name)
        if answer is None:
            return
        # Not this service's business: see above.
        copies = answer.get("config", {}).get("num_replicas")
        findings = check_stream(wanted.evolve(num_replicas=copies), answer)
        wrong = [finding for finding in findings if finding.level is Level.FAIL]
        # One that was fine is believed once more: what a restart of the server has
        # lost is made again within a second.
        if not wrong:
            self._fine.add(name)
        elif name in self._wrong:
            self._fine.discard(name)
        self._wrong.pop(name, None)
        if wrong:
            self._wrong[name] = wrong

    async def _ask(self, name: str) -> dict[str, Any] | None:
        with contextlib.suppress(BusError, ValueError):
            subject = f"$JS.API.STREAM.INFO.{name}"
            answer = json.loads(
                await self._bus.request(subject, timeout=_REQUEST_SECONDS)
            )
            if isinstance(answer, dict) and ("config" in answer or _is_missing(answer)):
                return answer
        return None


def _is_missing(answer: dict[str, Any]) -> bool:
    # Other errors are of the moment, such as a cluster without a leader.
    return bool(answer.get("error", {}).get("err_code") == 10059)
