"""While a key is replaced, some servers know the old one and some the new one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from secured_nats import run_secured_nats

from feedmesh.bus import connect_bus
from feedmesh.settings import ServiceSettings


@pytest.mark.parametrize("first", [True, False])
async def test_each_key_leads_to_a_server_that_knows_it(
    tmp_path: Path, first: bool
) -> None:
    async with (
        run_secured_nats(tmp_path / "old") as old,
        run_secured_nats(tmp_path / "new") as new,
    ):
        trusted = tmp_path / "ca.crt"
        trusted.write_text(
            old.authority.file.read_text() + new.authority.file.read_text()
        )
        urls = [old.url, new.url] if first else [new.url, old.url]
        for server in (old, new):
            identity = server.identity("edge") | {
                "NATS_URL": ",".join(urls),
                "NATS_CA_FILE": str(trusted),
            }
            settings = ServiceSettings.from_env(identity)
            async with asyncio.timeout(30), connect_bus(settings, "edge") as bus:
                await bus.nc.flush()
                connected = bus.nc.connected_url
                assert connected is not None
                assert connected.port == server.port
