"""The control port: what it takes, what it refuses, and that nothing kills it."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from integration.simulator.fmp.client import World
from integration.simulator.fmp.conftest import Start


# Each was once accepted and ended a generator, or was ignored in silence.
SENSELESS: list[dict[str, Any]] = [
    {"kind": "heartbeat", "interval": "soon"},
    {"kind": "heartbeat", "interval": 0},
    {"kind": "heartbeat", "interval": None},
    {"kind": "heartbeat", "mode": "purple"},
    {"kind": "shape", "price": "purple"},
    {"kind": "shape", "timestamp": "purple"},
    {"kind": "shape", "timestamp_offset": "tomorrow"},
    {"kind": "shape", "types": ["X"]},
    {"kind": "shape", "types": []},
    {"kind": "shape", "venues": []},
    {"kind": "shape", "array": 0},
    {"kind": "shape", "quote_last": True},
    {"kind": "login", "reply": "purple"},
    {"kind": "login", "late": -1},
    {"kind": "login", "shape": "round"},
    {"kind": "slot", "policy": "fight"},
    {"kind": "subscribe_ack", "mode": "purple"},
    {"kind": "subscribe_ack", "status": "200"},
    {"kind": "silence", "count": []},
    {"kind": "silence", "count": 1.5},
    {"kind": "silence", "for": "ever"},
    {"kind": "duplicate", "ratio": 2},
    {"kind": "malformed", "variant": "purple"},
    {"kind": "refuse_upgrade", "status": 599},
    {"kind": "refuse_upgrade", "headers": 7},
    {"kind": "close", "code": 99_999},
    {"kind": "close", "code": "1000"},
    {"kind": "burst", "count": -1},
    {"kind": "cut", "frame": {"a": 1}},
    {"kind": "tls_fail", "every": 0},
    {"kind": "tls_fail", "bytes_b64": "%%"},
    {"kind": "one_byte_per_second", "interval": "slow"},
    {"kind": "restart", "seconds": None},
    {"kind": "end_after", "when": "never"},
    {"kind": "expire_all"},
    {"kind": "earthquake"},
    {"kind": "no_pong", "loud": True},
]


@pytest.mark.parametrize("order", SENSELESS, ids=json.dumps)
async def test_a_senseless_fault_is_refused_and_harms_nobody(
    world: World, order: dict[str, Any]
) -> None:
    await world.generate(300)
    async with world.subscribed("fmp.stocks") as client:
        answer = await world.http.post("/fault", json={"target": "fmp.stocks", **order})

        assert answer.status_code == 422
        assert len(answer.json()["error"]) > 10
        assert len(await client.ticks(30)) == 30
        assert (await world.stats("fmp.stocks"))["internal_errors"] == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", '{"rate": 1e999}'),
        ("/generate", '{"rate": -1}'),
        ("/generate", '{"rate": "fast"}'),
        ("/clock", '{"offset_seconds": "later"}'),
        ("/clock", "{}"),
        ("/inject", '{"target": "fmp.bonds", "frames": [1]}'),
        ("/inject", '{"target": "fmp.stocks", "frames": []}'),
        ("/inject", '{"target": "fmp.stocks"}'),
        ("/inject", "[]"),
        ("/inject/evenly", '{"target": "fmp.stocks", "frames": [1]}'),
        ("/inject/evenly", '{"target": "fmp.bonds", "frames": [1], "seconds": 1}'),
        ("/inject/evenly", '{"target": "fmp.stocks", "frames": [1], "seconds": 6}'),
        ("/inject/evenly", '{"target": "fmp.stocks", "frames": [1], "seconds": "x"}'),
        ("/inject/evenly", "[]"),
        ("/fault", "not JSON"),
    ],
)
async def test_a_senseless_order_is_refused(world: World, path: str, body: str) -> None:
    answer = await world.http.post(path, content=body)

    assert answer.status_code == 422
    assert answer.json()["error"]
    assert (await world.http.get("/healthz")).json() == {"status": "ok"}


async def test_lifting_the_faults_of_nobody_is_refused(world: World) -> None:
    answer = await world.http.delete("/fault", params={"target": "fmp.stock"})

    assert answer.status_code == 422


async def test_the_clock_takes_an_offset(world: World) -> None:
    said = await world.post("/clock", offset_seconds=-86_400)

    assert said["offset"] == -86_400


async def test_injecting_tells_how_many_connections_it_reached(world: World) -> None:
    order: dict[str, Any] = {"target": "fmp", "frames": [{"event": "hello"}]}
    assert (await world.post("/inject", **order))["connections"] == 0

    async with world.logged_in("fmp.stocks") as one, world.logged_in("fmp.forex"):
        assert (await world.post("/inject", **order))["connections"] == 2
        assert await one.frame() == {"event": "hello"}


async def test_frames_go_out_evenly_and_each_ones_reach_is_told(world: World) -> None:
    loop = asyncio.get_running_loop()
    frames = [{"event": "hello", "number": number} for number in range(5)]
    order: dict[str, Any] = {"target": "fmp.stocks", "frames": frames, "seconds": 0.5}

    async with world.logged_in("fmp.stocks") as client:
        sending = asyncio.create_task(world.post("/inject/evenly", **order))
        assert await client.frame() == frames[0]
        first_at = loop.time()
        assert await client.frame() == frames[1]
        assert loop.time() - first_at > 0.05
        await client.connection.close()
    answer = await sending

    assert answer["frames"] == 5
    assert answer["connections"][:2] == [1, 1]
    assert answer["connections"][-1] == 0


async def test_a_count_limits_a_fault_to_the_next_logins(world: World) -> None:
    await world.fault("fmp.stocks", "login", reply="unauthorized", count=2)

    statuses = []
    for _ in range(3):
        async with world.connect("fmp.stocks") as client:
            statuses.append((await client.login())["status"])

    assert statuses == [401, 401, 200]


@pytest.mark.parametrize("rate", [20, 100, 200])
async def test_no_market_starves_at_a_low_rate(world: World, rate: float) -> None:
    async with (
        world.subscribed("fmp.stocks") as stocks,
        world.subscribed("fmp.crypto") as crypto,
        world.subscribed("fmp.forex") as forex,
    ):
        await world.generate(rate)

        for client in (stocks, crypto, forex):
            await client.ticks(5)


async def test_the_rate_is_kept(world: World) -> None:
    async with world.subscribed("fmp.stocks", "*") as client:
        await world.generate(1000)
        await client.tick()
        before = (await world.stats("fmp.stocks"))["frames_sent"]
        await asyncio.sleep(1)
        after = (await world.stats("fmp.stocks"))["frames_sent"]

    assert 700 < after - before < 1300


async def test_statistics_tell_what_clients_did(world: World) -> None:
    async with world.connect("fmp.stocks") as client:
        await client.login("wrong")
    async with world.subscribed("fmp.stocks", "AAPL", "msft"):
        counters = await world.stats("fmp.stocks")

    assert counters["connects"] == 2
    assert counters["connections_open"] == 1
    assert counters["connections_max"] == 1
    assert counters["logins"] == 1
    assert counters["failed_logins"] == 1
    assert counters["subscribed"] == ["aapl", "msft"]
    assert counters["frames_received"] == 3
    texts = [message["text"] for message in counters["client_messages"]]
    assert json.loads(texts[-1])["data"] == {"ticker": ["AAPL", "msft"]}


@pytest.mark.parametrize(("leaves", "at_once"), [(True, 1), (False, 2)])
async def test_a_client_that_has_left_is_no_connection_beside_the_next(
    world: World, leaves: bool, at_once: int
) -> None:
    """Nor is it if the simulator, short of time, hears of both in one go."""
    with upgraded(world.url("fmp.stocks")) as first:
        while (await world.stats("fmp.stocks"))["connections_open"] < 1:
            await asyncio.sleep(0.01)
        # From here on it cannot run; it reads the end behind all this.
        first.sendall(10_000 * b"\x8a\x80mask")
        if leaves:
            first.close()
        with upgraded(world.url("fmp.stocks")):
            while (await world.stats("fmp.stocks"))["connects"] < 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            counters = await world.stats("fmp.stocks")

    assert counters["connections_max"] == at_once


def upgraded(url: str) -> socket.socket:
    """Return a client that asks for its upgrade; the loop has no turn meanwhile."""
    where = urlsplit(url)
    client = socket.create_connection((where.hostname, where.port))
    client.sendall(
        b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    return client


async def test_only_the_last_hundred_client_messages_are_kept(world: World) -> None:
    async with world.logged_in("fmp.stocks") as client:
        for _ in range(150):
            await client.subscribe("aapl")
        kept = (await world.stats("fmp.stocks"))["client_messages"]

    assert len(kept) == 100


async def test_a_scenario_can_lift_its_fault_again(
    start: Start, tmp_path: Path
) -> None:
    scenario = tmp_path / "scenario.json"
    steps = [
        {"at": 0, "action": "fault", "target": "fmp.stocks", "kind": "silence"},
        {"at": 0.2, "action": "generate", "rate": 500},
        {"at": 0.6, "action": "clear", "target": "fmp.stocks"},
        {"at": 0.6, "action": "clock", "offset_seconds": 60},
    ]
    scenario.write_text(json.dumps(steps))

    async with (
        start(scenario=scenario) as world,
        world.subscribed("fmp.stocks") as client,
    ):
        await client.tick()


async def test_a_run_ends_while_clients_are_connected(start: Start) -> None:
    async with asyncio.timeout(5):
        async with start(rate=1000.0) as world:
            context = world.subscribed("fmp.stocks", "*")
            client = await context.__aenter__()
            await client.tick()

        assert (await client.closed())[0] == 1001
