"""
The series that every ingest exports, by feed; names and labels are an interface.

Accounting holds at any time: received = published + deduplicated + rejected +
quarantined, in events. An array of events counts each; a frame that cannot be read
at all counts as one event.
"""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from feedmesh.bus import Bus
from feedmesh.latencies import LATENCY_BUCKETS, Latencies


__all__ = ["BusMetrics", "IngestMetrics", "Least"]


class Least:
    """
    The least value of the last one to two windows of *seconds*; cheap enough for each.

    The least time that something took is what a difference between two clocks looks
    like: nothing takes less than no time.
    """

    __slots__ = ("_before", "_ends", "_now", "_seconds")

    def __init__(self, seconds: float = 30.0) -> None:
        self._seconds = seconds
        self._ends = 0.0
        self._now = math.inf
        self._before = math.inf

    def saw(self, value: float) -> None:
        """Take *value*."""
        if value < self._now:
            self._now = value

    def show(self, gauge: Gauge, now: float) -> None:
        """Set *gauge* at *now*, in seconds of any clock; NaN if nothing was seen."""
        least = min(self._now, self._before)
        gauge.set(math.nan if least == math.inf else least)
        if now >= self._ends:
            self._ends = now + self._seconds
            self._before, self._now = self._now, math.inf


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
        self._shown: dict[tuple[Counter, str], int] = {}
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
        self.link_state = gauge(
            "link_state", "1 for the state that the link is in.", "link", "state"
        )
        self.market_open = gauge(
            "market_open",
            "1 while data is to be expected of the link, by the trading calendar; NaN"
            " where the calendar does not know.",
            "link",
        )
        self.link_alive = gauge(
            "link_alive", "1 while the link is connected and answers.", "link"
        )
        self.link_logged_in = gauge(
            "link_logged_in", "1 while the upstream has accepted us.", "link"
        )
        self.link_flow = gauge(
            "link_flow",
            "1 for how data flows, by what is due.",
            "link",
            "flow",
        )
        self.data_rate = gauge(
            "data_frames_per_second",
            "Frames with data in the last minutes; NaN if that is not watched.",
            "link",
        )
        self.usual_data_rate = gauge(
            "usual_data_frames_per_second",
            "As many are usual at this time; NaN while that is not known.",
            "link",
        )
        self.last_data = gauge(
            "last_data_timestamp_seconds",
            "When the last frame came that carries data.",
            "link",
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
        self.resent = counter(
            "resent_total", "Prices sent again, or late, to be sure of them.", "kind"
        )
        self.price_servers = gauge(
            "price_servers",
            "NATS servers by which prices of ingest-fmp can leave; 2 where there are"
            " several.",
        )
        self.dead_letters = counter(
            "dead_letters_total",
            "Frames that could not be understood: kept for a look, or dropped.",
            "result",
        )
        self.epoch = gauge(
            "epoch_timestamp_seconds", "When the last leader known here claimed."
        )
        self.leader = gauge("leader", "1 while this replica leads, 0 standing by.")
        self.leader.labels(feed).set(0)
        self.gaps = counter(
            "gaps_total", "Times for which data may be missing.", "link", "reason"
        )
        self.gap_seconds = counter(
            "gap_seconds_total",
            "How long the times were together for which data may be missing.",
            "link",
        )
        self.gaps_filled = counter(
            "gaps_filled_total", "Gaps whose data was got by other means.", "link"
        )
        self.source_latency = Latencies(
            "feedmesh_ingest_source_latency_seconds",
            "From the time the upstream gives to the receipt of the frame.",
            registry,
            {"feed": feed},
        )
        self.bus_latency = Histogram(
            "feedmesh_ingest_bus_latency_seconds",
            "From the receipt of a frame until its price was handed to NATS (sampled),"
            " or the stream had its news item.",
            ["feed", "kind"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.clock_skew = gauge(
            "clock_skew_seconds",
            "The least time from the source to here in the last minute; below 0 the"
            " clocks disagree by at least so much.",
        )

    def show(self, *, epoch: int, resent: int, kept: int, dropped: int) -> None:
        """
        Take over what others have counted.

        Args:
            epoch: Of the last leader that is known.
            resent: Prices sent again.
            kept: Frames kept as dead letters.
            dropped: Frames that should have been.
        """
        self.epoch.labels(self.feed).set(epoch / 1000)
        self._grown(self.resent, "price", resent)
        self._grown(self.dead_letters, "kept", kept)
        self._grown(self.dead_letters, "dropped", dropped)

    def _grown(self, counter: Counter, label: str, total: int) -> None:
        before = self._shown.get((counter, label), 0)
        self._shown[counter, label] = total
        counter.labels(self.feed, label).inc(total - before)


class BusMetrics:
    """What every service tells of its connection to NATS."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connected = Gauge(
            "feedmesh_bus_connected", "1 while NATS is connected.", registry=registry
        )
        self.reconnects = Counter(
            "feedmesh_bus_reconnects_total",
            "How often NATS came back.",
            registry=registry,
        )
        self.slow_consumer = Counter(
            "feedmesh_bus_slow_consumer_total",
            "How often messages were dropped because this process read too slowly.",
            registry=registry,
        )
        self.refused = Gauge(
            "feedmesh_bus_refused_subjects",
            "Subjects that the permissions of NATS refuse us.",
            registry=registry,
        )
        self.pending = Gauge(
            "feedmesh_bus_pending_bytes",
            "What waits to be written to NATS.",
            registry=registry,
        )
        self._shown = (0, 0)

    def show(self, bus: Bus) -> None:
        """Take over what *bus* has counted."""
        state = bus.state
        reconnects, slow = self._shown
        self._shown = (state.reconnects, state.slow_consumer)
        self.connected.set(1 if bus.connected else 0)
        self.reconnects.inc(state.reconnects - reconnects)
        self.slow_consumer.inc(state.slow_consumer - slow)
        self.refused.set(len(state.refused))
        self.pending.set(bus.nc.pending_data_size)
