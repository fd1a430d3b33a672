"""State without gaps, demand, slow clients: the edge against a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from edge_harness import Client, EdgeProcess, Writer, run_edge
from nats.js.api import StreamSource, SubjectTransform
from nats_process import NatsProcess, until_back
from processes import run_service

from feedmesh.bus import Bus
from feedmesh.demand import DemandListener
from feedmesh.streams import PRICES, definitions


Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


async def cached(edge: EdgeProcess, symbol: str) -> Any:
    async with httpx.AsyncClient(base_url=edge.url) as http:
        answer = await http.get(f"/api/v2/realtime/cache/{symbol}")
        return answer.json() if answer.status_code == 200 else None


async def test_the_cache_is_warm_before_clients_are_served(
    nats_server: NatsProcess, bus: Bus, writer: Writer
) -> None:
    for number in range(3000):
        await writer.price(f"S{number}", last_price=str(number + 1))

    async with run_edge(nats_server) as edge:
        assert (await cached(edge, "S2999"))["last_price"] == 3000
        assert (await cached(edge, "S0"))["last_price"] == 1


async def test_a_value_that_only_the_stream_has_is_found_by_the_sweep(
    edge: EdgeProcess, writer: Writer, bus: Bus, eventually: Eventually
) -> None:
    """As if its live message had been lost: a stream fed from elsewhere is silent."""
    js = bus.nc.jetstream()
    await js.delete_stream(PRICES)
    await js.add_stream(name="ELSEWHERE", subjects=["elsewhere.>"])
    config = next(c for c in definitions() if c.name == PRICES)
    config.subjects = None
    config.sources = [
        StreamSource(
            name="ELSEWHERE",
            subject_transforms=[
                SubjectTransform(src="elsewhere.>", dest="prices.us.>")
            ],
        )
    ]
    await js.add_stream(config)
    async with edge.prices() as client:
        await client.subscribe("AAPL")
        _, payload = writer.message("AAPL", last_price="2")
        await bus.request("elsewhere.AAPL", payload)

        assert (await client.json())["last_price"] == 2
        assert await edge.service.metric("feedmesh_edge_sweep_healed_total") == 1


async def test_an_older_writer_is_dropped(edge: EdgeProcess, writer: Writer) -> None:
    async with edge.prices() as client:
        await client.subscribe("AAPL")
        writer.epoch = 10
        await writer.price("AAPL", last_price="10")
        assert (await client.json())["last_price"] == 10
        writer.epoch = 9
        await writer.price("AAPL", last_price="9")
        writer.epoch = 11
        await writer.price("AAPL", last_price="11")

        assert (await client.json())["last_price"] == 11


async def test_prices_resume_when_nats_restarts(
    edge: EdgeProcess, writer: Writer, bus: Bus, nats_server: NatsProcess
) -> None:
    async with edge.prices() as client:
        await client.subscribe("AAPL")
        await writer.price("AAPL", last_price="1")
        await client.json()
        await nats_server.stop()
        await nats_server.start()
        await until_back(bus)
        await writer.price("AAPL", last_price="2")

        assert (await client.json())["last_price"] == 2


async def test_garbage_on_the_bus_is_counted_and_hurts_nobody(
    edge: EdgeProcess, writer: Writer, bus: Bus
) -> None:
    async with edge.prices() as client:
        await client.subscribe("AAPL")
        for garbage in (b"", b"{}", b"\xff", b'{"v":2,"frame":{}}', b"[1]"):
            await bus.publish("prices.us.AAPL", garbage)
        await bus.publish("prices.us.BAD=ZZ", b"{}")
        await bus.publish("prices.too.many.tokens", b"{}")
        await writer.price("AAPL", last_price="1")

        assert (await client.json())["last_price"] == 1
        counted = await edge.service.metric("feedmesh_edge_messages_unreadable_total")
        assert counted >= 7


async def test_demand_of_two_edges_is_one_and_ends_after_the_grace(
    nats_server: NatsProcess, bus: Bus, eventually: Eventually
) -> None:
    seen: list[frozenset[str]] = []
    listener = DemandListener(bus, ["MSFT"], 0.5, seen.append)
    task = asyncio.create_task(listener.run())

    async def wants(*symbols: str) -> None:
        async def so() -> bool:
            return bool(seen) and seen[-1] == frozenset(symbols)

        await eventually(so)

    async with run_edge(nats_server) as one, run_edge(nats_server) as two:
        async with one.prices() as first, two.prices() as second:
            await first.subscribe("AAPL", "TSLA")
            await second.subscribe("AAPL", "NVDA")
            await wants("AAPL", "TSLA", "NVDA", "MSFT")
            await first.send(action="unsubscribe", symbols=["AAPL"])
            await second.send(action="unsubscribe", symbols=["NVDA"])
            await wants("AAPL", "TSLA", "MSFT")
        await wants("MSFT")
    task.cancel()


@pytest.mark.parametrize("holds", [True, False])
async def test_what_is_wanted_stays_so_while_nobody_can_say(
    nats_server: NatsProcess,
    bus: Bus,
    monkeypatch: pytest.MonkeyPatch,
    *,
    holds: bool,
) -> None:
    """Or an outage of NATS would end subscriptions upstream; the control shows it."""
    monkeypatch.setattr("feedmesh.demand._SILENCE_SECONDS", 2.0)
    if not holds:
        monkeypatch.setattr("feedmesh.demand.DemandBook.hold", lambda self, now: None)
    seen: list[frozenset[str]] = []
    task = asyncio.create_task(DemandListener(bus, [], 0.5, seen.append).run())
    try:
        async with asyncio.timeout(20):
            while frozenset({"AAPL"}) not in seen:
                payload = b'{"v":1,"who":"test","symbols":["AAPL"]}'
                await bus.publish("demand.test", payload)
                await asyncio.sleep(0.1)
        seen.clear()
        await nats_server.stop()
        await asyncio.sleep(10)
        await nats_server.start()
        await until_back(bus)
        looks = len(seen)
        async with asyncio.timeout(20):
            while len(seen) <= looks:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()

    assert all(wanted == {"AAPL"} for wanted in seen) is holds


async def test_a_pinned_symbol_stays_wanted_without_clients(
    nats_server: NatsProcess, bus: Bus, eventually: Eventually
) -> None:
    seen: list[frozenset[str]] = []
    task = asyncio.create_task(DemandListener(bus, [], 0.1, seen.append).run())

    async def wanted() -> bool:
        return bool(seen) and seen[-1] == {"AAPL", "MSFT"}

    async def unwanted() -> bool:
        return bool(seen) and seen[-1] == {"MSFT"}

    path = "/api/v2/realtime"
    async with run_edge(nats_server) as one, httpx.AsyncClient() as http:
        answer = await http.post(f"{one.url}{path}/subscribe", json=["aapl", "MSFT"])
        assert answer.status_code == 200
        await eventually(wanted)
        status = (await http.get(f"{one.url}{path}/status")).json()
        assert status["symbols"] == ["AAPL", "MSFT"]
    # Any other edge can take the pin back, even after the first is gone.
    async with run_edge(nats_server) as two, httpx.AsyncClient() as http:
        await eventually(wanted)
        await http.post(f"{two.url}{path}/unsubscribe", json=["AAPL"])
        await eventually(unwanted)
    task.cancel()


async def received_until(client: Client, last: int) -> list[int]:
    """Return the last prices that *client* gets, up to *last*."""
    received = [0]
    async with asyncio.timeout(20):
        while received[-1] != last:
            received.append((await client.json())["last_price"])
    return received[1:]


async def test_a_client_that_does_not_read_gets_the_newest_and_costs_little(
    edge: EdgeProcess, writer: Writer, eventually: Eventually
) -> None:
    updates = 30_000
    async with edge.prices() as slow, edge.prices() as quick:
        await slow.subscribe("AAPL")
        await quick.subscribe("AAPL")
        slow.connection.transport.pause_reading()
        reading = asyncio.create_task(received_until(quick, updates))
        for number in range(1, updates + 1):
            await writer.unconfirmed_price("AAPL", last_price=str(number))
            if number % 100 == 0:
                await asyncio.sleep(0)
        quickly = await reading
        slow.connection.transport.resume_reading()
        slowly = await received_until(slow, updates)

        async def all_accounted_for() -> bool:
            conflated = await edge.service.metric("feedmesh_edge_conflated_total")
            # On a busy machine the quick one may be behind at times as well.
            return len(quickly) + len(slowly) + conflated == 2 * updates

        await eventually(all_accounted_for)

    assert len(slowly) < len(quickly)
    assert quickly == sorted(set(quickly))
    assert slowly == sorted(set(slowly))


async def test_a_client_that_never_reads_is_closed(
    nats_server: NatsProcess, bus: Bus, writer: Writer, eventually: Eventually
) -> None:
    async with (
        run_edge(nats_server, EDGE_STUCK="1s") as edge,
        edge.prices() as slow,
    ):
        await slow.subscribe("AAPL")
        slow.connection.transport.pause_reading()

        async def evicted() -> bool:
            for number in range(3000):
                await writer.unconfirmed_price("AAPL", last_price=str(number + 1))
            return await edge.service.metric("feedmesh_edge_evicted_total") == 1

        await eventually(evicted)

        async def gone() -> bool:
            return await edge.service.metric("feedmesh_edge_clients") == 0

        await eventually(gone)
        # It would wait 10 s for a close that it does not read.
        slow.connection.transport.abort()


async def test_a_client_that_asks_and_never_reads_is_not_answered_for_ever(
    edge: EdgeProcess, writer: Writer
) -> None:
    """Its replies are bounded: the edge stops taking its requests."""
    async with edge.prices() as greedy, edge.prices() as other:
        greedy.connection.transport.pause_reading()

        async def ask_for_ever() -> None:
            while True:
                await greedy.connection.send("[]")

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask_for_ever(), 3)
        await other.subscribe("AAPL")
        await writer.price("AAPL", last_price="1")

        assert (await other.json())["last_price"] == 1
        errors = "feedmesh_edge_request_errors_total"
        before = await edge.service.metric(errors)
        await asyncio.sleep(0.5)
        assert await edge.service.metric(errors) == before
        greedy.connection.transport.abort()


async def test_too_many_clients_are_told_to_come_later(
    nats_server: NatsProcess, bus: Bus
) -> None:
    async with run_edge(nats_server, EDGE_MAX_CLIENTS="1") as edge:
        headers = {
            "connection": "upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        async with edge.news(), httpx.AsyncClient() as http:
            answer = await http.get(f"{edge.url}/ws/news", headers=headers)

    assert answer.status_code == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 10


async def test_a_page_of_a_foreign_origin_is_refused(
    nats_server: NatsProcess, bus: Bus
) -> None:
    async with run_edge(nats_server, EDGE_ORIGINS="https://example.org") as edge:
        codes = []
        for origin in ("https://evil.example", "null", "https://example.org", edge.url):
            headers = {
                "connection": "upgrade",
                "upgrade": "websocket",
                "sec-websocket-version": "13",
                "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
                "origin": origin,
            }
            async with (
                httpx.AsyncClient() as http,
                http.stream("GET", f"{edge.url}/ws/news", headers=headers) as answer,
            ):
                codes.append(answer.status_code)

    assert codes == [403, 403, 101, 101]


async def test_the_edge_waits_for_nats_and_can_be_stopped_meanwhile(
    nats_server: NatsProcess,
) -> None:
    await nats_server.stop()
    env = {"NATS_URL": nats_server.url, "EDGE_PORT": "0", "OPS_PORT": "0"}
    async with run_service("edge", env) as service:
        async with httpx.AsyncClient() as http:
            ops = await service.ops()
            assert (await http.get(f"{ops}/healthz")).status_code == 200
            ready = await http.get(f"{ops}/readyz")
        assert ready.status_code == 503
        assert ready.json()["failures"]
        assert await service.stop() == 0
