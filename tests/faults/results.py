"""
What a fault suite has found: a line of JSON, printed, kept, and held to its bounds.

``FAULT_SCALE=full`` makes the suites as long as the promises are; without it they
run a short form, which is part of ``make test``. ``FAULT_RESULTS`` names a file that
the lines are added to; `report.py` makes the table from it. What a machine does not
allow is a line, too.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar


Figure = float | int | str | None
ValueT = TypeVar("ValueT")

# Tests that have told of a bound that was missed.
_missed: set[str] = set()

FULL = os.environ.get("FAULT_SCALE", "short") == "full"


def scaled(short: ValueT, full: ValueT) -> ValueT:
    """Return *full* in a full run, else *short*."""
    return full if FULL else short


def record(
    suite: str,
    figures: Mapping[str, Figure],
    *,
    at_most: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
) -> None:
    """
    Tell *figures* of *suite*, then fail if they miss a bound.

    Args:
        suite: Name of what was done.
        figures: By name, with the unit in it where there is one.
        at_most: Bounds that figures must not exceed.
        at_least: Bounds that figures must reach; of negative controls, mostly.
    """
    record_all([Run(suite, figures, at_most or {}, at_least or {})])


class Run(NamedTuple):
    """What :func:`record` takes."""

    suite: str
    figures: Mapping[str, Figure]
    at_most: Mapping[str, float] = MappingProxyType({})
    at_least: Mapping[str, float] = MappingProxyType({})


def record_all(runs: Sequence[Run]) -> None:
    """Tell all of *runs*, then fail if one of them misses a bound."""
    missed = [text for run in runs for text in _tell(*run)]
    assert not missed, "; ".join(missed)


def _tell(
    suite: str,
    figures: Mapping[str, Figure],
    highest: Mapping[str, float],
    lowest: Mapping[str, float],
) -> list[str]:
    """Print and keep a line; return which bounds are missed."""
    bounds = {name: f"≤ {bound:g}" for name, bound in highest.items()}
    bounds |= {name: f"≥ {bound:g}" for name, bound in lowest.items()}
    missed = [
        name for name, bound in highest.items() if not _at_most(figures, name, bound)
    ]
    missed += [name for name, bound in lowest.items() if _below(figures, name, bound)]
    line = _keep(suite, figures=dict(figures), bounds=bounds, missed=missed)
    if missed:
        _missed.add(_test())
    return [f"{name} missed the bound: {line}" for name in missed]


def tell_skipped(suite: str, reason: str) -> None:
    """Tell that *suite* was not run, and why, so that nobody takes it for held."""
    _keep(suite, skipped=reason.removeprefix("NOT TESTED, "))


def tell_broken(reason: str) -> None:
    """Tell that the test of now failed; unless it has told figures that say so."""
    if _test() not in _missed:
        _keep(_test(), broken=reason)


def _keep(suite: str, **outcome: object) -> str:
    """Print and keep a line about *suite*, with what it was run on; return it."""
    line = json.dumps(
        {
            "suite": suite,
            "test": _test(),
            "scale": "full" if FULL else "short",
            "cores": os.cpu_count(),
            "memory_gib": _memory_gib(),
            "load": round(os.getloadavg()[0], 1),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit_of(Path(__file__).parent),
            **outcome,
        },
        ensure_ascii=False,
    )
    print(line, flush=True)
    if path := os.environ.get("FAULT_RESULTS"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    return line


def _test() -> str:
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].split(" ")[0]


def commit_of(folder: Path) -> str:
    """
    Return the commit of the repository that *folder* is in, or "unknown".

    It ends in ``+`` if something else was changed since than what is told here.
    """
    git = ("git", "-C", str(folder))
    told = (f":!*/{name}" for name in ("results.jsonl", "RESULTS.md"))
    try:
        found, changed = (
            subprocess.run((*git, *what), capture_output=True, text=True, check=True)
            for what in (
                ("rev-parse", "--short", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no", "--", ":/", *told),
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip() + ("+" if changed.stdout else "")


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def _at_most(figures: Mapping[str, Figure], name: str, bound: float) -> bool:
    figure = figures[name]
    return isinstance(figure, int | float) and figure <= bound


def _below(figures: Mapping[str, Figure], name: str, bound: float) -> bool:
    figure = figures[name]
    return not isinstance(figure, int | float) or figure < bound


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that *share* of *values* do not exceed; 0.99 is the 99th."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return how much the second value of *points* grows with the first, on average."""
    if len(points) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*points, strict=True)).slope
