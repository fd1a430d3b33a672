"""
One client of the news contract.

A test item comes first, so that a page can show that the path works; then every item
from now on. The contract knows no requests; whatever a client says is dropped.
"""

from __future__ import annotations

from operator import attrgetter

from edge.clients.outlet import Outlet
from edge.contract.session import ContractSession
from edge.door.login import Login
from edge.news.reader import NewsReader
from edge.parts import EdgeParts
from edge.positions import NewsPosition
from feedmesh.clock import iso, now_ns


__all__ = ["NewsSession"]


class NewsSession(ContractSession):
    """A client that gets every news item."""

    endpoint = "news"

    def __init__(self, outlet: Outlet, parts: EdgeParts, login: Login) -> None:
        super().__init__(outlet, parts, login)
        self._reader = NewsReader(
            parts.news,
            self.sender,
            parts.flusher,
            parts.chores,
            attrgetter("contract_frame"),
            _untold,
        )
        self.sender.put(_test_item())
        parts.flusher.soon(self.sender)

    def resumed(self) -> None:
        """Go on where the client stopped reading."""
        super().resumed()
        self._reader.pump()

    def lost(self) -> None:
        """Forget the client."""
        super().lost()
        self._reader.close()


def _untold(_: NewsPosition, __: NewsPosition, ___: str) -> None:
    """Say nothing of what was lost: the contract has no word for it."""


def _test_item() -> bytes:
    return (
        '{"type":"test","title":"feedmesh: the news path works"'
        f',"received_at":"{iso(now_ns())}"}}'
    ).encode()
