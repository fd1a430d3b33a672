"""What docs/protocol-v3.md promises and no other test here holds an edge to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from edge_harness import EdgeProcess, StreamClient, Writer
from nats_process import NatsProcess
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from edge.positions import parse_news_position
from feedmesh.bus import Bus
from feedmesh.errors import BusError
from feedmesh.streams import NEWS, ensure_streams


Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
Json = dict[str, Any]

AAPL: Json = {"channel": "prices", "symbols": ["AAPL"]}


async def settled(client: StreamClient) -> None:
    """Wait until the edge vouches for the positions of its prices."""
    async with asyncio.timeout(10):
        while not client.positions():
            await client.ask("subscribe", "snapshot_end", snapshot=False, **AAPL)
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("request_id", ["", "한글", 0, -1, 2**63])
async def test_every_answer_has_the_id_of_its_request_and_no_push_has_one(
    edge: EdgeProcess, writer: Writer, request_id: str | int
) -> None:
    requests: list[tuple[Json, str]] = [
        ({"op": "subscribe", **AAPL}, "snapshot_end"),
        ({"op": "subscribe", "channel": "news"}, "snapshot_end"),
        ({"op": "subscribe", "channel": "status"}, "ack"),
        ({"op": "subscribe", "channel": "news", "since": "x"}, "snapshot_end"),
        ({"op": "resume", "subscriptions": [AAPL]}, "snapshot_end"),
        ({"op": "list"}, "list"),
        ({"op": "ping"}, "pong"),
        ({"op": "auth", "token": "any"}, "ack"),
        ({"op": "fly"}, "error"),
        ({"op": "unsubscribe", "channel": "status"}, "ack"),
    ]
    async with edge.stream() as client:
        for request, answer in requests:
            taken = await client.ask(**request, until=answer, id=request_id)
            assert all(message["id"] == request_id for message in taken)
        await writer.price("AAPL")
        await writer.news("1")
        pushes = [await client.next(), await client.next()]
        assert {message["type"] for message in pushes} == {"price_update", "news"}
        # A news item has an id of its own: that of its provider.
        assert "id" not in next(m for m in pushes if m["type"] == "price_update")
        *_, pong = await client.ask("ping", "pong")
        assert pong["id"] is None


async def test_another_pace_replaces_the_one_before(
    edge: EdgeProcess, writer: Writer
) -> None:
    async with edge.stream() as client:
        for fields in ({"max_rate_hz": 1}, {"mode": "every"}, {"mode": "every"}):
            await client.ask("subscribe", "snapshot_end", **AAPL, **fields)
        *_, listed = await client.ask("list", "list")
        for number in range(20):
            await writer.price("AAPL", last_price=str(number))
        heard = [(await client.next())["last_price"] for _ in range(20)]
        await client.silent()

    assert [entry["mode"] for entry in listed["subscriptions"]] == ["every"]
    assert heard == list(range(20))


@pytest.mark.parametrize("snapshot", [None, False])
async def test_the_newest_value_follows_a_recovery(
    edge: EdgeProcess, writer: Writer, snapshot: bool | None
) -> None:
    """Without it, a client that wants no snapshot would keep an old value for good."""
    await writer.price("AAPL", last_price="1")
    async with edge.stream() as client:
        await settled(client)
        positions = client.positions()
    await writer.price("AAPL", last_price="2")
    wanted = {**AAPL, "snapshot": snapshot, "since": positions}
    async with edge.stream() as client:
        ack, *rest = await client.ask("resume", "snapshot_end", subscriptions=[wanted])
        while not rest[:-1] or rest[-2]["last_price"] != 2:
            ack, *rest = await client.ask(
                "resume", "snapshot_end", subscriptions=[wanted]
            )

    assert ack["recovered"] is True
    assert [message["type"] for message in rest] == ["price_update", "snapshot_end"]


async def test_an_unknown_form_of_frames_is_refused_in_words(edge: EdgeProcess) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://127.0.0.1:{edge.port}/api/v3/stream?frames=xml"):
            pass

    response = refused.value.response
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = json.loads(response.body or b"")
    assert (problem["code"], problem["parameter"]) == ("invalid_parameter", "frames")


async def test_a_log_that_is_made_anew_is_told_as_a_gap(
    edge: EdgeProcess, writer: Writer, bus: Bus
) -> None:
    async with edge.stream() as client:
        await client.ask("subscribe", "snapshot_end", channel="news")
        await writer.news("1", "before")
        before = await client.next()
        await bus.nc.jetstream().delete_stream(NEWS)
        await ensure_streams(bus.nc.jetstream())
        await writer.news("2", "after")
        gap, after = [await client.next(15), await client.next()]

    assert (gap["type"], gap["channel"]) == ("gap", "news")
    assert gap["reason"] == "stream_recreated"
    assert gap["after"].split(".")[1] == before["position"].split(".")[1]
    assert after["title"] == "after"
    assert parse_news_position(gap["to"]) < parse_news_position(after["position"])


async def test_a_log_that_cannot_be_asked_costs_no_position(
    edge: EdgeProcess, writer: Writer, nats_server: NatsProcess, eventually: Eventually
) -> None:
    """The position is one of an edge that was ahead of this one."""
    async with edge.stream() as client:
        await client.ask("subscribe", "snapshot_end", channel="news")
        await writer.news("1")
        last = parse_news_position((await client.next())["position"])
    # The item has a copy for its symbol; then comes the next item.
    since = last._replace(sequence=last.sequence + 2).token()
    wanted = {"channel": "news", "since": since}
    await nats_server.stop()
    async with edge.stream() as client:
        await client.send(op="resume", id=1, subscriptions=[wanted, AAPL])
        ack, *_, end = await client.take("snapshot_end", 30)
        assert (ack["recovered"], ack["reason"]) == (False, "stream_unavailable")
        assert end["channel"] == "news"
        # What does not need the log is there all the same.
        assert (await client.next())["accepted"] == ["AAPL"]
        await client.ask("ping", "pong")
        await nats_server.start()

        async def stored() -> bool:
            try:
                await writer.news("2", "next")
            except BusError:
                return False
            return True

        await eventually(stored)
        await client.take("news", 30)
        ack, end = await client.ask("resume", "snapshot_end", subscriptions=[wanted])

    assert ack["recovered"] is True
    assert parse_news_position(end["positions"]["news"]) >= parse_news_position(since)
