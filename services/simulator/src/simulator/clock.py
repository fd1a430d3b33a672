"""The clock of the Korean side, which a test can set."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone


# No daylight saving in Korea since 1988, so a fixed offset is the whole zone.
KST = timezone(timedelta(hours=9), "KST")


class Clock:
    """The wall clock, shifted by as much as somebody asked for."""

    def __init__(self) -> None:
        self.offset_seconds = 0.0

    def seconds(self) -> float:
        """Return the shifted time as seconds since the epoch."""
        return time.time() + self.offset_seconds

    def now(self) -> datetime:
        """Return the shifted time in Korea."""
        return datetime.fromtimestamp(self.seconds(), KST)

    def set(self, now: str | float) -> None:
        """Set the clock to an ISO time (Korean if it names no zone) or an offset."""
        if isinstance(now, str):
            moment = datetime.fromisoformat(now)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=KST)
            self.offset_seconds = moment.timestamp() - time.time()
        else:
            self.offset_seconds = float(now)


def next_seven(now: datetime, *, same_day: bool = True) -> datetime:
    """
    Return the 07:00 at which a token issued *now* expires.

    LS Open API portal: 07:00 KST of the next day. For a token issued before 07:00 it
    is not known which of the two 07:00 counts; *same_day* decides.
    """
    seven = now.astimezone(KST).replace(hour=7, minute=0, second=0, microsecond=0)
    if now >= seven or not same_day:
        seven += timedelta(days=1)
    return seven
