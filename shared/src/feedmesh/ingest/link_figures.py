"""What the metrics of a feed tell of one of its links."""

from __future__ import annotations

from feedmesh.metrics import IngestMetrics
from feedmesh.status import LinkState


__all__ = ["LinkFigures"]


class LinkFigures:
    """
    Shows one link.

    Args:
        metrics: Of the feed.
        link: Its name.
    """

    def __init__(self, metrics: IngestMetrics, link: str) -> None:
        self._metrics = metrics
        self._labels = (metrics.feed, link)
        # What has never happened is told as never, not left unsaid.
        metrics.reconnects.labels(*self._labels, "dropped")
        metrics.gaps.labels(*self._labels, "dropped")
        metrics.gap_seconds.labels(*self._labels)
        metrics.gaps_filled.labels(*self._labels)
        metrics.rejected.labels(metrics.feed, "unsubscribed")

    def entered(self, state: LinkState) -> None:
        """Show that it is in *state*."""
        self._metrics.link_up.labels(*self._labels).set(state is LinkState.LIVE)
        for one in LinkState:
            shown = self._metrics.link_state.labels(*self._labels, one.value)
            shown.set(1 if one is state else 0)

    def connecting(self) -> None:
        """Count a connect."""
        self._metrics.connects.labels(*self._labels).inc()

    def ended(self, reason: str) -> None:
        """Count the end of a connection."""
        self._metrics.reconnects.labels(*self._labels, reason).inc()

    def control(self, kind: str) -> None:
        """Count a frame that is no data."""
        self._metrics.control.labels(*self._labels, kind).inc()

    def subscriptions(self, desired: int, confirmed: int) -> None:
        """Show how many should be, and how many were agreed to."""
        self._metrics.desired.labels(*self._labels).set(desired)
        self._metrics.confirmed.labels(*self._labels).set(confirmed)

    def unanswered(self, count: int) -> None:
        """Count requests that had no answer in time."""
        self._metrics.unanswered.labels(*self._labels).inc(count)

    def heard(self, frame_ns: int, data_ns: int) -> None:
        """Show when it last said anything, and last brought data; 0 is never."""
        self._metrics.last_frame.labels(*self._labels).set(frame_ns / 1e9)
        self._metrics.last_data.labels(*self._labels).set(data_ns / 1e9)
