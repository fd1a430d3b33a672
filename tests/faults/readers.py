"""
Clients of protocol v3 that read news, and come back to another edge if theirs goes.

They do what the manual tells the authors of clients: keep the last position, wait a
random moment, connect elsewhere, resume. One that is told not to resume subscribes
anew instead, and is the negative control.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException


_SPREAD_SECONDS = 0.5


class NewsReader:
    """
    One client.

    Args:
        urls: Of all edges.
        home: Index of the one that it begins at.
        resumes: Whether it says what it has when it comes back.

    Attributes:
        home: As given.
        heard: The key of each item, in the order in which they came.
        resumed_at: When each resume was confirmed, by the clock of the event loop.
        holes: How many resumes were answered with "not recovered".
        at: Index of the edge that it reads from; None while it has none.
    """

    def __init__(self, urls: Sequence[str], home: int, *, resumes: bool = True) -> None:
        self._urls = urls
        self.home = home
        self._resumes = resumes
        self._position: str | None = None
        self._connection: ClientConnection | None = None
        self.heard: list[str] = []
        self.resumed_at: list[float] = []
        self.holes = 0
        self.at: int | None = None

    async def run(self) -> None:
        """Read, for ever."""
        edge = self.home
        while True:
            try:
                async with connect(
                    self._urls[edge],
                    compression=None,
                    ping_interval=None,
                    open_timeout=5,
                    close_timeout=1,
                ) as connection:
                    self._connection = connection
                    await self._read(connection, edge)
            except (OSError, WebSocketException):
                pass
            self._connection = self.at = None
            await asyncio.sleep(random.uniform(0, _SPREAD_SECONDS))
            edge = (edge + 1) % len(self._urls)

    async def move(self) -> None:
        """Leave this edge for the other one."""
        if self._connection is not None:
            await self._connection.close()

    async def _read(self, connection: ClientConnection, edge: int) -> None:
        wanted: dict[str, object] = {"channel": "news"}
        if self._resumes and self._position is not None:
            since = wanted | {"since": self._position}
            request = {"op": "resume", "id": 1, "subscriptions": [since]}
        else:
            request = {"op": "subscribe", "id": 1, **wanted}
        await connection.send(json.dumps(request))
        async for text in connection:
            message = json.loads(text)
            match message["type"]:
                case "news":
                    self._position = message["position"]
                    self.heard.append(message["realkey"])
                case "heartbeat":
                    self._position = message["positions"].get("news", self._position)
                case "ack":
                    self._acknowledged(message)
                    self.at = edge

    def _acknowledged(self, ack: dict[str, object]) -> None:
        if ack["op"] == "resume":
            self.resumed_at.append(asyncio.get_running_loop().time())
            self.holes += ack.get("recovered") is not True
