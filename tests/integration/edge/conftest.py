"""Fixtures of the edge's tests; see `edge_harness`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from edge_harness import EdgeProcess, Writer, run_edge
from edge_under_attack import EdgeUnderAttack, edge_under_attack
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[EdgeUnderAttack]:
    """An edge for all tests of a module, with that module's EDGE_SETTINGS."""
    env = getattr(request.module, "EDGE_SETTINGS", {})
    async with edge_under_attack(tmp_path_factory.mktemp("edge"), **env) as target:
        # So that it has a value for every test that asks for one.
        await target.is_well()
        yield target


@pytest_asyncio.fixture(loop_scope="module")
async def nobody_else_notices(target: EdgeUnderAttack) -> AsyncIterator[None]:
    """Hold that a client that was there before still gets every update afterwards."""
    yield
    await target.is_well()
