"""The services that README.md shows to strangers do what it says, as they stand."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from edge_harness import Writer
from nats_process import NatsProcess, until_back

from feedmesh.bus import Bus


ROOT = Path(__file__).parents[3]


def example(word: str) -> str:
    """Return the Python program of README.md in which *word* occurs."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    programs = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (found,) = [program for program in programs if word in program]
    return str(found)


@asynccontextmanager
async def run_example(program: str, server: NatsProcess) -> AsyncIterator[Process]:
    """Run *program* with *server* where it looks for one."""
    # The one says where, the other is told.
    program = program.replace("nats://127.0.0.1:4222", server.url)
    process = await create_subprocess_exec(
        *(sys.executable, "-u", "-c", program),
        env={"NATS_URL": server.url},
        stdout=PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def line(process: Process) -> str:
    """Return the next line that *process* prints."""
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode().strip()


async def test_the_reader_of_news_prints_every_item(
    nats_server: NatsProcess, bus: Bus
) -> None:
    writer = Writer(bus)
    await writer.news("1", "before")
    async with run_example(example("pull_subscribe"), nats_server) as process:
        assert await line(process) == "before"
        await writer.news("2", "after")
        assert await line(process) == "after"


async def test_the_reader_of_prices_prints_what_is_new(
    nats_server: NatsProcess, bus: Bus
) -> None:
    before, after = Writer(bus), Writer(bus)
    after.epoch = before.epoch + 1
    await before.price("AAPL", last_price="1.10")
    await before.price("MSFT", last_price="1.20")
    async with run_example(example("NewestPrices"), nats_server) as process:
        assert await line(process) == "AAPL 1.10"
        assert await line(process) == "MSFT 1.20"
        await after.price("AAPL", last_price="2.10")
        assert await line(process) == "AAPL 2.10"
        # The one that was replaced says what it must not.
        await before.price("MSFT", last_price="9.99")
        await after.price("MSFT", last_price="2.20")
        assert await line(process) == "MSFT 2.20"


async def test_the_reader_of_prices_outlives_nats(
    nats_server: NatsProcess, bus: Bus
) -> None:
    writer = Writer(bus)
    async with run_example(example("NewestPrices"), nats_server) as process:
        await writer.price("AAPL", last_price="1.10")
        assert await line(process) == "AAPL 1.10"
        await nats_server.stop()
        await nats_server.start()
        await until_back(bus)
        await writer.price("AAPL", last_price="2.10")
        assert await line(process) == "AAPL 2.10"
