"""
Korean time and Korean stock codes, as LS writes them.

All stamps are KST, nine hours ahead of UTC without daylight saving, and carry no zone
of their own (LS Open API portal).
"""

from __future__ import annotations

import asyncio
import random
import re
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo


__all__ = [
    "KST",
    "Codes",
    "in_kst",
    "next_time_of_day",
    "parse_codes",
    "sleep_until",
    "stamp_ns",
]

KST = ZoneInfo("Asia/Seoul")

_CODE = re.compile(r"[0-9A-Z]{6}", re.ASCII)
_PADDING = "000000"
_MAX_CODES = 20
_JITTER_SECONDS = 60.0
_STAMP = re.compile(r"[0-9]{14}", re.ASCII)


class Codes(NamedTuple):
    """Stock codes in order, each once; *odd* if the text had another form."""

    codes: tuple[str, ...]
    odd: bool


def parse_codes(text: str) -> Codes:
    """
    Return the stock codes in the field ``code`` of a news item.

    They come in units of 12, a code of six padded with zeros on the left. Reading in
    steps of six and leaving out the padding is right for these and for bare codes.
    """
    body = text.strip()
    steps = [body[start : start + 6] for start in range(0, len(body), 6)]
    found = [step for step in steps if step != _PADDING and _CODE.fullmatch(step)]
    unique = tuple(dict.fromkeys(found))
    odd = len(body) % 6 != 0 or len(unique) > _MAX_CODES
    return Codes(unique[:_MAX_CODES], odd)


def stamp_ns(date: str, clock: str) -> int | None:
    """
    Return the instant of a ``YYYYMMDD`` and a ``HHMMSS``; None if it is none.

    None comes before 1970: ``00010101`` means that there is no date.
    """
    if not _STAMP.fullmatch(date + clock) or len(date) != 8:
        return None
    try:
        moment = datetime.strptime(date + clock, "%Y%m%d%H%M%S").replace(tzinfo=KST)
    except ValueError:
        return None
    seconds = int(moment.timestamp())
    return seconds * 1_000_000_000 if seconds >= 0 else None


def in_kst(instant_ns: int) -> datetime:
    """Return *instant_ns*, nanoseconds since the epoch, on a Korean clock."""
    return datetime.fromtimestamp(instant_ns // 1_000_000_000, UTC).astimezone(KST)


def next_time_of_day(now: datetime, clock: time) -> datetime:
    """Return when a Korean clock will next show *clock* after *now*."""
    local = now.astimezone(KST)
    moment = datetime.combine(local.date(), clock, KST)
    return moment if moment > local else moment + timedelta(days=1)


async def sleep_until(clock: time) -> None:
    """Sleep until a Korean clock shows *clock*, and up to a minute longer."""
    now = datetime.now(UTC)
    pause = (next_time_of_day(now, clock) - now).total_seconds()
    # Replicas and other clients of the account must not all ask in the same second.
    await asyncio.sleep(pause + random.uniform(0, _JITTER_SECONDS))
