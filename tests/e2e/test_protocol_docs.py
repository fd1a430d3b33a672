"""Both clients of docs/protocol-v3.md keep what the page promises of them."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from e2e.page.browser import BrowserPages
from edge_harness import EdgeProcess, Writer, edge_env
from nats_process import NatsProcess, open_bus, run_nats
from processes import ServiceProcess
from protocol_page import blocks, messages
from websockets.asyncio.server import ServerConnection, serve


# How the client comes back where it was.
SINCE = '{**wanted, "since": since} if since else wanted'


class Mill:
    """
    A feed that never stops, in front of an edge that restarts.

    Attributes:
        edge: The edge, always on the same port.
        said: Every news item there has been, by its realkey.
        enough: Whether to say no more.
    """

    def __init__(self, nats: NatsProcess, writer: Writer) -> None:
        self._service = ServiceProcess("edge", edge_env(nats))
        self._writer = writer
        self.said: list[str] = []
        self.enough = False
        self.edge: EdgeProcess

    async def start(self) -> None:
        """Let the edge serve."""
        await self._service.start()
        port = (await self._service.event("clients are served"))["port"]
        self._service._env["EDGE_PORT"] = str(port)
        self.edge = EdgeProcess(self._service, port)

    @property
    def url(self) -> str:
        """Address of the stream."""
        return f"ws://127.0.0.1:{self.edge.port}/api/v3/stream"

    async def restart(self, number: signal.Signals) -> None:
        """End the edge by *number*; begin again after a pause."""
        await self._service.stop(number)
        await asyncio.sleep(0.3)
        await self.start()

    async def stop(self) -> None:
        await self._service.stop(signal.SIGKILL)

    async def run(self) -> None:
        """Say news and prices until told to stop."""
        while not self.enough:
            self.said.append(str(len(self.said)))
            await self._writer.news(self.said[-1])
            await self._writer.price("AAPL", last_price=f"{len(self.said)}")
            await asyncio.sleep(0.005)


@pytest.fixture
async def mill(tmp_path: Path) -> AsyncIterator[Mill]:
    async with run_nats(tmp_path / "nats") as nats, open_bus(nats) as bus:
        writer = Writer(bus)
        await writer.price("AAPL", last_price="0")
        mill = Mill(nats, writer)
        await mill.start()
        yield mill
        await mill.stop()


class Follower:
    """What a client of the page has heard, in whichever language it is written."""

    def __init__(self, heard: Callable[[], Awaitable[list[dict[str, Any]]]]) -> None:
        self._heard = heard

    async def messages(self) -> list[dict[str, Any]]:
        return await self._heard()

    async def news(self) -> list[str]:
        return [m["realkey"] for m in await self.messages() if m["type"] == "news"]

    async def until(self, realkey: str) -> None:
        """Wait until it has heard an item that was said not before *realkey*."""
        async with asyncio.timeout(60):
            while int((await self.news() or ["-1"])[-1]) < int(realkey):
                await asyncio.sleep(0.1)


@asynccontextmanager
async def in_python(code: str, mill: Mill, folder: Path) -> AsyncIterator[Follower]:
    """Run the Python client as a program of its own."""
    path = folder / "follow.py"
    path.write_text(code, encoding="utf-8")
    process = await create_subprocess_exec(
        *(sys.executable, str(path), mill.url), stdout=PIPE, stderr=PIPE, limit=2**22
    )
    heard: list[dict[str, Any]] = []
    reading = asyncio.create_task(_read(process, heard))

    async def all_heard() -> list[dict[str, Any]]:
        if reading.done():
            assert process.stderr is not None
            raise AssertionError((await process.stderr.read()).decode())
        return heard

    try:
        yield Follower(all_heard)
    finally:
        process.kill()
        await process.wait()
        reading.cancel()


async def _read(process: Process, heard: list[dict[str, Any]]) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        heard.append(json.loads(line))


@asynccontextmanager
async def in_browser(
    code: str, url: str, pages: BrowserPages
) -> AsyncIterator[Follower]:
    """Run the JavaScript client in Chromium."""
    page = await pages.blank()
    await page.add_script_tag(content=code + _COLLECT)
    await page.evaluate("url => follow(url)", url)

    async def all_heard() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await page.evaluate("heard")
        return found

    yield Follower(all_heard)
    await page.close()


# The example of the page, but for the console.
_COLLECT = """
const heard = [];
const follow = (url) => new Follower(url, [
  { channel: "prices", symbols: ["AAPL", "BTCUSD"], max_rate_hz: 5 },
  { channel: "news", snapshot: true },
], (message) => heard.push(message)) && null;
"""


async def outlives_restarts(mill: Mill, client: Follower) -> list[str]:
    """Restart the edge in both ways; return what was said since it came."""
    talking = asyncio.create_task(mill.run())
    await client.until("0")
    await mill.restart(signal.SIGTERM)
    await client.until(mill.said[-1])
    await mill.restart(signal.SIGKILL)
    await client.until(mill.said[-1])
    mill.enough = True
    await talking
    await client.until(mill.said[-1])
    return mill.said[int((await client.news())[0]) :]


async def checked(client: Follower, said: list[str]) -> None:
    """Assert that *client* has heard all that was *said*, and the last price."""
    assert await client.news() == said
    heard = await client.messages()
    acks = [m["recovered"] for m in heard if "recovered" in m]
    assert len(acks) >= 4
    assert all(acks)
    async with asyncio.timeout(10):
        while True:
            prices = [m for m in await client.messages() if m["type"] == "price_update"]
            if prices[-1]["last_price"] == int(said[-1]) + 1:
                return
            await asyncio.sleep(0.1)


async def test_the_python_client_misses_nothing(mill: Mill, tmp_path: Path) -> None:
    (code,) = blocks("python")
    async with in_python(code, mill, tmp_path) as client:
        await checked(client, await outlives_restarts(mill, client))


async def test_without_positions_it_would(mill: Mill, tmp_path: Path) -> None:
    (code,) = blocks("python")
    assert SINCE in code
    async with in_python(code.replace(SINCE, "wanted"), mill, tmp_path) as client:
        said = await outlives_restarts(mill, client)
        assert await client.news() != said


async def test_the_browser_client_misses_nothing(
    mill: Mill, browser_page: BrowserPages
) -> None:
    async with in_browser(blocks("js")[0], mill.url, browser_page) as client:
        await checked(client, await outlives_restarts(mill, client))


class Moody:
    """
    A server that greets each client and then does the next of *moods*.

    Attributes:
        requests: The first request of each connection.
    """

    def __init__(self, *moods: str) -> None:
        self._moods = list(moods)
        self.requests: list[dict[str, Any]] = []
        self.url = ""

    async def serve(self, socket: ServerConnection) -> None:
        """Serve one connection."""
        mood = self._moods.pop(0)
        await socket.send(json.dumps(messages()[0] | {"heartbeat_ms": 200}))
        self.requests.append(json.loads(await socket.recv()))
        end = {"type": "snapshot_end", "channel": "news", "positions": {"news": mood}}
        await socket.send(json.dumps(end))
        if mood == "silent":
            await socket.wait_closed()
        elif mood == "away":
            away = {"type": "going_away", "reconnect_after_ms": 300}
            await socket.send(json.dumps(away))
            await socket.close(4200)
        else:
            await socket.close(int(mood))

    async def came_back(self) -> None:
        """Assert that each mood was met, with the position of the one before."""
        async with asyncio.timeout(30):
            while self._moods:
                await asyncio.sleep(0.05)
        # Time enough to come back once more.
        await asyncio.sleep(1.5)
        since = [r["subscriptions"][-1].get("since") for r in self.requests]
        assert since == [None, "silent", "away", "4108"]


@pytest.fixture
async def moody() -> AsyncIterator[Moody]:
    moody = Moody("silent", "away", "4108", "4000")
    async with serve(moody.serve, "127.0.0.1", 0) as server:
        moody.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield moody


async def test_the_python_client_obeys_silence_and_close_codes(
    moody: Moody, tmp_path: Path
) -> None:
    path = tmp_path / "follow.py"
    path.write_text(blocks("python")[0], encoding="utf-8")
    process = await create_subprocess_exec(
        *(sys.executable, str(path), moody.url), stdout=PIPE, stderr=PIPE
    )
    await moody.came_back()
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"4000" in said


async def test_the_browser_client_obeys_silence_and_close_codes(
    moody: Moody, browser_page: BrowserPages
) -> None:
    async with in_browser(blocks("js")[0], moody.url, browser_page) as client:
        await moody.came_back()
        assert (await client.messages())[-1] == {"type": "stopped", "code": 4000}


async def test_the_browser_example_runs(mill: Mill, browser_page: BrowserPages) -> None:
    page = await browser_page.blank()
    logged: list[str] = []
    page.on("console", lambda message: logged.append(message.text))
    code = "\n".join(blocks("js")).replace(
        "ws://127.0.0.1:8080/api/v3/stream", mill.url
    )
    await page.add_script_tag(content=code)
    async with asyncio.timeout(10):
        while len(logged) < 5:
            await page.wait_for_timeout(50)
