"""What a run of two replicas has shown: what became of the news, who wrote when."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from faults.identity import unaccounted
from faults.results import Figure
from pair import NewsLoad, Pair, Stored, Verdict, judge, said
from processes import ServiceProcess

from feedmesh.gaps import FeedGap


def connections_allowed(pair: Pair) -> int:
    """Return how many connections at once are no fault of ours."""
    # A leader that is starved of time is overtaken while it is still connected.
    starved = any(said(each, "another leads; stepping down") for each in pair.replicas)
    return 2 if starved else 1


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
            connections_allowed(pair),
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
            "connections_at_once": self.connections_allowed,
            "unaccounted_events": 0,
        }


class Turns:
    """
    When each writer in turn wrote, by what flows beside one another, in seconds.

    Attributes:
        within: For how long nothing came while nobody handed over.
    """

    def __init__(self) -> None:
        self._turns: dict[str, dict[int, tuple[float, float]]] = {}
        self.within: list[float] = []

    def note(self, flow: str, epoch: int, at: float) -> None:
        """Note that the writer of *epoch* wrote *at*."""
        turns = self._turns.setdefault(flow, {})
        first, last = turns.get(epoch, (at, at))
        if epoch in turns:
            self.within.append(max(0.0, at - last))
        turns[epoch] = (min(first, at), max(last, at))

    def between(self) -> list[float]:
        """Return for how long nothing came whenever another began to write."""
        found = []
        for turns in self._turns.values():
            ordered = [turns[epoch] for epoch in sorted(turns)]
            for (_, last), (first, _) in itertools.pairwise(ordered):
                found.append(max(0.0, first - last))
        return found
