"""Clients of protocol v3 that read slowly, late or never, at real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from edge_harness import EdgeProcess, StreamClient, Writer, edge_env, run_edge
from nats_process import NatsProcess
from processes import run_service
from raw_socket import Frame, RawSocket, client_frame, raw_socket, text_frame
from websockets.asyncio.client import connect

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.gaps import FeedGap, encode_gap
from feedmesh.messages import encode


Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]

SYMBOLS = [f"S{number}" for number in range(20)]
# What the kernel holds for a client that does not read depends on its side, too.
RECEIVE_BUFFER = 32 * 1024
KIB = 1024
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class SlowClient(StreamClient):
    """A client that can stop reading."""

    def stop_reading(self) -> None:
        self.connection.transport.pause_reading()

    def read_on(self) -> None:
        self.connection.transport.resume_reading()

    async def subscribe(self, *symbols: str, **fields: Any) -> None:
        await self.ask(
            "subscribe",
            "snapshot_end",
            channel="prices",
            symbols=list(symbols),
            **fields,
        )


@asynccontextmanager
async def slow_client(edge: EdgeProcess, query: str = "") -> AsyncIterator[SlowClient]:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", edge.port))
    url = f"ws://127.0.0.1:{edge.port}/api/v3/stream{query}"
    async with connect(
        url, sock=sock, compression=None, close_timeout=0.5
    ) as connection:
        client = SlowClient(connection)
        client.hello = (await client.take("hello"))[-1]
        yield client


@asynccontextmanager
async def unguarded_edge(
    server: NatsProcess, guard: str, **more: str
) -> AsyncIterator[EdgeProcess]:
    """Run an edge without one of its guards; see `unguarded_edge`."""
    folder = str(Path(__file__).parents[2])
    env = edge_env(server, PYTHONPATH=folder, **more)
    async with run_service("unguarded_edge", env, guard) as service:
        port = (await service.event("clients are served"))["port"]
        yield EdgeProcess(service, port)


class Market:
    """Publishes rounds of updates, one of each symbol, and knows when they are out."""

    def __init__(self, edge: EdgeProcess, writer: Writer) -> None:
        self._edge = edge
        self._writer = writer
        self.rounds = 0

    async def known(self, *symbols: str) -> None:
        """Have the edge know all of the feed up to its position."""
        await self.move(1, *symbols)
        async with self._edge.stream() as client, asyncio.timeout(10):
            while True:
                *_, end = await client.ask(
                    "subscribe",
                    "snapshot_end",
                    channel="prices",
                    symbols=list(symbols),
                    snapshot=False,
                )
                if end["positions"].get("prices"):
                    return
                await asyncio.sleep(0.1)

    async def move(self, rounds: int, *symbols: str) -> None:
        """Publish; return when the edge has handed out the last update."""
        async with self._edge.stream() as witness:
            await witness.ask("subscribe", channel="prices", symbols=[symbols[-1]])
            for _ in range(rounds):
                self.rounds += 1
                for symbol in symbols:
                    await self._writer.unconfirmed_price(
                        symbol, last_price=str(self.rounds)
                    )
                await asyncio.sleep(0)
            async with asyncio.timeout(30):
                while True:
                    message = await witness.next(30)
                    if message.get("last_price") == self.rounds:
                        return


@pytest.fixture
def market(edge: EdgeProcess, writer: Writer) -> Market:
    return Market(edge, writer)


def by_symbol(heard: list[dict[str, Any]]) -> dict[str, list[int]]:
    prices: dict[str, list[int]] = {}
    for message in heard:
        if message["type"] == "price_update":
            prices.setdefault(message["symbol"], []).append(message["last_price"])
    return prices


# -- prices ----------------------------------------------------------------------------


async def test_the_latest_values_conflate_as_the_socket_takes_them(
    edge: EdgeProcess, market: Market
) -> None:
    rounds = 400
    async with slow_client(edge) as slow:
        await slow.subscribe(*SYMBOLS)
        slow.stop_reading()
        await market.move(rounds, *SYMBOLS)
        slow.read_on()
        *heard, beat = await slow.take("heartbeat", seconds=20)

    prices = by_symbol(heard)
    count = sum(len(numbers) for numbers in prices.values())
    assert count < rounds * len(SYMBOLS) / 2
    assert beat["conflated"] + count == rounds * len(SYMBOLS)
    for symbol in SYMBOLS:
        assert prices[symbol] == sorted(set(prices[symbol]))
        assert prices[symbol][-1] == rounds
    # Whoever wants the latest has missed nothing.
    assert not [message for message in heard if message["type"] == "gap"]


async def test_a_value_that_waits_for_its_pace_is_not_lost_by_a_full_socket(
    edge: EdgeProcess, market: Market
) -> None:
    async with slow_client(edge) as slow:
        await slow.subscribe("CALM", max_rate_hz=1)
        await slow.subscribe("LOUD", mode="every")
        await market.move(1, "CALM")
        await slow.take("price_update")
        slow.stop_reading()
        # It waits for up to a second; meanwhile the other symbol fills the socket.
        await market.move(1, "CALM", "LOUD")
        await market.move(4000, "LOUD")
        await asyncio.sleep(1.0)
        slow.read_on()
        heard = await slow.ask("ping", "pong")

    assert by_symbol(heard)["CALM"][-1] == 2


async def test_who_wants_every_update_is_told_exactly_what_it_missed(
    edge: EdgeProcess, market: Market
) -> None:
    rounds = 400
    wanted, other = SYMBOLS[:10], SYMBOLS[10:]
    async with slow_client(edge) as slow:
        await market.known(*SYMBOLS)
        await slow.subscribe(*wanted, mode="every", snapshot=False)
        slow.stop_reading()
        await market.move(rounds, *wanted, *other)
        slow.read_on()
        heard = await slow.take("heartbeat", seconds=20)
        gaps = [message for message in heard if message["type"] == "gap"]

        assert gaps
        prices = by_symbol(heard)
        count = sum(len(numbers) for numbers in prices.values())
        missed = sum(gap["missed"] for gap in gaps)
        assert count + missed == rounds * len(wanted)
        assert heard[-1]["conflated"] == missed
        at = 0
        for gap in gaps:
            assert (gap["channel"], gap["reason"]) == ("prices", "slow_client")
            assert gap["feed"] == "test"
            assert set(gap["symbols"]) <= set(wanted)
            at = heard.index(gap, at)
            positions = [m["position"] for m in heard[:at] if "position" in m]
            after, to = (int(gap[end].split(".")[2]) for end in ("after", "to"))
            # All that was sent before lies before the gap, and the rest behind it.
            assert max(int(token.split(".")[2]) for token in positions) <= after < to
        assert all(numbers[-1] == rounds + 1 for numbers in prices.values())

        # The gap can be filled, as long as the edge remembers.
        ack, *refill, _ = await slow.ask(
            "subscribe",
            "snapshot_end",
            channel="prices",
            symbols=wanted,
            mode="every",
            since=[gaps[0]["after"]],
        )

    assert ack["recovered"] is True
    whole = by_symbol(heard[: heard.index(gaps[0])] + refill)
    assert all(whole[symbol] == list(range(2, rounds + 2)) for symbol in wanted)


async def test_what_is_lost_on_the_way_to_a_slow_client_is_told_later(
    edge: EdgeProcess, market: Market, writer: Writer
) -> None:
    async with slow_client(edge) as slow, edge.stream() as quick:
        await market.known("LOUD")
        for client in (slow, quick):
            await client.ask(
                *("subscribe", "snapshot_end"),
                channel="prices",
                symbols=["LOUD"],
                mode="every",
                snapshot=False,
            )
        slow.stop_reading()
        await market.move(4000, "LOUD")
        writer.head("price")  # a number that never arrives
        await market.move(1, "LOUD")
        assert (await quick.take("gap"))[-1]["reason"] == "lost_on_the_way"
        slow.read_on()
        heard = await slow.ask("ping", "pong")

    reasons = [message["reason"] for message in heard if message["type"] == "gap"]
    assert "lost_on_the_way" in reasons


async def test_the_ends_of_gaps_reach_whoever_reads_late(
    edge: EdgeProcess, market: Market, bus: Bus, writer: Writer
) -> None:
    """Both of one that was told as open, and of one that began and ended meanwhile."""

    async def tell(name: str, *, ended: bool) -> FeedGap:
        gap = FeedGap(
            id=f"ls.news.{name}",
            feed="ls",
            link="news",
            since="2026-07-15T09:00:00.000000Z",
            until="2026-07-15T09:05:00.000000Z" if ended else None,
            reason="dropped",
        )
        payload = encode(writer.head("gap"), encode_gap(gap))
        await bus.request(subjects.gaps("ls"), payload)
        return gap

    async with slow_client(edge) as slow, edge.stream() as quick:
        for client in (slow, quick):
            await client.ask("subscribe", channel="status")
        await tell("1", ended=False)
        await slow.take("feed_gap")
        await slow.subscribe("LOUD", mode="every")
        slow.stop_reading()
        await market.move(4000, "LOUD")
        told = [await tell("1", ended=True)]
        await tell("2", ended=False)
        told.append(await tell("2", ended=True))
        while (await quick.take("feed_gap"))[-1] != msgspec.to_builtins(told[-1]):
            pass
        slow.read_on()
        heard = await slow.ask("ping", "pong")

    gaps = [message for message in heard if message["type"] == "feed_gap"]
    assert gaps == [msgspec.to_builtins(gap) for gap in told]


async def test_unsubscribing_while_slow(edge: EdgeProcess, market: Market) -> None:
    async with slow_client(edge) as slow:
        await slow.subscribe(*SYMBOLS, mode="every")
        slow.stop_reading()
        await market.move(200, *SYMBOLS, "NEW")
        await slow.send(op="unsubscribe", channel="prices", symbols=SYMBOLS, id=1)
        await slow.send(op="subscribe", channel="prices", symbols=["NEW"], id=2)
        slow.read_on()
        while (ack := (await slow.take("ack", 20))[-1])["id"] != 1:
            pass
        assert ack["accepted"] == SYMBOLS
        *_, end = await slow.take("snapshot_end")
        assert end["id"] == 2
        await market.move(1, *SYMBOLS, "NEW")

        (update,) = await slow.take("price_update")
        assert (update["symbol"], update["last_price"]) == ("NEW", 201)
        await slow.silent()


async def test_a_slow_client_with_arrays(edge: EdgeProcess, market: Market) -> None:
    async with slow_client(edge, "?frames=object") as witness:
        await witness.subscribe(*SYMBOLS)
    url = f"ws://127.0.0.1:{edge.port}/api/v3/stream?frames=array"
    async with connect(url, compression=None) as connection:
        request = {"op": "subscribe", "channel": "prices", "symbols": SYMBOLS}
        await connection.send(json.dumps(request))
        connection.transport.pause_reading()
        rounds = 1500
        await market.move(rounds, *SYMBOLS)
        connection.transport.resume_reading()
        newest: dict[str, int] = {}
        async with asyncio.timeout(20):
            while [*newest.values()] != [rounds] * len(SYMBOLS):
                for message in json.loads(await connection.recv()):
                    if message["type"] == "price_update":
                        assert newest.get(message["symbol"], 0) < message["last_price"]
                        newest[message["symbol"]] = message["last_price"]


# -- news ------------------------------------------------------------------------------


async def test_a_slow_reader_of_news_loses_none(
    edge: EdgeProcess, writer: Writer
) -> None:
    """It lags by more than is in memory, so what it gets comes from the stream."""
    count = 5000
    async with slow_client(edge) as slow, edge.stream() as quick:
        for client in (slow, quick):
            await client.ask("subscribe", "snapshot_end", channel="news")
        slow.stop_reading()
        for first in range(0, count, 200):
            # The order within a handful does not matter: it is the same for both.
            keys = [str(number) for number in range(first, first + 200)]
            await asyncio.gather(*(writer.news(key, key) for key in keys))
        quickly = [(await quick.take("news"))[-1]["title"] for _ in range(count)]
        slow.read_on()
        slowly: list[str] = []
        while len(slowly) < count:
            *others, news = await slow.take("news", 20)
            assert "gap" not in {message["type"] for message in others}
            slowly.append(news["title"])

    assert slowly == quickly
    assert sorted(slowly, key=int) == [str(number) for number in range(count)]


# -- what one costs, and its end -------------------------------------------------------


def resident_bytes(edge: EdgeProcess) -> int:
    status = Path(f"/proc/{edge.service.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * KIB


def kernel_bytes(edge: EdgeProcess, client: SlowClient) -> int | None:
    """Return how much the kernel holds for *client* on our side; None if it is gone."""
    own = client.connection.local_address[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues, *_ = line.split()
        ports = [int(end.split(":")[1], 16) for end in (local, remote)]
        if ports == [edge.port, own] and state == "01":
            return int(queues.split(":")[0], 16)
    return None


async def cost(edge: EdgeProcess, writer: Writer, clients: int) -> tuple[float, int]:
    """Return what one that never reads costs: of the edge's memory, of the kernel's."""
    market = Market(edge, writer)
    # What a flood costs in any case is not the clients' doing.
    for _ in range(2):
        await market.move(1000, *SYMBOLS)
    async with AsyncExitStack() as stack:
        before = resident_bytes(edge)
        slow = []
        for _ in range(clients):
            client = await stack.enter_async_context(slow_client(edge))
            await client.subscribe(*SYMBOLS, mode="every")
            await client.ask("subscribe", "snapshot_end", channel="news")
            client.stop_reading()
            slow.append(client)
        await market.move(1000, *SYMBOLS)
        each = (resident_bytes(edge) - before) / clients
        kernel = max(kernel_bytes(edge, client) or 0 for client in slow)
        for client in slow:
            client.connection.transport.abort()
    return each, kernel


@linux_only
async def test_one_that_never_reads_costs_a_bounded_amount(
    nats_server: NatsProcess, bus: Bus, writer: Writer
) -> None:
    async with run_edge(nats_server, EDGE_HISTORY="1000") as edge:
        memory, kernel = await cost(edge, writer, clients=60)

    # What one pass brings may come on top of what counts as slow.
    assert memory < 800 * KIB
    # The kernel takes twice what is asked for, and the last write on top.
    assert kernel < 3 * 128 * KIB


@linux_only
@pytest.mark.parametrize("guard", ["flow", "send_buffer"])
async def test_without_the_guard_it_costs_more(
    nats_server: NatsProcess, bus: Bus, writer: Writer, guard: str
) -> None:
    async with unguarded_edge(nats_server, guard, EDGE_HISTORY="1000") as edge:
        memory, kernel = await cost(edge, writer, clients=10)

    if guard == "flow":
        assert memory > 2000 * KIB
    else:
        assert kernel > 4 * 128 * KIB


@linux_only
async def test_one_that_asks_and_never_reads_is_bounded_too(
    edge: EdgeProcess, writer: Writer, market: Market
) -> None:
    """A request of 10 KB has an answer of 300 KB, and a read brings many requests."""
    symbols = [f"SYMBOL{number}" for number in range(1000)]
    await market.move(1, *symbols)
    request = {"op": "subscribe", "channel": "prices", "symbols": symbols}
    async with edge.stream() as other:
        await other.send(**request)
        await other.take("snapshot_end")
        before = resident_bytes(edge)
        async with raw_socket(edge.port) as greedy:
            await greedy.upgrade("/api/v3/stream")
            greedy.stop_reading()
            asking = asyncio.create_task(
                greedy.send(text_frame(json.dumps(request)) * 90)
            )
            await asyncio.sleep(1.0)
            await other.ask("ping", "pong")
            grown = resident_bytes(edge) - before
            asking.cancel()

    assert grown < 2000 * KIB


async def test_one_that_never_reads_is_closed_with_4108(
    nats_server: NatsProcess, bus: Bus, writer: Writer, eventually: Eventually
) -> None:
    async with (
        run_edge(nats_server, EDGE_STUCK="1s") as edge,
        edge.stream() as other,
        slow_client(edge) as late,
        slow_client(edge) as never,
    ):
        market = Market(edge, writer)
        for client in (late, never):
            await client.subscribe(*SYMBOLS, mode="every")
            client.stop_reading()
        await market.move(150, *SYMBOLS)

        async def evicted() -> bool:
            return await edge.service.metric("feedmesh_edge_evicted_total") == 2

        await eventually(evicted)
        # The close frame waits for a moment behind what was not read.
        late.read_on()
        assert await late.closed(20) == 4108

        async def gone() -> bool:
            return kernel_bytes(edge, never) is None

        await eventually(gone)
        assert await edge.service.metric("feedmesh_edge_clients") == 1
        await other.ask("ping", "pong")


async def test_one_that_reads_again_in_time_stays(
    nats_server: NatsProcess, bus: Bus, writer: Writer
) -> None:
    async with run_edge(nats_server, EDGE_STUCK="3s") as edge, slow_client(edge) as it:
        market = Market(edge, writer)
        await it.subscribe(*SYMBOLS, mode="every")
        for _ in range(3):
            it.stop_reading()
            await market.move(150, *SYMBOLS)
            await asyncio.sleep(1.0)
            it.read_on()
            await it.ask("ping", "pong")

        assert await edge.service.metric("feedmesh_edge_evicted_total") == 0


# -- pings -----------------------------------------------------------------------------


async def control_frame(client: RawSocket) -> Frame:
    """Return the next frame that is no message."""
    while (frame := await client.frame()).opcode == 1:
        pass
    return frame


async def test_one_that_answers_no_ping_is_closed(
    nats_server: NatsProcess, bus: Bus
) -> None:
    async with (
        run_edge(nats_server, EDGE_PING="2s") as edge,
        edge.stream() as answering,
        raw_socket(edge.port) as silent,
        raw_socket(edge.port) as chatting,
    ):
        await silent.upgrade("/api/v3/stream")
        # Words are no answer to a ping.
        await chatting.upgrade("/api/v3/stream")
        for client in (silent, chatting):
            assert (await control_frame(client)).opcode == 9
        await chatting.send(text_frame('{"op":"ping"}'))
        for client in (silent, chatting):
            assert (await control_frame(client)).code == 1011
            assert await client.end() == b""
        await answering.ask("ping", "pong")


async def test_pings_of_a_client_are_answered(edge: EdgeProcess) -> None:
    async with raw_socket(edge.port) as client:
        await client.upgrade("/api/v3/stream")
        await client.frame()
        await client.send(client_frame(9, b"there?"))

        assert (await client.frame()) == (10, b"there?")


async def test_a_slow_client_has_longer_for_its_answer(
    nats_server: NatsProcess, bus: Bus, writer: Writer
) -> None:
    """Nothing is heard from it, its pong neither, until it has read."""
    async with (
        run_edge(nats_server, EDGE_PING="2s") as edge,
        slow_client(edge) as slow,
    ):
        market = Market(edge, writer)
        await slow.subscribe(*SYMBOLS, mode="every")
        slow.stop_reading()
        await market.move(150, *SYMBOLS)
        await asyncio.sleep(5.0)
        slow.read_on()

        await slow.ask("ping", "pong")
        await asyncio.sleep(1.0)
        await slow.ask("ping", "pong")
