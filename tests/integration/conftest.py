"""Real parts for the integration tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats_process import NatsProcess, open_bus, run_nats

from feedmesh.bus import Bus


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsProcess]:
    """A nats-server of this test's own, without streams."""
    async with run_nats(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def bus(nats_server: NatsProcess) -> AsyncIterator[Bus]:
    """A connection to `nats_server`, which has all streams."""
    async with open_bus(nats_server) as bus:
        yield bus
