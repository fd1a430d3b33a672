"""What a user types: start everything, use it, press Ctrl+C, start it again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from mesh import Listener, free_block


class Run:
    """One ``python -m launcher``, as ``make run`` starts it."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.output = ""

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.output += line.decode(errors="replace")

    async def says(self, text: str, seconds: float = 60.0) -> None:
        try:
            async with asyncio.timeout(seconds):
                while text not in self.output:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(self.output) from None

    async def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            return await self.process.wait()


@asynccontextmanager
async def run(folder: Path, **env: str) -> AsyncIterator[Run]:
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "launcher"),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **env},
        stdout=PIPE,
        stderr=STDOUT,
        limit=2**22,
    )
    it = Run(process)
    reading = asyncio.create_task(it.read())
    try:
        yield it
    finally:
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(20):
                    await process.wait()
        await reading


def children_in(folder: Path) -> list[str]:
    """Return the command lines of processes that work in *folder*."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").resolve() == folder.resolve():
                found.append((entry / "cmdline").read_text().replace("\0", " "))
    return found


async def test_everything_runs_stops_and_runs_again(tmp_path: Path) -> None:
    port = free_block(1)
    for _ in range(2):
        async with run(tmp_path, EDGE_PORT=str(port)) as it:
            await it.says("feedmesh is running")
            assert f"http://127.0.0.1:{port}/" in it.output
            assert "simulated: fmp, ls" in it.output
            base = f"ws://127.0.0.1:{port}"
            prices = Listener(
                f"{base}/api/v2/realtime/ws/prices",
                {"action": "subscribe", "symbols": ["AAPL"]},
            )
            news = Listener(f"{base}/ws/news")
            listening = [asyncio.create_task(x.run()) for x in (prices, news)]
            await prices.until(lambda m: m.get("symbol") == "AAPL")
            await news.until(lambda m: m["type"] == "news")
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)

            assert await it.interrupt() == 0
        assert "Traceback" not in it.output
        # Nobody takes our own end for an interruption.
        assert "link was lost" not in it.output.partition("SIGINT received")[2]
        assert children_in(tmp_path) == []


async def test_a_port_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with run(tmp_path, EDGE_PORT=str(port)) as it:
            assert await it.process.wait() == 1

    assert it.output.count("\n") == 1
    assert f"port {port} is in use; set EDGE_PORT" in it.output


async def test_it_can_be_interrupted_while_it_starts(tmp_path: Path) -> None:
    async with run(tmp_path, EDGE_PORT=str(free_block(1))) as it:
        await it.says("started")
        await it.interrupt()

    assert children_in(tmp_path) == []


@pytest.mark.parametrize("hung_up", [True, False], ids=["hang-up", "reader gone"])
async def test_a_closed_terminal_leaves_nothing(tmp_path: Path, hung_up: bool) -> None:
    shown, shows = os.pipe()
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "launcher"),
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "EDGE_PORT": str(free_block(1)),
        },
        stdout=shows,
        stderr=shows,
    )
    os.close(shows)
    with os.fdopen(shown, encoding="utf-8", errors="replace") as output:
        async with asyncio.timeout(60):
            while "feedmesh is running" not in await asyncio.to_thread(output.readline):
                assert process.returncode is None
        if hung_up:
            process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(20):
        await process.wait()

    assert children_in(tmp_path) == []


async def test_settings_are_read_from_a_file(tmp_path: Path) -> None:
    port = free_block(1)
    (tmp_path / ".env").write_text(f"EDGE_PORT={port}\nLOG_LEVEL=WARNING\n")
    async with run(tmp_path) as it:
        await it.says("feedmesh is running")
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://127.0.0.1:{port}/")
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        await it.interrupt()

    assert '"level": "INFO"' not in it.output


@pytest.mark.parametrize("secret", ["FMP_API_KEY", "LS_APP_SECRET"])
async def test_no_secret_is_in_what_is_printed(tmp_path: Path, secret: str) -> None:
    env = {"EDGE_PORT": str(free_block(1)), "LS_APP_KEY": "hush-hush"}
    # Loopback addresses where nobody listens: nothing may leave this machine.
    env |= {
        name: f"ws://127.0.0.1:9/{name}"
        for name in ("FMP_STOCKS_URL", "FMP_CRYPTO_URL", "FMP_FOREX_URL", "LS_WS_URL")
    }
    env |= {"LS_REST_URL": "http://127.0.0.1:9", secret: "hush-hush"}
    async with run(tmp_path, **env) as it:
        await it.says("feedmesh is running")
        await it.says("link was lost")
        await it.interrupt()

    assert "hush-hush" not in it.output
