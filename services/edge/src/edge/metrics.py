"""The series that the edge exports; names and labels are an interface."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from edge.clients.close_codes import CloseCode
from feedmesh.latencies import Latencies


__all__ = ["EdgeMetrics"]


class EdgeMetrics:
    """Built once for each process, once for each test."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"feedmesh_edge_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"feedmesh_edge_{name}", text, labels, registry=registry)

        self.clients = gauge("clients", "Open WebSockets.", "endpoint")
        self.slow = gauge("clients_slow", "Clients that take no bytes just now.")
        self.subscriptions = gauge(
            "subscriptions", "What clients listen to, all of them together.", "channel"
        )
        self.closed = counter(
            "closed_total", "Connections that the edge closed, by close code.", "code"
        )
        self.refused = counter("clients_refused_total", "WebSockets refused.", "reason")
        self.symbols = gauge("symbols", "Symbols that clients listen to.")
        self.cached = gauge("cached_symbols", "Symbols with a cached value.")
        self.updates = counter("updates_total", "New values that came in.")
        self.outdated = counter(
            "updates_outdated_total", "Values that were no newer than the cached one."
        )
        self.unreadable = counter(
            "messages_unreadable_total", "Messages of the bus that make no sense."
        )
        self.healed = counter(
            "sweep_healed_total", "Values that only the stream brought, not the wire."
        )
        self.frames = counter("frames_total", "Messages written to clients.")
        self.bytes = counter("bytes_total", "Bytes written to clients.")
        self.writes = counter(
            "writes_total", "Writes in which messages left for clients."
        )
        self.queue = gauge("queue", "What waits inside the edge.", "queue")
        self.conflated = counter(
            "conflated_total", "Price frames replaced by newer ones for slow clients."
        )
        self.evicted = counter(
            "evicted_total", "Clients closed for taking no bytes.", "endpoint"
        )
        self.resumes = counter(
            "resumes_total",
            "Positions that clients came back with.",
            "channel",
            "result",
        )
        self.lost_on_bus = counter(
            "lost_on_bus_total", "Times that live price messages were missing."
        )
        self.news_items = counter("news_items_total", "News items read from the log.")
        self.news_spilled = counter(
            "news_spilled_total",
            "Times that a client was so far behind that its news came from the stream.",
        )
        self.read_sequence = gauge(
            "read_sequence", "Up to which message a stream has been read.", "stream"
        )
        self.feed_heard = gauge(
            "feed_heard", "1 while a feed's ingest says how it is, else 0.", "feed"
        )
        self.price_servers = gauge(
            "price_servers",
            "NATS servers that prices come from; 2 where there are several.",
        )
        self.news_holes = counter(
            "news_holes_total",
            "Times that stored news were gone before they were read.",
        )
        self.request_errors = counter(
            "request_errors_total", "Requests of clients that broke a rule.", "endpoint"
        )
        self.bus_latency = Latencies(
            "feedmesh_edge_bus_latency_seconds",
            "From the ingest's publish to the arrival here.",
            registry,
        )
        # What has never happened is told as never, not left unsaid.
        for endpoint in ("prices", "news", "stream"):
            self.clients.labels(endpoint)
            self.evicted.labels(endpoint)
            self.request_errors.labels(endpoint)
        for code in CloseCode:
            self.closed.labels(code.value)
        for channel in ("prices", "news"):
            self.resumes.labels(channel, "recovered")
        self.write_latency = Latencies(
            "feedmesh_edge_write_latency_seconds",
            "From the arrival of a price here until it was written to a client that"
            " wants it at once, over all such clients (sampled).",
            registry,
        )
        self.clock_skew = gauge(
            "clock_skew_seconds",
            "The least time from an ingest to here in the last minute; below 0 the"
            " clocks disagree by at least so much.",
        )
