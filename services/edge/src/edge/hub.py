"""
Who listens to which symbol, and how an update reaches them.

A frame is built once for an update and shared by all who listen. What one turn of the
event loop brings to a client leaves in one write: the system call is what delivery
costs, not the bytes. A client that does not keep up gets the newest value of each of
its symbols once it takes bytes again; nothing piles up for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from edge.metrics import EdgeMetrics
from edge.outlet import Outlet
from edge.price_cache import PriceCache
from edge.wire_frames import text_frame


__all__ = ["PriceHub", "PriceSession"]


class PriceSession:
    """
    One client of the price contract.

    Attributes:
        symbols: What it has subscribed.
        blocked_since: Loop time since which it takes no bytes; None if it does.
    """

    def __init__(self, outlet: Outlet, metrics: EdgeMetrics) -> None:
        self._outlet = outlet
        self._metrics = metrics
        self._buffer: list[bytes] = []
        # While the client is blocked: at most one frame for each of its symbols.
        self._newest: dict[str, bytes] = {}
        self.symbols: set[str] = set()
        self.blocked_since: float | None = None
        outlet.on_blocked = self._blocked
        outlet.on_resumed = self._resumed

    def offer(self, symbol: str, frame: bytes) -> None:
        """Have *frame* sent with the next flush, or conflate it."""
        if self._outlet.blocked:
            if symbol in self._newest:
                self._metrics.conflated.inc()
            self._newest[symbol] = frame
        else:
            self._buffer.append(frame)

    def reply(self, payload: bytes) -> None:
        """Have a reply sent, after what was offered before it."""
        # Not conflated: no further request is taken while the client is blocked.
        self._buffer.append(text_frame(payload))
        self.flush()

    def forget(self, symbol: str) -> None:
        """Drop what still waits for *symbol*."""
        self._newest.pop(symbol, None)

    def flush(self) -> None:
        """Write what was offered, in one go."""
        if self._buffer:
            self._metrics.frames.inc(len(self._buffer))
            self._outlet.write(b"".join(self._buffer))
            self._buffer.clear()

    def abort(self) -> None:
        """End the connection at once."""
        self._outlet.abort()

    def _blocked(self) -> None:
        self.blocked_since = asyncio.get_running_loop().time()

    def _resumed(self) -> None:
        self.blocked_since = None
        self._buffer.extend(self._newest.values())
        self._newest.clear()
        self.flush()


class PriceHub:
    """
    All price clients of this edge.

    Args:
        cache: Where the value comes from that a new subscriber hears first.
        metrics: Counts.
        demand_changed: Called when a symbol gains its first or loses its last client.
        max_symbols: How many symbols one client may have.
    """

    def __init__(
        self,
        cache: PriceCache,
        metrics: EdgeMetrics,
        demand_changed: Callable[[], None],
        max_symbols: int,
    ) -> None:
        self._cache = cache
        self._metrics = metrics
        self._demand_changed = demand_changed
        self._max_symbols = max_symbols
        self._listeners: dict[str, set[PriceSession]] = {}
        self._sessions: set[PriceSession] = set()
        self._dirty: set[PriceSession] = set()

    @property
    def symbols(self) -> list[str]:
        """The symbols that clients listen to."""
        return sorted(self._listeners)

    def join(self, outlet: Outlet) -> PriceSession:
        """Return a new session that writes to *outlet*."""
        session = PriceSession(outlet, self._metrics)
        self._sessions.add(session)
        return session

    def leave(self, session: PriceSession) -> None:
        """Forget *session*; what it has subscribed goes with it."""
        self.unsubscribe(session, list(session.symbols))
        self._sessions.discard(session)
        self._dirty.discard(session)

    def subscribe(self, session: PriceSession, symbols: Iterable[str]) -> bool:
        """
        Add *symbols*, cached values first; False if they are too many in all.

        A symbol that is asked for again has its cached value sent again.
        """
        wanted = list(dict.fromkeys(symbols))
        if len(session.symbols.union(wanted)) > self._max_symbols:
            return False
        grown = False
        for symbol in wanted:
            listeners = self._listeners.get(symbol)
            if listeners is None:
                listeners = self._listeners[symbol] = set()
                grown = True
            listeners.add(session)
            session.symbols.add(symbol)
            frame = self._cache.frame(symbol)
            if frame is not None:
                session.offer(symbol, text_frame(frame))
        session.flush()
        self._count(grown)
        return True

    def unsubscribe(self, session: PriceSession, symbols: Iterable[str]) -> None:
        """Take *symbols* away from *session*; those it does not have are ignored."""
        shrunk = False
        for symbol in symbols:
            listeners = self._listeners.get(symbol)
            if listeners is None or session not in listeners:
                continue
            listeners.remove(session)
            session.symbols.discard(symbol)
            session.forget(symbol)
            if not listeners:
                del self._listeners[symbol]
                shrunk = True
        self._count(shrunk)

    def update(self, symbol: str, frame: bytes) -> None:
        """Send *frame* to all who listen to *symbol*, at the end of this turn."""
        listeners = self._listeners.get(symbol)
        if not listeners:
            return
        ready = text_frame(frame)
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._flush)
        for session in listeners:
            session.offer(symbol, ready)
        self._dirty |= listeners

    def evict_stuck(self, seconds: float) -> None:
        """End the connections of clients that have taken no byte for *seconds*."""
        oldest = asyncio.get_running_loop().time() - seconds
        for session in self._sessions:
            if session.blocked_since is not None and session.blocked_since < oldest:
                self._metrics.evicted.inc()
                session.abort()

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for session in dirty:
            session.flush()

    def _count(self, demand_changed: bool) -> None:
        self._metrics.symbols.set(len(self._listeners))
        if demand_changed:
            self._demand_changed()
