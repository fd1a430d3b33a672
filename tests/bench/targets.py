"""What the edge is to reach, as ratios within one run; no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.findings import Results
from bench.plan import LOADS
from bench.session import Crowd, Step


__all__ = ["Verdict", "edge_alone", "per_cpu_second", "verdicts"]

_GATEWAY = "gateway"
_EDGES = ("edge-legacy", "edge-array", "edge-latest")
# Deliveries per core, as multiples of the gateway's: by contender and fan-out.
_TIMES_GATEWAY = {
    ("edge-array", 20): 4.0,
    ("edge-array", 200): 8.0,
    ("edge-latest", 20): 12.0,
    ("edge-legacy", 20): 3.0,
    ("edge-legacy", 200): 6.0,
}
_OF_FLOOR = 0.5
_CPU_OF_GATEWAY = 0.8
_IDLE_P99_MS = 2.0
_CONNECTION_KIB = 16.0
_WARM_SYMBOLS = 20_000
_WARM_SECONDS = 0.5
_FEW_SYMBOLS, _MANY_SYMBOLS = 100, 10_000
_SAME = 0.2
_INGEST_PER_SECOND = 25_000.0


@dataclass(frozen=True)
class Verdict:
    """
    A target and what the run says of it.

    Attributes:
        target: What is to be reached.
        found: What was measured; None if it was not.
        met: Whether that reaches it.
    """

    target: str
    found: str | None
    met: bool


def verdicts(results: Results) -> list[Verdict]:
    """Return all targets."""
    return [
        *_maxima(results),
        *_loads(results),
        *_alone(results),
        *edge_alone(results),
    ]


def edge_alone(results: Results) -> list[Verdict]:
    """Return the targets that are not compared with another server."""
    return [_warm(results), _symbols(results), _ingest(results)]


def per_cpu_second(step: Step) -> float:
    """Return deliveries for each second that the server had its core."""
    return step.delivered / step.server_cpu if step.server_cpu else 0.0


def _maxima(results: Results) -> Iterator[Verdict]:
    for (key, fan_out), times in _TIMES_GATEWAY.items():
        target = f"{key}, fan-out {fan_out}: {times:g}x the gateway per core"
        yield _times(results, target, key, _GATEWAY, fan_out, times)
    for fan_out in (20, 200):
        target = f"edge-legacy, fan-out {fan_out}: {_OF_FLOOR:.0%} of the C loop"
        yield _times(results, target, "edge-legacy", "floor", fan_out, _OF_FLOOR)


def _times(
    results: Results, target: str, key: str, other: str, fan_out: int, wanted: float
) -> Verdict:
    mine, theirs = results.peak(fan_out, key), results.peak(fan_out, other)
    if not mine or not theirs:
        return Verdict(target, None, False)
    ratio = per_cpu_second(mine) / per_cpu_second(theirs)
    sustained, against = (
        results.sustained(fan_out, key),
        results.sustained(fan_out, other),
    )
    found = f"{ratio:.2f}x per CPU second"
    if sustained and against:
        found += f"; sustained rate {sustained.delivered / against.delivered:.2f}x"
    return Verdict(target, found, ratio >= wanted)


def _loads(results: Results) -> Iterator[Verdict]:
    for key in _EDGES:
        pairs = [
            (mine, theirs)
            for crowd in _crowds(results)
            for part in LOADS
            if (mine := results.load(crowd, part, key))
            and (theirs := results.load(crowd, part, _GATEWAY))
        ]
        cpu = f"{key}: CPU per delivery at most {_CPU_OF_GATEWAY}x the gateway's"
        tail = f"{key}: p99 no worse than the gateway's"
        if not pairs:
            yield Verdict(f"{cpu}, at equal loads", None, False)
            yield Verdict(f"{tail}, at equal loads", None, False)
            continue
        ratios = sorted(mine.cpu_us / theirs.cpu_us for mine, theirs in pairs)
        good = sum(ratio <= _CPU_OF_GATEWAY for ratio in ratios)
        yield Verdict(
            f"{cpu}, at equal loads",
            f"{good} of {len(ratios)} loads; {ratios[0]:.2f} to {ratios[-1]:.2f}x",
            good == len(ratios),
        )
        tails = sorted(mine.p99_ms / theirs.p99_ms for mine, theirs in pairs)
        good = sum(ratio <= 1 for ratio in tails)
        yield Verdict(
            f"{tail}, at equal loads",
            f"{good} of {len(tails)} loads; {tails[0]:.2f} to {tails[-1]:.2f}x",
            good == len(tails),
        )


def _crowds(results: Results) -> list[Crowd]:
    return list(dict.fromkeys(crowd for crowd, _, _ in results.loads))


def _alone(results: Results) -> Iterator[Verdict]:
    for key in _EDGES:
        step, memory = results.alone(key), results.connection(key)
        yield Verdict(
            f"{key}, alone and idle: p99 under {_IDLE_P99_MS:g} ms",
            f"{step.p99_ms:.2f} ms" if step else None,
            step is not None and step.p99_ms < _IDLE_P99_MS,
        )
        kib = memory / 1024 if memory is not None else None
        yield Verdict(
            f"{key}: at most {_CONNECTION_KIB:g} KiB for an idle connection",
            f"{kib:.1f} KiB" if kib is not None else None,
            kib is not None and kib <= _CONNECTION_KIB,
        )


def _warm(results: Results) -> Verdict:
    found = results.warm_after(_WARM_SYMBOLS)
    return Verdict(
        f"{_WARM_SYMBOLS:,} symbols warm in under {_WARM_SECONDS:g} s",
        f"{found:.2f} s" if found is not None else None,
        found is not None and found < _WARM_SECONDS,
    )


def _symbols(results: Results) -> Verdict:
    target = (
        f"an update costs the same with {_FEW_SYMBOLS:,} and {_MANY_SYMBOLS:,} symbols,"
        f" within {_SAME:.0%}"
    )
    few = results.grown("symbols", _FEW_SYMBOLS)
    many = results.grown("symbols", _MANY_SYMBOLS)
    if few is None or many is None:
        return Verdict(target, None, False)
    ratio = many.cpu_us / few.cpu_us
    return Verdict(target, f"{ratio:.2f}x", ratio <= 1 + _SAME)


def _ingest(results: Results) -> Verdict:
    target = f"ingest: {_INGEST_PER_SECOND:,.0f} frames/s per core, confirmed"
    rate = (results.ingest or {}).get("published")
    if rate is None:
        return Verdict(target, None, False)
    return Verdict(target, f"{rate:,.0f}/s", rate >= _INGEST_PER_SECOND)
