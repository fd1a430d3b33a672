"""What clients of the two older contracts have in common."""

from __future__ import annotations

import asyncio

from edge.clients.close_codes import CloseCode
from edge.clients.outlet import Outlet
from edge.clients.sender import Sender
from edge.door.login import Login
from edge.parts import EdgeParts


__all__ = ["ContractSession"]


class ContractSession:
    """
    One connected client, from its admission to its end.

    Attributes:
        endpoint: Which contract; a label of metrics.
        outlet: Its socket.
        parts: The rest of the edge.
        login: Who it is.
        sender: What it has coming.
    """

    endpoint = ""

    def __init__(self, outlet: Outlet, parts: EdgeParts, login: Login) -> None:
        self.outlet = outlet
        self.parts = parts
        self.login = login
        self.sender = Sender(outlet)
        self._blocked_since: float | None = None
        parts.clients.add(self)

    def received(self, text: str | None) -> None:
        """Take a message; one that the contract does not know is dropped."""

    def blocked(self) -> None:
        """Note since when the client takes no bytes."""
        self._blocked_since = asyncio.get_running_loop().time()

    def resumed(self) -> None:
        """Note that it takes bytes again."""
        self._blocked_since = None

    def lost(self) -> None:
        """Forget the client."""
        self.parts.clients.remove(self)
        self.parts.flusher.discard(self.sender)

    def stuck_since(self) -> float | None:
        """Return the loop time since which it takes no bytes; None if it does."""
        return self._blocked_since

    def check_login(self) -> None:
        """End the connection if the client's time is up."""
        if self.login.overdue():
            self.close(CloseCode.UNAUTHENTICATED, "")

    def evict(self) -> None:
        """End the connection; what waits for it is dropped."""
        self.parts.metrics.closed.labels("none").inc()
        self.outlet.abort()

    def heartbeat(self) -> None:
        """Say nothing: the contract has no word for it."""

    def going_away(self, reconnect_after_ms: int) -> None:
        """Say nothing: the contract has no word for it."""

    def close_for_restart(self) -> None:
        """Close the connection; the client may come back."""
        self.sender.flush()
        self.close(CloseCode.RESTART, "edge restarts; come back")

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the connection with *code*."""
        self.parts.metrics.closed.labels(code.value).inc()
        self.outlet.close(code, reason)
