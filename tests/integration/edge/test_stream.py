"""Protocol v3 as a client sees it: requests and answers, prices, news, status."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from edge_harness import EdgeProcess, Writer, run_edge
from nats_process import NatsProcess
from websockets.asyncio.client import connect

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.messages import encode


Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


async def test_hello_comes_first_and_names_the_limits(edge: EdgeProcess) -> None:
    async with edge.stream() as client:
        hello = client.hello

    assert hello["protocol"] == "feedmesh.v1.json"
    assert hello["heartbeat_ms"] == 10_000
    assert hello["auth"] is False
    assert hello["limits"]["max_symbols"] == 2000
    assert hello["at"].endswith("Z")


async def test_the_subprotocol_is_chosen_if_it_is_offered(edge: EdgeProcess) -> None:
    url = f"ws://127.0.0.1:{edge.port}/api/v3/stream"
    async with connect(url, subprotocols=["other", "feedmesh.v1.json"]) as one:  # type: ignore[list-item]
        assert one.subprotocol == "feedmesh.v1.json"
    async with connect(url) as two:
        assert two.subprotocol is None


async def test_a_snapshot_then_updates(edge: EdgeProcess, writer: Writer) -> None:
    frame = await writer.price("AAPL", last_price="189.450")
    async with edge.stream() as client:
        *_, ack = await client.ask(
            "subscribe", id=7, channel="prices", symbols=["aapl", "MSFT", "A B"]
        )
        assert ack == {
            "type": "ack",
            "op": "subscribe",
            "id": 7,
            "channel": "prices",
            "accepted": ["AAPL", "MSFT"],
            "rejected": [{"symbol": "A B", "code": "bad_symbol"}],
        }
        price, end = await client.take("snapshot_end")
        assert price.pop("position").startswith("test.")
        assert price == json.loads(frame)
        assert (end["id"], end["channel"]) == (7, "prices")

        update = await writer.price("MSFT", last_price="0.10")
        text = await client.text()
        # The digits are those of the upstream, and the contract's keys are all there.
        assert text.startswith(update.decode()[:-1])
        assert json.loads(text)["position"]


async def test_arrays_on_request(edge: EdgeProcess, writer: Writer) -> None:
    async with connect(
        f"ws://127.0.0.1:{edge.port}/api/v3/stream?frames=array"
    ) as socket:
        assert json.loads(await socket.recv())[0]["type"] == "hello"
        request = {"op": "subscribe", "channel": "prices", "symbols": ["AAPL"]}
        await socket.send(json.dumps(request))
        kinds = [m["type"] for m in json.loads(await socket.recv())]
        assert kinds == ["ack", "snapshot_end"]

        await writer.price("AAPL")
        (update,) = json.loads(await socket.recv())
        assert update["type"] == "price_update"


async def test_the_same_again_is_the_same(edge: EdgeProcess, writer: Writer) -> None:
    async with edge.stream() as client:
        for _ in range(50):
            await client.send(
                op="subscribe", channel="prices", symbols=["AAPL"] * 20, snapshot=False
            )
        for _ in range(50):
            assert (await client.take("snapshot_end"))[0]["accepted"] == ["AAPL"]
        await writer.price("AAPL")
        assert (await client.next())["type"] == "price_update"
        await client.silent()


async def test_every_update_or_the_latest(edge: EdgeProcess, writer: Writer) -> None:
    async with edge.stream() as every, edge.stream() as latest:
        await every.ask(
            "subscribe",
            "snapshot_end",
            channel="prices",
            symbols=["AAPL"],
            mode="every",
        )
        ack, *_ = await latest.ask(
            "subscribe",
            "snapshot_end",
            channel="prices",
            symbols=["AAPL"],
            max_rate_hz=3,
        )
        assert ack["max_rate_hz"] == 2
        for number in range(200):
            await writer.price("AAPL", last_price=str(number))
        heard = [(await every.next())["last_price"] for _ in range(200)]
        assert heard == list(range(200))
        rare: list[Any] = []
        while not rare or rare[-1] != 199:
            rare.append((await latest.next())["last_price"])
        assert len(rare) < 20
        assert rare == sorted(rare)


async def test_what_is_left_out_is_counted_to_the_client(
    nats_server: NatsProcess, bus: Bus, writer: Writer
) -> None:
    async with run_edge(nats_server) as edge, edge.stream() as client:
        await client.ask(
            *("subscribe", "snapshot_end"),
            channel="prices",
            symbols=["AAPL"],
            max_rate_hz=1,
        )
        updates = 100
        for number in range(updates):
            await writer.price("AAPL", last_price=str(number))
        # All that came before the heartbeat was either heard or left out.
        *heard, beat = await client.take("heartbeat", seconds=15)
        prices = [m for m in heard if m["type"] == "price_update"]
        assert beat["conflated"] + len(prices) == updates
        assert beat["positions"]["prices"] == [
            f"test.1.{updates}." + beat["positions"]["prices"][0][-4:]
        ]


async def test_news_by_type_and_by_symbol(edge: EdgeProcess, writer: Writer) -> None:
    async with (
        edge.stream() as everything,
        edge.stream() as disclosures,
        edge.stream() as one_stock,
        edge.stream() as other_stock,
    ):
        await everything.ask("subscribe", "snapshot_end", channel="news")
        await disclosures.ask(
            "subscribe", "snapshot_end", channel="news", types=["disclosure"]
        )
        await one_stock.ask(
            "subscribe", "snapshot_end", channel="news", symbols=["011810"]
        )
        await other_stock.ask(
            "subscribe", "snapshot_end", channel="news", symbols=["005930"]
        )
        await writer.news("1", "기사")
        await writer.news("2", "공시", news_type="disclosure")

        assert [(await everything.next())["title"] for _ in "12"] == ["기사", "공시"]
        assert (await disclosures.next())["title"] == "공시"
        assert [(await one_stock.next())["title"] for _ in "12"] == ["기사", "공시"]
        await other_stock.silent()


async def test_a_news_snapshot_on_request(edge: EdgeProcess, writer: Writer) -> None:
    for number in range(3):
        await writer.news(str(number), f"item {number}")
    async with edge.stream() as client:

        async def titles(**fields: Any) -> list[str]:
            taken = await client.ask(
                "subscribe", "snapshot_end", channel="news", **fields
            )
            return [m["title"] for m in taken if m["type"] == "news"]

        assert await titles() == []
        # Sooner or later this edge has read them all.
        async with asyncio.timeout(5):
            while await titles(snapshot=True) != ["item 0", "item 1", "item 2"]:
                await asyncio.sleep(0.05)


async def test_status_now_and_when_it_changes(
    edge: EdgeProcess, writer: Writer, bus: Bus
) -> None:
    async def say(state: str) -> None:
        frame: dict[str, Any] = {
            "type": "status",
            "feed": "test",
            "state": state,
            "since": "2026-01-01T00:00:00.000000Z",
            "last_message_at": None,
            "reconnects": 0,
            "links": {},
            "at": writer.head("status").published_at,
        }
        payload = encode(writer.head("status"), json.dumps(frame).encode())
        await bus.request(subjects.status("test"), payload)

    await say("live")
    async with edge.stream() as client:
        await client.ask("subscribe", channel="status")
        assert (await client.next())["state"] == "live"
        await say("live")
        await say("down")
        assert (await client.next())["state"] == "down"


async def test_unsubscribe_list_and_ping(edge: EdgeProcess, writer: Writer) -> None:
    async with edge.stream() as client:
        for fields in (
            {"channel": "prices", "symbols": ["AAPL", "MSFT"]},
            {"channel": "prices", "symbols": ["TSLA"], "mode": "every"},
            {"channel": "news", "types": ["article"]},
        ):
            await client.ask("subscribe", "snapshot_end", **fields)
        *_, listed = await client.ask("list", "list", id="l")
        assert listed["subscriptions"] == [
            {"channel": "prices", "symbols": ["TSLA"], "mode": "every"},
            {"channel": "prices", "symbols": ["AAPL", "MSFT"], "mode": "latest"},
            {"channel": "news", "types": ["article"]},
        ]
        *_, ack = await client.ask(
            "unsubscribe", channel="prices", symbols=["AAPL", "NONE"]
        )
        assert ack["accepted"] == ["AAPL", "NONE"]
        await client.ask("unsubscribe", channel="news")
        await writer.price("AAPL")
        await writer.news("1")
        await writer.price("MSFT")
        assert (await client.next())["symbol"] == "MSFT"
        *_, pong = await client.ask("ping", "pong", id=1)
        assert pong["id"] == 1
        await client.ask("unsubscribe", channel="prices")
        *_, listed = await client.ask("list", "list")
        assert listed["subscriptions"] == []


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"op": "fly", "id": 3}, "unknown_op"),
        ({"op": "subscribe", "id": 3}, "bad_request"),
        ({"op": "subscribe", "id": 3, "channel": "weather"}, "bad_request"),
        ({"op": "subscribe", "id": 3, "channel": "prices"}, "bad_request"),
        (
            {"op": "subscribe", "id": 3, "channel": "prices", "symbols": []},
            "bad_request",
        ),
        (
            {"op": "subscribe", "id": 3, "channel": "prices", "symbols": ["A"] * 1001},
            "bad_request",
        ),
        (
            {
                "op": "subscribe",
                "id": 3,
                "channel": "prices",
                "symbols": ["A"],
                "mode": "every",
                "max_rate_hz": 5,
            },
            "bad_request",
        ),
        (
            {
                "op": "subscribe",
                "id": 3,
                "channel": "prices",
                "symbols": ["A"],
                "max_rate_hz": 1e9,
            },
            "bad_request",
        ),
        ({"op": "subscribe", "id": 3, "channel": "news", "types": ["*"]}, "bad_type"),
        (
            {"op": "subscribe", "id": 3, "channel": "news", "symbols": [">"]},
            "bad_symbol",
        ),
        ({"op": "resume", "id": 3, "subscriptions": []}, "bad_request"),
        ({"op": "unsubscribe", "id": 3, "channel": 5}, "bad_request"),
    ],
)
async def test_a_bad_request_is_answered_and_changes_nothing(
    edge: EdgeProcess, request_: dict[str, Any], code: str
) -> None:
    async with edge.stream() as client:
        *_, error = await client.ask(until="error", **request_)
        assert error["code"] == code
        assert error["id"] == 3
        assert error["temporary"] is False
        *_, listed = await client.ask("list", "list")
        assert listed["subscriptions"] == []


@pytest.mark.parametrize(
    "symbol", ["*", ">", "prices.>", "$JS.API.>", "_INBOX.>", "A" * 10_000, ""]
)
async def test_symbols_that_could_be_subjects_are_rejected(
    edge: EdgeProcess, symbol: str
) -> None:
    async with edge.stream() as client:
        *_, ack = await client.ask(
            "subscribe", channel="prices", symbols=[symbol, "OK"]
        )
        assert ack["accepted"] == ["OK"]
        assert [r["code"] for r in ack["rejected"]] == ["bad_symbol"]


async def test_beyond_the_limit_symbols_are_rejected_one_by_one(
    nats_server: NatsProcess, bus: Bus
) -> None:
    async with (
        run_edge(nats_server, EDGE_MAX_SYMBOLS="2") as edge,
        edge.stream() as client,
    ):
        *_, ack = await client.ask(
            "subscribe", channel="prices", symbols=["A", "B", "C"]
        )
        assert ack["accepted"] == ["A", "B"]
        assert ack["rejected"] == [{"symbol": "C", "code": "too_many_symbols"}]


@pytest.mark.parametrize(
    "message",
    [
        "null",
        "[]",
        '"x"',
        "1",
        "{}",
        "{",
        "",
        '{"op": 5}',
        "[" * 10_000,
        '{"op":' + "[" * 10_000,
        "9" * 60_000,
        "{" + ",".join(f'"{i}":1' for i in range(6000)) + "}",
    ],
)
async def test_what_is_not_a_request_ends_the_connection(
    edge: EdgeProcess, message: str
) -> None:
    async with edge.stream() as bystander, edge.stream() as client:
        await client.connection.send(message)
        assert (await client.take("error"))[-1]["code"] == "not_a_request"
        assert await client.closed() == 4000
        await bystander.ask("ping", "pong")


async def test_twenty_errors_end_the_connection(edge: EdgeProcess) -> None:
    async with edge.stream() as client:
        for _ in range(20):
            await client.send(op="fly")
        assert await client.closed() == 4000


async def test_a_binary_message_ends_the_connection(edge: EdgeProcess) -> None:
    async with edge.stream() as client:
        await client.connection.send(b'{"op":"ping"}')
        assert await client.closed() == 1003


async def test_too_many_requests_end_the_connection(edge: EdgeProcess) -> None:
    async with edge.stream() as bystander, edge.stream() as client:
        for _ in range(110):
            await client.send(op="ping")
        assert await client.closed() == 4101
        await bystander.ask("ping", "pong")


async def test_at_a_restart_clients_are_told_when_to_come_back(
    edge: EdgeProcess,
) -> None:
    async with edge.stream() as client:
        stopping = asyncio.create_task(edge.service.stop(signal.SIGTERM))
        assert (await client.take("going_away"))[-1]["reconnect_after_ms"] >= 0
        assert await client.closed() == 4200
    assert await stopping == 0


async def test_all_of_a_backlog_reaches_a_new_edge(
    nats_server: NatsProcess, bus: Bus, writer: Writer, eventually: Eventually
) -> None:
    """The heartbeat's position counts items that the client's filter left out."""
    async with run_edge(nats_server) as one, one.stream() as client:
        await client.ask("subscribe", "snapshot_end", channel="news", types=["none"])
        await writer.news("1")
        *_, beat = await client.take("heartbeat", seconds=15)
        position = beat["positions"]["news"]
    await writer.news("2", "missed")
    async with run_edge(nats_server) as two, two.stream() as client:
        first, *rest = await client.ask(
            "resume",
            "snapshot_end",
            subscriptions=[{"channel": "news", "since": position}],
        )
        assert first["recovered"] is True
        assert [m["title"] for m in rest if m["type"] == "news"] == ["missed"]
