"""Everything that a session or a route needs of the edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge.clients.chores import Chores
from edge.clients.registry import Clients
from edge.clients.sender import Flusher
from edge.door.admission import Admission
from edge.door.gate import Authenticator
from edge.gap_board import GapBoard
from edge.metrics import EdgeMetrics
from edge.news.log import NewsLog
from edge.prices.cache import PriceCache
from edge.prices.hub import PriceHub
from edge.prices.tape import PriceTape
from edge.rest.freshness import Freshness
from edge.settings import Settings
from edge.status_board import StatusBoard
from feedmesh.bus import Bus


__all__ = ["EdgeParts"]


@dataclass(frozen=True)
class EdgeParts:
    """
    The parts of one edge.

    `problems` returns why it is not well, by name; `auth` is None where no client needs
    a token.
    """

    settings: Settings
    bus: Bus
    cache: PriceCache
    tape: PriceTape
    hub: PriceHub
    news: NewsLog
    status: StatusBoard
    gaps: GapBoard
    flusher: Flusher
    chores: Chores
    clients: Clients
    admission: Admission
    freshness: Freshness
    metrics: EdgeMetrics
    problems: Callable[[], dict[str, str]]
    auth: Authenticator | None = None
