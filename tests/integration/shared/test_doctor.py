"""The doctor against real servers, healthy and not."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh import free_block
from nats_process import NatsProcess, open_bus

from feedmesh.bus import Bus
from feedmesh.clock import now_ns
from feedmesh.messages import encode, head
from feedmesh.streams import ensure_streams


USERS = """
authorization { users: [
  {user: all, password: all}
  {user: edge, password: edge, permissions: {
    publish: {allow: ["demand.>", "pins.*", "$JS.API.STREAM.INFO.*",
                      "$JS.API.DIRECT.GET.>", "$SYS.REQ.USER.INFO"]}
    subscribe: {allow: ["prices.>", "news.*", "status.*", "demand_ask", "_INBOX.>"]}
  }}
  {user: blind, password: blind, permissions: {
    publish: {allow: "$SYS.REQ.USER.INFO"}, subscribe: {allow: "_INBOX.>"}
  }}
] }
"""


async def doctor(url: str, *arguments: str, **env: str) -> tuple[int, dict[str, Any]]:
    """Run it; return its exit code and what it found, by what it is about."""
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "feedmesh", "doctor", "--json", *arguments),
        env={"PATH": os.environ["PATH"], "NATS_URL": url} | env,
        stdout=PIPE,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    found = {f["about"]: (f["level"], f["text"]) for f in json.loads(output)}
    assert process.returncode is not None
    return process.returncode, found


@asynccontextmanager
async def configured(folder: Path, extra: str) -> AsyncIterator[tuple[str, str]]:
    """Run a server with *extra* configured; yield its URL and its monitor's."""
    port = free_block(2)
    config = folder / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\nhttp: "127.0.0.1:{port + 1}"\n'
        f'jetstream {{ store_dir: "{folder}/data", sync_interval: always }}\n{extra}'
    )
    server = await create_subprocess_exec(
        str(Path(sys.executable).parent / "nats-server"),
        *("--config", str(config)),
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    break
        yield f"nats://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
    finally:
        server.kill()
        await server.wait()


async def test_a_server_with_all_streams_is_well(
    nats_server: NatsProcess, bus: Bus
) -> None:
    now = now_ns()
    head_ = head(
        "status", "ls", (1, 1), event_ns=now, received_ns=now, published_ns=now
    )
    await bus.nc.jetstream().publish("status.ls", encode(head_, b"{}"))

    code, found = await doctor(nats_server.url)

    assert code == 0
    assert found["stream NEWS"] == ("ok", "0 messages, 1 replicas")
    assert found["ls status"][0] == "ok"
    assert found["sync"][0] == "unknown"
    assert found["clock"][0] == "ok"


async def test_what_is_missing_or_wrong_is_named(nats_server: NatsProcess) -> None:
    async with open_bus(nats_server) as bus:
        js = bus.nc.jetstream()
        await js.delete_stream("PINS")
        config = (await js.stream_info("NEWS")).config
        await js.update_stream(config, allow_direct=False)

    code, found = await doctor(nats_server.url)

    assert code == 1
    assert found["stream PINS"] == ("fail", "stream not found")
    assert found["stream NEWS"][0] == "fail"
    assert "allow_direct" in found["stream NEWS"][1]
    assert found["stream PRICES"][0] == "ok"


async def test_more_copies_than_there_are_is_a_failure(
    nats_server: NatsProcess, bus: Bus
) -> None:
    await ensure_streams(bus.nc.jetstream())

    code, found = await doctor(nats_server.url, "--replicas", "3")

    assert code == 1
    assert "num_replicas is 1, should be 3" in found["stream PRICES"][1]


async def test_nobody_there_is_said_and_not_waited_for() -> None:
    code, found = await doctor(f"nats://127.0.0.1:{free_block(1)}")

    assert code == 1
    assert found["connection"] == ("fail", "no server answers")


async def test_permissions_and_sync_are_found_where_the_server_tells(
    tmp_path: Path,
) -> None:
    async with configured(tmp_path, USERS) as (url, monitor):
        everything = {"NATS_USER": "all", "NATS_PASSWORD": "all"}
        _, found = await doctor(url, "--monitor", monitor, **everything)
        assert found["sync"] == ("ok", "each write goes through to the disk")

        edge = {"NATS_USER": "edge", "NATS_PASSWORD": "edge"}
        _, found = await doctor(url, "--role", "edge", **edge)
        assert found["permissions"] == ("ok", "edge may do all that edge needs")
        code, found = await doctor(url, "--role", "ingest-ls", **edge)
        assert code == 1
        assert "publish news.>" in found["permissions"][1]

        blind = {"NATS_USER": "blind", "NATS_PASSWORD": "blind"}
        code, found = await doctor(url, "--role", "edge", **blind)
        assert code == 1
        assert found["stream NEWS"][0] == "unknown"
        assert found["clock"][0] == "ok"

        wrong = {"NATS_USER": "edge", "NATS_PASSWORD": "wrong"}
        code, found = await doctor(url, **wrong)
        assert code == 1
        assert found["connection"][1] == "servers answer, but do not let us in"
