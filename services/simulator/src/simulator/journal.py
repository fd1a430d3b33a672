"""What happened on one target, for tests to read; kept in memory and bounded."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field


_KEPT_MESSAGES = 100
_KEPT_CALLS = 10_000


@dataclass
class Journal:
    """Counters and the last client messages of one WebSocket target."""

    connects: int = 0
    refused: int = 0
    open: int = 0
    most_open: int = 0
    logins: int = 0
    failed_logins: int = 0
    frames_sent: int = 0
    frames_received: int = 0
    pings_received: int = 0
    pongs_received: int = 0
    dropped_slow: int = 0
    internal_errors: int = 0
    connected_at: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    ended: Counter[str] = field(default_factory=Counter)
    messages: deque[dict[str, object]] = field(
        default_factory=lambda: deque(maxlen=_KEPT_MESSAGES)
    )

    def connected(self, left: int = 0) -> None:
        """Count a connection; of those open, the clients of *left* have left."""
        self.open += 1
        self.most_open = max(self.most_open, self.open - left)

    def received(self, connection: int, message: str | bytes) -> None:
        """Keep a client's *message*."""
        self.frames_received += 1
        text = message if isinstance(message, str) else message.hex()
        self.messages.append(
            {"at": time.time(), "connection": connection, "text": text[:4000]}
        )

    def describe(self) -> dict[str, object]:
        """Return what GET /stats shows."""
        return {
            "connects": self.connects,
            "refused_upgrades": self.refused,
            "connections_open": self.open,
            "connections_max": self.most_open,
            "connected_at": list(self.connected_at),
            "logins": self.logins,
            "failed_logins": self.failed_logins,
            "frames_sent": self.frames_sent,
            "frames_received": self.frames_received,
            "pings_received": self.pings_received,
            "pongs_received": self.pongs_received,
            "dropped_slow": self.dropped_slow,
            "internal_errors": self.internal_errors,
            "ended": dict(self.ended),
            "client_messages": list(self.messages),
        }


@dataclass
class RestJournal:
    """Calls of the REST side: tokens and TRs."""

    tokens_issued: int = 0
    tokens_refused: int = 0
    tokens_revoked: int = 0
    calls: dict[str, deque[dict[str, object]]] = field(default_factory=dict)

    def called(self, name: str, status: int, code: str) -> None:
        """Keep one call and how it was answered."""
        log = self.calls.setdefault(name, deque(maxlen=_KEPT_CALLS))
        log.append({"at": time.time(), "status": status, "code": code})

    def describe(self) -> dict[str, object]:
        """Return what GET /stats shows."""
        return {
            "tokens_issued": self.tokens_issued,
            "tokens_refused": self.tokens_refused,
            "tokens_revoked": self.tokens_revoked,
            "calls": {name: list(log) for name, log in self.calls.items()},
            "calls_total": {name: len(log) for name, log in self.calls.items()},
        }
