"""The feed loop against real sockets: a scripted upstream on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from websockets.asyncio.server import ServerConnection, serve

from feedmesh.errors import FeedBusyError, FeedRefusedError
from feedmesh.ingest.dialect import Control, Opened, Reading
from feedmesh.ingest.feed import Link, LinkLimits
from feedmesh.ingest.subscriptions import Request, SubscriptionBook
from feedmesh.ingest.wire import open_wire
from feedmesh.metrics import IngestMetrics
from feedmesh.status import LinkState


Script = Callable[[ServerConnection], Awaitable[None]]


class PlainDialect:
    """Says ``+key`` and ``-key``; hears ``ok+``, ``no+``, ``hb``, ``busy`` and data."""

    link = "plain"

    def __init__(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Opened]:
        async with open_wire(self._url) as wire:
            answer = await wire.receive()
            if answer == b"refused":
                raise FeedRefusedError("unauthorized")
            yield Opened(wire, (b"early",) if answer == b"early" else ())

    def ask(self, request: Request) -> str:
        sign = "+" if request.verb == "subscribe" else "-"
        return sign + ",".join(request.keys)

    def read(self, frame: bytes) -> Reading:
        if frame == b"busy":
            raise FeedBusyError("slot_taken")
        return {
            b"ok+": Control.SUBSCRIBED,
            b"no+": Control.SUBSCRIBE_REFUSED,
            b"ok-": Control.UNSUBSCRIBED,
            b"hb": Control.HEARTBEAT,
        }.get(frame)


class Upstream:
    """Runs one script for each connection in turn, the last one again and again."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.connects: list[float] = []
        self.open = 0
        self.most_open = 0

    async def __call__(self, connection: ServerConnection) -> None:
        self.connects.append(time.monotonic())
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        try:
            await script(connection)
        finally:
            self.open -= 1


class Harness:
    """A link, the upstream it talks to, and what came of it."""

    def __init__(self, link: Link, frames: asyncio.Queue[bytes]) -> None:
        self.link = link
        self.frames = frames

    async def frame(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.frames.get()

    async def state(self, wanted: LinkState) -> None:
        async with asyncio.timeout(5):
            while self.link.status().state is not wanted:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(
    upstream: Upstream,
    *,
    limits: LinkLimits | None = None,
    pauses: Callable[[bool], Iterator[float]] | None = None,
    book: SubscriptionBook | None = None,
    owed: Callable[[], bool] = lambda: True,
) -> AsyncIterator[Harness]:
    frames: asyncio.Queue[bytes] = asyncio.Queue()

    async def handle(_: str, frame: bytes, received_ns: int) -> None:
        assert received_ns > 0
        frames.put_nowait(frame)

    async with serve(upstream, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        link = Link(
            PlainDialect(f"ws://127.0.0.1:{port}"),
            book or SubscriptionBook(),
            handle,
            IngestMetrics(CollectorRegistry(), "plain"),
            limits or LinkLimits(connects_per_minute=1000),
            pauses=pauses or (lambda slow: iter(lambda: 0.01, None)),
            owed=owed,
        )
        task = asyncio.create_task(link.run())
        try:
            yield Harness(link, frames)
        finally:
            task.cancel()
            await asyncio.wait([task])


async def login_and_wait(connection: ServerConnection) -> None:
    await connection.send("welcome")
    await connection.wait_closed()


async def one_tick(connection: ServerConnection) -> None:
    await connection.send("welcome")
    await connection.send("tick")


async def hang_up(connection: ServerConnection) -> None:
    await connection.send("welcome")


async def refuse(connection: ServerConnection) -> None:
    await connection.send("refused")
    await connection.wait_closed()


async def test_reconnects_after_every_loss() -> None:
    async with running(Upstream(one_tick)) as harness:
        for _ in range(5):
            assert await harness.frame() == b"tick"

        assert harness.link.status().reconnects >= 4


async def test_data_that_came_before_the_login_reply_is_kept() -> None:
    async def early(connection: ServerConnection) -> None:
        await connection.send("early")
        await connection.wait_closed()

    async with running(Upstream(early)) as harness:
        assert await harness.frame() == b"early"


async def test_only_data_resets_the_back_off() -> None:
    """An upstream that accepts us and hangs up is approached ever more slowly."""
    used: list[int] = []

    def pauses(_: bool) -> Iterator[float]:
        for attempt in range(1000):
            used.append(attempt)
            yield 0.0

    upstream = Upstream(hang_up, hang_up, one_tick, hang_up, login_and_wait)
    async with running(upstream, pauses=pauses) as harness:
        await harness.frame()
        async with asyncio.timeout(5):
            while len(upstream.connects) < 5:
                await asyncio.sleep(0.01)

    assert used == [0, 1, 0, 1]


async def test_a_refusal_is_told_from_a_loss_and_retried_slowly() -> None:
    asked: list[bool] = []

    def pauses(slow: bool) -> Iterator[float]:
        asked.append(slow)
        while True:
            yield 0.05

    async with running(Upstream(refuse, one_tick), pauses=pauses) as harness:
        await harness.state(LinkState.REFUSED)
        assert harness.link.status().reason == "unauthorized"
        assert await harness.frame() == b"tick"

    assert asked[0] is True


async def test_a_slot_that_is_taken_is_not_fought_for() -> None:
    async def kicked(connection: ServerConnection) -> None:
        await connection.send("welcome")
        await connection.send("busy")
        await connection.wait_closed()

    async with running(Upstream(kicked)) as harness:
        await harness.state(LinkState.BUSY)
        assert harness.link.status().reason == "slot_taken"


async def test_a_silent_link_is_given_up_and_heartbeats_keep_it() -> None:
    async def silent_then_beating(connection: ServerConnection) -> None:
        await connection.send("welcome")
        while True:
            await connection.send("hb")
            await asyncio.sleep(0.05)

    upstream = Upstream(login_and_wait, silent_then_beating)
    limits = LinkLimits(silence_seconds=0.5, connects_per_minute=1000)
    async with running(upstream, limits=limits) as harness:
        async with asyncio.timeout(5):
            while len(upstream.connects) < 2:
                await asyncio.sleep(0.01)
        await harness.state(LinkState.LIVE)
        await asyncio.sleep(1.0)

        assert len(upstream.connects) == 2
        assert harness.link.status().state is LinkState.LIVE


async def test_a_planned_renewal_opens_the_link_anew() -> None:
    upstream = Upstream(login_and_wait)
    async with running(upstream) as harness:
        await harness.state(LinkState.LIVE)
        harness.link.renew("planned")
        async with asyncio.timeout(5):
            while len(upstream.connects) < 2:
                await asyncio.sleep(0.01)
        await harness.state(LinkState.LIVE)

    assert upstream.most_open == 1


async def test_opening_is_limited_in_time() -> None:
    async def never_answers(connection: ServerConnection) -> None:
        await connection.wait_closed()

    limits = LinkLimits(open_seconds=0.2, connects_per_minute=1000)
    upstream = Upstream(never_answers)
    async with running(upstream, limits=limits) as harness:
        await harness.state(LinkState.DOWN)
        assert harness.link.status().reason == "open_timeout"


async def test_subscriptions_follow_what_is_wanted() -> None:
    said: asyncio.Queue[str] = asyncio.Queue()

    async def answers(connection: ServerConnection) -> None:
        await connection.send("welcome")
        async for text in connection:
            assert isinstance(text, str)
            said.put_nowait(text)
            await connection.send("ok" + text[0])

    async with running(Upstream(answers)) as harness:
        harness.link.want(frozenset("ab"))
        assert await said.get() == "+a,b"
        harness.link.want(frozenset("bc"))
        assert {await said.get(), await said.get()} == {"-a", "+c"}
        async with asyncio.timeout(5):
            while harness.link.status().confirmed != 2:
                await asyncio.sleep(0.01)


async def test_subscriptions_are_sent_again_after_a_reconnect() -> None:
    said: asyncio.Queue[str] = asyncio.Queue()

    async def one_answer(connection: ServerConnection) -> None:
        await connection.send("welcome")
        text = await connection.recv()
        assert isinstance(text, str)
        said.put_nowait(text)
        await connection.send("ok+")

    async with running(Upstream(one_answer)) as harness:
        harness.link.want(frozenset("ab"))
        async with asyncio.timeout(5):
            assert [await said.get() for _ in range(3)] == ["+a,b"] * 3


async def test_a_missing_acknowledgement_is_asked_for_again() -> None:
    said: asyncio.Queue[str] = asyncio.Queue()

    async def deaf(connection: ServerConnection) -> None:
        await connection.send("welcome")
        async for text in connection:
            assert isinstance(text, str)
            said.put_nowait(text)

    async with running(Upstream(deaf), book=SubscriptionBook(ack_seconds=0.2)) as it:
        it.link.want(frozenset("a"))
        async with asyncio.timeout(5):
            assert [await said.get() for _ in range(2)] == ["+a", "+a"]


async def test_a_refused_subscription_is_a_refusal() -> None:
    async def refuses(connection: ServerConnection) -> None:
        await connection.send("welcome")
        await connection.recv()
        await connection.send("no+")
        await connection.wait_closed()

    async with running(Upstream(refuses)) as harness:
        harness.link.want(frozenset("a"))
        await harness.state(LinkState.REFUSED)


async def test_never_two_connections_and_never_too_many_in_a_minute() -> None:
    upstream = Upstream(hang_up)
    limits = LinkLimits(connects_per_minute=10)
    async with running(upstream, limits=limits):
        await asyncio.sleep(1.5)

    assert len(upstream.connects) == 10
    assert upstream.most_open == 1


async def test_without_the_limit_it_would_be_too_many() -> None:
    """The negative control of the test above."""
    upstream = Upstream(hang_up)
    async with running(upstream):
        await asyncio.sleep(1.5)

    assert len(upstream.connects) > 10


@pytest.mark.parametrize(
    ("status", "headers", "state", "reason"),
    [
        (401, {}, LinkState.REFUSED, "http_401"),
        (403, {}, LinkState.REFUSED, "http_403"),
        (429, {"Retry-After": "30"}, LinkState.DOWN, "http_429"),
        (502, {}, LinkState.DOWN, "http_502"),
        (301, {"Location": "ws://127.0.0.1:1/"}, LinkState.DOWN, "http_301"),
    ],
)
async def test_a_refused_upgrade_is_mapped(
    status: int, headers: dict[str, str], state: LinkState, reason: str
) -> None:
    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = [f"HTTP/1.1 {status} No", "Content-Length: 0", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        dialect = PlainDialect(f"ws://127.0.0.1:{port}")
        with pytest.raises((FeedRefusedError, Exception)) as raised:
            async with dialect.open():
                pass

    error = raised.value
    assert getattr(error, "reason", None) == reason
    assert getattr(error, "slow", None) is (state is LinkState.REFUSED)
    if status == 429:
        assert getattr(error, "retry_after", None) == 30


async def test_leaving_loses_nothing_that_was_sent() -> None:
    """A connection that is just cancelled drops what lies unread in its buffers."""
    sent = 0

    async def firehose(connection: ServerConnection) -> None:
        nonlocal sent
        await connection.send("welcome")
        while True:
            await connection.send(str(sent))
            sent += 1
            await asyncio.sleep(0.001)

    async with running(Upstream(firehose)) as harness:
        await harness.state(LinkState.LIVE)
        await asyncio.sleep(0.2)
        await harness.link.leave(5.0)
        heard = [harness.frames.get_nowait() for _ in range(harness.frames.qsize())]

    assert heard == [str(number).encode() for number in range(sent)]


async def test_a_link_that_has_left_does_not_connect_again() -> None:
    upstream = Upstream(login_and_wait)
    async with running(upstream) as harness:
        await harness.state(LinkState.LIVE)
        await harness.link.leave(5.0)
        await asyncio.sleep(0.3)

        assert len(upstream.connects) == 1
        assert not harness.link.status().alive


async def test_silence_is_no_fault_while_nothing_is_due() -> None:
    async def beats_once(connection: ServerConnection) -> None:
        await connection.send("welcome")
        await connection.send("hb")
        await connection.wait_closed()

    upstream = Upstream(login_and_wait, beats_once)
    limits = LinkLimits(silence_seconds=0.3, connects_per_minute=1000)
    async with running(upstream, limits=limits, owed=lambda: False) as harness:
        await harness.state(LinkState.LIVE)
        await asyncio.sleep(1.0)
        assert len(upstream.connects) == 1
        harness.link.renew("planned")
        # Who has sent a heartbeat owes the next one at all times.
        async with asyncio.timeout(5):
            while len(upstream.connects) < 3:
                await asyncio.sleep(0.02)
