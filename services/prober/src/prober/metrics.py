"""The series that the prober exports; names and labels are an interface."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from feedmesh.latencies import LATENCY_BUCKETS


__all__ = ["ProberMetrics"]


class ProberMetrics:
    """Built once for each process, once for each test."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"feedmesh_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"feedmesh_{name}", text, labels, registry=registry)

        canary = ("edge", "feed", "kind")
        self.connected = gauge(
            "prober_connected", "1 while the edge serves the prober.", "edge"
        )
        self.connects = counter(
            "prober_connects_total", "Attempts to connect.", "edge", "result"
        )
        self.availability = counter(
            "prober_availability_checks_total",
            "Once a second, whether the edge answers a client.",
            "edge",
            "result",
        )
        self.freshness = counter(
            "prober_freshness_checks_total",
            "Once a second, whether a canary has come lately.",
            *canary,
            "result",
        )
        self.canaries = counter(
            "prober_canaries_total",
            "Canaries: seen, lost, late (out of order), repeated.",
            *canary,
            "result",
        )
        self.latency = Histogram(
            "feedmesh_prober_latency_seconds",
            "From the ingest that sent a canary to the client.",
            canary,
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.last = gauge(
            "prober_last_canary_timestamp_seconds",
            "When the last canary came.",
            *canary,
        )
        self.certificate = gauge(
            "certificate_expiry_timestamp_seconds",
            "When a certificate ends; 0 if it cannot be read.",
            "endpoint",
        )
        self.nats_up = gauge(
            "nats_up", "1 while the server answers and is healthy.", "node"
        )
        self.nats_connections = gauge("nats_connections", "Clients of it.", "node")
        self.nats_slow = gauge(
            "nats_slow_consumers",
            "Clients cut off since it started because they read too slowly.",
            "node",
        )
        self.nats_store = gauge("nats_store_bytes", "What its streams take.", "node")
        self.nats_store_limit = gauge(
            "nats_store_limit_bytes", "What its streams may take.", "node"
        )
        self.stream_messages = gauge(
            "nats_stream_messages", "Messages of it.", "stream"
        )
        self.stream_bytes = gauge(
            "nats_stream_bytes", "Size of its messages.", "stream"
        )
        self.stream_limit = gauge(
            "nats_stream_limit_bytes",
            "Size at which its oldest messages are dropped.",
            "stream",
        )
        self.stream_last = gauge(
            "nats_stream_last_sequence", "Number of the last message.", "stream"
        )
        self.stream_behind = gauge(
            "nats_stream_replicas_behind", "Copies that are not up to date.", "stream"
        )
