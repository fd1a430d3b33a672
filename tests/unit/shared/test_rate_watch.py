"""A stream that trickles is told from one that flows; time and chance are given."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from feedmesh.ingest.rate_watch import RateWatch


MINUTE = 60_000_000_000
DAY = 1440 * MINUTE
START = 1_780_012_800 * 1_000_000_000
LOOK = 5_000_000_000

Rate = Callable[[float], float]
"""Events a minute, at a minute."""


class Stream:
    """A stream of random events, watched every five seconds."""

    def __init__(self, seed: int = 1) -> None:
        self.watch = RateWatch()
        self._chance = random.Random(seed)
        self._now = START
        self.alarms: list[float] = []

    @property
    def minute(self) -> float:
        return (self._now - START) / MINUTE

    def run(self, minutes: float, rate: float | Rate, slot: int | None = None) -> None:
        """Let time pass; note when the watch says that the stream is degraded."""
        ends = self._now + int(minutes * MINUTE)
        while self._now < ends:
            self._now += LOOK
            per_minute = rate(self.minute) if callable(rate) else rate
            half_hour = int(self._now % DAY // (30 * MINUTE))
            count = self._events(per_minute * LOOK / MINUTE)
            slot_now = half_hour if slot is None else slot
            self.watch.take(self._now, count, (0, slot_now))
            if self.watch.degraded:
                self.alarms.append(self.minute)

    def skip(self, minutes: float) -> None:
        """Let time pass unwatched."""
        self._now += int(minutes * MINUTE)
        self.watch.rest()

    def _events(self, mean: float) -> int:
        # Poisson; of large means the normal one is near enough.
        if mean > 50:
            return max(0, round(self._chance.gauss(mean, math.sqrt(mean))))
        limit, product, count = math.exp(-mean), self._chance.random(), 0
        while product > limit:
            product *= self._chance.random()
            count += 1
        return count


@pytest.mark.parametrize("rate", [0, 0.2, 7, 60, 6000])
def test_a_steady_stream_is_never_degraded(rate: float) -> None:
    stream = Stream()
    stream.run(24 * 60, rate)

    assert stream.alarms == []


@pytest.mark.parametrize(("rate", "within"), [(6000, 3), (60, 7), (10, 17)])
@pytest.mark.parametrize("share", [0.0, 0.02])
def test_a_trickle_is_noticed_and_its_end_too(
    rate: float, within: float, share: float
) -> None:
    stream = Stream()
    stream.run(60, rate)
    stream.run(30, rate * share)
    noticed = stream.alarms[0]
    stream.run(30, rate)

    assert 60 < noticed <= 60 + within
    assert not stream.watch.degraded
    assert stream.alarms[-1] <= 90 + within


@pytest.mark.parametrize("share", [0.2, 0.5, 3.0])
def test_less_than_usual_is_no_trickle(share: float) -> None:
    stream = Stream()
    stream.run(60, 600)
    stream.run(60, 600 * share)

    assert stream.alarms == []


def test_a_trickle_does_not_become_usual_within_hours() -> None:
    stream = Stream()
    stream.run(60, 600)
    stream.run(6 * 60, 600 * 0.02)

    assert stream.watch.degraded


def test_what_is_really_the_new_usual_is_learnt_in_days() -> None:
    stream = Stream()
    stream.run(3 * 1440, 600)
    stream.run(7 * 1440, 600 * 0.04)

    assert not stream.watch.degraded


def test_before_ten_minutes_nothing_is_said() -> None:
    stream = Stream()
    stream.run(5, 6000)
    stream.run(4, 0)

    assert stream.alarms == []
    assert stream.watch.usual_per_minute is None


def test_too_few_to_judge_by_are_not_judged() -> None:
    stream = Stream()
    stream.run(600, 2)
    stream.run(120, 0)

    assert stream.alarms == []


def test_bursts_with_silence_between_are_no_trickle() -> None:
    """News come so: silent for minutes, then ten at once."""

    def bursts(minute: float) -> float:
        return 80.0 if minute % 4 < 0.4 else 0.0

    stream = Stream()
    stream.run(12 * 60, bursts)

    assert stream.alarms == []


def trading_day(minute: float) -> float:
    """Return a rate that is high at the open and at the close, and low at noon."""
    t = minute % 1440 / 390
    return 300 + 4000 * math.exp(-t * 12) + 2500 * math.exp(-(1 - t) * 15)


def test_a_trading_day_is_no_alarm() -> None:
    stream = Stream()
    for _ in range(10):
        stream.run(390, trading_day)
        stream.skip(1440 - 390)

    assert stream.alarms == []


def test_what_is_usual_is_known_by_the_half_hour_from_earlier_days() -> None:
    """Ten minutes after the open, 4 % of what is usual then is much for noon."""
    stream = Stream()
    for _ in range(3):
        stream.run(390, trading_day)
        stream.skip(1440 - 390)
    stream.run(15, lambda minute: trading_day(minute) * 0.04)

    assert stream.watch.degraded
    assert stream.watch.usual_per_minute is not None
    assert stream.watch.usual_per_minute > 1500


def test_a_minute_is_learnt_as_of_the_half_hour_that_it_lay_in() -> None:
    """Each day but at the open nothing comes."""
    stream = Stream()
    for _ in range(4):
        stream.run(30, 6000, slot=0)
        stream.run(30, 6000, slot=1)
        stream.run(30, 0, slot=2)
        stream.skip(1440 - 90)

    assert stream.watch._slots[0, 2].value == 0


def test_a_pause_is_not_judged() -> None:
    stream = Stream()
    stream.run(60, 6000)
    stream.skip(600)
    stream.run(5, 6000)

    assert stream.alarms == []


def test_a_process_that_slept_has_counted_nothing() -> None:
    stream = Stream()
    stream.run(60, 6000)
    stream._now += 10 * MINUTE
    stream.run(0.9, 0)
    stream.run(10, 6000)

    assert stream.alarms == []


def test_what_was_usual_is_known_for_an_hour_while_nothing_is_judged() -> None:
    stream = Stream()
    stream.run(60, 600)
    stream.skip(59)
    just_now = stream.watch.known_usual(stream._now)
    stream.skip(2)

    assert just_now == pytest.approx(600, rel=0.1)
    assert stream.watch.usual_per_minute is None
    assert stream.watch.known_usual(stream._now) is None
