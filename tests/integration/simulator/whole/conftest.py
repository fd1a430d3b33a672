"""The simulator under test, quiet unless told otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from integration.simulator.whole.bench import Bench

from simulator.testing import run_simulator


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A simulator that says nothing of its own, and an HTTP client."""
    async with (
        run_simulator() as simulator,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        yield Bench(simulator, http)
