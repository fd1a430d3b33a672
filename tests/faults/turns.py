"""What a run of two replicas has shown: what became of the news, who wrote when."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from faults.identity import unaccounted
from faults.results import Figure, percentile, scaled
from pair import NewsLoad, Pair, Stored
from processes import ServiceProcess
from verdict import Verdict, judge

from feedmesh.gaps import FeedGap


class NewsRun(NamedTuple):
    """What became of the news of a run."""

    stored: list[Stored]
    gaps: list[FeedGap]
    verdict: Verdict
    unaccounted_events: int
    connections: int
    connections_allowed: int

    @classmethod
    async def of(cls, pair: Pair, load: NewsLoad, *counted: ServiceProcess) -> NewsRun:
        unaccounted_events = await unaccounted(*(counted or [await pair.leader()]))
        stored, gaps = await pair.stored(), await pair.gaps()
        return cls(
            stored,
            gaps,
            judge(load.sent, [item.realkey for item in stored], gaps),
            unaccounted_events,
            (await pair.stats("ls.ws"))["connections_max"],
            await pair.connections_allowed(),
        )

    def figures(self) -> dict[str, Figure]:
        return {
            "news_sent": self.verdict.sent,
            "lost": self.verdict.lost,
            "duplicated": self.verdict.duplicated,
            "out_of_order": self.verdict.reordered,
            "late_in_gaps": self.verdict.late,
            "connections_at_once": self.connections,
            "unaccounted_events": self.unaccounted_events,
        }

    def bounds(self) -> dict[str, float]:
        return {
            "lost": 0,
            "duplicated": 0,
            "out_of_order": 0,
            "connections_at_once": scaled(self.connections_allowed, 1),
            "unaccounted_events": 0,
        }


class Turns:
    """When each writer in turn wrote, by what flows beside one another, in seconds."""

    def __init__(self) -> None:
        self._turns: dict[str, dict[int, tuple[float, float]]] = {}
        # For how long nothing came while nobody handed over.
        self._within: list[float] = []

    def note(self, flow: str, epoch: int, at: float) -> None:
        """Note that the writer of *epoch* wrote *at*."""
        turns = self._turns.setdefault(flow, {})
        first, last = turns.get(epoch, (at, at))
        if epoch in turns:
            self._within.append(max(0.0, at - last))
        turns[epoch] = (min(first, at), max(last, at))

    def figures(self) -> dict[str, Figure]:
        between = self._between()
        return {
            "gap_undisturbed_p99_ms": round(percentile(self._within, 0.99) * 1000, 1),
            "gap_p50_ms": round(percentile(between, 0.5) * 1000, 1),
            "gap_p99_ms": round(percentile(between, 0.99) * 1000, 1),
        }

    def _between(self) -> list[float]:
        """Return for how long nothing came whenever another began to write."""
        found = []
        for turns in self._turns.values():
            ordered = [turns[epoch] for epoch in sorted(turns)]
            for (_, last), (first, _) in itertools.pairwise(ordered):
                found.append(max(0.0, first - last))
        return found
