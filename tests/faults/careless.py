"""
The negative control of the upstream suite: clients that do not look after their link.

They log in once, never ping, and never come back. So a fault that an ingest finds, and
mends by a new connection, leaves them without data for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import NamedTuple
from urllib.parse import urlsplit

from faults.proxy import Break, run_proxy
from mesh import Simulator

from feedmesh.errors import FeedError
from feedmesh.ingest.wire import Wire, open_wire


# An upstream gives a key one place; one more than there are faults.
KEYS = tuple(f"control-{number}" for number in range(10))
_LOOK_SECONDS = 0.05


class Careless:
    """
    A client that neither pings nor comes back.

    Attributes:
        heard: How many frames it has heard.
        wire: Its only connection.
    """

    def __init__(self) -> None:
        self.heard = 0
        self.wire: Wire | None = None

    async def run(self, url: str, key: str) -> None:
        with contextlib.suppress(FeedError):
            async with open_wire(url, ping_seconds=None) as self.wire:
                await self.ask(key)
                while True:
                    await self.wire.receive()
                    self.heard += 1

    async def ask(self, key: str) -> None:
        """Log in, perhaps again."""
        assert self.wire is not None
        with contextlib.suppress(FeedError):
            await self.wire.send(
                json.dumps({"event": "login", "data": {"apiKey": key}})
            )


class Carelessness(NamedTuple):
    """What each fault costs the careless, and how often one was there at once."""

    missed: dict[str, int]
    at_once: int


async def careless(
    simulator: Simulator, faults: Mapping[str, Break], seconds: float
) -> Carelessness:
    """
    Do each of *faults* to a careless client of its own, all at once.

    What they miss is counted after *seconds*, when an ingest would have found out, on
    lines that are as the fault has left them.
    """
    port = urlsplit(simulator.urls["fmp_stocks_url"]).port or 0
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        clients, proxies = {}, {}
        keys = dict(zip(("", *faults), KEYS, strict=False))
        for name, key in keys.items():
            proxies[name] = await stack.enter_async_context(run_proxy(port))
            clients[name] = Careless()
            url = f"ws://127.0.0.1:{proxies[name].port}"
            group.create_task(clients[name].run(url, key))
        async with asyncio.timeout(30):
            # The answer to the login, and a heartbeat.
            while any(client.heard < 2 for client in clients.values()):
                await asyncio.sleep(_LOOK_SECONDS)
        for name, fault in faults.items():
            fault(proxies[name])
            await clients[name].ask(keys[name])
        await asyncio.sleep(seconds)
        before = {name: client.heard for name, client in clients.items()}

        def came(name: str) -> int:
            return clients[name].heard - before[name]

        async with asyncio.timeout(30):
            # Nothing is done to the first one.
            while came("") < 3:
                await asyncio.sleep(_LOOK_SECONDS)
        missed = {name: came("") - came(name) for name in faults}
        # Who comes back without having left is there twice.
        proxies["half-open"].heal()
        async with open_wire(f"ws://127.0.0.1:{proxies['half-open'].port}"):
            at_once = proxies["half-open"].most_open
        for proxy in proxies.values():
            proxy.reset()
    return Carelessness(missed, at_once)
