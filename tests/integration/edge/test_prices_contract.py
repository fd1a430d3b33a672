"""Every rule of the frozen price contract, at a real socket."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import httpx
import pytest
from edge_harness import EdgeProcess, Writer


GOLDEN = (
    '{"type": "price_update", "symbol": "AAPL", "timestamp": 1699564800000,'
    ' "data_type": "T", "last_price": 189.45, "last_size": 1000, "ask_price": 189.46,'
    ' "ask_size": 5000, "bid_price": 189.44, "bid_size": 3000,'
    ' "cached_at": "2023-11-09T21:20:00"}'
)


async def golden(writer: Writer) -> None:
    await writer.price(
        "AAPL",
        last_price="189.45",
        last_size="1000",
        ask_price="189.46",
        ask_size="5000",
        bid_price="189.44",
        bid_size="3000",
        cached_s=1699564800,
    )


async def test_the_bytes_of_an_update_are_frozen(
    edge: EdgeProcess, writer: Writer
) -> None:
    async with edge.prices() as client:
        await client.subscribe("AAPL")
        await golden(writer)

        assert await client.text() == GOLDEN


async def test_the_cached_value_comes_at_once_then_every_update(
    edge: EdgeProcess, writer: Writer, eventually: Callable[..., Awaitable[None]]
) -> None:
    cached = await writer.price("AAPL", last_price="1.10")

    async def is_cached() -> bool:
        async with httpx.AsyncClient(base_url=edge.url) as http:
            answer = await http.get("/api/v2/realtime/cache/AAPL")
            return answer.status_code == 200

    await eventually(is_cached)
    async with edge.prices() as client:
        await client.subscribe("AAPL")
        assert await client.text() == cached.decode()
        for price in ("1.20", "1.30", "1.40"):
            update = await writer.price("AAPL", last_price=price)
            assert await client.text() == update.decode()


async def test_what_was_not_given_is_null_never_zero(
    edge: EdgeProcess, writer: Writer
) -> None:
    async with edge.prices() as client:
        await client.subscribe("EURUSD")
        await writer.price(
            "EURUSD", data_type="Q", ask_price="1.07865", bid_price="1.07856"
        )
        update = await client.json()

    assert update["last_price"] is None
    assert update["last_size"] is None
    assert update["bid_size"] is None


async def test_each_client_has_its_own_set_and_may_change_it(
    edge: EdgeProcess, writer: Writer
) -> None:
    async with edge.prices() as one, edge.prices() as other:
        await one.subscribe("AAPL", "MSFT")
        await other.subscribe("MSFT")
        await writer.price("AAPL")
        assert (await one.json())["symbol"] == "AAPL"
        await writer.price("MSFT")
        assert (await one.json())["symbol"] == "MSFT"
        assert (await other.json())["symbol"] == "MSFT"

        await one.send(action="unsubscribe", symbols=["MSFT", "NEVER"])
        # Answered in order: the error tells that the request before it was done.
        await one.send(action="bad", symbols=[])
        assert (await one.json())["type"] == "error"
        await writer.price("MSFT")
        assert (await other.json())["symbol"] == "MSFT"
        await one.silent()


async def test_lower_case_is_the_same_symbol(edge: EdgeProcess, writer: Writer) -> None:
    async with edge.prices() as client:
        await client.subscribe("brk-b")
        await writer.price("BRK-B")

        assert (await client.json())["symbol"] == "BRK-B"


@pytest.mark.parametrize(
    "request_text",
    [
        json.dumps({"action": "subscribe", "symbols": [f"S{n}" for n in range(51)]}),
        json.dumps({"action": "subscribe", "symbols": ["AAPL", "*"]}),
        json.dumps({"action": "subscribe", "symbols": ["prices.>"]}),
        json.dumps({"action": "subscribe", "symbols": ["$JS.API.>"]}),
        json.dumps({"action": "subscribe", "symbols": ["A" * 21]}),
        json.dumps({"action": "subscribe", "symbols": "AAPL"}),
        json.dumps({"action": "subscribe", "symbols": [1]}),
        json.dumps({"action": "subscribe", "symbols": []}),
        json.dumps({"action": "subscribe"}),
        json.dumps({"action": "dance", "symbols": ["AAPL"]}),
        "null",
        "[]",
        "1",
        '"x"',
        "{}",
        "",
        "{",
        "[" * 10_000,
        '{"action": "subscribe", "symbols": ["\\ud800"]}',
        b"\x00\x01",
    ],
    ids=lambda text: str(text)[:40],
)
async def test_a_bad_request_is_answered_and_changes_nothing(
    edge: EdgeProcess, writer: Writer, request_text: str | bytes
) -> None:
    async with edge.prices() as client:
        await client.subscribe("MSFT")
        await client.connection.send(request_text)
        error = await client.json()

        assert list(error) == ["type", "message"]
        assert error["type"] == "error"
        assert error["message"]
        await writer.price("AAPL")
        await writer.price("MSFT")
        assert (await client.json())["symbol"] == "MSFT"


async def test_fifty_symbols_are_allowed(edge: EdgeProcess, writer: Writer) -> None:
    async with edge.prices() as client:
        await client.subscribe(*(f"S{number}" for number in range(50)))
        await writer.price("S49")

        assert (await client.json())["symbol"] == "S49"


async def test_the_cache_answers_over_rest(
    edge: EdgeProcess, writer: Writer, eventually: Callable[..., Awaitable[None]]
) -> None:
    await golden(writer)
    other = await writer.price("BTCUSD", last_price="47244.80")
    async with httpx.AsyncClient(base_url=f"{edge.url}/api/v2/realtime") as http:

        async def both() -> bool:
            return len((await http.get("/cache")).json()) == 2

        await eventually(both)
        everything = await http.get("/cache")
        one = await http.get("/cache/aapl")
        missing = await http.get("/cache/NONE")
        illegal = await http.get("/cache/*")

    assert everything.text == f'{{"AAPL": {GOLDEN}, "BTCUSD": {other.decode()}}}'
    assert one.text == GOLDEN
    assert missing.status_code == 404
    assert "NONE" in missing.json()["detail"]
    assert illegal.status_code == 422


async def test_health_and_status(edge: EdgeProcess) -> None:
    async with (
        httpx.AsyncClient(base_url=f"{edge.url}/api/v2/realtime") as http,
        edge.prices() as client,
    ):
        await client.subscribe("MSFT")
        await client.send(action="bad")
        await client.json()
        health = await http.get("/health")
        status = (await http.get("/status")).json()

    assert health.status_code == 200
    assert health.json()["status"] == "healthy"
    assert status["clients"] == 1
    assert status["symbols"] == ["MSFT"]
    assert status["nats"] == {"connected": True, "reconnects": 0}


@pytest.mark.parametrize("body", ["[]", '["*"]', "{}", '"AAPL"', "[1]", "x", "null"])
async def test_a_bad_list_of_symbols_is_refused_over_rest(
    edge: EdgeProcess, body: str
) -> None:
    async with httpx.AsyncClient(base_url=edge.url) as http:
        answer = await http.post(
            "/api/v2/realtime/subscribe",
            content=body,
            headers={"content-type": "application/json"},
        )

    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)
