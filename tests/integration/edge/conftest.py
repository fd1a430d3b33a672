"""Fixtures of the edge's tests; see `edge_harness`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from edge_harness import EdgeProcess, Writer, run_edge
from nats_process import NatsProcess

from feedmesh.bus import Bus


@pytest.fixture
async def edge(nats_server: NatsProcess, bus: Bus) -> AsyncIterator[EdgeProcess]:
    async with run_edge(nats_server) as edge:
        yield edge


@pytest.fixture
def writer(bus: Bus) -> Writer:
    return Writer(bus)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]:
    async def wait(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(15):
            while not await condition():
                await asyncio.sleep(0.02)

    return wait
