"""The edges, their clients, and how both look from outside."""

from __future__ import annotations

from .panels import Board, Panel, Query, now, rate


__all__ = ["EDGE"]

_EDGE = "feedmesh_edge_"
_PROBER = "feedmesh_prober_"

EDGE = Board(
    "feedmesh-edge",
    "feedmesh: edge and clients",
    {
        "Clients": (
            Panel("Clients", "none", (now(f"{_EDGE}clients", "instance", "endpoint"),)),
            Panel(
                "Subscriptions",
                "none",
                (
                    now(f"{_EDGE}subscriptions", "instance", "channel"),
                    Query(f"{_EDGE}symbols", "{{instance}} symbols"),
                    Query(f"{_EDGE}cached_symbols", "{{instance}} cached"),
                ),
            ),
            Panel(
                "Slow, conflated, evicted",
                "none",
                (
                    Query(f"{_EDGE}clients_slow", "{{instance}} slow"),
                    rate(f"{_EDGE}conflated_total", "instance"),
                    rate(f"{_EDGE}evicted_total", "instance, endpoint"),
                    rate(f"{_EDGE}news_spilled_total", "instance"),
                ),
            ),
            Panel("Closed by code", "ops", (rate(f"{_EDGE}closed_total", "code"),)),
            Panel(
                "Refused",
                "ops",
                (
                    rate(f"{_EDGE}clients_refused_total", "reason"),
                    rate(f"{_EDGE}request_errors_total", "endpoint"),
                ),
            ),
            Panel(
                "Resumed", "ops", (rate(f"{_EDGE}resumes_total", "channel, result"),)
            ),
            Panel(
                "Tokens",
                "ops",
                (
                    rate(f"{_EDGE}auth_accepted_total", "instance"),
                    rate(f"{_EDGE}auth_refused_total", "reason"),
                    rate(f"{_EDGE}auth_key_loads_total", "result"),
                ),
            ),
        ),
        "Traffic": (
            Panel(
                "Updates in",
                "ops",
                (
                    rate(f"{_EDGE}updates_total", "instance"),
                    rate(f"{_EDGE}news_items_total", "instance"),
                ),
            ),
            Panel("Messages out", "ops", (rate(f"{_EDGE}frames_total", "instance"),)),
            Panel("Bytes out", "Bps", (rate(f"{_EDGE}bytes_total", "instance"),)),
            Panel("Writes", "ops", (rate(f"{_EDGE}writes_total", "instance"),)),
            Panel(
                "Waiting inside", "none", (now(f"{_EDGE}queue", "instance", "queue"),)
            ),
            Panel(
                "Missed and healed",
                "ops",
                (
                    rate(f"{_EDGE}lost_on_bus_total", "instance"),
                    rate(f"{_EDGE}sweep_healed_total", "instance"),
                    rate(f"{_EDGE}updates_outdated_total", "instance"),
                    rate(f"{_EDGE}messages_unreadable_total", "instance"),
                    rate(f"{_EDGE}news_holes_total", "instance"),
                ),
            ),
        ),
        "Processes": (
            Panel(
                "Processor",
                "percentunit",
                (rate("feedmesh_process_cpu_seconds_total", "job, instance"),),
            ),
            Panel(
                "Memory",
                "bytes",
                (now("feedmesh_process_resident_memory_bytes", "job", "instance"),),
            ),
            Panel(
                "Descriptors",
                "none",
                (now("feedmesh_process_open_fds", "job", "instance"),),
            ),
            Panel("Tasks", "none", (now("feedmesh_tasks", "job", "instance"),)),
            Panel(
                "Running for",
                "s",
                (
                    Query(
                        "time() - feedmesh_process_start_time_seconds",
                        "{{job}} {{instance}}",
                    ),
                ),
            ),
        ),
        "Seen from outside": (
            Panel(
                "Attempts", "ops", (rate(f"{_PROBER}connects_total", "edge, result"),)
            ),
            Panel(
                "Canaries",
                "ops",
                (rate(f"{_PROBER}canaries_total", "feed, kind, result"),),
            ),
            Panel(
                "Age of canaries",
                "s",
                (
                    Query(
                        f"time() - {_PROBER}last_canary_timestamp_seconds",
                        "{{edge}} {{feed}} {{kind}}",
                    ),
                ),
            ),
            Panel(
                "Checks",
                "ops",
                (
                    rate(f"{_PROBER}availability_checks_total", "edge, result"),
                    rate(f"{_PROBER}freshness_checks_total", "feed, kind, result"),
                ),
            ),
        ),
    },
)
