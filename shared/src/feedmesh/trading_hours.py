"""
When markets are open, so that silence can be told from a fault; no I/O.

Exchanges have the hours of a committed table, made from a calendar library that would
be far too heavy for the services (`tests/make_trading_hours.py`). Outside of its years
nothing is known, and that is what is said: never "closed", which would excuse a feed
that is dead. Currencies trade from Sunday to Friday, 17:00 in New York, but
of Christmas and New Year nothing is certain; crypto trades always.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from functools import cache
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from feedmesh.trading_hours_table import TABLE


__all__ = [
    "ALWAYS_OPEN",
    "FOREX",
    "UNKNOWN_HOURS",
    "Hours",
    "Phase",
    "TradingTime",
    "any_of",
    "exchange",
]

_NEW_YORK = ZoneInfo("America/New_York")
_WEEK_TURNS = time(17, 0)
_TURN = timedelta(hours=_WEEK_TURNS.hour)
_FOREX_HOLIDAYS = ((12, 25), (1, 1))
_SUNDAY, _FRIDAY = 6, 4


class Phase(Enum):
    """Whether a market trades."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


class TradingTime(NamedTuple):
    """
    A market at one instant.

    Attributes:
        phase: Whether it trades.
        opened_ns: Since when, if it is open and ever closes.
        trading: Of several markets, which ones are open, a bit for each.
    """

    phase: Phase
    opened_ns: int | None = None
    trading: int = 0


class Hours(Protocol):
    """Knows when a market is open."""

    def at(self, instant_ns: int) -> TradingTime:
        """Return how the market is at *instant_ns*, nanoseconds since the epoch."""


class _Constant:
    def __init__(self, phase: Phase) -> None:
        self._time = TradingTime(phase)

    def at(self, instant_ns: int) -> TradingTime:
        return self._time


class _Forex:
    def at(self, instant_ns: int) -> TradingTime:
        now = datetime.fromtimestamp(instant_ns / 1e9, UTC).astimezone(_NEW_YORK)
        # Each day begins at 17:00 of the one before. Some still trade on these.
        day = now + (timedelta(days=1) - _TURN)
        if (day.month, day.day) in _FOREX_HOLIDAYS:
            return TradingTime(Phase.UNKNOWN)
        # In wall time, so that a week with a change of clocks turns at 17:00 too.
        sunday = now.date() - timedelta(days=(now.weekday() - _SUNDAY) % 7)
        opened = datetime.combine(sunday, _WEEK_TURNS, _NEW_YORK)
        if now.weekday() == _SUNDAY and now < opened:
            return TradingTime(Phase.CLOSED)
        friday = sunday + timedelta(days=(_FRIDAY - _SUNDAY) % 7)
        if now >= datetime.combine(friday, _WEEK_TURNS, _NEW_YORK):
            return TradingTime(Phase.CLOSED)
        return TradingTime(Phase.OPEN, _ns(opened))


class _Any:
    def __init__(self, several: Sequence[Hours]) -> None:
        self._several = several

    def at(self, instant_ns: int) -> TradingTime:
        times = [hours.at(instant_ns) for hours in self._several]
        trading = sum((t.phase is Phase.OPEN) << bit for bit, t in enumerate(times))
        for phase in (Phase.OPEN, Phase.UNKNOWN):
            for found in times:
                if found.phase is phase:
                    return found._replace(trading=trading)
        return TradingTime(Phase.CLOSED)


class _Exchange:
    """The sessions of one exchange, from the first to the last day of the table."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.sessions = _sessions(lines)
        self._opens = [opens for opens, _ in self.sessions]
        first, last = map(date.fromisoformat, lines[0].split()[1:])
        self._begins = _ns(datetime.combine(first, time(), UTC))
        self._ends = _ns(datetime.combine(last + timedelta(days=1), time(), UTC))

    def at(self, instant_ns: int) -> TradingTime:
        if not self._begins <= instant_ns < self._ends:
            return TradingTime(Phase.UNKNOWN)
        index = bisect_right(self._opens, instant_ns) - 1
        if index >= 0:
            opens, closes = self.sessions[index]
            if instant_ns < closes:
                return TradingTime(Phase.OPEN, opens)
        return TradingTime(Phase.CLOSED)


ALWAYS_OPEN: Hours = _Constant(Phase.OPEN)
UNKNOWN_HOURS: Hours = _Constant(Phase.UNKNOWN)
FOREX: Hours = _Forex()


def any_of(*several: Hours) -> Hours:
    """Return hours that are open whenever one of *several* is."""
    return _Any(several)


@cache
def exchange(code: str) -> _Exchange:
    """
    Return the hours of ``XNYS`` (New York) or ``XKRX`` (Seoul).

    Raises:
        KeyError: If the table has no such exchange.
    """
    lines = TABLE.strip().splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("exchange ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        _, name, first, last = lines[start].split()
        if name == code:
            return _Exchange([f"{name} {first} {last}", *lines[start + 1 : end]])
    raise KeyError(code)


def _sessions(lines: Sequence[str]) -> list[tuple[int, int]]:
    """Return when each session opens and closes, in ns."""
    first, last = map(date.fromisoformat, lines[0].split()[1:])
    usual: dict[date, str] = {}
    odd: dict[date, str] = {}
    for line in lines[1:]:
        kind, day, *rest = line.split(maxsplit=2)
        if kind == "usual":
            usual[date.fromisoformat(day)] = rest[0]
        else:
            odd[date.fromisoformat(day)] = rest[0] if rest else ""
    found = []
    hours = ""
    for number in range((last - first).days + 1):
        day_ = first + timedelta(days=number)
        hours = usual.get(day_, hours)
        today = odd.get(day_, hours if day_.weekday() < 5 else "")
        if today:
            opens, closes = map(time.fromisoformat, today.split())
            found.append(
                (
                    _ns(datetime.combine(day_, opens, UTC)),
                    _ns(datetime.combine(day_, closes, UTC)),
                )
            )
    return found


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000
