"""Lanes through nats-py, against a real nats-server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

import pytest
from faults.proxy import run_proxy
from nats.aio.msg import Msg
from nats_process import NatsProcess, open_bus

from feedmesh.bus import Bus, connect_bus
from feedmesh.fast_lane import LaneMessage
from feedmesh.settings import ServiceSettings


Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


class Heard:
    """A lane that keeps what it is handed."""

    def __init__(self) -> None:
        self.messages: list[LaneMessage] = []

    def __call__(self, messages: Sequence[LaneMessage]) -> None:
        self.messages += messages

    @property
    def payloads(self) -> list[bytes]:
        return [message[1] for message in self.messages]


def is_back(bus: Bus, times: int) -> bool:
    return bus.connected and bus.state.reconnects >= times


@pytest.fixture
async def sender(nats_server: NatsProcess) -> AsyncIterator[Bus]:
    """A second connection, which publishes."""
    async with open_bus(nats_server, "sender") as bus:
        yield bus


@pytest.fixture
def eventually() -> Eventually:
    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)

    return wait


def payloads(sizes: Sequence[int]) -> list[bytes]:
    """Return bytes of *sizes*, full of what means something to a parser."""
    dice = random.Random(1)
    words = (
        b"\r\n",
        b"MSG lane.x 1 5\r\n",
        b"PING\r\n",
        b"-ERR 'x'\r\n",
        b"\0",
        b"abc",
    )
    made = []
    for size in sizes:
        text = b"".join(dice.choice(words) for _ in range(size // 2 + 1))
        made.append(text[:size])
    return made


async def test_messages_of_every_size_come_whole_and_in_order(
    bus: Bus, sender: Bus
) -> None:
    sent = payloads([*range(300), 4095, 4096, 32_768, 65_536, 0, 1_000_000, 1, 2**20])
    heard = Heard()
    await bus.nc.open_lane("lane.>", heard)
    await bus.flush()
    for number, payload in enumerate(sent):
        await sender.publish(f"lane.{number}", payload)
    await sender.flush()
    await bus.flush()

    assert heard.payloads == sent
    subjects = [message[0] for message in heard.messages]
    assert subjects == [f"lane.{number}".encode() for number in range(len(sent))]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
async def test_it_does_not_matter_where_reads_are_cut(
    nats_server: NatsProcess, sender: Bus, eventually: Eventually, size: int
) -> None:
    sent = payloads([0, 1, 2, 10, 100, 3, 500])
    heard = Heard()
    beside: list[bytes] = []

    async def ordinary(message: Msg) -> None:
        beside.append(message.data)

    async with run_proxy(nats_server.port) as proxy:
        settings = ServiceSettings(nats_url=(f"nats://127.0.0.1:{proxy.port}",))
        async with connect_bus(settings, "cut") as bus:
            await bus.nc.open_lane("lane", heard)
            await bus.nc.subscribe("beside", cb=ordinary)
            await bus.flush()
            proxy.set("down", slice_bytes=size)
            for payload in sent:
                await sender.nc.publish("lane", payload)
                await sender.nc.publish("beside", payload, headers={"A": "1"})
                await sender.nc.publish("lane", payload, headers={"A": "b", "C": ""})
            await sender.flush()
            await bus.flush()
            await eventually(lambda: len(beside) == len(sent))

    assert heard.payloads == [payload for payload in sent for _ in "12"]
    assert beside == sent


async def test_headers_are_kept_from_the_payload(bus: Bus, sender: Bus) -> None:
    heard = Heard()
    await bus.nc.open_lane("lane", heard)
    await bus.flush()
    for headers in ({"Nats-Msg-Id": "x"}, None, {"A": "1", "B": "2"}):
        await sender.nc.publish("lane", b"payload", headers=headers)
        await sender.nc.publish("lane", b"", "reply.to", headers)
    await sender.flush()
    await bus.flush()

    assert heard.payloads == [b"payload", b""] * 3
    assert [message[2] for message in heard.messages] == [
        *[b"NATS/1.0\r\nNats-Msg-Id: x\r\n\r\n"] * 2,
        *[b""] * 2,
        *[b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n"] * 2,
    ]


async def test_everything_beside_a_lane_goes_on(
    bus: Bus, sender: Bus, eventually: Eventually
) -> None:
    one, two, beside = Heard(), Heard(), []

    async def ordinary(message: Msg) -> None:
        beside.append(message.data)

    async def answer(message: Msg) -> None:
        await message.respond(message.data)

    await bus.nc.open_lane("lane.one", one)
    await bus.nc.open_lane("lane.*", two)
    await bus.nc.subscribe("beside", cb=ordinary)
    await sender.nc.subscribe("echo", cb=answer)
    await sender.flush()
    await bus.flush()
    sent = [str(number).encode() for number in range(2000)]
    for payload in sent:
        await sender.publish("lane.one", payload)
        await sender.publish("beside", payload)
        if not int(payload) % 200:
            assert await bus.request("echo", payload) == payload
            assert b'"seq"' in await bus.request("news.article", payload)
    await sender.flush()
    await bus.flush()
    await eventually(lambda: len(beside) == len(sent))

    assert one.payloads == two.payloads == beside == sent


async def test_what_is_ordinary_finds_what_came_before_it_taken(
    bus: Bus, sender: Bus, eventually: Eventually
) -> None:
    heard = Heard()
    found: list[int] = []

    async def ordinary(message: Msg) -> None:
        found.append(len(heard.messages) - int(message.data))

    await bus.nc.open_lane("lane", heard)
    await bus.nc.subscribe("beside", cb=ordinary)
    await bus.flush()
    for number in range(1, 1001):
        await sender.publish("lane", b"x" * (number % 50))
        if not number % 10:
            await sender.publish("beside", str(number).encode())
        if not number % 100:
            await sender.flush()
            await bus.flush()
            assert len(heard.messages) == number
    await eventually(lambda: len(found) == 100)

    assert min(found) >= 0


async def test_after_a_reconnect_each_message_comes_once(
    bus: Bus, sender: Bus, nats_server: NatsProcess, eventually: Eventually
) -> None:
    heard = Heard()
    await bus.nc.open_lane("lane", heard)
    await bus.flush()
    for outage in range(2):
        await sender.publish("lane", f"before {outage}".encode())
        await sender.flush()
        await bus.flush()
        await nats_server.stop()
        await nats_server.start()
        for each in (bus, sender):
            await eventually(partial(is_back, each, outage + 1))
        await sender.publish("lane", f"after {outage}".encode())
        await sender.flush()
        await bus.flush()

    assert heard.payloads == [b"before 0", b"after 0", b"before 1", b"after 1"]


async def test_what_is_cut_off_in_a_message_is_forgotten(
    nats_server: NatsProcess, sender: Bus, eventually: Eventually
) -> None:
    """The rest of the old connection must not become the start of the new one."""
    heard = Heard()
    async with run_proxy(nats_server.port) as proxy:
        settings = ServiceSettings(nats_url=(f"nats://127.0.0.1:{proxy.port}",))
        async with connect_bus(settings, "cut") as bus:
            await bus.nc.open_lane("lane", heard)
            await bus.flush()
            proxy.set("down", limit_bytes=50_000)
            await sender.publish("lane", b"x" * 100_000)
            await sender.flush()
            await eventually(lambda: bus.state.reconnects == 1)
            proxy.heal()
            await bus.flush()
            await sender.publish("lane", b"whole")
            await sender.flush()
            await bus.flush()

    assert heard.payloads == [b"whole"]


async def test_a_closed_lane_is_handed_nothing_more(bus: Bus, sender: Bus) -> None:
    closed, open_ = Heard(), Heard()
    subscription = await bus.nc.open_lane("lane", closed)
    await bus.nc.open_lane("lane", open_)
    await bus.flush()
    await sender.publish("lane", b"1")
    await sender.flush()
    await bus.flush()
    await bus.nc.close_lane(subscription)
    await sender.publish("lane", b"2")
    await sender.flush()
    await bus.flush()

    assert closed.payloads == [b"1"]
    assert open_.payloads == [b"1", b"2"]


async def test_nats_py_still_lets_us_in(bus: Bus, sender: Bus) -> None:
    """
    Messages of a lane pass by nats-py's own way, which counts what it handles.

    If this fails after an upgrade of nats-py, lanes still deliver, five times slower:
    look at what has become of its parser.
    """
    heard = Heard()
    await bus.nc.open_lane("lane", heard)
    await bus.flush()
    before = bus.nc.stats["in_msgs"]
    for _ in range(100):
        await sender.publish("lane", b"x")
    await sender.flush()
    await bus.flush()

    assert len(heard.messages) == 100
    assert bus.nc.stats["in_msgs"] == before
