"""
The doctor's verdict on the server and its streams, as a check of readiness.

A service cannot work with a server that is too old, nor on a stream that is missing or
has the wrong settings, so it is not ready then, nor before it has been told how each of
them is. How many copies there are is no reason: with one of three, everything works.
Nor is, later on, an answer that does not come: NATS away for a moment must not make
every service unready at once. What is forbidden to us shows when it is refused, and the
bus tells of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from itertools import chain
from typing import Any

from nats.js.api import StreamConfig

from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.doctor.checks import check_server
from feedmesh.doctor.findings import Level
from feedmesh.doctor.stream_settings import check_stream
from feedmesh.errors import BusError
from feedmesh.streams import definitions


__all__ = ["StreamGate"]

_LOOK_SECONDS = 5.0
# Services and streams start together: what is missing now is there in a moment.
_AGAIN_SECONDS = 0.1
_REQUEST_SECONDS = 2.0
_TOLD = ("config", "error")
_NOT_FOUND = 10059


class StreamGate:
    """
    Looks again and again at streams whose settings this identity may read.

    Args:
        bus: The connection.
        names: Of the streams without which the service loses something, or says
            something that is not so.
        look_seconds: Between two looks while all is well, and at most.
    """

    def __init__(
        self, bus: Bus, *names: str, look_seconds: float = _LOOK_SECONDS
    ) -> None:
        self._bus = bus
        self._wanted = [config for config in definitions() if config.name in names]
        self._look_seconds = look_seconds
        # A check that could not be made is not one that passed.
        self._wrong = {
            str(config.name): list(check_stream(config, None))
            for config in self._wanted
        }
        self._doubted: set[str] = set()

    def problem(self) -> str | None:
        """Return what is wrong, or not known yet, for readiness."""
        server = check_server(f"NATS at {self._bus.server}", self._bus.greeting)
        found = [server] if server.level is Level.FAIL else []
        found += chain.from_iterable(self._wrong.values())
        return "; ".join(f"{each.about}: {each.text}" for each in found) or None

    async def run(self) -> None:
        """Look, for ever."""
        pauses = backoff(_AGAIN_SECONDS, self._look_seconds)
        while True:
            await self.look()
            if self._wrong:
                await asyncio.sleep(next(pauses))
            else:
                pauses = backoff(_AGAIN_SECONDS, self._look_seconds)
                await asyncio.sleep(self._look_seconds)

    async def look(self) -> None:
        """Look once at each, side by side: to be refused may take seconds."""
        await asyncio.gather(*map(self._look, self._wanted))

    async def _look(self, wanted: StreamConfig) -> None:
        name = str(wanted.name)
        answer = await self._ask(name)
        if answer is None or (name not in self._wrong and _passes(answer)):
            return
        # Not this service's business: see above.
        copies = answer.get("config", {}).get("num_replicas")
        findings = check_stream(wanted.evolve(num_replicas=copies), answer)
        wrong = [finding for finding in findings if finding.level is Level.FAIL]
        # One that was fine is believed once more: what a restart of the server has
        # lost is made again within a second.
        if wrong and name not in self._wrong and name not in self._doubted:
            self._doubted.add(name)
            return
        self._doubted.discard(name)
        if wrong:
            self._wrong[name] = wrong
        else:
            self._wrong.pop(name, None)

    async def _ask(self, name: str) -> dict[str, Any] | None:
        with contextlib.suppress(BusError, ValueError):
            subject = f"$JS.API.STREAM.INFO.{name}"
            answer = json.loads(
                await self._bus.request(subject, timeout=_REQUEST_SECONDS)
            )
            if isinstance(answer, dict) and not answer.keys().isdisjoint(_TOLD):
                return answer
        return None


def _passes(answer: dict[str, Any]) -> bool:
    """Whether it is an error of the moment, such as a cluster without a leader."""
    return "error" in answer and answer["error"].get("err_code") != _NOT_FOUND
