"""What a run with news has shown: what was lost, doubled, late, or lies in a gap."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from feedmesh.clock import from_iso
from feedmesh.gaps import FeedGap


class Sent(NamedTuple):
    """An item that the upstream wrote to a connection, and when, in ns."""

    realkey: str
    before_ns: int
    after_ns: int


class Verdict(NamedTuple):
    """
    What a run has shown.

    Attributes:
        sent: Items that the upstream wrote to a connection.
        stored: Items in the stream.
        lost: Items that were sent, are not there, and lie in no gap.
        in_gaps: Items that were sent, are not there, and lie in a recorded gap.
        duplicated: Items that are there more than once.
        reordered: Items that stand somewhere behind one that was sent after them, and
            lie in no gap.
        late: The same, but in a recorded gap: what a replica that died had kept on
            disk comes when it is back.
    """

    sent: int
    stored: int
    lost: int
    in_gaps: int
    duplicated: int
    reordered: int
    late: int


def judge(sent: list[Sent], stored: list[str], gaps: list[FeedGap]) -> Verdict:
    """Compare what was sent with what is stored."""
    there = set(stored)
    times = [(from_iso(gap.since), _end_of(gap)) for gap in gaps]
    in_gaps = {
        item.realkey
        for item in sent
        if any(since <= item.before_ns <= until for since, until in times)
    }
    missing = {item.realkey for item in sent} - there
    highest = itertools.accumulate(stored, max)
    behind = {b for a, b in zip(highest, stored, strict=True) if a > b}
    verdict = Verdict(
        sent=len(sent),
        stored=len(stored),
        lost=len(missing - in_gaps),
        in_gaps=len(missing & in_gaps),
        duplicated=len(stored) - len(there),
        reordered=len(behind - in_gaps),
        late=len(behind & in_gaps),
    )
    if verdict.lost:
        _tell_lost([item for item in sent if item.realkey in missing - in_gaps], times)
    return verdict


def _tell_lost(lost: list[Sent], times: list[tuple[int, int]]) -> None:
    def seconds(instant_ns: int) -> float:
        return round((instant_ns - lost[0].before_ns) / 1e9, 3)

    gaps = [[seconds(since), seconds(until)] for since, until in times]
    report("lost", until=seconds(lost[-1].after_ns), items=len(lost), gaps=gaps)


def within(gaps: Iterable[FeedGap], instant_ns: int) -> bool:
    """Return whether any of *gaps* covers *instant_ns*."""
    return any(from_iso(gap.since) <= instant_ns <= _end_of(gap) for gap in gaps)


def seconds_of(gap: FeedGap) -> float:
    """Return how long *gap* is, or has lasted until now."""
    return (_end_of(gap) - from_iso(gap.since)) / 1e9


def _end_of(gap: FeedGap) -> int:
    return time.time_ns() if gap.until is None else from_iso(gap.until)


def report(test: str, **figures: Any) -> None:
    """Print *figures* as one JSON line."""
    print(json.dumps({"test": test, **figures}), flush=True)


def quantile(values: list[float], share: float) -> float:
    """Return the value that *share* of *values* do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else 0.0
