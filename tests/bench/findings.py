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

_BETWEEN = "/"


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

    def grown(self, what: str, size: int) -> Step | None:
        """Return the median of what the edge showed when *what* was *size*."""
        found = self.growth.get((what, size))
        return median_step(found) if found else None

    def alone(self, key: str) -> Step | None:
        """Return the median of what one client alone saw."""
        found = self.idle.get(key)
        return median_step(found) if found else None

    def warm_after(self, symbols: int) -> float | None:
        """Return the median of the seconds until *symbols* symbols were there."""
        found = self.warm.get(symbols)
        return median(found) if found else None

    def connection(self, key: str) -> float | None:
        """Return the median of the memory for one connection, in bytes."""
        found = self.memory.get(key)
        return median(found) if found else None

    def update(self, newer: Results) -> None:
        """Take over what *newer* has; the rest stays."""
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(newer, each.name)
            if each.name == "missing" or (mine is None and theirs):
                setattr(self, each.name, theirs)
            elif theirs:
                mine.update(theirs)

    def as_json(self) -> dict[str, Any]:
        """Return all of it for a JSON encoder, every repetition by itself."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Results:
        """
        Return what :meth:`as_json` was made from.

        Raises:
            KeyError, TypeError, ValueError: If it is not that.
        """
        results = cls(
            about=plain["about"],
            memory=_lists() | plain["memory"],
            ingest=plain["ingest"],
            missing=plain["missing"],
        )
        results.idle |= {
            key: [Step(**step) for step in steps]
            for key, steps in plain["idle"].items()
        }
        results.warm |= {int(size): found for size, found in plain["warm"].items()}
        for name, steps in plain["growth"].items():
            what, size = name.split(_BETWEEN)
            results.growth[what, int(size)] = [Step(**step) for step in steps]
        for name, steps in plain["loads"].items():
            clients, fan_out, part, key = name.split(_BETWEEN)
            crowd = Crowd(int(clients), int(fan_out))
            results.loads[crowd, float(part), key] = [Step(**step) for step in steps]
        for name, found in plain["maxima"].items():
            fan_out, key = name.split(_BETWEEN)
            results.maxima[int(fan_out), key] = [_maximum(each) for each in found]
        return results


def _maximum(plain: dict[str, Any]) -> Maximum:
    best = plain["best"]
    return Maximum(Step(**best) if best else None, Step(**plain["peak"]))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_name(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [
            asdict(each) if isinstance(each, Step | Maximum) else each for each in value
        ]
    return value


def _name(key: Any) -> str:
    if not isinstance(key, tuple):
        return str(key)
    parts = [
        f"{part.clients}{_BETWEEN}{part.fan_out}" if isinstance(part, Crowd) else part
        for part in key
    ]
    return _BETWEEN.join(map(str, parts))
