"""A scripted FMP on loopback: what it says is decided by the test, frame by frame."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed


Answer = Callable[["Session", dict[str, Any]], Awaitable[None]]

LOGGED_IN = {"event": "login", "status": 200, "message": "Authenticated"}


class Session:
    """
    One connection of the ingest.

    Attributes:
        asked: Every message it has sent, parsed.
    """

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.asked: list[dict[str, Any]] = []

    async def say(self, message: object) -> None:
        """Send *message*: bytes and text as they are, anything else as JSON."""
        plain = isinstance(message, str | bytes)
        await self.connection.send(message if plain else json.dumps(message))  # type: ignore[arg-type]


async def agree(session: Session, message: dict[str, Any]) -> None:
    """Answer everything with yes."""
    await session.say({"event": message["event"], "status": 200, "message": "ok"})


class Upstream:
    """
    Accepts connections, and answers each of their messages by *answer*.

    Attributes:
        answer: May be changed at any time.
        sessions: All connections so far, oldest first.
        connects: When each was accepted.
        most_open: How many there were at once, at most.
    """

    def __init__(self, answer: Answer = agree) -> None:
        self.answer = answer
        self.sessions: list[Session] = []
        self.connects: list[float] = []
        self.most_open = 0
        self.url = ""
        self._open = 0
        self._grown = asyncio.Condition()

    @property
    def session(self) -> Session:
        """The newest connection."""
        return self.sessions[-1]

    async def until(self, condition: Callable[[], bool], seconds: float = 15) -> None:
        """Wait until *condition* holds; looked at whenever something happened."""
        async with asyncio.timeout(seconds), self._grown:
            await self._grown.wait_for(condition)

    async def asked_for(self, event: str, *names: str, seconds: float = 15) -> None:
        """Wait until the newest connection has asked for *event* of *names*."""

        def heard() -> bool:
            if not self.sessions:
                return False
            asked = set()
            for message in self.session.asked:
                if message["event"] == event:
                    data = message["data"]
                    given = data.get("ticker", data.get("stream", []))
                    asked |= set(given if isinstance(given, list) else [given])
            return set(names) <= asked

        await self.until(heard, seconds)

    async def __call__(self, connection: ServerConnection) -> None:
        session = Session(connection)
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        self.connects.append(time.monotonic())
        async with self._grown:
            self.sessions.append(session)
            self._grown.notify_all()
        try:
            async for text in connection:
                message = json.loads(text)
                async with self._grown:
                    session.asked.append(message)
                    self._grown.notify_all()
                await self.answer(session, message)
        except ConnectionClosed:
            pass
        finally:
            self._open -= 1


@asynccontextmanager
async def run_upstream(
    answer: Answer = agree, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Upstream]:
    """Run a scripted upstream while the context is open."""
    upstream = Upstream(answer)
    async with serve(
        upstream, "127.0.0.1", 0, ssl=tls, close_timeout=0.1, ping_interval=None
    ) as server:
        upstream.url = _url(server, "wss" if tls else "ws")
        yield upstream


def _url(server: Server, scheme: str) -> str:
    port = next(iter(server.sockets)).getsockname()[1]
    return f"{scheme}://127.0.0.1:{port}"
