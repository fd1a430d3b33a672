"""A simulator on free ports that is silent until told otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest
from integration.simulator.fmp.client import World

from simulator.testing import run_simulator


Start = Callable[..., AbstractAsyncContextManager[World]]


@asynccontextmanager
async def run_world(**changes: object) -> AsyncIterator[World]:
    """Run a simulator with some of its settings changed."""
    async with (
        run_simulator(**changes) as simulator,
        httpx.AsyncClient(base_url=simulator.urls["control_url"]) as http,
    ):
        yield World(simulator, http)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A simulator that no other test has touched."""
    async with run_world() as world:
        yield world


@pytest.fixture
def start() -> Start:
    """Start simulators with settings of their own."""
    return run_world
