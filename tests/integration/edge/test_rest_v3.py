"""The REST routes of a real edge: what they promise with the stream, and bad input."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from edge_harness import EdgeProcess, Writer, run_edge
from nats_process import NatsProcess
from openapi import Description

from edge.positions import NewsPosition, PricePosition, parse_news_position
from edge.rest.problems import PROBLEMS
from feedmesh import messages, subjects
from feedmesh.bus import Bus
from feedmesh.clock import iso, now_ns
from feedmesh.streams import NEWS, ensure_streams


Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.fixture
async def http(edge: EdgeProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=edge.url) as http:
        yield http


async def items(http: httpx.AsyncClient, query: str = "") -> Any:
    response = await http.get(f"/api/v3/news?{query}")
    assert response.status_code == 200, response.text
    return response.json()


async def has_items(http: httpx.AsyncClient, count: int = 1) -> bool:
    return len((await items(http))["items"]) == count


async def has_positions(http: httpx.AsyncClient) -> bool:
    return bool((await http.get("/api/v3/prices")).json()["positions"])


async def feed_status(bus: Bus, feed: str, state: str, seq: int = 1) -> None:
    """Let *feed* say how it is."""
    now = now_ns()
    frame = {
        "type": "status",
        "feed": feed,
        "state": state,
        "since": iso(now),
        "last_message_at": iso(now),
        "reconnects": 0,
        "links": {
            "main": {
                "state": state,
                "since": iso(now),
                "last_message_at": None,
                "reconnects": 0,
                "reason": None,
                "desired": 1,
                "confirmed": 1,
            }
        },
        "at": iso(now),
    }
    head = messages.head(
        "status", feed, (1, seq), event_ns=now, received_ns=now, published_ns=now
    )
    payload = messages.encode(head, json.dumps(frame).encode())
    await bus.request(subjects.status(feed), payload)


async def raw(edge: EdgeProcess, request: bytes) -> bytes:
    """Return all that the edge answers to *request* until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(request)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


async def test_prices_come_with_their_bytes_state_and_positions(
    http: httpx.AsyncClient, writer: Writer, bus: Bus, eventually: Eventually
) -> None:
    await feed_status(bus, "test", "live")
    frame = await writer.price("AAPL", last_price="189.4500000000000000001")

    async def live() -> bool:
        answer = await http.get("/api/v3/prices?symbols=aapl,xyz")
        return bool(answer.json()["prices"]) and b'"state": "live"' in answer.content

    await eventually(live)
    answer = await http.get("/api/v3/prices?symbols=aapl,xyz")
    body = answer.json()

    assert frame[:-1] in answer.content
    assert body["missing"] == ["XYZ"]
    assert body["prices"][0]["source"] == "test"
    assert body["stale"] is False
    again = await http.get(
        "/api/v3/prices?symbols=aapl,xyz",
        headers={"if-none-match": answer.headers["etag"]},
    )
    assert again.status_code == 304


async def test_a_write_is_seen_by_whoever_names_its_position(
    http: httpx.AsyncClient, writer: Writer, eventually: Eventually
) -> None:
    """Read your writes: each answer is as new as the position that was given."""
    await writer.price("AAPL", last_price="1")
    await eventually(lambda: has_positions(http))
    for number in range(2, 60):
        await writer.unconfirmed_price("AAPL", last_price=str(number))
        # The writer numbers its messages; this is the position of the last one.
        mark = PricePosition("test", writer.epoch, number).token()
        answer = await http.get(f"/api/v3/prices/AAPL?min_position={mark}")

        assert answer.status_code == 200, answer.text
        assert answer.json()["last_price"] == number

    ahead = PricePosition("test", writer.epoch, 1000).token()
    refused = await http.get(f"/api/v3/prices/AAPL?min_position={ahead}")
    assert refused.status_code == 503
    assert refused.json()["code"] == "behind"


async def test_rest_then_stream_misses_no_price(
    edge: EdgeProcess, http: httpx.AsyncClient, writer: Writer, eventually: Eventually
) -> None:
    await writer.price("AAPL", last_price="1")
    await eventually(lambda: has_positions(http))
    positions = (await http.get("/api/v3/prices")).json()["positions"]
    for number in range(2, 8):
        await writer.price("AAPL", last_price=str(number))
    async with edge.client("/api/v3/stream") as client:
        await client.send(
            op="subscribe",
            id=1,
            channel="prices",
            symbols=["AAPL"],
            mode="every",
            snapshot=False,
            since=positions,
        )
        got: list[int] = []
        recovered = None
        while len(got) < 6:
            message = await client.json()
            if message["type"] == "ack":
                recovered = message["recovered"]
            if message["type"] == "price_update":
                got.append(message["last_price"])

    assert recovered is True
    assert got == [2, 3, 4, 5, 6, 7]


async def test_rest_then_stream_then_rest_misses_no_news(
    edge: EdgeProcess, http: httpx.AsyncClient, writer: Writer, eventually: Eventually
) -> None:
    for number in range(3):
        await writer.news(str(number), f"{number}")
    await eventually(lambda: has_items(http, 3))
    page = await items(http, "limit=2")
    seen = [item["title"] for item in page["items"]]
    for number in range(3, 6):
        await writer.news(str(number), f"{number}")
    position = page["position"]
    async with edge.client("/api/v3/stream") as client:
        await client.send(op="subscribe", id=1, channel="news", since=position)
        while len(seen) < 5:
            message = await client.json()
            if message["type"] == "news":
                seen.append(message["title"])
                position = message["position"]
    for number in range(6, 9):
        await writer.news(str(number), f"{number}")
    last = parse_news_position(position)
    place: str | None = position
    while len(seen) < 8 and place is not None:
        page = await items(http, f"limit=1&since={place}")
        assert page["complete"] is True
        seen += [item["title"] for item in page["items"]]
        place = page["next"] or page["position"]

    assert seen == [str(number) for number in range(1, 9)]
    assert parse_news_position(page["position"]) > last


async def test_news_since_an_instant(
    edge: EdgeProcess, http: httpx.AsyncClient, writer: Writer, eventually: Eventually
) -> None:
    for number in range(3):
        await writer.news(str(number), f"{number}")
    await asyncio.sleep(0.05)
    between = datetime.now(UTC)
    await asyncio.sleep(0.05)
    for number in range(3, 6):
        await writer.news(str(number), f"{number}")
    await eventually(lambda: has_items(http, 6))

    async def titles(since: datetime) -> list[str]:
        page = await items(http, f"since={since.isoformat().replace('+', '%2B')}")
        assert page["complete"] is True
        return [item["title"] for item in page["items"]]

    korean = between.astimezone(tz=datetime.now().astimezone().tzinfo)
    assert await titles(between) == ["3", "4", "5"]
    assert await titles(korean) == ["3", "4", "5"]
    assert await titles(between - timedelta(days=1)) == list("012345")
    assert await titles(datetime.now(UTC)) == []


async def test_news_that_are_gone_are_told(
    nats_server: NatsProcess,
    http: httpx.AsyncClient,
    writer: Writer,
    bus: Bus,
    eventually: Eventually,
) -> None:
    start = datetime.now(UTC) - timedelta(seconds=1)
    for number in range(6):
        await writer.news(str(number), f"{number}")
    await eventually(lambda: has_items(http, 6))
    first = parse_news_position((await items(http))["items"][0]["position"])
    origin = NewsPosition(first.stream, 0).token()
    # Two items and their copies.
    await bus.nc.jetstream().purge_stream(NEWS, seq=5)
    # The first edge still has them all in memory.
    whole = await items(http, f"since={origin}")
    async with (
        run_edge(nats_server) as other,
        httpx.AsyncClient(base_url=other.url) as http,
    ):
        by_position = await items(http, f"since={origin}")
        instant = start.isoformat().replace("+", "%2B")
        by_instant = await items(http, f"since={instant}")

    assert [item["title"] for item in whole["items"]] == list("012345")
    assert whole["complete"] is True

    for page in (by_position, by_instant):
        assert [item["title"] for item in page["items"]] == list("2345")
        assert (page["complete"], page["reason"]) == (False, "expired")


async def test_positions_hold_across_edges_and_restarts(
    nats_server: NatsProcess, edge: EdgeProcess, writer: Writer, eventually: Eventually
) -> None:
    async with httpx.AsyncClient(base_url=edge.url) as http:
        for number in range(3):
            await writer.news(str(number), f"{number}")
        await eventually(lambda: has_items(http, 3))
        position = (await items(http))["position"]
    await edge.service.stop()
    await writer.news("3", "3")
    async with (
        run_edge(nats_server) as other,
        httpx.AsyncClient(base_url=other.url) as http,
    ):
        page = await items(http, f"since={position}")

    assert [item["title"] for item in page["items"]] == ["3"]
    assert page["complete"] is True


async def test_answers_while_nats_is_away_are_stale(
    edge: EdgeProcess,
    http: httpx.AsyncClient,
    writer: Writer,
    bus: Bus,
    nats_server: NatsProcess,
    eventually: Eventually,
) -> None:
    """That they end after the grace is tested with a clock of its own."""
    await writer.price("AAPL", last_price="1")
    await writer.news("1", "1")

    async def there() -> bool:
        price = await http.get("/api/v3/prices/AAPL")
        return price.status_code == 200 and len((await items(http))["items"]) == 1

    async def stale() -> bool:
        return bool((await http.get("/api/v3/status")).json()["stale"])

    await eventually(there)
    assert not await stale()
    await nats_server.stop()
    await eventually(stale)

    answers = [
        await http.get(path)
        for path in (
            "/api/v3/prices",
            "/api/v3/prices/AAPL",
            "/api/v3/news",
            "/api/v3/status",
        )
    ]

    for answer in answers:
        assert answer.status_code == 200
        assert answer.json()["stale"] is True
        assert int(answer.headers["age"]) >= 0
    assert answers[1].json()["state"] == "stale"
    await nats_server.start()
    async with asyncio.timeout(20):
        while not bus.connected:
            await asyncio.sleep(0.01)
    # The streams in memory are gone: until they are read again, nothing is certain.
    await asyncio.sleep(0.5)
    assert await stale()
    await ensure_streams(bus.nc.jetstream())

    async def fresh() -> bool:
        return not await stale()

    await eventually(fresh)
    assert "age" not in (await http.get("/api/v3/prices")).headers


async def test_every_answer_is_as_described(
    http: httpx.AsyncClient, writer: Writer, bus: Bus, eventually: Eventually
) -> None:
    await feed_status(bus, "test", "live")
    await writer.price("AAPL", last_price="1")
    await writer.news("1", "1")
    description = Description((await http.get("/openapi.json")).json())
    assert description.errors() == []
    assert description.examples() == []

    async def there() -> bool:
        feeds = (await http.get("/api/v3/status")).json()["feeds"]
        price = await http.get("/api/v3/prices/AAPL")
        return bool(feeds) and price.status_code == 200

    await eventually(there)
    await eventually(lambda: has_items(http))
    position = (await items(http))["position"]
    gets = [
        "/api/v3/prices",
        "/api/v3/prices?symbols=AAPL,XYZ",
        "/api/v3/prices?symbols=",
        "/api/v3/prices?cursor=x",
        f"/api/v3/prices?min_position={PricePosition('test', 1, 999).token()}",
        "/api/v3/prices/AAPL",
        "/api/v3/prices/XYZ",
        "/api/v3/prices/%2e%2e%2f",
        "/api/v3/prices/AAPL?min_seq=x",
        "/api/v3/news",
        f"/api/v3/news?since={position}",
        "/api/v3/news?since=x",
        f"/api/v3/news?cursor={position}",
        "/api/v3/news?cursor=x",
        "/api/v3/gaps?cursor=x",
        "/api/v3/status",
        "/api/v2/realtime/cache",
        "/api/v2/realtime/cache/AAPL",
        "/api/v2/realtime/cache/XYZ",
        "/api/v2/realtime/cache/*",
        "/api/v2/realtime/health",
        "/api/v2/realtime/status",
    ]
    for path in gets:
        description.check(await http.get(path))
        description.check(await http.head(path))
    for path in ("/api/v3/prices", "/api/v3/news", "/api/v3/status"):
        etag = (await http.get(path)).headers["etag"]
        same = await http.get(path, headers={"if-none-match": etag})
        assert same.status_code == 304
        description.check(same)
    for refused in (
        await http.get(f"/api/v3/prices?{'q' * 40_000}"),
        await http.get("/api/v3/status", headers={"x": "a" * 20_000}),
        await http.get("/api/v3/nothing"),
        await http.post("/api/v3/news"),
    ):
        assert refused.json()["status"] == refused.status_code
        assert refused.json()["code"] in PROBLEMS
        if refused.status_code in (414, 431):
            description.check(refused)
    for path in ("/api/v2/realtime/subscribe", "/api/v2/realtime/unsubscribe"):
        for body in (["AAPL"], [], ["*"], "AAPL", None):
            description.check(await http.post(path, json=body))


async def test_odd_targets_are_refused(edge: EdgeProcess) -> None:
    for target, status in (
        ("/api/v3/prices/..", 404),
        ("/api/v3/prices/%2e%2e%2f", 404),
        ("/api/v3/prices/../../openapi.json", 404),
        ("/api/v3//prices", 404),
        ("//api/v3/prices", 404),
        ("/api/v3/prices/%00", 404),
        ("/api/v3/prices/%ff", 404),
        ("/api/v3/prices?symbols=%ff", 422),
        ("/api/v3/news?since=%ff%fe", 422),
    ):
        answer = await raw(
            edge,
            f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(),
        )

        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode()), (target, head)
        if target.startswith("/api/v3/"):
            assert b"application/problem+json" in head
            assert json.loads(body)["status"] == status


async def test_a_range_is_ignored(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/v3/status", headers={"range": "bytes=0-1"})

    assert answer.status_code == 200
    assert answer.json()["feeds"] == {}


async def test_a_thousand_pipelined_requests_are_answered_in_order(
    edge: EdgeProcess,
) -> None:
    """More than the rate allows: the rest is refused, and the edge goes on."""
    request = b"GET /api/v3/prices/AAPL HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /api/v3/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    answer = await raw(edge, request * 999 + last)

    assert answer.count(b"HTTP/1.1 404 ") >= 100
    assert answer.count(b"HTTP/1.1 ") == 1000
    assert answer.count(b"HTTP/1.1 429 ") > 0


async def test_one_greedy_address_does_not_starve_another(
    nats_server: NatsProcess, bus: Bus
) -> None:
    async with (
        run_edge(nats_server, EDGE_REST_RATE="5") as edge,
        httpx.AsyncClient(base_url=edge.url) as http,
    ):
        # uvicorn trusts a proxy on this machine to tell the client's address.
        greedy = {"x-forwarded-for": "192.0.2.1"}
        codes = [
            (await http.get("/api/v3/status", headers=greedy)).status_code
            for _ in range(30)
        ]
        other = await http.get(
            "/api/v3/status", headers={"x-forwarded-for": "192.0.2.2"}
        )
        refused = await edge.service.metric(
            "feedmesh_edge_clients_refused_total", reason="rest_rate"
        )

    assert codes[:10] == [200] * 10
    assert codes.count(429) == refused > 0
    assert other.status_code == 200


async def test_a_foreign_origin_is_not_allowed(
    nats_server: NatsProcess, bus: Bus
) -> None:
    preflight = {"access-control-request-method": "GET"}
    async with (
        run_edge(nats_server, EDGE_ORIGINS="https://good.example") as edge,
        httpx.AsyncClient(base_url=edge.url) as http,
    ):
        for origin, allowed in (
            ("https://good.example", True),
            ("https://bad.example", False),
        ):
            headers = {"origin": origin}
            answer = await http.options(
                "/api/v3/prices", headers={**headers, **preflight}
            )
            assert ("access-control-allow-origin" in answer.headers) is allowed
            answer = await http.get("/api/v3/status", headers=headers)
            assert ("access-control-allow-origin" in answer.headers) is allowed
