"""
What is shown: all dashboards, and the few metrics that are on none.

Panels are read from top left to bottom right: first whether clients are hurt, then
where, then why.
"""

from __future__ import annotations

from .board_edge import EDGE
from .board_feeds import FEEDS
from .board_latency import LATENCY
from .board_nats import NATS
from .board_overview import OVERVIEW
from .panels import Board


__all__ = ["DASHBOARDS", "NOT_SHOWN"]

DASHBOARDS: dict[str, Board] = {
    "overview": OVERVIEW,
    "feeds": FEEDS,
    "latency": LATENCY,
    "edge": EDGE,
    "nats": NATS,
}

NOT_SHOWN: dict[str, str] = {
    "feedmesh_process_max_fds": "a constant; worth a look only beside open_fds",
    "feedmesh_process_virtual_memory_bytes": "says nothing on a 64-bit machine",
    "feedmesh_ingest_ls_spool_torn": "for who looks into a crash",
    "feedmesh_edge_auth_keys": "for who changes them; an alert tells of broken ones",
    "feedmesh_ingest_ls_fenced_total": "no harm: the stream has kept one of two out",
}
"""Metrics that neither a panel nor an alert uses, and why."""
