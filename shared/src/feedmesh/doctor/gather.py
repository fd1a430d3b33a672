"""Ask the servers of a deployment; what they do not answer is no error."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

from feedmesh import subjects
from feedmesh.bus import Bus, connect_bus
from feedmesh.clock import from_iso, now_ns
from feedmesh.doctor.facts import ClockFacts, Facts, Newest, granted
from feedmesh.doctor.grants import may
from feedmesh.errors import BusError
from feedmesh.messages import decode_head
from feedmesh.settings import ServiceSettings
from feedmesh.stored import read_from
from feedmesh.streams import NEWS, PRICES, STATUS, definitions
from feedmesh.symbols import MARKETS


__all__ = ["gather"]

_CONNECT_SECONDS = 5.0
_REQUEST_SECONDS = 3.0
_GREETING_SECONDS = 3.0
_USER_INFO = "$SYS.REQ.USER.INFO"


async def gather(settings: ServiceSettings, monitors: Sequence[str] = ()) -> Facts:
    """
    Ask the servers; what they do not answer is missing in the facts, and no error.

    Args:
        settings: Where NATS is and who we are there.
        monitors: URLs of the servers' monitoring ports, as far as they can be reached.
    """
    greetings = dict(
        zip(
            settings.nats_url,
            await asyncio.gather(*map(_greeting, settings.nats_url)),
            strict=True,
        )
    )
    sync: dict[str, bool] = {}
    for found in await asyncio.gather(*map(_read_sync, monitors)):
        sync |= found
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                connecting = connect_bus(settings, "feedmesh-doctor")
                bus = await stack.enter_async_context(connecting)
        except TimeoutError:
            problem = "no server answers"
            if any(greetings.values()):
                problem = "servers answer, but do not let us in"
            return Facts(now_ns(), greetings, problem, sync=sync)
        return await _ask_all(bus, greetings, sync)


async def _greeting(url: str) -> dict[str, Any] | None:
    """Return what a server says of itself to everybody who connects."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(_GREETING_SECONDS):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or 4222
            )
            try:
                line = await reader.readline()
            finally:
                writer.close()
        greeting = json.loads(line.removeprefix(b"INFO "))
    except (OSError, ValueError):
        return None
    return greeting if isinstance(greeting, dict) else None


async def _read_sync(monitor: str) -> dict[str, bool]:
    """Return whether a server writes everything through, by its name; {} if unknown."""

    def read() -> Any:
        with urllib.request.urlopen(
            f"{monitor.rstrip('/')}/varz", timeout=_REQUEST_SECONDS
        ) as answer:
            return json.load(answer)

    with suppress(OSError, ValueError):
        varz = await asyncio.to_thread(read)
        config = varz.get("jetstream", {}).get("config", {})
        return {str(varz["server_name"]): bool(config.get("sync_always"))}
    return {}


async def _ask_all(
    bus: Bus,
    greetings: Mapping[str, Mapping[str, Any] | None],
    sync: Mapping[str, bool],
) -> Facts:
    names = [str(stream.name) for stream in definitions()]
    user = await _Asking(bus, {}).json(_USER_INFO)
    asking = _Asking(bus, granted(user))
    account, newest, *answers = await asyncio.gather(
        asking.json("$JS.API.INFO"),
        _newest(asking),
        *(asking.json(f"$JS.API.STREAM.INFO.{name}") for name in names),
        *(asking.json(f"$JS.API.CONSUMER.LIST.{name}") for name in names),
    )
    streams, consumers = answers[: len(names)], answers[len(names) :]
    return Facts(
        at_ns=now_ns(),
        greetings=greetings,
        account=account,
        streams=dict(zip(names, streams, strict=True)),
        consumers={
            name: answer.get("consumers") or []
            if answer and "error" not in answer
            else None
            for name, answer in zip(names, consumers, strict=True)
        },
        user=user,
        # Alone, after all other requests, so that the round trip is a short one.
        clock=await _clock(asking),
        newest=newest,
        sync=sync,
    )


class _Asking:
    """Asks what we may ask: a refused request would only be waited for in vain."""

    def __init__(self, bus: Bus, granted: Mapping[str, Any]) -> None:
        self._bus = bus
        self._publish = granted.get("publish") or {}

    async def raw(self, subject: str, payload: bytes = b"") -> bytes:
        """Return the answer; empty if there is none."""
        if may(self._publish, subject):
            with suppress(BusError):
                return await self._bus.request(subject, payload, _REQUEST_SECONDS)
        return b""

    async def json(self, subject: str) -> dict[str, Any] | None:
        with suppress(ValueError):
            answer = json.loads(await self.raw(subject))
            if isinstance(answer, dict):
                return answer
        return None

    async def last_values(self, stream: str) -> list[bytes]:
        """Return all payloads of a stream with one message a subject."""
        found: list[bytes] = []
        if may(self._publish, f"$JS.API.DIRECT.GET.{stream}"):
            with suppress(BusError):
                async for message in read_from(self._bus, stream, 1):
                    found.append(message.payload)
        return found


async def _clock(asking: _Asking) -> ClockFacts | None:
    for subject in (f"$JS.API.STREAM.INFO.{STATUS}", _USER_INFO):
        before = now_ns()
        answer = await asking.json(subject) or {}
        trip = now_ns() - before
        stamp = answer.get("ts") or answer.get("server", {}).get("time")
        with suppress(ValueError, TypeError):
            offset = before + trip // 2 - from_iso(stamp)
            return ClockFacts(offset / 1e9, trip / 2e9)
    return None


async def _newest(asking: _Asking) -> list[Newest]:
    asked = [(PRICES, f"prices.{market}.*") for market in MARKETS]
    # Not the canaries, which come when news do not.
    asked += [(NEWS, subjects.news(kind)) for kind in ("article", "disclosure")]
    payloads = await asyncio.gather(
        *(
            asking.raw(
                f"$JS.API.DIRECT.GET.{stream}",
                json.dumps({"last_by_subj": pattern}).encode(),
            )
            for stream, pattern in asked
        )
    )
    found: dict[tuple[str, str], int] = {}
    for (stream, _), payload in zip(asked, payloads, strict=True):
        _note(found, stream, payload)
    for payload in await asking.last_values(STATUS):
        _note(found, STATUS, payload)
    return [Newest(feed, stream, at) for (feed, stream), at in found.items()]


def _note(found: dict[tuple[str, str], int], stream: str, payload: bytes) -> None:
    with suppress(ValueError):
        known, _ = decode_head(payload)
        key = known.source, stream
        found[key] = max(found.get(key, 0), from_iso(known.published_at))
