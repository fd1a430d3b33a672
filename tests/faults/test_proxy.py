"""That each fault of the proxy really happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from faults.proxy import FaultProxy, most_within, run_proxy


class Client:
    """A connection through the proxy to a server that sends everything back."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer

    async def echoed(self, data: bytes, seconds: float = 10.0) -> float:
        """Return how long it takes until *data* is back."""
        started = time.monotonic()
        self.writer.write(data)
        async with asyncio.timeout(seconds):
            assert await self.reader.readexactly(len(data)) == data
        return time.monotonic() - started


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with run_proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def test_without_a_fault_everything_passes(proxy: FaultProxy) -> None:
    async with connected(proxy) as client:
        await client.echoed(bytes(range(256)) * 4096)


async def test_latency_is_added_on_its_way_only(proxy: FaultProxy) -> None:
    proxy.set("down", latency=0.2)
    async with connected(proxy) as client:
        assert await client.echoed(b"x") >= 0.2
        # A wait for each chunk in turn would take a second for every five of them.
        assert await client.echoed(b"x" * 4_000_000) < 5


async def test_jitter_varies_and_keeps_the_order(proxy: FaultProxy) -> None:
    proxy.set("down", jitter=0.1)
    async with connected(proxy) as client:
        took = [await client.echoed(b"%d" % number) for number in range(10)]
    assert max(took) - min(took) > 0.01


async def test_bandwidth_is_limited(proxy: FaultProxy) -> None:
    async with connected(proxy) as client:
        proxy.set("down", bytes_per_second=20_000)
        assert await client.echoed(b"x" * 10_000) >= 0.45


class Pieces(asyncio.Protocol):
    """Keeps what came each time that something came."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)


@pytest.mark.parametrize("slice_bytes", [0, 1])
async def test_slices_arrive_one_by_one_and_whole(
    proxy: FaultProxy, slice_bytes: int
) -> None:
    """The kernel may put a few together that nobody has read yet."""
    sent = bytes(range(100))
    proxy.set("down", slice_bytes=slice_bytes)
    transport, client = await asyncio.get_running_loop().create_connection(
        Pieces, "127.0.0.1", proxy.port
    )
    transport.write(sent)
    async with asyncio.timeout(10):
        while b"".join(client.pieces) != sent:
            await asyncio.sleep(0.001)
    transport.abort()

    longest = max(len(piece) for piece in client.pieces)
    assert (longest <= 10) is bool(slice_bytes)


async def test_a_slow_trickle_can_be_ended(proxy: FaultProxy) -> None:
    async with connected(proxy) as client:
        proxy.set("down", bytes_per_second=1)
        with pytest.raises(TimeoutError):
            await client.echoed(b"hello", seconds=0.5)
        proxy.heal()
        assert await client.reader.readexactly(5) == b"hello"


async def test_a_black_hole_keeps_the_connection_and_passes_nothing(
    proxy: FaultProxy,
) -> None:
    async with connected(proxy) as client:
        await client.echoed(b"before")
        proxy.set(black_hole=True)
        with pytest.raises(TimeoutError):
            await client.echoed(b"lost", seconds=0.3)
        assert not client.reader.at_eof()
        assert proxy.open == 1
        proxy.heal()
        with pytest.raises(TimeoutError):
            await client.echoed(b"still lost", seconds=0.3)
        async with connected(proxy) as another:
            await another.echoed(b"passes")


async def test_a_reset_is_a_reset(proxy: FaultProxy) -> None:
    async with connected(proxy) as client:
        await client.echoed(b"x")
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            await client.reader.read(1)


async def test_a_close_is_not_a_reset(proxy: FaultProxy) -> None:
    async with connected(proxy) as client:
        await client.echoed(b"x")
        assert proxy.close() == 1
        assert await client.reader.read(1) == b""


@pytest.mark.parametrize("resets", [False, True])
async def test_the_limit_cuts_in_the_middle(proxy: FaultProxy, resets: bool) -> None:
    async with connected(proxy) as client:
        await client.echoed(b"before")
        proxy.set("down", limit_bytes=3, limit_resets=resets)
        client.writer.write(b"abcdef")
        if resets:
            with pytest.raises(ConnectionResetError):
                await client.reader.readexactly(4)
        else:
            assert await client.reader.read() == b"abc"


async def test_a_slow_close_is_heard_late(proxy: FaultProxy) -> None:
    proxy.set("up", slow_close=0.3)
    async with connected(proxy) as client:
        await client.echoed(b"x")
        started = time.monotonic()
        client.writer.write_eof()
        assert await client.reader.read() == b""
        assert time.monotonic() - started >= 0.3


async def test_refusing_is_a_closed_port(proxy: FaultProxy) -> None:
    port = proxy.port
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await proxy.accept()
    async with connected(proxy) as client:
        await client.echoed(b"x")
    assert proxy.port == port


async def test_connections_at_the_same_time_are_noticed(proxy: FaultProxy) -> None:
    async with connected(proxy) as client:
        await client.echoed(b"x")
        assert (proxy.open, proxy.most_open) == (1, 1)
        async with connected(proxy) as second:
            await second.echoed(b"x")
            assert (proxy.open, proxy.most_open) == (2, 2)


async def test_one_after_the_other_is_not_at_the_same_time(proxy: FaultProxy) -> None:
    for _ in range(50):
        async with connected(proxy) as client:
            await client.echoed(b"x")
            client.writer.close()

    assert len(proxy.connected_at) == 50
    assert proxy.most_open == 1


async def test_how_a_client_opens_is_known_once_it_has_gone(proxy: FaultProxy) -> None:
    async with connected(proxy) as client:
        await client.echoed(b"hello")
        await client.echoed(b"and so on")
    async with asyncio.timeout(10):
        while not proxy.opening_bytes:
            await asyncio.sleep(0.01)

    assert proxy.opening_bytes == len(b"hello")


def test_the_fullest_minute_is_found() -> None:
    assert most_within([]) == 0
    assert most_within([0, 59, 60, 61, 119, 120]) == 3
    assert most_within([0, 60, 120]) == 1
