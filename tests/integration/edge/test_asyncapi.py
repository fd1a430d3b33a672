"""What a running edge says and takes is what the AsyncAPI description has."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import httpx
import msgspec
from asyncapi import Description
from edge_harness import EdgeProcess, StreamClient, Writer
from websockets.asyncio.client import connect

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.clock import iso, now_ns
from feedmesh.gaps import FeedGap, encode_gap
from feedmesh.messages import encode
from feedmesh.status import FeedFrame, LinkFrame
from feedmesh.streams import NEWS, ensure_streams


async def description(edge: EdgeProcess) -> Description:
    async with httpx.AsyncClient(base_url=edge.url) as http:
        answer = await http.get("/asyncapi.json")
    assert answer.headers["content-type"] == "application/json"
    return Description(answer.json())


async def say_status(bus: Bus, writer: Writer) -> None:
    """Let a feed say how it is."""
    now = iso(now_ns())
    link = LinkFrame("live", now, now, 0, None, 1, 1)
    frame = FeedFrame("test", "live", now, now, 0, {"main": link}, now)
    payload = encode(writer.head("status"), msgspec.json.encode(frame))
    await bus.request(subjects.status("test"), payload)


async def say_gap(bus: Bus, writer: Writer) -> None:
    """Let a feed say what it lacks."""
    gap = FeedGap(
        id="test.main.1",
        feed="test",
        link="main",
        since=iso(now_ns()),
        until=None,
        reason="dropped",
    )
    payload = encode(writer.head("gap"), encode_gap(gap))
    await bus.request(subjects.gaps("test"), payload)


async def test_every_message_that_an_edge_sends_is_as_described(
    edge: EdgeProcess, writer: Writer, bus: Bus
) -> None:
    described = await description(edge)
    heard: list[dict[str, Any]] = []
    await say_status(bus, writer)
    await say_gap(bus, writer)
    await writer.price("AAPL", last_price="1.10")
    async with edge.stream() as client:
        heard.append(client.hello)
        for request in (
            {"op": "subscribe", "channel": "prices", "symbols": ["AAPL", "A B"]},
            {"op": "subscribe", "channel": "news", "snapshot": True},
            {"op": "subscribe", "channel": "status"},
            {"op": "list", "id": "l"},
            {"op": "ping", "id": 1},
            {"op": "fly"},
        ):
            await client.send(**request)
        await writer.news("1")
        await until(client, heard, {"news", "error", "status", "feed_gap", "heartbeat"})
        # Whoever holds a position in a log that is no more is told of a gap.
        js = bus.nc.jetstream()
        await js.delete_stream(NEWS)
        await ensure_streams(js)
        await writer.news("2")
        await until(client, heard, {"gap"})
        stopping = asyncio.create_task(edge.service.stop(signal.SIGTERM))
        await until(client, heard, {"going_away"})
    await stopping

    assert {message["type"] for message in heard} == described.sent()
    assert [fault for message in heard for fault in described.faults(message)] == []


async def test_the_example_of_the_limits_is_what_an_edge_has(edge: EdgeProcess) -> None:
    described = await description(edge)
    (example,) = described.messages["Hello"]["examples"]
    async with edge.stream() as client:
        assert example["payload"]["limits"] == client.hello["limits"]


async def test_arrays_hold_the_same_messages(edge: EdgeProcess, writer: Writer) -> None:
    described = await description(edge)
    await writer.price("AAPL", last_price="1.10")
    heard: list[dict[str, Any]] = []
    url = f"ws://127.0.0.1:{edge.port}/api/v3/stream?frames=array"
    async with connect(url) as socket, asyncio.timeout(10):
        for request in (
            {"op": "subscribe", "channel": "news"},
            {"op": "subscribe", "channel": "prices", "symbols": ["AAPL"]},
        ):
            await socket.send(json.dumps(request))
        await writer.news("1")
        while not {"news", "price_update"} <= {m["type"] for m in heard}:
            heard += json.loads(await socket.recv())

    assert [fault for message in heard for fault in described.faults(message)] == []


async def test_every_example_of_a_request_is_carried_out(edge: EdgeProcess) -> None:
    described = await description(edge)
    async with edge.stream() as client:
        for request in described.requests():
            answer = {"list": "list", "ping": "pong"}.get(request["op"], "ack")
            taken = await client.ask(until=answer, **request)

            assert not [m for m in taken if m["type"] == "error"]
            assert taken[-1].get("id") == request.get("id")


async def until(
    client: StreamClient, heard: list[dict[str, Any]], kinds: set[str]
) -> None:
    """Keep what comes until all *kinds* have come."""
    missing = set(kinds)
    while missing:
        heard.append(await client.next_of_all(seconds=15))
        missing.discard(heard[-1]["type"])
