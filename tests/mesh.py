"""All of feedmesh as in production: every part a process of its own, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from nats_process import NatsProcess, run_nats
from processes import ServiceProcess, plain_http
from websockets.asyncio.client import ClientConnection, connect


class Simulator:
    """The simulated upstreams, through their control endpoint."""

    def __init__(self, service: ServiceProcess) -> None:
        self.service = service
        self.urls: dict[str, str] = {}

    async def ready(self) -> None:
        """Wait until it listens, and learn where."""
        self.urls = await self.service.event("ready")

    async def call(self, method: str, path: str, **body: Any) -> Any:
        """Ask the control endpoint for something; fails unless it agrees."""
        async with plain_http(base_url=self.urls["control_url"]) as http:
            answer = await http.request(method, path, json=body or None)
        assert answer.is_success, answer.text
        return answer.json()

    async def inject(self, target: str, *frames: Any) -> int:
        """Send exactly *frames* to whoever is connected to *target*."""
        answer = await self.call("POST", "/inject", target=target, frames=list(frames))
        return int(answer["connections"])


class Listener:
    """A client that reconnects for ever and keeps everything it hears."""

    def __init__(self, url: str, *requests: dict[str, Any]) -> None:
        self._url = url
        self._requests = requests
        self._grown = asyncio.Event()
        self.heard: list[str] = []
        self.connection: ClientConnection | None = None
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        async for connection in connect(self._url, compression=None):
            self.connection = connection
            try:
                for request in self._requests:
                    await connection.send(json.dumps(request))
                async for text in connection:
                    assert isinstance(text, str)
                    self.heard.append(text)
                    self._grown.set()
            except OSError:
                pass
            except Exception as error:
                if type(error).__name__ != "ConnectionClosedError":
                    raise

    def stop(self) -> None:
        """Leave for good."""
        assert self.task is not None
        self.task.cancel()

    async def until(self, condition: Any, seconds: float = 30.0) -> Any:
        """Return the first thing heard, from now or before, that meets *condition*."""
        looked = 0
        try:
            async with asyncio.timeout(seconds):
                while True:
                    for text in self.heard[looked:]:
                        message = json.loads(text)
                        if condition(message):
                            return message
                    looked = len(self.heard)
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(
                "not heard; the last were:\n" + "\n".join(self.heard[-5:])
            ) from None

    def news(self) -> list[dict[str, Any]]:
        """Return all news items heard, without test items."""
        items = [json.loads(text) for text in self.heard]
        return [item for item in items if item["type"] == "news"]


class Mesh:
    """
    NATS, simulator, both ingests and an edge.

    Attributes:
        services: The services by module, to be killed and started again.
    """

    def __init__(self, nats: NatsProcess, simulator: Simulator) -> None:
        self.nats = nats
        self.simulator = simulator
        self.services: dict[str, ServiceProcess] = {}
        self.edge_port = 0
        self._listening: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.edge_port}"

    def listen(self, path: str, *requests: dict[str, Any]) -> Listener:
        """Have a client listen on *path* until the mesh ends."""
        listener = Listener(f"ws://127.0.0.1:{self.edge_port}{path}", *requests)
        listener.task = asyncio.create_task(listener.run())
        self._listening.append(listener.task)
        return listener

    def prices(self, *symbols: str) -> Listener:
        return self.listen(
            "/api/v2/realtime/ws/prices",
            {"action": "subscribe", "symbols": list(symbols)},
        )

    def news(self) -> Listener:
        return self.listen("/ws/news")

    async def subscribed(self, target: str, *tickers: str) -> None:
        """Wait until the simulator has *tickers* subscribed on *target*."""
        async with asyncio.timeout(30):
            while True:
                stats = (await self.simulator.call("GET", "/stats"))["targets"][target]
                have = {str(ticker).lower() for ticker in stats["subscribed"]}
                if {ticker.lower() for ticker in tickers} <= have:
                    return
                await asyncio.sleep(0.05)

    async def restart(self, module: str, number: signal.Signals) -> None:
        """End a service by *number* and start it again as it was."""
        service = self.services[module]
        await service.stop(number)
        await service.start()

    async def restart_service(self, module: str) -> None:
        """End a service as a crash would, start it again, wait until it is ready."""
        await self.restart(module, signal.SIGKILL)
        await self.services[module].ready()

    async def restart_simulator(self) -> None:
        """Kill the simulator and start it again on the same ports."""
        service = self.simulator.service
        await service.stop(signal.SIGKILL)
        await service.start()
        await self.simulator.ready()

    async def stored_news(self) -> list[dict[str, Any]]:
        """Return every item that a client of REST sees, oldest first."""
        try:
            async with plain_http() as http:
                answer = await http.get(f"{self.url}/api/v3/news?limit=500")
        except httpx.TransportError:
            return []
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def close(self) -> None:
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)


class _Ports:
    """
    A range of ports that no other test process hands out.

    A free port can be another's before it is used. So each process takes a range to
    itself, whose first port it holds, and hands out the others in turn.
    """

    def __init__(self) -> None:
        for base in random.sample(range(20_000, 30_000, 250), 40):
            with contextlib.suppress(OSError):
                self._held = _bound(base)
                break
        else:
            raise RuntimeError("no ports are left for this process")
        self._range = range(base + 1, base + 250)
        self._next = self._range.start

    def block(self, size: int) -> int:
        for _ in self._range:
            if self._next + size > self._range.stop:
                self._next = self._range.start
            base = self._next
            try:
                with ExitStack() as stack:
                    for port in range(base, base + size):
                        stack.enter_context(_bound(port))
            except OSError:
                self._next += 1
                continue
            self._next += size
            return base
        raise RuntimeError(f"no {size} ports in a row are free")


def _bound(port: int) -> socket.socket:
    it = socket.socket()
    try:
        it.bind(("127.0.0.1", port))
    except OSError:
        it.close()
        raise
    return it


_ports = cache(_Ports)


def free_block(size: int = 8) -> int:
    """Return the first of *size* ports in a row, for the caller alone."""
    return _ports().block(size)


async def start_simulator(stack: AsyncExitStack, *arguments: str) -> Simulator:
    """Start a simulator that says nothing by itself unless *arguments* tell it to."""
    quiet = ("--rate", "0", "--news-rate", "0")
    # A block of ports that stays the same when it is started again.
    service = ServiceProcess(
        "simulator", {}, ("--base-port", str(free_block()), *(arguments or quiet))
    )
    await service.start()
    stack.push_async_callback(_end, service)
    simulator = Simulator(service)
    await simulator.ready()
    return simulator


@asynccontextmanager
async def run_mesh(
    folder: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    each: Mapping[str, Mapping[str, str]] | None = None,
) -> AsyncIterator[Mesh]:
    """Run everything while the context is open; *env* for all, *each* by module."""
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(run_nats(folder / "nats"))
        simulator = await start_simulator(stack, *arguments)
        mesh = Mesh(nats, simulator)
        stack.push_async_callback(mesh.close)
        common = {"NATS_URL": nats.url, "OPS_PORT": "0"}
        urls = simulator.urls
        plans: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
            "feedmesh": ({}, ("streams", "--keep")),
            "ingest_fmp": (
                {
                    "FMP_STOCKS_URL": urls["fmp_stocks_url"],
                    "FMP_CRYPTO_URL": urls["fmp_crypto_url"],
                    "FMP_FOREX_URL": urls["fmp_forex_url"],
                    "FMP_STREAM_URL": urls["fmp_stream_url"],
                    "FMP_SYMBOLS": "AAPL,BTCUSD,EURUSD",
                    "FMP_GRACE": "1s",
                },
                (),
            ),
            "ingest_ls": (
                {
                    "LS_REST_URL": urls["ls_rest_url"],
                    "LS_WS_URL": urls["ls_ws_url"],
                    "LS_STOCK_CODES": "005930,122870",
                    "LS_GRACE": "1s",
                },
                (),
            ),
            "edge": ({"EDGE_PORT": "0"}, ()),
        }
        for module, (own, extra) in plans.items():
            given = common | own | dict(env or {}) | dict((each or {}).get(module, {}))
            service = ServiceProcess(module, given, extra)
            mesh.services[module] = service
            stack.push_async_callback(_end, service)
            await service.start()
        mesh.edge_port = (await mesh.services["edge"].event("clients are served"))[
            "port"
        ]
        # Started again, it must be found where it was.
        mesh.services["edge"]._env["EDGE_PORT"] = str(mesh.edge_port)
        for module in ("ingest_fmp", "ingest_ls"):
            await mesh.services[module].ready()
        yield mesh


async def _end(service: ServiceProcess) -> None:
    await service.stop(signal.SIGKILL)
