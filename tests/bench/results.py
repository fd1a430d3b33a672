"""What a run has found, and medians of it; no I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import median
from typing import Any

from bench.measure import Maximum
from bench.session import Crowd, Step


__all__ = ["Results", "median_step"]


def median_step(steps: Sequence[Step]) -> Step:
    """
    Return the medians of all fields of *steps*.

    Raises:
        ValueError: If there are none.
    """
    if not steps:
        raise ValueError("no steps")
    medians = {
        each.name: median(getattr(step, each.name) for step in steps)
        for each in fields(Step)
    }
    return Step(**medians)


def _lists() -> Any:
    return defaultdict(list)


@dataclass
class Results:
    """
    Everything that was measured; keys of contenders are those of the command line.

    Attributes:
        about: What was run and on what, by name.
        maxima: By fan-out and contender.
        loads: By crowd, part of the gateway's maximum, and contender.
        idle: One client alone, by contender.
        memory: Bytes for each idle connection, by contender.
        warm: Seconds until the cache was warm, by number of symbols.
        growth: Steps of the edge by what grows and how far.
        ingest: What the benchmark of the ingest says of itself.
        missing: Why a contender was not run.
    """

    about: dict[str, str] = field(default_factory=dict)
    maxima: dict[tuple[int, str], list[Maximum]] = field(default_factory=_lists)
    loads: dict[tuple[Crowd, float, str], list[Step]] = field(default_factory=_lists)
    idle: dict[str, list[Step]] = field(default_factory=_lists)
    memory: dict[str, list[float]] = field(default_factory=_lists)
    warm: dict[int, list[float]] = field(default_factory=_lists)
    growth: dict[tuple[str, int], list[Step]] = field(default_factory=_lists)
    ingest: dict[str, Any] | None = None
    missing: dict[str, str] = field(default_factory=dict)

    def sustained(self, fan_out: int, key: str) -> Step | None:
        """Return the median of the highest rates that were sustained."""
        found = [one.best for one in self.maxima.get((fan_out, key), []) if one.best]
        return median_step(found) if found else None

    def peak(self, fan_out: int, key: str) -> Step | None:
        """Return the median of the steps with the most deliveries."""
        found = [one.peak for one in self.maxima.get((fan_out, key), [])]
        return median_step(found) if found else None

    def load(self, crowd: Crowd, part: float, key: str) -> Step | None:
        """Return the median at *part* of the gateway's maximum."""
        found = self.loads.get((crowd, part, key))
        return median_step(found) if found else None

    def alone(self, key: str) -> Step | None:
        """Return the median of what one client alone saw."""
        found = self.idle.get(key)
        return median_step(found) if found else None

    def connection(self, key: str) -> float | None:
        """Return the median of the memory for one connection, in bytes."""
        found = self.memory.get(key)
        return median(found) if found else None

    def as_json(self) -> dict[str, Any]:
        """Return all of it for a JSON encoder, every repetition by itself."""
        return {
            "about": self.about,
            "maxima": {
                f"fan-out {fan_out}, {key}": [asdict(one) for one in found]
                for (fan_out, key), found in self.maxima.items()
            },
            "loads": {
                f"{crowd}, {part:.0%}, {key}": [asdict(one) for one in found]
                for (crowd, part, key), found in self.loads.items()
            },
            "idle": {
                key: [asdict(s) for s in found] for key, found in self.idle.items()
            },
            "memory": dict(self.memory),
            "warm": dict(self.warm),
            "growth": {
                f"{what} {size}": [asdict(one) for one in found]
                for (what, size), found in self.growth.items()
            },
            "ingest": self.ingest,
            "missing": self.missing,
        }
