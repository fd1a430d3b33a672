"""
Tell a stream that trickles from one that flows; no I/O, time is given.

A link may be open, answer its pings, and bring a few per cent of what it usually
brings: no silence ever shows that. So the rate of the last minutes is compared with
what is usual. The usual rate is that of the same half hour of trading on earlier days,
or, until one is known, of the last hour. It is never guessed: before ten minutes have
been seen, and where too few events are due to judge by, nothing is said.

The window is the shortest in which enough events are due: a fast stream is judged by
its last minute, a slow one by its last quarter of an hour. What is learnt while a
stream is degraded hardly counts, or it would soon be the usual. For an hour, what was
usual is still known while nothing is judged: whoever takes over from us when the link
is down must know it, too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


__all__ = ["RateWatch", "Slot"]

_MINUTE_NS = 60_000_000_000
_DAY_NS = 1440 * _MINUTE_NS
_WINDOWS = (1, 5, 15)
# Fewer may be late, or fail to come, by chance.
_ENOUGH = 100
_DEGRADED = 0.05
_RECOVERED = 0.10
_MIN_MINUTES = 10
_SLOT_MINUTES = 20
_MEMORY_MINUTES = 60
# A rate that is really the new usual is learnt within days: of the last hour, which
# goes on all day, more slowly than of a half hour, of which there is one a day.
_DEGRADED_WEIGHT = 1 / 24
_SLOT_DEGRADED_WEIGHT = 1 / 3

Slot = tuple[int, int]


@dataclass
class _Mean:
    """A mean that follows; of the first minutes an exact one."""

    value: float = 0.0
    minutes: int = 0
    first_day: int = 0

    def learn(self, count: int, weight: float) -> None:
        self.minutes += 1
        share = weight / min(self.minutes, _MEMORY_MINUTES)
        self.value += (count - self.value) * share


class RateWatch:
    """
    The rate of one stream while its market is open.

    Attributes:
        degraded: Whether it brings a few per cent of what is usual.
        per_minute: What it brought in the last whole minutes; None before the first.
        usual_per_minute: What is usual now; None while it is not known.
    """

    def __init__(self) -> None:
        self._recent = _Mean()
        self._slots: dict[Slot, _Mean] = {}
        self._slot: Slot = (0, 0)
        self._minutes: deque[int] = deque(maxlen=max(_WINDOWS))
        self._minute: int | None = None
        self._count = 0
        self.degraded = False
        self.per_minute: float | None = None
        self.usual_per_minute: float | None = None
        self._known: tuple[float, int] | None = None

    def expect(self, per_minute: float, at_ns: int) -> None:
        """Take *per_minute* as usual, as somebody says who has watched before us."""
        self._recent = _Mean(per_minute, _MIN_MINUTES)
        self._known = (per_minute, at_ns)

    def known_usual(self, at_ns: int) -> float | None:
        """Return what was usual within the last hour, even if nothing is judged now."""
        if self._known is None:
            return None
        usual, known_ns = self._known
        return usual if at_ns - known_ns <= _MEMORY_MINUTES * _MINUTE_NS else None

    def turn(self) -> None:
        """Forget the last hour: other markets trade now than did until now."""
        self.rest()
        self._recent = _Mean()
        self._known = None

    def scale(self, share: float) -> None:
        """Expect only *share* of what was usual, as so much less is asked for."""
        for mean in (self._recent, *self._slots.values()):
            mean.value *= share
        if self._known is not None:
            usual, known_ns = self._known
            self._known = (usual * share, known_ns)

    def rest(self) -> None:
        """Judge nothing until more is seen: the market or the link is closed."""
        self._minutes.clear()
        self._minute = None
        self.degraded = False
        self.per_minute = self.usual_per_minute = None

    def take(self, at_ns: int, count: int, slot: Slot) -> None:
        """
        Note that *count* events came since the last call; for each few seconds.

        Args:
            at_ns: The time now, in ns.
            count: How many.
            slot: Which half hour of trading it is, and of which markets.
        """
        minute = at_ns // _MINUTE_NS
        if self._minute is None or not 0 <= minute - self._minute <= 1:
            # The rest of this minute is not a whole one, and is left out.
            self.rest()
            self._minute, self._slot = minute, slot
            self._count = -1
            return
        if minute > self._minute:
            if self._count >= 0:
                self._end_minute(self._count, self._slot, at_ns)
            self._minute, self._slot = minute, slot
            self._count = 0
        if self._count >= 0:
            self._count += count

    def _end_minute(self, count: int, slot: Slot, at_ns: int) -> None:
        self._minutes.append(count)
        day = at_ns // _DAY_NS
        mean = self._slots.setdefault(slot, _Mean(first_day=day))
        self.usual_per_minute = self._usual(mean, day)
        if self.usual_per_minute is not None:
            self._known = (self.usual_per_minute, at_ns)
        self._judge()
        self._recent.learn(count, _DEGRADED_WEIGHT if self.degraded else 1.0)
        mean.learn(count, _SLOT_DEGRADED_WEIGHT if self.degraded else 1.0)

    def _usual(self, slot: _Mean, day: int) -> float | None:
        if slot.minutes >= _SLOT_MINUTES and slot.first_day != day:
            return slot.value
        return self._recent.value if self._recent.minutes >= _MIN_MINUTES else None

    def _judge(self) -> None:
        usual = self.usual_per_minute
        for window in _WINDOWS:
            if len(self._minutes) < window:
                break
            self.per_minute = sum(list(self._minutes)[-window:]) / window
            if usual is not None and usual * window >= _ENOUGH:
                limit = _RECOVERED if self.degraded else _DEGRADED
                self.degraded = self.per_minute < usual * limit
                return
        # Too few are due, or were seen, to say anything.
        if usual is None or usual * max(_WINDOWS) < _ENOUGH:
            self.degraded = False
