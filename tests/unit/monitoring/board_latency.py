"""How long each hop takes, and the whole way."""

from __future__ import annotations

from .panels import Board, Panel, Query, now, quantiles


__all__ = ["LATENCY"]

_INGEST = "feedmesh_ingest_"
_EDGE = "feedmesh_edge_"
_PROBER = "feedmesh_prober_"

LATENCY = Board(
    "feedmesh-latency",
    "feedmesh: latency per hop",
    {
        "The whole way": (
            Panel(
                "Ingest to client (canaries)",
                "s",
                quantiles(f"{_PROBER}latency_seconds", "feed, kind"),
                span=12,
            ),
            Panel(
                "Prices later than 100 ms",
                "percentunit",
                (now("feedmesh:canaries_late:ratio_rate5m", "edge"),),
                span=12,
            ),
        ),
        "Hop by hop": (
            Panel(
                "Source to ingest",
                "s",
                quantiles(f"{_INGEST}source_latency_seconds", "feed"),
            ),
            Panel(
                "Ingest to NATS",
                "s",
                quantiles(f"{_INGEST}bus_latency_seconds", "feed, kind"),
            ),
            Panel("NATS to edge", "s", quantiles(f"{_EDGE}bus_latency_seconds")),
            Panel(
                "Edge to socket",
                "s",
                quantiles(f"{_EDGE}write_latency_seconds"),
                "Of each price to each client that wants it at once.",
            ),
            Panel(
                "Clocks",
                "s",
                (
                    now(f"{_INGEST}clock_skew_seconds", "feed"),
                    Query(f"{_EDGE}clock_skew_seconds", "edge {{instance}}"),
                ),
                "The least time a hop took. Below 0, two clocks disagree.",
            ),
            Panel(
                "Event loops",
                "s",
                (
                    *quantiles("feedmesh_loop_lag_seconds", "job"),
                    Query("feedmesh_loop_lag_worst_seconds", "{{instance}} worst"),
                ),
            ),
        ),
    },
)
