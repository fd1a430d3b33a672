"""Raw HTTP that no good client sends: answered, counted, survived."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from edge_harness import run_edge
from edge_under_attack import EdgeUnderAttack, eventually
from nats_process import NatsProcess
from raw_socket import KEY, PRICES, handshake, raw_socket, request

from feedmesh.bus import Bus


pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.usefixtures("nobody_else_notices"),
]

EDGE_SETTINGS = {"EDGE_STUCK": "1s"}
PINS = "/api/v2/realtime/subscribe"
JSON = "Content-Type: application/json"
ROUTES = [
    "/",
    "/openapi.json",
    "/page/app.js",
    "/api/v2/realtime/cache",
    "/api/v2/realtime/cache/AAPL",
    "/api/v2/realtime/health",
    "/api/v2/realtime/status",
    "/api/v3/news",
]


# -- sizes -----------------------------------------------------------------------------


def post(*headers: str, body: str = "") -> str:
    return request(PINS, JSON, *headers, method="POST") + body


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        (request("/", "X: " + "a" * 9 * 1024), 431, "head_too_large"),
        (request("/", *["X: a"] * 129), 431, "head_too_large"),
        (request("/", *["X: " + "a" * 1000] * 20), 431, "head_too_large"),
        (request("/", "X: " + "a" * 2**20), 431, "head_too_large"),
        (request("/?" + "q" * 2**20), 414, "url_too_long"),
        (request("/" + "q" * 33 * 1024), 414, "url_too_long"),
        (handshake(more="X: " + "a" * 9 * 1024 + "\r\n"), 431, "head_too_large"),
        (handshake(more="X: a\r\n" * 129), 431, "head_too_large"),
        (handshake(f"{PRICES}?{'q' * 9 * 1024}"), 414, "url_too_long"),
        (post("Content-Length: 65537"), 413, "body_too_large"),
        (
            post("Content-Length: 1048576", body="x" * 2**20),
            413,
            "body_too_large",
        ),
        (
            post("Transfer-Encoding: chunked", body="10001\r\n" + "x" * 65537),
            413,
            "body_too_large",
        ),
        (
            post("Transfer-Encoding: chunked", body="1;a=b\r\nx\r\n" * 2000),
            413,
            "body_too_large",
        ),
    ],
    ids=lambda value: value if isinstance(value, int) else str(value)[:30],
)
async def test_what_is_too_large_is_told_so(
    target: EdgeUnderAttack, text: str, status: int, reason: str
) -> None:
    before = await target.refused(reason)
    async with target.attacker() as attacker:
        answer = await attacker.ask(text)

        assert answer.status == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["connection"] == "close"
        assert await attacker.end() == b""

    assert await target.refused(reason) == before + 1


# -- framing ---------------------------------------------------------------------------

SMUGGLED = "GET /api/v2/realtime/health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "text",
    [
        post("Transfer-Encoding: chunked", "Content-Length: 4", body="0\r\n\r\n"),
        post("Content-Length: 4", "Transfer-Encoding: chunked", body="0\r\n\r\n"),
        post("Content-Length: 2", "Content-Length: 4", body="[]" + SMUGGLED),
        post("Content-Length: 2", "Content-Length: 2", body="[]"),
        post("Content-Length: 2,4", body="[]" + SMUGGLED),
        post("Content-Length: -1"),
        post("Content-Length : 2", body="[]"),
        post("Transfer-Encoding: chunked, identity", body="0\r\n\r\n"),
        post("Transfer-Encoding: x", "Transfer-Encoding: chunked"),
        post("Transfer-Encoding:\x0bchunked", body="0\r\n\r\n"),
        post("X: a\nTransfer-Encoding: chunked", body="0\r\n\r\n"),
        post("X: a", " Content-Length: 2", body="[]"),
        post("Transfer-Encoding: chunked", body="x\r\n"),
        post("Transfer-Encoding: chunked", body="5\r\nabcdefgh\r\n"),
        post("Transfer-Encoding: chunked", body="-1\r\n"),
        post("Transfer-Encoding: chunked", body="f" * 21 + "\r\n"),
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n",
        "get\r\n\r\n",
        "GET ? HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET page HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x00\xf8\x01\x00\x00",
        "\x00" * 100,
        "\r\n" * 100,
    ],
    ids=ascii,
)
async def test_what_a_proxy_might_read_differently_is_refused_once_and_for_all(
    target: EdgeUnderAttack, text: str
) -> None:
    before = await target.refused("malformed")
    async with target.attacker() as attacker:
        answer = await attacker.ask(text.encode("latin-1"))

        assert answer.status in (400, 501, 505)
        # Above all, nothing behind it is taken for a request.
        assert await attacker.end() == b""

    assert await target.refused("malformed") == before + 1


async def test_a_pipeline_is_answered_in_order_and_bounded(
    target: EdgeUnderAttack,
) -> None:
    async with target.attacker() as attacker:
        pipeline = "".join(request(f"/{number}") for number in range(1000))
        sending = asyncio.create_task(attacker.send(pipeline + request("/")))
        statuses = [(await attacker.answer()).status for _ in range(1000)]
        last = await attacker.answer()
        await sending

    assert set(statuses) == {404}
    assert last.status == 200


async def test_a_pipeline_that_is_never_read_is_ended(
    target: EdgeUnderAttack,
) -> None:
    before = await target.refused("unread_answer")
    async with target.attacker() as attacker:
        attacker.stop_reading()
        sending = asyncio.create_task(attacker.send(request("/openapi.json") * 20_000))

        async def ended() -> bool:
            return await target.refused("unread_answer") == before + 1

        await eventually(ended, 30)
        await target.is_well()
        sending.cancel()


# -- upgrades --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (handshake(sec_websocket_version="12"), 426),
        (handshake(sec_websocket_version=""), 426),
        (handshake(sec_websocket_version="13, 12"), 426),
        (handshake().replace("HTTP/1.1", "HTTP/1.0"), 400),
        (handshake().replace("GET", "POST", 1), 405),
        (handshake().replace("GET", "HEAD", 1), 405),
        (handshake(more="Content-Length: 2\r\n") + "[]", 400),
        (handshake(more="Content-Length: 00\r\n"), 400),
        (handshake(more="Transfer-Encoding: chunked\r\n"), 400),
        (handshake(sec_websocket_key=""), 400),
        (handshake(sec_websocket_key="c2hvcnQ="), 400),
        (handshake(more=f"Sec-WebSocket-Key: {KEY}\r\n"), 400),
        (handshake(more="Sec-WebSocket-Protocol: caf\xe9\r\n"), 400),
        (handshake(more="Sec-WebSocket-Protocol: \xff\xfe\r\n"), 400),
        (
            handshake(
                more="Sec-WebSocket-Protocol: "
                + ", ".join(f"p{n}" for n in range(100))
                + "\r\n"
            ),
            400,
        ),
        (handshake(upgrade=""), 426),
        (handshake(upgrade="h2c"), 426),
        (handshake(connection="keep-alive"), 426),
    ],
    ids=lambda value: value if isinstance(value, int) else None,
)
async def test_a_handshake_that_breaks_a_rule_is_refused(
    target: EdgeUnderAttack, text: str, status: int
) -> None:
    before = await target.refused("bad_upgrade")
    async with target.attacker() as attacker:
        answer = await attacker.ask(text.encode("latin-1"))

    assert answer.status == status
    if status == 426:
        assert answer.headers["sec-websocket-version"] == "13"
        assert answer.headers["upgrade"] == "websocket"
    if status == 405:
        assert answer.headers["allow"] == "GET"
    assert await target.refused("bad_upgrade") == before + 1


@pytest.mark.parametrize(
    "text",
    [
        handshake(connection="keep-alive, Upgrade"),
        handshake(upgrade="WebSocket"),
        handshake(more="Sec-WebSocket-Protocol: a, b\r\nCookie: caf\xe9\r\n"),
        handshake(more="Sec-WebSocket-Extensions: permessage-deflate; x=\xff\r\n"),
        handshake(more="Content-Length: 0\r\n"),
        handshake(f"{PRICES}?{'q' * (7_999 - len(PRICES))}"),
        handshake(more=f"X:{'a' * 7_998}\r\n"),
        handshake(more="X: a\r\n" * 95),
    ],
    ids="firefox case cookie extension body url header headers".split(),
)
async def test_an_unusual_but_lawful_handshake_is_accepted(
    target: EdgeUnderAttack, text: str
) -> None:
    async with target.attacker() as client:
        answer = await client.ask(text.encode("latin-1"))

    assert answer.status == 101
    assert "sec-websocket-extensions" not in answer.headers


async def test_a_websocket_where_there_is_none_is_refused(
    target: EdgeUnderAttack,
) -> None:
    for path in ("/", "/ws", "/ws/news/", "/api/v2/realtime/cache", "//ws/news"):
        async with target.attacker() as attacker:
            assert (await attacker.ask(handshake(path))).status in (403, 404), path


# -- REST ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/%2e%2e%2fetc/passwd",
        "/../etc/passwd",
        "/page/../__main__.py",
        "/page/%2e%2e/__main__.py",
        "/page/%2e%2e%2f__main__.py",
        "/page/..%5c__main__.py",
        "/page//etc/passwd",
        "/page/%2fetc/passwd",
        "/page/%00",
        "/page/" + "a" * 5000,
        "/page/" + "a/" * 2000,
        "/page",
        "/page/",
        "//",
        "//evil.example/",
        "///",
        "/api/v2/realtime//cache",
        "/api/v2/realtime/cache/%2e%2e%2fstatus",
        "/%ff%fe",
        "http://evil.example/api/v2/realtime/cache",
        "*",
    ],
)
async def test_a_path_that_leads_nowhere_is_not_found(
    target: EdgeUnderAttack, path: str
) -> None:
    async with target.attacker() as attacker:
        answer = await attacker.ask(request(path))

    assert answer.status == 404
    assert b"evil" not in answer.body
    assert "location" not in answer.headers


async def test_no_redirect_leads_to_another_host(target: EdgeUnderAttack) -> None:
    async with target.attacker() as attacker:
        text = request("/api/v2/realtime/cache/").replace("Host: x", "Host: evil")
        answer = await attacker.ask(text)

    assert answer.status in (404, 307)
    assert "evil" not in answer.headers.get("location", "")


@pytest.mark.parametrize("path", ROUTES)
async def test_head_is_get_without_the_body(target: EdgeUnderAttack, path: str) -> None:
    async with target.attacker() as attacker:
        await attacker.send(request(path, method="HEAD"))
        head = await attacker.answer(head_only=True)
        get = await attacker.ask(request(path))

    assert head.status == get.status == 200
    assert head.headers["content-type"] == get.headers["content-type"]
    assert get.body


@pytest.mark.parametrize("path", ROUTES)
async def test_options_tells_what_is_allowed(
    target: EdgeUnderAttack, path: str
) -> None:
    async with target.attacker() as attacker:
        answer = await attacker.ask(request(path, method="OPTIONS"))

    assert answer.status in (200, 204)
    assert not answer.body
    assert {"GET", "HEAD"} <= set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ROUTES)
async def test_another_method_is_not_allowed(
    target: EdgeUnderAttack, path: str, method: str
) -> None:
    async with target.attacker() as attacker:
        answer = await attacker.ask(request(path, method=method))

    assert answer.status == 405
    assert {"GET", "HEAD"} <= set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize("path", [PINS, "/api/v2/realtime/unsubscribe"])
async def test_what_is_posted_to_is_not_got(target: EdgeUnderAttack, path: str) -> None:
    async with target.attacker() as attacker:
        answer = await attacker.ask(request(path))

    assert answer.status == 405
    assert "POST" in answer.headers["allow"].split(", ")


@pytest.mark.parametrize("path", ["/page/app.js", "/api/v2/realtime/cache", "/"])
@pytest.mark.parametrize(
    "ranges", ["bytes=0-3", "bytes=" + ",".join(f"{n}-{n}" for n in range(900)), "x=-"]
)
async def test_ranges_are_ignored(
    target: EdgeUnderAttack, path: str, ranges: str
) -> None:
    async with target.attacker() as attacker:
        whole = await attacker.ask(request(path))
        answer = await attacker.ask(request(path, f"Range: {ranges}"))

    assert answer.status == 200
    assert answer.body == whole.body


@pytest.mark.parametrize(
    "body",
    [
        "[" * 60_000,
        "[" + "9" * 60_000 + "]",
        '["' + "A" * 60_000 + '"]',
        '{"a":' * 10_000,
        '["\\ud800"]',
        "[NaN]",
        "\xef\xbb\xbf[",
        "\xff\xfe",
    ],
    ids=["depth", "digits", "symbol", "objects", "surrogate", "nan", "bom", "utf-16"],
)
async def test_a_body_that_is_a_trap_is_refused(
    target: EdgeUnderAttack, body: str
) -> None:
    raw = body.encode("latin-1")
    async with target.attacker() as attacker:
        head = post(f"Content-Length: {len(raw)}")
        answer = await attacker.ask(head.encode() + raw)

    assert answer.status in (400, 422)
    assert len(answer.body) < 1000


async def test_a_client_may_wait_for_leave_to_send_its_body(
    target: EdgeUnderAttack,
) -> None:
    async with target.attacker() as client:
        await client.send(post("Content-Length: 2", "Expect: 100-continue"))
        assert (await client.answer()).status == 100
        assert (await client.ask("[]")).status == 422

        await client.send(post("Content-Length: 99999", "Expect: 100-continue"))
        assert (await client.answer()).status == 413


async def test_who_leaves_in_the_middle_is_forgotten(target: EdgeUnderAttack) -> None:
    for part in ("", "GET", handshake()[:50], post("Content-Length: 50", body="[")):
        async with target.attacker() as attacker:
            await attacker.send(part)
            attacker.reset()


async def test_it_stops_in_time_whatever_is_half_done(
    nats_server: NatsProcess, bus: Bus
) -> None:
    async with run_edge(nats_server) as edge, httpx.AsyncClient() as http:
        await http.get(edge.url)
        async with (
            raw_socket(edge.port),
            raw_socket(edge.port) as half,
            raw_socket(edge.port) as body,
            raw_socket(edge.port) as refused,
        ):
            await half.send(handshake()[:-2])
            await body.send(post("Content-Length: 50", body="["))
            assert (await refused.ask("\x00")).status == 400

            async with asyncio.timeout(10):
                assert await edge.service.stop() == 0
        log = edge.service.lines
        assert not [line[-600:] for line in log if "Traceback" in line]
