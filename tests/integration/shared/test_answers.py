"""Requests with many answers, of a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from nats.aio.msg import Msg
from nats_process import NatsProcess

from feedmesh.answers import Answers
from feedmesh.bus import Bus
from feedmesh.errors import BusError
from feedmesh.fast_lane import LaneMessage
from feedmesh.stored import StoredPage, read_page
from feedmesh.streams import PRICES


def ignore(answers: Sequence[LaneMessage]) -> None:
    """Be content with nothing."""


async def fill(bus: Bus, count: int) -> None:
    for number in range(count):
        await bus.publish(f"prices.us.S{number}", str(number).encode())
    await bus.flush()


async def fall_silent(bus: Bus) -> list[str]:
    """Have a subject to which somebody listens, who never answers; return to whom."""
    replies: list[str] = []

    async def hear(message: Msg) -> None:
        replies.append(message.reply)

    await bus.nc.subscribe("silent", cb=hear)
    return replies


def never() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def test_each_of_many_requests_gets_its_own_answers(bus: Bus) -> None:
    await fill(bus, 40)

    pages = await asyncio.gather(*(read_page(bus, PRICES, n + 1, 3) for n in range(40)))

    for number, page in enumerate(pages):
        expected = range(number, min(number + 3, 40))
        assert [m.payload for m in page.messages] == [b"%d" % n for n in expected]
        assert page.more == (number + 3 < 40)


async def test_all_requests_share_a_subscription(bus: Bus) -> None:
    await fill(bus, 1)
    await read_page(bus, PRICES, 1, 1)
    before = set(bus.nc._subs)

    await asyncio.gather(*(read_page(bus, PRICES, 1, 1) for _ in range(20)))

    assert set(bus.nc._subs) == before


async def test_a_page_behind_the_end_is_empty(bus: Bus) -> None:
    await fill(bus, 2)
    assert await read_page(bus, PRICES, 3, 10) == StoredPage([], more=False)


async def test_late_answers_are_for_nobody(bus: Bus) -> None:
    taken: list[LaneMessage] = []
    replies = await fall_silent(bus)
    with pytest.raises(BusError):
        await bus.collect("silent", b"", taken.extend, never(), timeout=0.1)
    await bus.publish(replies[0], b"late")
    await bus.flush()

    assert taken == []


async def test_what_is_unanswered_when_the_connection_breaks_is_told_at_once(
    bus: Bus, nats_server: NatsProcess
) -> None:
    await fall_silent(bus)
    asked = asyncio.create_task(bus.collect("silent", b"", ignore, never(), 60))
    await asyncio.sleep(0.1)

    await nats_server.stop()

    async with asyncio.timeout(5):
        with pytest.raises(BusError, match="NATS went away"):
            await asked


async def test_without_that_it_would_wait_until_it_is_overdue(
    bus: Bus, nats_server: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "lost", lambda answers: None)
    await fall_silent(bus)
    asked = asyncio.create_task(bus.collect("silent", b"", ignore, never(), 3))
    await asyncio.sleep(0.1)

    await nats_server.stop()

    with pytest.raises(BusError, match="TimeoutError"):
        await asked


async def test_on_another_connection_it_goes_on(
    bus: Bus, nats_server: NatsProcess
) -> None:
    await fill(bus, 1)
    await read_page(bus, PRICES, 1, 1)
    await nats_server.stop()
    with pytest.raises(BusError):
        await read_page(bus, PRICES, 1, 1)
    await nats_server.start()

    async with asyncio.timeout(20):
        while not bus.connected:
            await asyncio.sleep(0.01)
        # A stream in memory is gone; that it answers at all is what counts.
        with pytest.raises(BusError, match="503"):
            await read_page(bus, PRICES, 1, 1)


async def test_who_waits_no_more_leaves_nothing_behind(bus: Bus) -> None:
    await fall_silent(bus)
    asked = asyncio.create_task(bus.collect("silent", b"", ignore, never(), 60))
    await asyncio.sleep(0.1)
    asked.cancel()
    await asyncio.wait([asked])
    assert bus._answers._asked == {}
