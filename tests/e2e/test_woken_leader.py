"""
A leader was asleep, another took over, and it wakes: nobody is shown what it says.

The stream refuses its news. Its prices nobody can refuse, so readers drop them: the
edge for its clients, and the library for services.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from edge_harness import edge_env
from mesh import Listener
from nats.aio.msg import Msg
from pair import Pair, run_pair
from processes import run_service
from who_leads import until_said

from feedmesh.messages import decode_head
from feedmesh.newest import NewestPrices
from feedmesh.prices import decode_frame
from feedmesh.stored import last_of
from feedmesh.streams import PRICES


pytestmark = pytest.mark.timeout(150)

QUIET = ("--rate", "0", "--news-rate", "0")
SYMBOLS = ["AAPL", "MSFT"]
TESTS = str(Path(__file__).parents[1])
Said = tuple[str, str | None]
"""A symbol, and its last price."""


class PriceReader:
    """
    A service that reads prices.

    Attributes:
        heard: All that was on the bus.
        shown: What was new of it.
    """

    def __init__(self) -> None:
        self.heard: set[Said] = set()
        self.shown: set[Said] = set()
        self._newest = NewestPrices()

    async def hear(self, message: Msg) -> None:
        state = decode_frame(decode_head(message.data)[1])
        self.heard.add((state.symbol, state.last_price))
        if self._newest.live(message.data):
            self.shown.add((state.symbol, state.last_price))


@asynccontextmanager
async def client_of(
    pair: Pair, module: str, *arguments: str, **env: str
) -> AsyncIterator[Listener]:
    """Run an edge, and a client of it that wants every update."""
    async with run_service(module, edge_env(pair.nats, **env), *arguments) as edge:
        port = (await edge.event("clients are served"))["port"]
        wanted = {"op": "subscribe", "channel": "prices", "mode": "every"}
        listener = Listener(
            f"ws://127.0.0.1:{port}/api/v3/stream", {**wanted, "symbols": SYMBOLS}
        )
        listener.task = asyncio.create_task(listener.run())
        yield listener
        listener.stop()
        await asyncio.gather(listener.task, return_exceptions=True)


async def told(listener: Listener, symbol: str, dollars: int) -> None:
    """Wait until the client was told a price."""
    await listener.until(
        lambda m: m.get("symbol") == symbol and m["last_price"] == dollars
    )


def shown_to(listener: Listener) -> set[Said]:
    """Return all prices that a client was told."""
    messages = map(json.loads, listener.heard)
    return {(m["symbol"], str(m["last_price"])) for m in messages if "last_price" in m}


async def test_prices_of_a_woken_leader_are_shown_to_nobody(tmp_path: Path) -> None:
    """Neither of a symbol that the next leader has sent, nor of one that it has not."""
    everybody = ("--fmp-slot", "unlimited")
    wanted = ",".join(SYMBOLS)
    async with (
        run_pair(
            tmp_path, "ingest_fmp", *QUIET, *everybody, FMP_SYMBOLS=wanted
        ) as pair,
        client_of(pair, "edge") as client,
        client_of(pair, "unguarded_edge", "epochs", PYTHONPATH=TESTS) as unguarded,
    ):
        service = PriceReader()
        await pair.bus.nc.subscribe("prices.us.*", cb=service.hear)
        leader = await pair.leader()
        heir = pair.other(leader)
        await say(pair, service, 100, *SYMBOLS)
        heir.process.send_signal(signal.SIGSTOP)
        leader.process.send_signal(signal.SIGSTOP)
        # Only the leader has this connection.
        await pair.simulator.inject("fmp.stocks", *trades(111, *SYMBOLS))
        heir.process.send_signal(signal.SIGCONT)
        await until_said(heir, "link is up", 1)
        await say(pair, service, 222, "AAPL")
        for listener in (client, unguarded):
            await told(listener, "AAPL", 222)
        leader.process.send_signal(signal.SIGCONT)
        await until_said(leader, "another leads; stepping down", 1)
        # It did write, and the stream took it; then the heir puts back what it knows.
        await until_heard(service, 111, *SYMBOLS)
        await until_stored(pair, "AAPL", "222")
        await until_stored(pair, "MSFT", "100")
        await say(pair, service, 333, *SYMBOLS)
        for listener, symbol in itertools.product((client, unguarded), SYMBOLS):
            await told(listener, symbol, 333)

        right = {("AAPL", price) for price in ("100", "222", "333")}
        right |= {("MSFT", price) for price in ("100", "333")}
        assert shown_to(client) == right
        assert service.shown == right
        # The control: to compare the versions of each symbol is not enough.
        assert shown_to(unguarded) == {*right, ("MSFT", "111")}


def trades(dollars: int, *symbols: str) -> list[dict[str, str]]:
    """Return the frames in which the upstream says a price of each of *symbols*."""
    rest = {"type": "T", "lp": dollars, "ls": 1}
    return [
        {"text": json.dumps({"s": symbol.lower(), "t": time.time_ns(), **rest})}
        for symbol in symbols
    ]


async def say(pair: Pair, service: PriceReader, dollars: int, *symbols: str) -> None:
    """Have the upstream say a price of each of *symbols* until all were heard."""
    async with asyncio.timeout(20):
        while not {(symbol, str(dollars)) for symbol in symbols} <= service.heard:
            await pair.simulator.inject("fmp.stocks", *trades(dollars, *symbols))
            await asyncio.sleep(0.1)


async def until_heard(service: PriceReader, dollars: int, *symbols: str) -> None:
    async with asyncio.timeout(10):
        while not {(symbol, str(dollars)) for symbol in symbols} <= service.heard:
            await asyncio.sleep(0.05)


async def until_stored(pair: Pair, symbol: str, price: str) -> None:
    """Wait until *price* is what the stream keeps of *symbol*."""
    async with asyncio.timeout(10):
        while True:
            kept = await last_of(pair.bus, PRICES, f"prices.us.{symbol}")
            assert kept is not None
            if decode_frame(decode_head(kept.payload)[1]).last_price == price:
                return
            await asyncio.sleep(0.05)
