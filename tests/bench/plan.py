"""How much is measured, how long, and how often."""

from __future__ import annotations

from dataclasses import dataclass

from bench.session import Crowd


__all__ = ["FULL", "LOADS", "MEDIUM", "PARTS", "QUICK", "Plan"]

PARTS = ("maximum", "loads", "idle", "memory", "warm", "growth", "ingest")
# Parts of the gateway's maximum.
LOADS = (0.1, 0.3, 0.7)


@dataclass(frozen=True)
class Plan:
    """
    The size of a run.

    Attributes:
        name: On the command line.
        minutes: After which it ends, whatever is left; about half as long is usual.
        repetitions: How often each maximum is found; the median counts.
        load_repetitions: How often the rest is measured.
        step_seconds: How long one rate is measured.
        factor: By how much a rate grows while nothing is known of a server.
        precision: How near, relatively, the bounds of a maximum must be.
        crowds: Clients for the measurements at the gateway's loads.
        idle_seconds: How long one client is measured alone.
        connections: Idle ones, for the memory of each.
        warm_symbols: Numbers of symbols for the warm-up of the cache.
        ingest: Arguments of the ingest's own benchmark.
    """

    name: str
    minutes: float
    repetitions: int
    load_repetitions: int
    step_seconds: float
    factor: float
    precision: float
    crowds: tuple[Crowd, ...]
    idle_seconds: float
    connections: int
    warm_symbols: tuple[int, ...]
    ingest: tuple[str, ...]


FULL = Plan(
    name="full",
    minutes=90,
    repetitions=5,
    load_repetitions=3,
    step_seconds=1.2,
    factor=1.6,
    precision=0.1,
    crowds=(Crowd(100, 20), Crowd(1000, 20), Crowd(4000, 20), Crowd(4000, 200)),
    idle_seconds=5.0,
    connections=2000,
    warm_symbols=(1000, 2000, 4000, 8000, 16000, 20000),
    ingest=("--frames", "100000", "--runs", "5"),
)
"""About 45 minutes."""

MEDIUM = Plan(
    name="medium",
    minutes=50,
    repetitions=3,
    load_repetitions=2,
    step_seconds=1.0,
    factor=1.6,
    precision=0.15,
    crowds=(Crowd(100, 20), Crowd(1000, 20), Crowd(4000, 20)),
    idle_seconds=4.0,
    connections=2000,
    warm_symbols=(1000, 2000, 4000, 8000, 16000, 20000),
    ingest=("--frames", "60000", "--runs", "3"),
)
"""About 25 minutes."""

QUICK = Plan(
    name="quick",
    minutes=15,
    repetitions=1,
    load_repetitions=1,
    step_seconds=0.8,
    factor=2.0,
    precision=0.3,
    crowds=(Crowd(1000, 20),),
    idle_seconds=3.0,
    connections=2000,
    warm_symbols=(1000, 20000),
    ingest=("--frames", "30000", "--runs", "1"),
)
"""About 6 minutes; shows that everything works, and little more."""
