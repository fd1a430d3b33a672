"""The first look: are clients hurt, how fast, and where to look next."""

from __future__ import annotations

from .panels import Board, Panel, Query, now


__all__ = ["OVERVIEW"]

_INGEST = "feedmesh_ingest_"
_EDGE = "feedmesh_edge_"
_PROBER = "feedmesh_prober_"
_NATS = "feedmesh_nats_"

OVERVIEW = Board(
    "feedmesh-overview",
    "feedmesh: overview",
    {
        "Are clients hurt?": (
            Panel(
                "Availability, 1 h",
                "percentunit",
                (Query("1 - max(feedmesh:availability_errors:ratio_rate1h)"),),
                "Share of seconds in which the worst edge answered. Objective: 99.9 %.",
                "number",
                0.999,
                4,
            ),
            Panel(
                "Freshness, 1 h",
                "percentunit",
                (Query("1 - max(feedmesh:freshness_errors:ratio_rate1h)"),),
                "Share of seconds in which the worst feed's canary had come lately.",
                "number",
                0.999,
                4,
            ),
            Panel(
                "Ingest to client, p99",
                "s",
                (Query('feedmesh:latency:p99{kind="price"}'),),
                "Of price canaries, over five minutes.",
                "number",
                -0.1,
                4,
            ),
            Panel(
                "Alerts that fire",
                "none",
                (Query('count(ALERTS{alertstate="firing"}) or vector(0)'),),
                "",
                "number",
                -0.5,
                4,
            ),
            Panel(
                "Clients",
                "none",
                (Query(f"sum({_EDGE}clients)"),),
                "",
                "number",
                None,
                4,
            ),
            Panel(
                "Edges that answer",
                "none",
                (Query(f"sum({_PROBER}connected)"),),
                "",
                "number",
                1,
                4,
            ),
        ),
        "How fast is the allowance used up?": (
            Panel(
                "Availability errors",
                "percentunit",
                (
                    Query(
                        "feedmesh:availability_errors:ratio_rate5m", "{{edge}} 5 min"
                    ),
                    Query("feedmesh:availability_errors:ratio_rate6h", "{{edge}} 6 h"),
                ),
                span=12,
            ),
            Panel(
                "Freshness errors",
                "percentunit",
                (
                    Query(
                        "feedmesh:freshness_errors:ratio_rate5m",
                        "{{feed}} {{kind}} 5 min",
                    ),
                    Query(
                        "feedmesh:freshness_errors:ratio_rate6h",
                        "{{feed}} {{kind}} 6 h",
                    ),
                ),
                span=12,
            ),
        ),
        "Where?": (
            Panel("Who leads", "none", (now("feedmesh:leader:present", "feed"),)),
            Panel(
                "Links that are up", "none", (now(f"{_INGEST}link_up", "feed", "link"),)
            ),
            Panel("Servers of NATS", "none", (now(f"{_NATS}up", "node"),)),
        ),
    },
)
