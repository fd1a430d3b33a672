"""Which of several replicas leads: from their logs, or metrics where those are full."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Sequence
from datetime import datetime

import httpx
from processes import ServiceProcess


_LOOK_SECONDS = 0.005
# What a process tells is asked of it, too, but not so often that it is kept from work.
_ASK_SECONDS = 0.5
# A log has no more than sixty lines a minute.
_LINES_A_MINUTE = 50
_LEADING = re.compile(
    r'"event": "(leading|standing by|another leads; stepping down|link is up)"'
)


def running(replica: ServiceProcess) -> bool:
    """Return whether the process is there."""
    return replica._process is not None and replica._process.returncode is None


async def first_to_lead(
    replicas: Sequence[ServiceProcess], seconds: float = 30.0
) -> tuple[ServiceProcess, float]:
    """
    Wait until one of *replicas* leads and its link is up.

    Return which, and when that was seen by the clock of the event loop: within
    milliseconds as its log tells, or within half a second where its log may not.
    """
    loop = asyncio.get_running_loop()
    asked = loop.time()
    end = asked + seconds
    while (now := loop.time()) < end:
        there = [replica for replica in replicas if running(replica)]
        for replica in there:
            if _log_says_leading(replica) and _log_is_whole(replica):
                return replica, now
        if now - asked >= _ASK_SECONDS:
            for replica in there:
                if await _asked(replica, "leader") and await _asked(replica, "link_up"):
                    return replica, loop.time()
            asked = loop.time()
        await asyncio.sleep(_LOOK_SECONDS)
    raise AssertionError(f"no replica led with its link up within {seconds:g} s")


async def until_standing_by(replica: ServiceProcess, seconds: float = 60.0) -> None:
    """Wait until a replica that runs does not lead, or does so no more."""
    loop = asyncio.get_running_loop()
    asked = loop.time()
    end = asked + seconds
    while loop.time() < end:
        stands_by = last_of(replica, "leading", "standing by") == "standing by"
        if stands_by and _log_is_whole(replica):
            return
        if loop.time() - asked >= _ASK_SECONDS:
            if await _asked(replica, "leader") == 0:
                return
            asked = loop.time()
        await asyncio.sleep(_LOOK_SECONDS)
    raise AssertionError(f"the replica went on leading for {seconds:g} s")


async def _asked(replica: ServiceProcess, name: str) -> float | None:
    """Return what the metric says, or None if the replica does not answer soon."""
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(2 * _ASK_SECONDS):
            return await replica.metric(f"feedmesh_ingest_{name}")
    return None


def _log_is_whole(replica: ServiceProcess) -> bool:
    """Return whether nothing of the last minute can have been held back."""
    if len(replica.lines) < _LINES_A_MINUTE:
        return True
    line = replica.lines[-_LINES_A_MINUTE]
    if not line.startswith("{"):
        return False
    told = datetime.fromisoformat(json.loads(line)["at"])
    return time.time() - told.timestamp() > 60


def _log_says_leading(replica: ServiceProcess) -> bool:
    found = set()
    # An heir connects before it leads.
    for line in reversed(replica.lines):
        if told := _LEADING.search(line):
            if told[1] not in ("leading", "link is up"):
                break
            found.add(told[1])
    return len(found) == 2


def said(replica: ServiceProcess, event: str) -> int:
    """Return how often the log tells *event*."""
    return sum(f'"event": "{event}"' in line for line in replica.lines)


def stepped_down(replica: ServiceProcess) -> int:
    return said(replica, "another leads; stepping down")


def last_of(replica: ServiceProcess, *events: str) -> str | None:
    """Return which of *events* the log tells last."""
    for line in reversed(replica.lines):
        for event in events:
            if f'"event": "{event}"' in line:
                return event
    return None


async def until_said(
    replica: ServiceProcess, event: str, times: int, seconds: float = 30.0
) -> None:
    """Wait until the log tells *event* for the time *times*."""
    try:
        async with asyncio.timeout(seconds):
            while said(replica, event) < times:
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(
            f"not said: {event!r}\n" + "\n".join(replica.lines[-30:])
        ) from None
