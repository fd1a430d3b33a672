"""What a dashboard is made of: rows of panels with their queries."""

from __future__ import annotations

from typing import Literal, NamedTuple


__all__ = ["RATE", "Board", "Panel", "Query", "now", "quantiles", "rate"]

RATE = "$__rate_interval"


class Query(NamedTuple):
    """An expression of PromQL, and what its lines are called."""

    expr: str
    legend: str = ""


class Panel(NamedTuple):
    """
    One picture.

    Attributes:
        title: What it shows.
        unit: In Grafana's words.
        queries: What is drawn.
        about: What to make of it.
        kind: A line over time, or one number that is coloured.
        good: Of a number: whether all is well, from this value on (or up to it, if it
            is negative).
        span: Width, of 24.
    """

    title: str
    unit: str
    queries: tuple[Query, ...]
    about: str = ""
    kind: Literal["lines", "number"] = "lines"
    good: float | None = None
    span: int = 8


class Board(NamedTuple):
    """One dashboard: its rows of panels, by title."""

    uid: str
    title: str
    rows: dict[str, tuple[Panel, ...]]


def quantiles(metric: str, by: str = "") -> tuple[Query, ...]:
    """Return the median and the 99th percentile of a histogram."""
    labels = f"le, {by}" if by else "le"
    legend = " ".join(f"{{{{{name}}}}}" for name in by.split(", ") if name)
    return tuple(
        Query(
            f"histogram_quantile({q}, sum by ({labels})"
            f" (rate({metric}_bucket[{RATE}])))",
            f"{legend} {name}".strip(),
        )
        for q, name in ((0.5, "p50"), (0.99, "p99"))
    )


def rate(metric: str, by: str, where: str = "") -> Query:
    """Return how fast a counter grows, by *by*."""
    legend = " ".join(f"{{{{{name}}}}}" for name in by.split(", "))
    return Query(f"sum by ({by}) (rate({metric}{where}[{RATE}]))", legend)


def now(metric: str, *labels: str) -> Query:
    """Return a gauge as it is."""
    return Query(metric, " ".join(f"{{{{{name}}}}}" for name in labels))
