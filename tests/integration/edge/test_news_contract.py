"""Every rule of the news contract, and the promise: each item once, in order."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import httpx
import pytest
from edge_harness import Client, EdgeProcess, Writer, run_edge
from nats_process import NatsProcess, until_back
from processes import run_service

from feedmesh.bus import Bus
from feedmesh.streams import NEWS, ensure_streams


async def titles(client: Client, count: int) -> list[str]:
    return [(await client.json())["title"] for _ in range(count)]


async def test_the_test_item_comes_first_and_is_marked(edge: EdgeProcess) -> None:
    async with edge.news() as client:
        item = await client.json()

        assert item["type"] == "test"
        await client.silent()


async def test_an_item_arrives_as_it_was_written(
    edge: EdgeProcess, writer: Writer
) -> None:
    async with edge.news() as client:
        await client.json()
        frame = await writer.news(
            "202306140952172704000165", "STX, ‘2차전지 핵심’ <b>박차</b>…中 MOU"
        )

        text = await client.text()

    assert text == frame.decode()
    item = json.loads(text)
    assert list(item) == [
        "type",
        "date",
        "time",
        "id",
        "realkey",
        "title",
        "bodysize",
        "code",
        "provider",
        "news_type",
        "stocks",
        "published_at",
        "received_at",
        "repeat_of",
    ]
    assert item["type"] == "news"
    assert item["title"] == "STX, ‘2차전지 핵심’ <b>박차</b>…中 MOU"
    assert item["stocks"] == [{"code": "011810", "name": "STX"}]
    assert item["published_at"] == "2023-06-14T09:52:17+09:00"


async def test_copies_for_symbols_are_not_shown_twice(
    edge: EdgeProcess, writer: Writer
) -> None:
    async with edge.news() as client:
        await client.json()
        for number in range(5):
            await writer.news(str(number), f"item {number}")

        assert await titles(client, 5) == [f"item {n}" for n in range(5)]
        await client.silent()


async def test_a_client_that_says_something_is_not_closed(
    edge: EdgeProcess, writer: Writer
) -> None:
    async with edge.news() as client:
        await client.json()
        await client.connection.send("hello")
        await client.connection.send(b"\x00")
        await writer.news("1", "still here")

        assert await titles(client, 1) == ["still here"]


async def test_the_newest_items_answer_over_rest(
    edge: EdgeProcess, writer: Writer
) -> None:
    async with edge.news() as client:
        await client.json()
        for number in range(5):
            await writer.news(str(number), f"item {number}", news_type="disclosure")
        await titles(client, 5)
    async with httpx.AsyncClient(base_url=edge.url) as http:
        items = (await http.get("/api/v3/news?limit=3")).json()["items"]
        refused = await http.get("/api/v3/news?limit=0")

    assert [item["title"] for item in items] == ["item 2", "item 3", "item 4"]
    assert refused.status_code == 422


async def test_older_items_are_there_after_a_restart_of_the_edge(
    nats_server: NatsProcess, bus: Bus, writer: Writer
) -> None:
    await writer.news("1", "before")
    async with run_edge(nats_server) as edge, httpx.AsyncClient() as http:
        items = (await http.get(f"{edge.url}/api/v3/news")).json()["items"]

    assert [item["title"] for item in items] == ["before"]


async def test_no_item_is_lost_while_nats_restarts(
    edge: EdgeProcess, writer: Writer, bus: Bus, nats_server: NatsProcess
) -> None:
    async with edge.news() as client:
        await client.json()
        await writer.news("1", "before")
        assert await titles(client, 1) == ["before"]
        await nats_server.stop()
        await nats_server.start()
        await until_back(bus)
        for number in range(20):
            await writer.news(f"after {number}", f"after {number}")

        assert await titles(client, 20) == [f"after {n}" for n in range(20)]
        await client.silent()


async def test_a_stream_that_was_made_anew_is_read_from_its_start(
    edge: EdgeProcess, writer: Writer, bus: Bus
) -> None:
    async with edge.news() as client:
        await client.json()
        for number in range(5):
            await writer.news(str(number), f"old {number}")
        await titles(client, 5)
        await bus.nc.jetstream().delete_stream(NEWS)
        await ensure_streams(bus.nc.jetstream())
        await writer.news("new", "new")

        assert await titles(client, 1) == ["new"]


async def test_a_client_that_reads_late_gets_every_item(
    nats_server: NatsProcess, bus: Bus, writer: Writer
) -> None:
    """It lags by more than the edge keeps in memory, so the stream must help."""
    count = 3000
    async with run_edge(nats_server) as edge, edge.news() as client:
        await client.json()
        client.connection.transport.pause_reading()
        for number in range(count):
            await writer.news(str(number), f"item {number} " + "가" * 200)
        client.connection.transport.resume_reading()

        got = await titles(client, count)

    assert [title.split()[1] for title in got] == [str(n) for n in range(count)]


async def test_clients_are_told_when_the_edge_leaves(edge: EdgeProcess) -> None:
    async with edge.news() as news, edge.prices() as prices:
        await news.json()
        stopping = asyncio.create_task(edge.service.stop(signal.SIGTERM))
        codes = [await client.closed() for client in (news, prices)]

    assert codes == [1012, 1012]
    assert await stopping == 0


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ({"EDGE_PORT": "http"}, "EDGE_PORT"),
        ({"EDGE_PROT": "1"}, "EDGE_PROT is not a setting"),
        ({"EDGE_STUCK": "30"}, "EDGE_STUCK: needs a number and a unit"),
        ({"EDGE_ORIGINS": "https://example.org/"}, "EDGE_ORIGINS: needs origins"),
        ({"EDGE_DRAIN": "60s"}, "EDGE_DRAIN must be shorter"),
        ({"NATS_URL": "localhost:4222"}, "NATS_URL: needs a host"),
        ({"NATS_URL": "nats://me:hush@localhost"}, "NATS_URL: must not hold"),
        ({"NATS_PASSWORD": "hush", "NATS_PASSWORD_FILE": "/x"}, "are both set"),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_bad_setting_ends_the_edge_with_one_line(
    env: dict[str, Any], text: str
) -> None:

    async with run_service("edge", env) as service:
        assert await service.exited() == 2

    assert len(service.lines) == 1
    assert text in service.lines[0]
    assert "hush" not in service.lines[0]


async def test_a_port_in_use_is_said_in_one_line(edge: EdgeProcess) -> None:

    async with run_service("edge", {"EDGE_PORT": str(edge.port)}) as service:
        assert await service.exited() == 1

    assert service.lines[-1].startswith(
        f"edge: port {edge.port} on 127.0.0.1 is in use"
    )
