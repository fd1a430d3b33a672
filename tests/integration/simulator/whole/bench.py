"""A simulator and clients of its ports, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from simulator.simulation import Simulator


LIMIT_SECONDS = 5.0
AUTHENTICATED = {"event": "login", "status": 200, "message": "Authenticated"}


async def receive(client: ClientConnection, seconds: float = LIMIT_SECONDS) -> Any:
    """Return the next frame, parsed."""
    async with asyncio.timeout(seconds):
        return json.loads(await client.recv())


async def receive_raw(client: ClientConnection) -> str | bytes:
    """Return the next frame as it came."""
    async with asyncio.timeout(LIMIT_SECONDS):
        return await client.recv()


async def silent(client: ClientConnection, seconds: float = 0.15) -> bool:
    """Tell whether nothing arrives for a while; the wait is the test."""
    try:
        async with asyncio.timeout(seconds):
            await client.recv()
    except TimeoutError:
        return True
    return False


async def closed(client: ClientConnection) -> int | None:
    """Wait for the end of the connection and return its close code."""
    async with asyncio.timeout(LIMIT_SECONDS):
        await client.wait_closed()
    return client.close_code


@dataclass
class Bench:
    """One running simulator and an HTTP client."""

    simulator: Simulator
    http: httpx.AsyncClient

    async def fault(self, target: str, kind: str, **params: Any) -> Any:
        """Order a fault over the control port."""
        return await self.post("/fault", {"target": target, "kind": kind, **params})

    async def post(self, path: str, order: Any) -> Any:
        """Send an order to the control port and return the reply."""
        reply = await self.http.post(
            self.simulator.urls["control_url"] + path, json=order
        )
        reply.raise_for_status()
        return reply.json()

    async def stats(self, target: str) -> Any:
        """Return the statistics of one target."""
        reply = await self.http.get(self.simulator.urls["control_url"] + "/stats")
        stats = reply.json()
        return stats["ls.rest"] if target == "ls.rest" else stats["targets"][target]

    async def inject(self, target: str, *frames: object, **params: Any) -> int:
        """Send frames and return to how many connections they went."""
        reply = await self.post(
            "/inject", {"target": target, "frames": list(frames), **params}
        )
        return int(reply["connections"])

    @asynccontextmanager
    async def connect(
        self, target: str, path: str = "", **options: Any
    ) -> AsyncIterator[ClientConnection]:
        """Connect to a WebSocket target without logging in."""
        name = {
            "fmp.stocks": "fmp_stocks_url",
            "fmp.crypto": "fmp_crypto_url",
            "fmp.forex": "fmp_forex_url",
            "fmp.stream": "fmp_stream_url",
            "ls.ws": "ls_ws_url",
            "ls.paper": "ls_paper_ws_url",
        }[target]
        settings = {
            "max_size": 2**26,
            "max_queue": None,
            "close_timeout": 0.2,
            "proxy": None,
            **options,
        }
        url = self.simulator.urls[name]
        if path:
            url = url.removesuffix("/websocket") + path
        async with connect(url, compression=None, **settings) as client:
            yield client

    @asynccontextmanager
    async def fmp(
        self, market: str, *tickers: str, **options: Any
    ) -> AsyncIterator[ClientConnection]:
        """Connect, log in and subscribe on one of the FMP sockets."""
        async with self.connect(f"fmp.{market}", **options) as client:
            assert (await login(client))["event"] == "login"
            if tickers:
                name = "stream" if market == "stream" else "ticker"
                listed: object = tickers[0] if market == "stream" else list(tickers)
                await send(client, {"event": "subscribe", "data": {name: listed}})
                assert (await receive(client))["event"] == "subscribe"
            yield client

    async def token(self, key: str = "simulator", **form: str) -> str:
        """Have a token issued."""
        reply = await self.ask_token(key, **form)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["access_token"])

    async def ask_token(self, key: str = "simulator", **form: str) -> httpx.Response:
        """Ask the token endpoint, with the form in the body."""
        data = {
            "appkey": key,
            "appsecretkey": key,
            "grant_type": "client_credentials",
            "scope": "oob",
            **form,
        }
        url = self.simulator.urls["ls_rest_url"] + "/oauth2/token"
        return await self.http.post(url, data=data)

    async def tr(
        self, tr_cd: str, path: str, block: object, token: str, **headers: str
    ) -> httpx.Response:
        """Call one TR."""
        return await self.http.post(
            self.simulator.urls["ls_rest_url"] + path,
            json={f"{tr_cd}InBlock": block},
            headers={"authorization": f"Bearer {token}", "tr_cd": tr_cd, **headers},
        )

    @asynccontextmanager
    async def ls(
        self, *keys: tuple[str, str], target: str = "ls.ws", token: str = ""
    ) -> AsyncIterator[ClientConnection]:
        """Connect and register on one of the LS sockets."""
        app_key = "simulator-paper" if target == "ls.paper" else "simulator"
        token = token or await self.token(app_key)
        async with self.connect(target) as client:
            for tr_cd, tr_key in keys:
                await register(client, token, tr_cd, tr_key)
                assert (await receive(client))["header"]["rsp_cd"] == "00000"
            yield client


async def send(client: ClientConnection, order: object) -> None:
    """Send an object as JSON."""
    await client.send(json.dumps(order))


async def login(client: ClientConnection, key: str = "simulator") -> Any:
    """Log in to FMP and return the next frame."""
    await send(client, {"event": "login", "data": {"apiKey": key}})
    return await receive(client)


async def register(
    client: ClientConnection, token: str, tr_cd: str, tr_key: str, tr_type: str = "3"
) -> None:
    """Send a registration to LS."""
    header = {"token": token, "tr_type": tr_type}
    await send(client, {"header": header, "body": {"tr_cd": tr_cd, "tr_key": tr_key}})
