"""
The series that every ingest exports, by feed; names and labels are an interface.

Accounting holds at any time: received = published + deduplicated + rejected +
quarantined, in events. An array of events counts each; a frame that cannot be read
at all counts as one event.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from feedmesh.bus import Bus


__all__ = ["LATENCY_BUCKETS", "BusMetrics", "IngestMetrics"]

# Dense round the promise (milliseconds), coarse where only the order matters.
LATENCY_BUCKETS = (
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
    60.0,
)


class IngestMetrics:
    """Built once for each process, once for each test."""

    def __init__(self, registry: CollectorRegistry, feed: str) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(
                f"feedmesh_ingest_{name}", text, ["feed", *labels], registry=registry
            )

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(
                f"feedmesh_ingest_{name}", text, ["feed", *labels], registry=registry
            )

        self.feed = feed
        self.received = counter(
            "received_total", "Events that came from the upstream.", "link"
        )
        self.published = counter(
            "published_total", "Events that became a message.", "kind"
        )
        self.deduplicated = counter(
            "deduplicated_total", "Events that repeated an earlier one.", "kind"
        )
        self.rejected = counter(
            "rejected_total", "Events that were understood and not taken.", "reason"
        )
        self.quarantined = counter(
            "quarantined_total", "Frames that could not be understood.", "reason"
        )
        self.flagged = counter(
            "flagged_total", "Published events with something odd.", "flag"
        )
        self.unknown_fields = counter(
            "unknown_fields_total", "Upstream fields that we do not know, once each."
        )
        self.control = counter(
            "control_frames_total", "Frames that carry no data.", "link", "control"
        )
        self.connects = counter("connects_total", "Connects that were begun.", "link")
        self.reconnects = counter(
            "reconnects_total", "Connections that ended.", "link", "reason"
        )
        self.link_up = gauge(
            "link_up", "1 while the link is logged in and not silent.", "link"
        )
        self.last_frame = gauge(
            "last_frame_timestamp_seconds", "When the last frame came.", "link"
        )
        self.desired = gauge(
            "subscriptions_desired", "Subscriptions that should be.", "link"
        )
        self.confirmed = gauge(
            "subscriptions_confirmed", "Subscriptions that the upstream agreed.", "link"
        )
        self.unanswered = counter(
            "subscriptions_unanswered_total",
            "Acknowledgements that never came.",
            "link",
        )
        self.backlog = gauge(
            "backlog", "Messages that the stream has not confirmed.", "kind"
        )
        self.leader = gauge("leader", "1 while this replica leads, 0 standing by.")
        self.leader.labels(feed).set(0)
        self.gaps = counter(
            "gaps_total", "Times for which data may be missing.", "link", "reason"
        )
        self.gap_seconds = counter(
            "gap_seconds_total", "How long those times were together.", "link"
        )
        self.source_latency = Histogram(
            "feedmesh_ingest_source_latency_seconds",
            "From the time the upstream gives to the receipt of the frame.",
            ["feed"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )


class BusMetrics:
    """What every service tells of its connection to NATS."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connected = Gauge(
            "feedmesh_bus_connected", "1 while NATS is connected.", registry=registry
        )
        self.reconnects = Gauge(
            "feedmesh_bus_reconnects", "How often NATS came back.", registry=registry
        )
        self.slow_consumer = Gauge(
            "feedmesh_bus_slow_consumer",
            "How often messages were dropped because this process read too slowly.",
            registry=registry,
        )

    def show(self, bus: Bus) -> None:
        """Take over what *bus* has counted."""
        self.connected.set(1 if bus.connected else 0)
        self.reconnects.set(bus.state.reconnects)
        self.slow_consumer.set(bus.state.slow_consumer)
