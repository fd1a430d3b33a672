"""How an edge sends its clients away when it is asked to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise

import httpx
import pytest
from edge_harness import EdgeProcess, StreamClient, Writer, run_edge
from nats_process import NatsProcess
from raw_socket import PRICES, handshake, raw_socket, request, text_frame

from feedmesh.bus import Bus


DRAIN = 4.0
STREAM = "/api/v3/stream"
PINS = "/api/v2/realtime/subscribe"
SUBSCRIBE = text_frame('{"action": "subscribe", "symbols": ["AAPL"]}')


@asynccontextmanager
async def stopping(edge: EdgeProcess) -> AsyncIterator[asyncio.Task[int]]:
    """Ask *edge* to stop; yield what waits for its exit code."""
    task = asyncio.create_task(edge.service.stop(signal.SIGTERM))
    yield task
    assert await task == 0


async def leave(client: StreamClient) -> tuple[float, float, int | None]:
    """Return when the client was told to come back, when it was closed, and how."""
    loop = asyncio.get_running_loop()
    wait = (await client.take("going_away", 20))[-1]["reconnect_after_ms"] / 1000
    told = loop.time() + wait
    code = await client.closed(20)
    return told, loop.time(), code


async def test_clients_leave_one_after_the_other_and_know_when_to_return(
    nats_server: NatsProcess, bus: Bus
) -> None:
    count = 250
    async with (
        run_edge(nats_server, EDGE_DRAIN=f"{DRAIN}s") as edge,
        AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(edge.stream()) for _ in range(count)]
        began = asyncio.get_running_loop().time()
        async with stopping(edge):
            left = await asyncio.gather(*map(leave, clients))

    assert {code for _, _, code in left} == {4200}
    returns = sorted(told - began for told, _, _ in left)
    ends = sorted(closed - began for _, closed, _ in left)
    # Nobody leaves at once, and the last one not much after the time is over.
    assert returns[0] > 0.05
    assert DRAIN * 0.8 < returns[-1] < DRAIN + 0.5
    assert DRAIN * 0.8 < ends[-1] < DRAIN + 2
    # Evenly: whatever second one looks at, no more than its share comes back.
    assert max(after - before for before, after in pairwise(returns)) < DRAIN / 10
    for start in (0, 1, 2, 3):
        share = sum(start <= at < start + 1 for at in returns)
        assert share < 1.4 * count / DRAIN
    # Whoever is told to come at some time has been let go by then, more or less.
    assert all(closed - told < 2.0 for told, closed, _ in left)


async def test_readiness_ends_first_and_the_rest_goes_on_until_the_end(
    nats_server: NatsProcess, bus: Bus, writer: Writer
) -> None:
    await writer.price("AAPL", last_price="1")
    async with (
        run_edge(nats_server, EDGE_DRAIN=f"{DRAIN}s") as edge,
        AsyncExitStack() as stack,
        httpx.AsyncClient() as http,
    ):
        ops = await edge.service.ops()
        clients = [await stack.enter_async_context(edge.stream()) for _ in range(100)]
        assert (await http.get(f"{ops}/readyz")).status_code == 200
        half = await stack.enter_async_context(raw_socket(edge.port))
        await half.send(handshake(STREAM)[:-2])
        leaving = [asyncio.create_task(leave(client)) for client in clients]
        async with stopping(edge):
            async with asyncio.timeout(5):
                while (await http.get(f"{ops}/readyz")).status_code == 200:
                    assert not any(task.done() for task in leaving)
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            # It lives, and what it has it still gives; newcomers come later, and so
            # does whoever was at the door already.
            assert (await http.get(f"{ops}/healthz")).status_code == 200
            cached = await http.get(f"{edge.url}/api/v2/realtime/cache/AAPL")
            assert cached.status_code == 200
            async with raw_socket(edge.port) as newcomer:
                answers = await newcomer.ask(handshake(STREAM)), await half.ask("\r\n")
            for answer in answers:
                assert answer.status == 503
                assert 1 <= int(answer.headers["retry-after"]) <= 10
            await asyncio.gather(*leaving)


@pytest.mark.parametrize("nats", ["there", "away"])
async def test_who_never_reads_does_not_hold_up_the_end(
    nats_server: NatsProcess, bus: Bus, writer: Writer, nats: str
) -> None:
    async with (
        run_edge(nats_server, EDGE_DRAIN="1s", SHUTDOWN_TIMEOUT="8s") as edge,
        AsyncExitStack() as stack,
        edge.stream() as other,
    ):
        await other.ask("subscribe", channel="prices", symbols=["LAST"])
        stuck = [await stack.enter_async_context(raw_socket(edge.port)) for _ in "abcd"]
        for client in stuck:
            await client.upgrade(PRICES)
            client.stop_reading()
            await client.send(SUBSCRIBE)
        for number in range(20_000):
            await writer.unconfirmed_price("AAPL", last_price=str(number))
            if number % 100 == 0:
                await asyncio.sleep(0)
        await writer.price("LAST")
        await other.take("price_update", 20)
        if nats == "away":
            await nats_server.stop()
        began = asyncio.get_running_loop().time()
        async with stopping(edge):
            assert (await leave(other))[2] == 4200

        assert asyncio.get_running_loop().time() - began < 8


async def test_who_does_not_leave_is_left_behind(
    nats_server: NatsProcess, bus: Bus
) -> None:
    """Neither a goodbye that nobody answers nor half a request holds up the end."""
    half_a_body = request(PINS, "Content-Length: 3", method="POST") + "["
    async with (
        run_edge(nats_server, EDGE_DRAIN="1s", EDGE_HANDSHAKE="60s") as edge,
        AsyncExitStack() as stack,
    ):
        for path in (PRICES, "/ws/news", STREAM):
            client = await stack.enter_async_context(raw_socket(edge.port))
            await client.upgrade(path)
        for half in (handshake(STREAM)[:-2], half_a_body):
            client = await stack.enter_async_context(raw_socket(edge.port))
            await client.send(half)
        began = asyncio.get_running_loop().time()
        async with stopping(edge):
            pass

        # It is given 4 s more than the drain; a busy machine, some on top.
        assert asyncio.get_running_loop().time() - began < 9
