"""What a client of FMP and a user of the control port would do, in few words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from simulator.simulation import Simulator


SECONDS = 5.0
LEGACY = ("fmp.stocks", "fmp.crypto", "fmp.forex")
EVERY = (*LEGACY, "fmp.stream")
# Something that can be subscribed to on each socket.
NAMES = {
    "fmp.stocks": "aapl",
    "fmp.crypto": "btcusd",
    "fmp.forex": "eurusd",
    "fmp.stream": "fmp-us-equities-stream",
}

Frame = dict[str, Any]


class FmpClient:
    """One connection, read frame by frame."""

    def __init__(self, connection: ClientConnection, target: str) -> None:
        self.connection = connection
        self.target = target

    async def send(self, order: object) -> None:
        """Send *order* as JSON."""
        await self.connection.send(json.dumps(order))

    async def raw(self, seconds: float = SECONDS) -> str | bytes:
        """Return the next frame as it came."""
        async with asyncio.timeout(seconds):
            return await self.connection.recv()

    async def frame(self, seconds: float = SECONDS) -> Any:
        """Return the next frame, parsed."""
        return json.loads(await self.raw(seconds))

    async def until(
        self, wanted: Callable[[Frame], bool], seconds: float = SECONDS
    ) -> Frame:
        """Return the next frame that is *wanted*."""
        async with asyncio.timeout(seconds):
            while True:
                frame = json.loads(await self.connection.recv())
                if isinstance(frame, dict) and wanted(frame):
                    return frame

    async def event(self, name: str, seconds: float = SECONDS) -> Frame:
        """Return the next control frame of that name."""
        return await self.until(lambda frame: frame.get("event") == name, seconds)

    async def tick(self, seconds: float = SECONDS) -> Frame:
        """Return the next data frame."""
        return await self.until(lambda frame: "event" not in frame, seconds)

    async def ticks(self, count: int) -> list[Frame]:
        """Return the next *count* data frames."""
        return [await self.tick() for _ in range(count)]

    async def quiet(self, seconds: float = 0.3) -> bool:
        """Tell whether nothing at all comes for so long."""
        try:
            await self.raw(seconds)
        except TimeoutError:
            return True
        return False

    async def login(self, key: str = "simulator") -> Frame:
        """Log in and return the reply."""
        await self.send({"event": "login", "data": {"apiKey": key}})
        return await self.event("login")

    async def subscribe(self, *names: str, event: str = "subscribe") -> Frame:
        """Subscribe, or unsubscribe, and return the acknowledgement."""
        names = names or (NAMES[self.target],)
        data: dict[str, object] = {"ticker": list(names)}
        if self.target == "fmp.stream":
            data = {"stream": names[0]}
        await self.send({"event": event, "data": data})
        return await self.event(event)

    async def closed(self, seconds: float = SECONDS) -> tuple[int | None, str | None]:
        """Read to the end and return the close code and reason that came."""
        async with asyncio.timeout(seconds):
            with suppress(ConnectionClosedError):
                async for _ in self.connection:
                    pass
            await self.connection.wait_closed()
        return self.connection.close_code, self.connection.close_reason


class World:
    """A running simulator and its control port."""

    def __init__(self, simulator: Simulator, http: httpx.AsyncClient) -> None:
        self.simulator = simulator
        self.http = http

    def url(self, target: str) -> str:
        """Return where *target* listens."""
        return self.simulator.urls[target.replace(".", "_") + "_url"]

    async def post(self, path: str, **order: object) -> dict[str, Any]:
        """Give an order that must be accepted."""
        answer = await self.http.post(path, json=order)
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    async def fault(self, target: str, kind: str, **params: object) -> dict[str, Any]:
        """Put a fault in force."""
        return await self.post("/fault", target=target, kind=kind, **params)

    async def generate(self, rate: float) -> None:
        """Let so many price messages a second flow."""
        await self.post("/generate", rate=rate)

    async def stats(self, target: str) -> dict[str, Any]:
        """Return the counters of *target*."""
        found: dict[str, Any] = (await self.http.get("/stats")).json()["targets"]
        counters: dict[str, Any] = found[target]
        return counters

    @asynccontextmanager
    async def connect(self, target: str, **options: Any) -> AsyncIterator[FmpClient]:
        """Connect without logging in."""
        given = {"compression": None, "ping_interval": None, "close_timeout": 1}
        async with connect(
            self.url(target),
            **{**given, "max_size": None, "max_queue": None, **options},
        ) as opened:
            yield FmpClient(opened, target)

    @asynccontextmanager
    async def logged_in(self, target: str, **options: Any) -> AsyncIterator[FmpClient]:
        """Connect and log in."""
        async with self.connect(target, **options) as client:
            assert _status(await client.login()) == 200
            yield client

    @asynccontextmanager
    async def subscribed(
        self, target: str, *names: str, **options: Any
    ) -> AsyncIterator[FmpClient]:
        """Connect, log in and subscribe."""
        async with self.logged_in(target, **options) as client:
            await client.subscribe(*names)
            yield client


def _status(reply: Frame) -> object:
    return (reply.get("data") or reply).get("status")
