"""NATS as services see it, its servers, its streams."""

from __future__ import annotations

from .panels import RATE, Board, Panel, Query, now, rate


__all__ = ["NATS"]

_EDGE = "feedmesh_edge_"
_INGEST = "feedmesh_ingest_"
_NATS = "feedmesh_nats_"

NATS = Board(
    "feedmesh-nats",
    "feedmesh: NATS",
    {
        "Services": (
            Panel(
                "Connected",
                "none",
                (
                    now("feedmesh_bus_connected", "job", "instance"),
                    Query(f"{_EDGE}price_servers", "{{instance}} servers of prices"),
                    Query(f"{_INGEST}price_servers", "{{instance}} servers of prices"),
                ),
            ),
            Panel(
                "Came back",
                "ops",
                (rate("feedmesh_bus_reconnects_total", "job, instance"),),
            ),
            Panel(
                "Read too slowly",
                "ops",
                (
                    rate("feedmesh_bus_slow_consumer_total", "job, instance"),
                    Query(f"delta({_NATS}slow_consumers[5m])", "{{node}}"),
                ),
            ),
            Panel(
                "Waiting to be written",
                "bytes",
                (now("feedmesh_bus_pending_bytes", "job", "instance"),),
            ),
            Panel(
                "Refused subjects",
                "none",
                (now("feedmesh_bus_refused_subjects", "job", "instance"),),
            ),
        ),
        "Servers": (
            Panel("Healthy", "none", (now(f"{_NATS}up", "node"),)),
            Panel("Clients", "none", (now(f"{_NATS}connections", "node"),)),
            Panel(
                "Storage",
                "bytes",
                (
                    Query(f"{_NATS}store_bytes", "{{node}} used"),
                    Query(f"{_NATS}store_limit_bytes", "{{node}} limit"),
                ),
            ),
        ),
        "Streams": (
            Panel("Messages", "none", (now(f"{_NATS}stream_messages", "stream"),)),
            Panel(
                "Size",
                "bytes",
                (
                    now(f"{_NATS}stream_bytes", "stream"),
                    Query(f"{_NATS}stream_limit_bytes", "{{stream}} limit"),
                ),
            ),
            Panel(
                "Written",
                "ops",
                (
                    Query(f"rate({_NATS}stream_last_sequence[{RATE}])", "{{stream}}"),
                    Query(f"rate({_EDGE}read_sequence[{RATE}])", "{{stream}} read"),
                ),
            ),
            Panel(
                "News that edges have not read",
                "none",
                (now("feedmesh:news_unread:edge", "instance"),),
            ),
            Panel(
                "Copies behind",
                "none",
                (now(f"{_NATS}stream_replicas_behind", "stream"),),
            ),
            Panel(
                "Certificates end in",
                "s",
                (
                    Query(
                        "feedmesh_certificate_expiry_timestamp_seconds - time()",
                        "{{endpoint}}",
                    ),
                ),
            ),
        ),
    },
)
