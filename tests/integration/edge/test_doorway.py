"""How long a client may take to come in, and who may: at the door of a real edge."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from edge_harness import run_edge
from edge_under_attack import EdgeUnderAttack, edge_under_attack, eventually
from nats_process import NatsProcess
from raw_socket import PRICES, client_frame, handshake, raw_socket, request, text_frame

from feedmesh.bus import Bus


pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.usefixtures("nobody_else_notices"),
]

HANDSHAKE = 1.0
EDGE_SETTINGS = {
    "EDGE_HANDSHAKE": f"{HANDSHAKE}s",
    "EDGE_ORIGINS": "https://good.example",
    "EDGE_HOSTS": "x, 127.0.0.1, *.example",
}
PINS = "/api/v2/realtime/subscribe"
JSON = "Content-Type: application/json"
HALF_A_BODY = request(PINS, JSON, "Content-Length: 3", method="POST") + "["


# -- time ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    ["", "G", "GET / HTTP/1.1\r\nHost: x\r\n", handshake()[:-2], handshake()[:60]],
    ids=["nothing", "a letter", "half a request", "half a handshake", "a third"],
)
async def test_an_unfinished_head_is_closed_in_time_and_counted(
    target: EdgeUnderAttack, sent: str
) -> None:
    before = await target.refused("slow_head")
    async with target.attacker() as attacker:
        await attacker.send(sent)
        said = await attacker.end(HANDSHAKE + 4)

    assert said.startswith(b"HTTP/1.1 408 ")
    assert await target.refused("slow_head") == before + 1


@pytest.mark.parametrize("text", [handshake(), request()], ids=["handshake", "request"])
async def test_a_byte_now_and_then_buys_no_time(
    target: EdgeUnderAttack, text: str
) -> None:
    before = await target.refused("slow_head")
    async with target.attacker() as attacker:
        said = await attacker.trickle(text, HANDSHAKE + 4)

    assert said.startswith(b"HTTP/1.1 408 ")
    assert await target.refused("slow_head") == before + 1


async def test_without_the_deadline_such_sockets_stay_open(
    nats_server: NatsProcess, bus: Bus
) -> None:
    async with (
        run_edge(nats_server, EDGE_HANDSHAKE="1h") as edge,
        raw_socket(edge.port) as silent,
        raw_socket(edge.port) as half,
        raw_socket(edge.port) as body,
    ):
        await half.send(handshake()[:-2])
        await body.send(HALF_A_BODY)

        assert await silent.open_after(HANDSHAKE * 3)
        assert await half.open_after(0.1)
        assert await body.open_after(0.1)
        # All they needed was the rest.
        assert (await half.ask("\r\n")).status == 101
        assert (await body.ask("1]")).status == 422


async def test_the_deadline_ends_with_the_head(target: EdgeUnderAttack) -> None:
    async with target.attacker() as client:
        await client.upgrade()

        assert await client.open_after(HANDSHAKE * 2)
        await client.send(client_frame(9, b"there?"))
        assert (await client.frame()).payload == b"there?"


async def test_a_later_request_has_the_same_deadline(target: EdgeUnderAttack) -> None:
    before = await target.refused("slow_head")
    async with target.attacker() as attacker:
        assert (await attacker.ask(request())).status == 200
        assert await attacker.open_after(HANDSHAKE * 1.5)
        await attacker.send("GET / HT")

        assert (await attacker.end(HANDSHAKE + 4)).startswith(b"HTTP/1.1 408 ")

    assert await target.refused("slow_head") == before + 1


async def test_a_quiet_connection_between_requests_is_closed_and_not_blamed(
    target: EdgeUnderAttack,
) -> None:
    before = await target.refused("slow_head")
    async with target.attacker() as client:
        assert (await client.ask(request())).status == 200

        assert await client.end(15) == b""

    assert await target.refused("slow_head") == before


@pytest.mark.parametrize(
    "framing", ["Content-Length: 99", "Transfer-Encoding: chunked"]
)
async def test_a_body_has_a_deadline_too(target: EdgeUnderAttack, framing: str) -> None:
    before = await target.refused("slow_body")
    head = request(PINS, JSON, framing, method="POST")
    async with target.attacker() as attacker:
        parts = itertools.repeat("[" if "Length" in framing else "1\r\n[\r\n", 60)
        said = await attacker.trickle((head, *parts), HANDSHAKE + 4)

    assert said.startswith(b"HTTP/1.1 408 ")
    assert await target.refused("slow_body") == before + 1


# -- who -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", ["https://evil.example.org", "null", "https://", "x"]
)
async def test_a_page_from_elsewhere_opens_no_websocket(
    target: EdgeUnderAttack, origin: str
) -> None:
    before = await target.refused("foreign_origin")
    async with target.attacker() as attacker:
        answer = await attacker.ask(handshake(origin=origin))

    assert answer.status == 403
    assert await target.refused("foreign_origin") == before + 1


@pytest.mark.parametrize("origin", ["https://good.example", "http://x", ""])
async def test_our_pages_and_programs_do(target: EdgeUnderAttack, origin: str) -> None:
    async with target.attacker() as client:
        assert (await client.ask(handshake(origin=origin))).status == 101


async def test_two_origins_are_none(target: EdgeUnderAttack) -> None:
    more = "Origin: https://good.example\r\nOrigin: https://evil.example.org\r\n"
    async with target.attacker() as attacker:
        assert (await attacker.ask(handshake(more=more))).status in (400, 403)


async def test_another_pages_preflight_is_given_nothing(
    target: EdgeUnderAttack,
) -> None:
    ask = {"access-control-request-method": "GET"}
    async with httpx.AsyncClient(base_url=target.edge.url) as http:
        foreign, null, own = [
            await http.options(
                "/api/v2/realtime/cache", headers={**ask, "origin": origin}
            )
            for origin in ("https://evil.example.org", "null", "https://good.example")
        ]
        answer = await http.get("/", headers={"origin": "https://evil.example.org"})

    for refused in (foreign, null, answer):
        assert "access-control-allow-origin" not in refused.headers
    assert own.headers["access-control-allow-origin"] == "https://good.example"


@pytest.mark.parametrize("host", ["evil.org", "x.evil.org", "example", "a b", "x/y"])
@pytest.mark.parametrize("what", ["request", "handshake"])
async def test_what_is_for_another_host_is_refused(
    target: EdgeUnderAttack, host: str, what: str
) -> None:
    before = await target.refused("foreign_host")
    text = handshake() if what == "handshake" else request()
    text = text.replace("Host: x", f"Host: {host}").replace("host: x", f"host: {host}")
    async with target.attacker() as attacker:
        answer = await attacker.ask(text)

    assert answer.status == 400
    assert await target.refused("foreign_host") == before + 1


@pytest.mark.parametrize("host", ["X", "x:8080", "feed.example", "127.0.0.1:1"])
async def test_our_hosts_are_served(target: EdgeUnderAttack, host: str) -> None:
    async with target.attacker() as client:
        answer = await client.ask(request().replace("Host: x", f"Host: {host}"))

        assert answer.status == 200


async def test_a_request_without_a_host_is_refused(target: EdgeUnderAttack) -> None:
    async with target.attacker() as attacker:
        assert (await attacker.ask("GET / HTTP/1.1\r\n\r\n")).status == 400
    async with target.attacker() as attacker:
        assert (await attacker.ask("GET / HTTP/1.0\r\n\r\n")).status == 400


# -- how many --------------------------------------------------------------------------


async def test_too_many_clients_are_told_to_come_back(tmp_path: Path) -> None:
    async with (
        edge_under_attack(tmp_path, EDGE_MAX_CLIENTS="3") as target,
        AsyncExitStack() as stack,
    ):
        admitted = [await stack.enter_async_context(target.attacker()) for _ in "ab"]
        for client in admitted:
            await client.upgrade()
        async with target.attacker() as late:
            answer = await late.ask(handshake())

        assert answer.status == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert await target.refused("too_many_clients") == 1
        await target.is_well()
        # A place that becomes free is given away.
        admitted[0].reset()

        async def admitted_again() -> bool:
            async with target.attacker() as client:
                return (await client.ask(handshake())).status == 101

        await eventually(admitted_again)


async def test_a_storm_is_let_in_little_by_little(tmp_path: Path) -> None:
    # The bystander is one of the burst.
    env = {"EDGE_ARRIVALS": "4", "EDGE_ARRIVALS_BURST": "6"}
    async with (
        edge_under_attack(tmp_path, **env) as target,
        AsyncExitStack() as stack,
    ):

        async def come() -> int:
            client = await stack.enter_async_context(target.attacker())
            answer = await client.ask(handshake())
            assert answer.status == 101 or "retry-after" in answer.headers
            return answer.status

        storm = await asyncio.gather(*(come() for _ in range(60)))
        admitted = storm.count(101)

        assert 5 <= admitted < 30
        assert storm.count(503) == 60 - admitted
        assert await target.refused("too_many_at_once") == 60 - admitted
        await target.is_well()
        # REST is not rationed by it, and after a while there is room again.
        async with target.attacker() as client:
            assert (await client.ask(request())).status == 200

        async def there_is_room() -> bool:
            return await come() == 101

        await eventually(there_is_room)


async def test_sockets_are_limited_too_whatever_they_say(tmp_path: Path) -> None:
    # The bystander is one of eight.
    env = {"EDGE_MAX_CLIENTS": "4", "EDGE_SPARE_CONNECTIONS": "4"}
    async with (
        edge_under_attack(tmp_path, **env) as target,
        AsyncExitStack() as stack,
    ):
        silent = [await stack.enter_async_context(target.attacker()) for _ in range(7)]

        async with target.attacker() as late:
            said = await late.end()

        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: " in said
        assert await target.refused("too_many_connections") >= 1
        silent.pop().reset()
        silent.pop().reset()

        async def served() -> bool:
            async with target.attacker() as client:
                await client.send(request())
                return (await client.answer()).status == 200

        await eventually(served)
        await target.is_well()


async def test_words_sent_with_the_handshake_are_heard(
    target: EdgeUnderAttack,
) -> None:
    async with target.attacker() as client:
        subscribe = '{"action": "subscribe", "symbols": ["MSFT"]}'
        await client.send(handshake().encode() + text_frame(subscribe))
        assert (await client.answer()).status == 101
        # Answered in order: the error tells that the request before it was heard.
        await client.send(text_frame("{"))
        assert b'"error"' in (await client.frame()).payload
        await target.writer.price("MSFT")

        assert b'"MSFT"' in (await client.frame()).payload


@pytest.mark.parametrize("path", [PRICES, "/ws/news"])
async def test_a_path_of_a_websocket_asks_for_the_upgrade(
    target: EdgeUnderAttack, path: str
) -> None:
    before = await target.refused("bad_upgrade")
    for method in ("GET", "POST", "HEAD", "DELETE"):
        async with target.attacker() as attacker:
            await attacker.send(request(path, method=method))
            answer = await attacker.answer(head_only=method == "HEAD")
        assert answer.status == 426
        assert answer.headers["upgrade"] == "websocket"

    assert await target.refused("bad_upgrade") == before + 4
