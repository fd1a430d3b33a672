"""The results as Markdown; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from bench.findings import Results
from bench.plan import LOADS
from bench.servers import CONTENDERS
from bench.session import Crowd, Step
from bench.targets import edge_alone, per_cpu_second, verdicts


__all__ = ["markdown", "summary", "table"]

_GATEWAY = "gateway"
_TITLES = {each.key: each.title for each in CONTENDERS}


def markdown(results: Results) -> str:
    """Return the report."""
    sections = [
        _opening(results),
        *(_maxima(results, fan_out) for fan_out in _fan_outs(results)),
        *(_loads(results, crowd) for crowd in _crowds(results)),
        _alone(results),
        _growth(results),
        _ingest(results),
        _targets(results),
        _missing(results),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def summary(results: Results) -> str:
    """Return the little that a reader of the project's front page wants to know."""
    rows = []
    for key, title in _TITLES.items():
        cells = [title]
        for fan_out in _fan_outs(results):
            peak = results.peak(fan_out, key)
            cells.append(_thousands(per_cpu_second(peak)) if peak else "-")
            gateway = results.peak(fan_out, _GATEWAY)
            cells.append(_ratio(peak, gateway, per_cpu_second))
        kib = results.connection(key)
        cells.append(f"{kib / 1024:.0f}" if kib is not None else "-")
        alone = results.alone(key)
        cells.append(f"{alone.p99_ms:.1f}" if alone else "-")
        rows.append(cells)
    head = ["server"]
    for fan_out in _fan_outs(results):
        head += [f"deliveries per CPU second, fan-out {fan_out}", "x gateway"]
    head += ["KiB per idle connection", "p99 ms, alone"]
    rest = [f"{verdict.target}: {verdict.found}" for verdict in edge_alone(results)]
    return (
        "\n\n".join([table(head, rows), "\n".join(f"- {line}" for line in rest)]) + "\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are aligned to the right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])


def _opening(results: Results) -> str:
    about = "\n".join(f"- {name}: {text}" for name, text in results.about.items())
    return (
        "# Benchmark\n\n"
        "The server under test has one core; the load generator, the publisher and\n"
        "the bus share another. Every delivery is counted and checked. The servers\n"
        "alternate within one run, and each number is the median of its repetitions.\n"
        "Numbers of different machines cannot be compared; ratios within one run\n"
        "can.\n\n"
        f"{about}"
    )


def _maxima(results: Results, fan_out: int) -> str:
    rows = []
    for key, title in _TITLES.items():
        peak = results.peak(fan_out, key)
        if peak is None:
            continue
        best = results.sustained(fan_out, key)
        rows.append(
            [
                title,
                _thousands(per_cpu_second(peak)),
                _ratio(peak, results.peak(fan_out, _GATEWAY), per_cpu_second),
                _thousands(best.delivered) if best else "-",
                _ratio(best, results.sustained(fan_out, _GATEWAY), _delivered),
                f"{best.server_cpu:.0%}" if best else "-",
                _latency(best),
            ]
        )
    head = ["server", "per CPU second", "x gateway", "sustained/s", "x gateway"]
    head += ["CPU", "p50 / p99 / p99.9 ms"]
    return (
        f"## Most deliveries, each update to {fan_out} of 1,000 clients\n\n"
        "*Per CPU second*: at the rate with the most deliveries, whatever the delay,\n"
        "for each second that the server really had its core. *Sustained*: 97 % of\n"
        "the updates arrive in time, none is lost, p99 is at most 250 ms; with the\n"
        "share of its core that the server used for it, and the latency then.\n\n"
        f"{table(head, rows)}"
    )


def _loads(results: Results, crowd: Crowd) -> str:
    rows = []
    for part in LOADS:
        gateway = results.load(crowd, part, _GATEWAY)
        for key, title in _TITLES.items():
            step = results.load(crowd, part, key)
            if step is None:
                continue
            rows.append(
                [
                    f"{part:.0%} = {_thousands(step.asked)}/s, {title}",
                    f"{step.cpu_us:.2f}",
                    _ratio(step, gateway, lambda one: one.cpu_us),
                    _latency(step),
                    _ratio(step, gateway, lambda one: one.p99_ms),
                    "" if step.held else f"{_thousands(step.delivered)}/s arrived",
                ]
            )
    head = ["load, server", "CPU us each", "x gateway"]
    head += ["p50 / p99 / p99.9 ms", "p99 x gateway", "not held"]
    return f"## At parts of the gateway's maximum: {crowd}\n\n{table(head, rows)}"


def _alone(results: Results) -> str:
    rows = []
    for key, title in _TITLES.items():
        step, memory = results.alone(key), results.connection(key)
        if step is None and memory is None:
            continue
        kib = f"{memory / 1024:.1f}" if memory is not None else "-"
        rows.append([title, kib, _latency(step)])
    if not rows:
        return ""
    head = ["server", "KiB per idle connection", "alone: p50 / p99 / p99.9 ms"]
    return (
        "## Idle connections, and one client alone\n\n"
        "Memory is what the process grows by (PSS) for each of 2,000 connections\n"
        "after a first 500; kernel buffers are not in it. Alone: one client, ten\n"
        f"updates a second.\n\n{table(head, rows)}"
    )


def _growth(results: Results) -> str:
    parts = []
    if results.warm:
        rows = [
            [f"{symbols:,}", f"{results.warm_after(symbols):.3f}"]
            for symbols in sorted(results.warm)
        ]
        parts.append(
            "## How soon the edge is warm\n\nFrom its connection to NATS to a full"
            f" cache.\n\n{table(['symbols', 'seconds'], rows)}"
        )
    if results.growth:
        rows = []
        for what, size in results.growth:
            step = results.grown(what, size)
            if step is None:
                continue
            rows.append([f"{size:,} {what}", f"{step.cpu_us:.2f}", _latency(step)])
        head = ["", "CPU us per delivery", "p50 / p99 / p99.9 ms"]
        parts.append(
            "## How the edge's cost grows\n\n"
            "Symbols: 100 clients, fan-out 10, 2,000 updates a second. Clients: each\n"
            "has 20 of 1,000 symbols, 500 updates a second. Updates: 1,000 clients,\n"
            f"fan-out 20.\n\n{table(head, rows)}"
        )
    return "\n\n".join(parts)


def _ingest(results: Results) -> str:
    if results.ingest is None:
        return ""
    rows = [
        [name, _thousands(value)]
        for name, value in results.ingest.items()
        if isinstance(value, int | float)
    ]
    return f"## Ingest, frames for each second of its CPU\n\n{table(['', ''], rows)}"


def _targets(results: Results) -> str:
    rows = [
        [
            verdict.target,
            verdict.found or "not measured",
            "-" if verdict.found is None else "yes" if verdict.met else "**no**",
        ]
        for verdict in verdicts(results)
    ]
    return f"## Targets\n\n{table(['target', 'found', 'met'], rows)}"


def _missing(results: Results) -> str:
    lines = [
        f"- {_TITLES.get(key, key)}: {why}" for key, why in results.missing.items()
    ]
    return "## Not run\n\n" + "\n".join(lines) if lines else ""


def _fan_outs(results: Results) -> list[int]:
    return list(dict.fromkeys(fan_out for fan_out, _ in results.maxima))


def _crowds(results: Results) -> Iterator[Crowd]:
    yield from dict.fromkeys(crowd for crowd, _, _ in results.loads)


def _thousands(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.2f}M"
    if number >= 1e4:
        return f"{number / 1e3:.0f}k"
    return f"{number:,.0f}"


def _latency(step: Step | None) -> str:
    if step is None:
        return "-"
    return f"{step.p50_ms:.1f} / {step.p99_ms:.1f} / {step.p999_ms:.1f}"


def _delivered(step: Step) -> float:
    return step.delivered


def _ratio(
    mine: Step | None, theirs: Step | None, figure: Callable[[Step], float]
) -> str:
    if mine is None or theirs is None or not figure(theirs):
        return "-"
    return f"{figure(mine) / figure(theirs):.2f}"
