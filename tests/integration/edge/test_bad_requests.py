"""
What is lawful WebSocket and HTTP and still nonsense: counted, answered, survived.

Bad frames are in `test_bad_frames`, bad HTTP in `test_bad_http`, who gets in at all in
`test_doorway`, tokens in `test_auth`, positions in `test_resume_table`, clients that do
not read in `test_slow_stream`. After each test, a client that was there before still
gets every update.
"""

from __future__ import annotations

import contextlib
import json
import timeit
from binascii import crc_hqx
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from edge_harness import EdgeProcess, StreamClient, Writer, run_edge
from edge_under_attack import EdgeUnderAttack, eventually
from integration.edge.test_auth import Issuer, bearer
from nats_process import open_bus, run_nats
from raw_socket import client_frame, handshake, text_frame
from websockets.asyncio.client import connect

from edge.stream.requests import BadRequestError, NotARequestError, parse_request


pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.usefixtures("nobody_else_notices"),
]

STREAM = "/api/v3/stream"
LIMIT = 64 * 1024
ERRORS = "feedmesh_edge_request_errors_total"


async def counted(target: EdgeUnderAttack, endpoint: str) -> float:
    return await target.edge.service.metric(ERRORS, endpoint=endpoint)


def token(text: str) -> str:
    """Return *text* as a position with the right check."""
    return f"{text}.{crc_hqx(text.encode(), 0):04x}"


# -- the stream ------------------------------------------------------------------------


async def test_requests_sent_with_the_handshake_are_carried_out(
    target: EdgeUnderAttack,
) -> None:
    ping = text_frame('{"op": "ping", "id": 1}')
    half, rest = ping[:9], ping[9:]
    async with target.attacker() as client:
        answer = await client.ask(handshake(STREAM).encode() + ping + half)
        await client.send(rest)
        said = [json.loads((await client.frame()).payload) for _ in range(3)]

    assert answer.status == 101
    assert [message["type"] for message in said] == ["hello", "pong", "pong"]


@pytest.mark.parametrize("symbol", ["*", ">", "prices.>", "$JS.API.>", "_INBOX.>"])
async def test_what_could_be_a_subject_is_refused_and_counted(
    target: EdgeUnderAttack, symbol: str
) -> None:
    before = await counted(target, "stream"), await counted(target, "prices")
    async with target.edge.stream() as client:
        *_, ack = await client.ask("subscribe", channel="prices", symbols=[symbol])
        assert ack["rejected"] == [{"symbol": symbol, "code": "bad_symbol"}]
        *_, error = await client.ask(
            "subscribe", "error", channel="news", symbols=[symbol]
        )
        assert error["code"] == "bad_symbol"
    async with target.edge.prices() as older:
        await older.subscribe(symbol)
        assert (await older.json())["type"] == "error"

    assert await counted(target, "stream") == before[0] + 2
    assert await counted(target, "prices") == before[1] + 1


async def test_one_symbol_a_thousand_times_is_one(target: EdgeUnderAttack) -> None:
    async with target.edge.stream() as client:
        for symbols in (["MSFT"] * 1000, ["msft", "MSFT"] * 500):
            *_, ack = await client.ask("subscribe", channel="prices", symbols=symbols)
            assert ack["accepted"] == ["MSFT"]
        *_, listed = await client.ask("list", "list")
        assert listed["subscriptions"][0]["symbols"] == ["MSFT"]
        await target.writer.price("MSFT", last_price="1")
        assert (await client.take("price_update"))[-1]["last_price"] == 1
        await client.silent()


async def test_one_bad_symbol_among_a_thousand_is_refused_alone(
    target: EdgeUnderAttack,
) -> None:
    symbols = [f"S{number}" for number in range(999)]
    async with target.edge.stream() as client:
        *_, ack = await client.ask(
            *("subscribe", "ack"), channel="prices", symbols=[*symbols, "A B"]
        )

    assert ack["accepted"] == symbols
    assert ack["rejected"] == [{"symbol": "A B", "code": "bad_symbol"}]


async def test_to_unsubscribe_what_one_has_not_is_no_error(
    target: EdgeUnderAttack,
) -> None:
    before = await counted(target, "stream")
    async with target.edge.stream() as client:
        for fields in (
            {"channel": "prices", "symbols": ["NONE"]},
            {"channel": "prices"},
            {"channel": "news"},
            {"channel": "status"},
        ):
            *_, ack = await client.ask("unsubscribe", **fields)
            assert ack["channel"] == fields["channel"]

    assert await counted(target, "stream") == before


@pytest.mark.parametrize(
    "since",
    [
        "",
        ".",
        "...",
        "x",
        "NEWS",
        "NEWS...",
        token("NEWS.."),
        token("NEWS.a.-1"),
        token("NEWS.a.1.2"),
        token("NEWS.a." + "9" * 18),
        token("NEWS.a." + "9" * 19),
        token("NEWS.a." + "9" * 4000),
        token("NEWS.a.١"),
        token("news.a.1"),
        token("a.1.1"),
        token("NEWS.\u0000.1"),
        "뉴스" * 1000,
        "x" * 60_000,
        [],
        [token("NEWS.a.1")] * 2,
        [""] * 4000,
    ],
    ids=lambda since: ascii(since)[:20],
)
async def test_a_position_that_is_garbage_recovers_nothing(
    target: EdgeUnderAttack, since: Any
) -> None:
    async with target.edge.stream() as client:
        for wanted in (
            {"channel": "news"},
            {"channel": "prices", "symbols": ["AAPL"]},
            {"channel": "prices", "symbols": ["AAPL"], "mode": "every"},
        ):
            ack, *_ = await client.ask(
                "resume", "snapshot_end", subscriptions=[{**wanted, "since": since}]
            )
            assert ack["recovered"] is False
            assert ack["reason"]
        await client.ask("ping", "pong")


@pytest.mark.parametrize(
    "fields",
    [
        {"since": 1},
        {"since": [1]},
        {"since": {"news": "x"}},
        {"since": ["x"] * 4001},
        {"since": [["x"]]},
    ],
    ids=lambda fields: str(fields)[:20],
)
async def test_what_is_no_position_at_all_is_an_error(
    target: EdgeUnderAttack, fields: dict[str, Any]
) -> None:
    async with target.edge.stream() as client:
        *_, error = await client.ask("subscribe", "error", channel="news", **fields)
        assert error["code"] == "bad_request"
        await client.ask("ping", "pong")


async def test_a_resume_of_too_much_is_refused_whole(target: EdgeUnderAttack) -> None:
    news = {"channel": "news"}
    async with target.edge.stream() as client:
        for subscriptions in ([news] * 17, [news, {"channel": "prices"}]):
            *_, error = await client.ask(
                "resume", "error", subscriptions=subscriptions, id="x"
            )
            assert (error["id"], error["code"]) == ("x", "bad_request")
        *_, listed = await client.ask("list", "list")
        assert listed["subscriptions"] == []
        await client.send(op="resume", subscriptions=[news] * 16)
        for _ in range(16):
            await client.take("snapshot_end")


async def test_what_is_asked_during_a_resume_waits_its_turn(
    target: EdgeUnderAttack,
) -> None:
    behind = {"channel": "news", "since": token("NEWS.a.1")}
    async with target.edge.stream() as client:
        await client.send(op="resume", subscriptions=[behind] * 5, id="first")
        await client.send(op="ping", id="second")
        taken = await client.take("pong")

    assert [m["type"] for m in taken].count("snapshot_end") == 5
    assert taken[-1]["id"] == "second"


@pytest.mark.parametrize("bad", [1.5, "x" * 65, [], {}, True])
async def test_an_id_that_is_none_is_not_repeated(
    target: EdgeUnderAttack, bad: Any
) -> None:
    async with target.edge.stream() as client:
        await client.send(op="ping", id=bad)
        *_, error = await client.take("error")
        assert error["id"] is None
        await client.ask("ping", "pong", id="x" * 64)


BOMBS = {
    "depth": '{"op":' + "[" * (LIMIT - 100),
    "depth of objects": '{"a":' * (LIMIT // 5 - 1),
    "depth behind an op": '{"op":"ping","x":' + "[" * (LIMIT - 100),
    "depth, closed": '{"op":"ping","x":' + "[" * 30_000 + "]" * 30_000 + "}",
    "digits": '{"op":"ping","id":' + "9" * (LIMIT - 100) + "}",
    "exponent": '{"op":"ping","id":1e' + "9" * (LIMIT - 100) + "}",
    "keys": "{" + ",".join(f'"{n}":0' for n in range(7000)) + "}",
    "same keys": '{"op":"ping"' + ',"op":"ping"' * 5000 + "}",
    "surrogate": '{"op":"\\ud800"}',
    "escapes": '{"op":"' + "\\u0041" * 10_000 + '"}',
    "symbols": '{"op":"subscribe","channel":"news","symbols":[' + '"",' * 9000 + '""]}',
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_costs_little_and_is_refused(
    target: EdgeUnderAttack, name: str
) -> None:
    bomb = BOMBS[name]

    def parse() -> None:
        with contextlib.suppress(NotARequestError, BadRequestError):
            parse_request(bomb)

    # The event loop stands still for so long; the best of some, on a busy machine.
    assert min(timeit.repeat(parse, number=1, repeat=5)) < 0.05
    async with target.edge.stream() as client, target.edge.stream() as other:
        await client.connection.send(bomb)
        # Of the same keys, the last one counts: that is lawful.
        (answer,) = await client.take("pong" if name == "same keys" else "error")
        assert len(json.dumps(answer)) < 1000
        await other.ask("ping", "pong")


@pytest.mark.parametrize(
    "bomb",
    [
        "9" * 1_000_000,
        "{" + ",".join(f'"{n}":0' for n in range(100_000)) + "}",
        "[" * 100_000,
    ],
    ids=["digits", "keys", "depth"],
)
async def test_a_larger_bomb_is_not_even_read(
    target: EdgeUnderAttack, bomb: str
) -> None:
    async with target.edge.stream() as client:
        await client.connection.send(bomb)
        assert await client.closed() == 1009


async def test_a_stream_that_is_reset_is_forgotten_within_a_second(
    target: EdgeUnderAttack,
) -> None:
    async with httpx.AsyncClient(base_url=target.edge.url) as http:

        async def wanted() -> bool:
            status = (await http.get("/api/v2/realtime/status")).json()
            return "GONE" in status["symbols"]

        async with target.attacker() as attacker:
            await attacker.upgrade(STREAM)
            for wanted_ in (
                {"channel": "prices", "symbols": ["GONE"], "mode": "every"},
                {"channel": "news", "since": token("NEWS.a.1")},
            ):
                await attacker.send(
                    text_frame(json.dumps({"op": "subscribe", **wanted_}))
                )
            await eventually(wanted)
            attacker.stop_reading()
            for number in range(200):
                await target.writer.unconfirmed_price("GONE", last_price=str(number))
            await attacker.send(client_frame(1, b"x" * 999)[:500])
            attacker.reset()

        async def forgotten() -> bool:
            return not await wanted()

        await eventually(forgotten, 1.0)


# -- the older endpoints ---------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    ["null", "[]", '"x"', "1", "{}", "{", "", "[" * 60_000, "9" * 60_000, b"\x00"],
    ids=lambda message: ascii(message)[:10],
)
async def test_nonsense_on_the_older_endpoints_is_answered_or_ignored(
    target: EdgeUnderAttack, message: str | bytes
) -> None:
    before = await counted(target, "prices")
    async with target.edge.prices() as prices, target.edge.news() as news:
        await news.json()
        await prices.connection.send(message)
        await news.connection.send(message)
        assert (await prices.json())["type"] == "error"
        await prices.subscribe("MSFT")
        await target.writer.price("MSFT", last_price="2")
        while (await prices.json())["last_price"] != 2:
            pass
        await news.silent(0.05)

    assert await counted(target, "prices") == before + 1


# -- REST ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v3/prices/NONE", 404),
        ("/api/v3/prices/aapl", 200),
        ("/api/v3/prices?symbols=", 422),
        ("/api/v3/prices?symbols=" + ",".join(f"S{n}" for n in range(1001)), 422),
        ("/api/v3/prices?symbols=AAPL,AAPL,aapl", 200),
        ("/api/v3/prices?symbols=*", 422),
        ("/api/v3/prices?cursor=x", 400),
        ("/api/v3/prices?min_seq=x", 422),
        ("/api/v3/news?since=9999-01-01T00:00:00Z", 422),
        ("/api/v3/news?since=0000-01-01T00:00:00Z", 422),
        ("/api/v3/news?since=yesterday", 422),
        ("/api/v3/news?since=2026-01-01T00:00:00%2B99:00", 422),
        ("/api/v3/prices?limit=1&cursor=" + "A" * 100, 400),
        ("/api/v3/news?limit=0", 422),
        ("/api/v3/news?limit=1e9", 422),
        ("/api/v3/" + "x" * 5000, 404),
    ],
    ids=lambda value: str(value)[-24:],
)
async def test_a_rest_query_that_makes_no_sense(
    target: EdgeUnderAttack, path: str, status: int
) -> None:
    async with httpx.AsyncClient(base_url=target.edge.url) as http:
        answer = await http.get(path, headers={"accept": "image/png"})

    assert answer.status_code == status
    if status == 200:
        assert answer.text.count('"symbol"') == 1
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
        assert len(answer.content) < 2000


@pytest.mark.parametrize(
    "path", ["/api/v3/prices", "/api/v3/prices/AAPL", "/api/v3/news", "/api/v3/status"]
)
async def test_head_options_and_other_methods(
    target: EdgeUnderAttack, path: str
) -> None:
    async with httpx.AsyncClient(base_url=target.edge.url) as http:
        head, options, delete = [
            await http.request(method, path) for method in ("HEAD", "OPTIONS", "DELETE")
        ]

    assert (head.status_code, head.content) == (200, b"")
    assert options.status_code in (200, 204)
    assert delete.status_code == 405
    for answer in (options, delete):
        assert {"GET", "HEAD"} <= set(answer.headers["allow"].split(", "))


# -- somebody else's -------------------------------------------------------------------


@contextlib.asynccontextmanager
async def stream(edge: EdgeProcess, token: str) -> AsyncIterator[StreamClient]:
    url = f"ws://127.0.0.1:{edge.port}{STREAM}"
    async with connect(url, additional_headers=bearer(token)) as connection:
        client = StreamClient(connection)
        await client.take("hello")
        yield client


async def test_a_position_of_another_user_opens_nothing(tmp_path: Path) -> None:
    """A position says up to where, and never what one may see."""
    issuer = Issuer(tmp_path)
    async with (
        run_nats(tmp_path / "nats") as nats,
        open_bus(nats) as bus,
        run_edge(nats, EDGE_AUTH_KEYS_FILE=str(issuer.path)) as edge,
    ):
        writer = Writer(bus)
        async with stream(edge, issuer.token(sub="ann")) as ann:
            await ann.ask(
                *("subscribe", "snapshot_end"),
                channel="prices",
                symbols=["AAPL", "MSFT"],
                mode="every",
            )
            for symbol in ("AAPL", "MSFT"):
                await writer.price(symbol, last_price="1")
                await ann.take("price_update")
        await writer.price("AAPL", last_price="2")
        await writer.price("MSFT", last_price="2")
        async with stream(edge, issuer.token(sub="bob", symbols=["MSFT"])) as bob:
            resumed = {
                "channel": "prices",
                "symbols": ["AAPL", "MSFT"],
                "mode": "every",
                "since": ann.positions(),
            }
            ack, *rest = await bob.ask(
                "resume", "snapshot_end", subscriptions=[resumed]
            )

    assert ack["rejected"] == [{"symbol": "AAPL", "code": "not_available"}]
    assert {m["symbol"] for m in rest if m["type"] == "price_update"} == {"MSFT"}
