"""What can go wrong with an FMP connection, each fault over a real socket."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from integration.simulator.fmp.client import NAMES, SECONDS, FmpClient, World
from integration.simulator.fmp.conftest import Start
from websockets.exceptions import ConnectionClosedError, InvalidHandshake, InvalidStatus


# One of the legacy sockets stands for the three: they share their code.
pytestmark = pytest.mark.parametrize("target", ["fmp.stocks", "fmp.stream"])


async def _flowing(world: World, client: FmpClient) -> None:
    await client.subscribe()
    await world.generate(300)
    await client.tick()


async def _drained(client: FmpClient) -> None:
    """Read what was on its way when a fault came into force."""
    while not await client.quiet(0.1):
        pass


async def _answers_ping(client: FmpClient, seconds: float = 0.4) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await (await client.connection.ping())
    except TimeoutError:
        return False
    return True


# The opening handshake.


@pytest.mark.parametrize("status", [401, 403, 429, 502, 503])
async def test_an_upgrade_can_be_refused(
    world: World, target: str, status: int
) -> None:
    await world.fault(
        target, "refuse_upgrade", status=status, headers={"Retry-After": "7"}, count=1
    )

    with pytest.raises(InvalidStatus) as caught:
        async with world.connect(target):
            pass

    assert caught.value.response.status_code == status
    assert caught.value.response.headers["Retry-After"] == "7"
    async with world.logged_in(target):
        pass


async def test_an_upgrade_can_be_redirected(world: World, target: str) -> None:
    elsewhere = world.url("fmp.forex" if target != "fmp.forex" else "fmp.crypto")
    await world.fault(target, "refuse_upgrade", status=301, location=elsewhere)

    async with world.connect(target) as client:
        port = client.connection.remote_address[1]

    assert port == urlsplit(elsewhere).port


async def test_every_second_connect_can_meet_rubbish(world: World, target: str) -> None:
    await world.fault(target, "tls_fail", every=2)
    met = []

    for _ in range(4):
        try:
            async with world.connect(target):
                met.append("upgrade")
        except (InvalidHandshake, OSError, EOFError):
            met.append("rubbish")

    assert met == ["upgrade", "rubbish"] * 2


async def test_what_a_tls_client_is_told_is_an_alert(world: World, target: str) -> None:
    await world.fault(target, "tls_fail")
    address = urlsplit(world.url(target))

    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    said = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert said[:1] == b"\x15"


async def test_a_connect_can_be_reset_or_left_hanging(
    world: World, target: str
) -> None:
    await world.fault(target, "reset_on_connect", count=1)
    with pytest.raises((OSError, EOFError, InvalidHandshake)):
        async with world.connect(target):
            pass

    await world.fault(target, "upgrade_timeout", count=1)
    with pytest.raises(TimeoutError):
        async with world.connect(target, open_timeout=0.3):
            pass


# The login.


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("unauthorized", "Unauthorized"),
        ("another_location", "Connected from another location"),
        ("max_connections", "Maximum number of connections reached"),
    ],
)
@pytest.mark.parametrize("shape", ["flat", "nested"])
async def test_a_login_can_be_refused_in_each_way(
    world: World, target: str, reply: str, message: str, shape: str
) -> None:
    await world.fault(target, "login", reply=reply, shape=shape, count=1)

    async with world.connect(target) as client:
        said = await client.login()
        assert said == (
            {"event": "login", "status": 401, "message": message}
            if shape == "flat"
            else {"event": "login", "data": {"status": 401, "message": message}}
        )
        assert await client.quiet(0.1)
        again = await client.login()

    assert (again.get("data") or again)["status"] == 200


async def test_a_refused_login_can_end_the_connection(
    world: World, target: str
) -> None:
    await world.fault(
        target, "login", reply="unauthorized", close_after=True, close_code=1008
    )

    async with world.connect(target) as client:
        await client.login()
        assert (await client.closed())[0] == 1008


async def test_a_login_can_stay_unanswered(world: World, target: str) -> None:
    await world.fault(target, "login", reply="none", count=1)

    async with world.connect(target) as client:
        await client.send({"event": "login", "data": {"apiKey": "simulator"}})
        assert await client.quiet()


async def test_a_login_can_be_answered_late(world: World, target: str) -> None:
    await world.fault(target, "login", late=0.4)
    started = time.monotonic()

    async with world.logged_in(target):
        assert time.monotonic() - started >= 0.4


async def test_data_can_come_before_the_login_reply(world: World, target: str) -> None:
    await world.fault(target, "login", data_first=3)

    async with world.connect(target) as client:
        await client.send({"event": "login", "data": {"apiKey": "simulator"}})
        frames = [await client.frame() for _ in range(4)]

    assert ["event" in frame for frame in frames] == [False, False, False, True]


async def test_a_new_login_can_kick_the_old_one(world: World, target: str) -> None:
    async with world.logged_in(target) as first:
        await world.fault(target, "login", reply="kick_old", count=1)
        async with world.logged_in(target) as second:
            await first.closed()
            assert await second.quiet(0.1)


# Acknowledgements.


@pytest.mark.parametrize("shape", ["flat", "nested"])
@pytest.mark.parametrize("status", [200, 401])
async def test_an_acknowledgement_has_the_status_and_shape_asked_for(
    world: World, target: str, shape: str, status: int
) -> None:
    await world.fault(target, "subscribe_ack", status=status, shape=shape)
    async with world.logged_in(target) as client:
        ack = await client.subscribe()

        assert (ack["data"] if shape == "nested" else ack)["status"] == status
        held = (await world.stats(target))["subscribed"]
        assert held == ([NAMES[target]] if status == 200 else [])


async def test_an_acknowledgement_can_be_left_out(world: World, target: str) -> None:
    await world.fault(target, "subscribe_ack", mode="none")
    await world.generate(300)
    async with world.logged_in(target) as client:
        kind = "stream" if target == "fmp.stream" else "ticker"
        order = {"event": "subscribe", "data": {kind: NAMES[target]}}
        await client.send(order)
        frames = [await client.frame() for _ in range(20)]

    assert all("event" not in frame for frame in frames)


async def test_an_acknowledgement_can_be_late(world: World, target: str) -> None:
    await world.fault(target, "subscribe_ack", mode="late", late=0.4)
    async with world.logged_in(target) as client:
        started = time.monotonic()
        await client.subscribe()

        assert time.monotonic() - started >= 0.4


# Silence.


async def test_a_silence_ends_data_and_heartbeats_but_not_the_socket(
    start: Start, target: str
) -> None:
    async with (
        start(fmp_heartbeat_seconds=0.05) as world,
        world.logged_in(target) as client,
    ):
        await _flowing(world, client)
        await world.fault(target, "silence")
        await _drained(client)

        assert await client.quiet(0.3)
        assert await _answers_ping(client)
        await world.http.delete("/fault", params={"target": target})
        await client.tick()


async def test_a_silence_ends_after_its_time(world: World, target: str) -> None:
    async with world.logged_in(target) as client:
        await _flowing(world, client)
        await world.fault(target, "silence", **{"for": 0.5})
        await _drained(client)

        await client.tick()


async def test_a_closed_market_has_heartbeats_only(start: Start, target: str) -> None:
    async with (
        start(fmp_heartbeat_seconds=0.05) as world,
        world.logged_in(target) as client,
    ):
        await _flowing(world, client)
        await world.fault(target, "heartbeats_only")
        await client.event("heartbeat")
        await asyncio.sleep(0.1)
        while (await client.frame()).get("event") != "heartbeat":
            pass
        frames = [await client.frame() for _ in range(5)]

    assert all(frame.get("event") == "heartbeat" for frame in frames)


async def test_heartbeats_can_be_changed(world: World, target: str) -> None:
    async with world.logged_in(target) as client:
        await world.fault(target, "heartbeat", interval=0.05, timestamp=True)
        assert len(str((await client.event("heartbeat"))["timestamp"])) == 13

        await world.fault(target, "heartbeat", interval=0.05, timestamp=False)
        await asyncio.sleep(0.1)
        while len(await client.event("heartbeat")) > 1:
            pass

        await world.fault(target, "heartbeat", mode="off")
        await _drained(client)
        assert await client.quiet()


async def test_a_half_open_connection_answers_nothing(
    world: World, target: str
) -> None:
    async with world.logged_in(target) as client:
        await _flowing(world, client)
        await world.fault(target, "half_open")
        await _drained(client)

        assert not await _answers_ping(client)
        await client.send({"event": "subscribe", "data": {"ticker": "msft"}})
        assert await client.quiet()
        assert (await world.stats(target))["connections_open"] == 1
        await world.http.delete("/fault")


async def test_pongs_can_be_left_out_while_data_flows(
    world: World, target: str
) -> None:
    async with world.logged_in(target) as client:
        await _flowing(world, client)
        await world.fault(target, "no_pong")

        assert not await _answers_ping(client)
        await client.tick()
        await world.http.delete("/fault")
        assert await _answers_ping(client)


async def test_the_server_may_ping(world: World, target: str) -> None:
    async with world.logged_in(target):
        await world.fault(target, "ping", interval=0.05)
        async with asyncio.timeout(SECONDS):
            while not (await world.stats(target))["pongs_received"]:
                await asyncio.sleep(0.02)


async def test_frames_can_crawl_byte_by_byte(world: World, target: str) -> None:
    async with world.logged_in(target) as client:
        await world.fault(target, "one_byte_per_second", interval=0.02)
        await asyncio.sleep(0.1)
        started = time.monotonic()
        await world.post("/inject", target=target, frames=[{"event": "crawling"}])
        await client.event("crawling")

        # Two bytes of head and 20 of JSON.
        assert time.monotonic() - started > 0.3


# Ends.


async def test_a_drop_is_a_reset(world: World, target: str) -> None:
    async with world.logged_in(target) as client:
        struck = await world.fault(target, "drop")
        with pytest.raises(ConnectionClosedError):
            await client.raw()

    assert struck["connections"] == 1
    assert client.connection.close_code == 1006


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012])
async def test_a_close_has_the_code_and_reason_asked_for(
    world: World, target: str, code: int
) -> None:
    async with world.logged_in(target) as client:
        await world.fault(target, "close", code=code, reason="maintenance")

        assert await client.closed() == (code, "maintenance")


@pytest.mark.parametrize(("code", "seen"), [(None, 1005), (1006, 1006)])
async def test_a_close_may_have_no_code_or_no_frame(
    world: World, target: str, code: int | None, seen: int
) -> None:
    async with world.logged_in(target) as client:
        await world.fault(target, "close", code=code)

        assert (await client.closed())[0] == seen


async def test_a_frame_can_be_cut_in_the_middle(world: World, target: str) -> None:
    address = urlsplit(world.url(target))
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n"
    )
    async with asyncio.timeout(SECONDS):
        await reader.readuntil(b"\r\n\r\n")
        await world.fault(target, "cut", frame='{"s":"aapl","type":"T"}')
        got = b""
        try:
            while data := await reader.read(100):
                got += data
        except ConnectionResetError:
            pass
    writer.close()

    assert got.startswith(b'\x81\x17{"s":')
    assert len(got) < 25


async def test_the_next_connections_can_end_by_themselves(
    world: World, target: str
) -> None:
    await world.fault(
        target, "end_after", when="login", after=0.1, how="close", code=1012, count=1
    )

    async with world.logged_in(target) as client:
        assert (await client.closed())[0] == 1012
    async with world.logged_in(target) as client:
        assert await client.quiet()


async def test_the_server_can_restart(world: World, target: str) -> None:
    async with world.logged_in(target) as client:
        await world.fault(target, "restart", seconds=0.3)
        await client.closed()

        with pytest.raises((OSError, EOFError, InvalidHandshake)):
            async with world.connect(target):
                pass
    await asyncio.sleep(0.3)
    async with world.logged_in(target):
        pass


# Malformed frames.


@pytest.mark.parametrize(
    "variant",
    [
        *("not_json", "truncated", "empty", "number", "null", "binary"),
        *("binary_garbage", "array", "unknown_event", "nan", "deep"),
    ],
)
async def test_a_malformed_frame_arrives_as_it_is(
    world: World, target: str, variant: str
) -> None:
    async with world.logged_in(target) as client:
        await world.fault(target, "send_malformed", variant=variant)
        raw = await client.raw()
        await world.post("/inject", target=target, frames=[{"event": "after"}])

        assert isinstance(raw, bytes) == variant.startswith("binary")
        assert await client.event("after")


@pytest.mark.parametrize(
    "variant", ["invalid_utf8", "reserved_bits", "reserved_opcode", "masked"]
)
async def test_a_frame_against_the_protocol_ends_a_correct_client(
    world: World, target: str, variant: str
) -> None:
    async with world.logged_in(target) as client:
        await world.fault(target, "send_malformed", variant=variant)
        with pytest.raises((ConnectionClosedError, UnicodeDecodeError)):
            await client.raw()


async def test_malformed_frames_can_be_mixed_into_the_flow(
    world: World, target: str
) -> None:
    await world.fault(target, "malformed", variant="not_json", ratio=0.5)
    await world.generate(1000)
    async with world.subscribed(target) as client:
        raw = [await client.raw() for _ in range(100)]

    bad = [text for text in raw if text == "this is not JSON"]
    assert 10 < len(bad) < 60


# Injection.


async def test_what_is_injected_arrives_digit_for_digit(
    world: World, target: str
) -> None:
    text = '{"s":"aapl","t":16487238632060000000,"lp":1.10,"ls":1e-8}'
    encoded = base64.b64encode(b"\x00\xff").decode()
    body = f'{{"target":"{target}","frames":[{text},{{"text":{json.dumps(text)}}},'
    body += f'{{"bytes_b64":"{encoded}"}},{{"a":"삼성"}}]}}'
    async with world.logged_in(target) as client:
        answer = await world.http.post("/inject", content=body.encode())
        got: list[Any] = [await client.raw() for _ in range(4)]

    assert answer.json()["connections"] == 1
    assert got == [text, text, b"\x00\xff", '{"a":"삼성"}']


async def test_an_injected_message_can_be_fragmented_and_repeated(
    world: World, target: str
) -> None:
    async with world.logged_in(target) as client:
        await world.post(
            "/inject",
            target=target,
            frames=[{"event": "in pieces"}],
            fragmented=True,
            times=3,
        )
        for _ in range(3):
            assert await client.frame() == {"event": "in pieces"}


async def test_a_client_that_does_not_read_is_dropped(
    world: World, target: str
) -> None:
    async with world.logged_in(target, max_queue=1) as client:
        transport = client.connection.transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await world.post(
            "/inject", target=target, frames=[{"text": "x" * 1_000_000}], times=40
        )
        async with asyncio.timeout(SECONDS):
            while not (await world.stats(target))["dropped_slow"]:
                await asyncio.sleep(0.02)

        assert (await world.stats(target))["connections_open"] == 0
