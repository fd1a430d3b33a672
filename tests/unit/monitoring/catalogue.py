"""Every series that a service exports, as the code has it; makes docs/metrics.md."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from edge.door.gate import AuthMetrics
from edge.metrics import EdgeMetrics
from feedmesh.metrics import BusMetrics, IngestMetrics
from feedmesh.vitals import show_vitals
from ingest_ls.metrics import LsMetrics
from prober.metrics import ProberMetrics


ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/metrics.md"
COST = ROOT / "tests/bench/results/instrumentation.json"
HEAD = """\
# Metrics

Every service exports these at `/metrics` of its ops port. Units are base units. No
label names a symbol, a client or a user: their number is bounded. A histogram `x` has
the series `x_bucket`, `x_sum` and `x_count`.

Alerts on them are in `k8s/monitoring`, what to do about each in
[runbook.md](runbook.md), pictures of them in [dashboards.md](dashboards.md).

This page is made from the code: `python tests/unit/monitoring/catalogue.py`.
"""


class Family(NamedTuple):
    """One metric; counters with the suffix that their series have."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str

    @property
    def series(self) -> list[str]:
        """The names under which it is exported."""
        if self.kind == "histogram":
            return [f"{self.name}_{part}" for part in ("bucket", "sum", "count")]
        return [self.name]


async def _vitals(registry: CollectorRegistry) -> None:
    async with show_vitals(registry):
        pass


def _ingest(registry: CollectorRegistry) -> None:
    IngestMetrics(registry, "feed")


def _edge(registry: CollectorRegistry) -> None:
    EdgeMetrics(registry)
    AuthMetrics(registry)


SERVICES: dict[str, Callable[[CollectorRegistry], object]] = {
    "Every service": lambda registry: asyncio.run(_vitals(registry)),
    "Every service that uses NATS": BusMetrics,
    "Both ingests": _ingest,
    "ingest-ls": LsMetrics,
    "edge": _edge,
    "prober": ProberMetrics,
}


def families(fill: Callable[[CollectorRegistry], object]) -> list[Family]:
    """Return what *fill* registers, by name."""
    registry = CollectorRegistry()
    fill(registry)
    found = []
    for collector in registry._collector_to_names:
        labels = tuple(getattr(collector, "_labelnames", ()))
        for metric in collector.collect():
            suffix = "_total" if metric.type == "counter" else ""
            found.append(
                Family(metric.name + suffix, metric.type, labels, metric.documentation)
            )
    return sorted(found)


def catalogue() -> dict[str, list[Family]]:
    """Return all metrics, by who exports them."""
    return {title: families(fill) for title, fill in SERVICES.items()}


def _cost() -> str:
    found = json.loads(COST.read_text())
    took = {name: max(0.0, share) for name, share in found["overhead"].items()}
    rows = "".join(
        f"| {name.replace('_', '-')} | {one['series']} | {one['p50_ms']} |"
        f" {one['p99_ms']} |\n"
        for name, one in found["scrapes"].items()
    )
    return (
        "\n## What they cost\n\n"
        "With 10,000 symbols and 1,000 clients on one edge, on two shared cores:\n\n"
        "| service | series | scrape, ms, p50 | p99 |\n|---|---:|---:|---:|\n"
        f"{rows}\nOn the hot path they take {took['ingest']:.1%} of the time of an"
        f" ingest and {took['edge']:.1%} of that of\nan edge."
        " `python -m bench.instrumentation` in `tests` measures both anew.\n"
    )


def page() -> str:
    """Return docs/metrics.md."""
    parts = [HEAD, _cost()]
    for title, found in catalogue().items():
        parts.append(
            f"\n## {title}\n\n| metric | type | labels | what |\n|---|---|---|---|\n"
        )
        for family in found:
            labels = ", ".join(f"`{label}`" for label in family.labels)
            parts.append(
                f"| `{family.name}` | {family.kind} | {labels} | {family.text} |\n"
            )
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
