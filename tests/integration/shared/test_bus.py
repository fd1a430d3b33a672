"""The shared parts against a real nats-server."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest
import uvloop
from nats.aio.msg import Msg
from nats_process import NatsProcess

from feedmesh import subjects
from feedmesh.bus import Bus, connect_bus
from feedmesh.errors import BusError
from feedmesh.ingest.epoch import Claim, claim_epoch
from feedmesh.ingest.log_entry import LogEntry, LogMessage
from feedmesh.ingest.log_publisher import LogPublisher
from feedmesh.ingest.price_publisher import PricePublisher
from feedmesh.messages import Version
from feedmesh.stored import last_of, read_from, stream_state
from feedmesh.streams import NEWS, PRICES, ensure_streams


def entry(number: int, *codes: str) -> LogEntry:
    """Return item *number* with a copy for each of *codes*."""
    payload = f"item {number}".encode()
    return LogEntry(
        (
            LogMessage(subjects.news("article"), f"id{number}", lambda: payload),
            *(
                LogMessage(
                    subjects.news("article", code),
                    f"id{number}:{code}",
                    lambda: payload,
                )
                for code in codes
            ),
        )
    )


async def stored(bus: Bus, stream: str, subject: str = ">") -> list[tuple[str, str]]:
    """Return subjects and texts of all that *stream* has."""
    found = [m async for m in read_from(bus, stream, 1, subject)]
    return [(m.subject, m.payload.decode()) for m in found]


async def test_streams_are_made_once(bus: Bus) -> None:
    assert await ensure_streams(bus.nc.jetstream()) == []


async def test_reads_more_than_one_batch_in_order(bus: Bus) -> None:
    for number in range(2500):
        await bus.publish(f"prices.us.S{number}", str(number).encode())
    async with asyncio.timeout(10):
        while (await stream_state(bus, PRICES)).last < 2500:
            await asyncio.sleep(0.01)

    texts = [text for _, text in await stored(bus, PRICES)]

    assert texts == [str(number) for number in range(2500)]


async def test_reading_says_when_a_stream_is_missing(bus: Bus) -> None:
    await bus.nc.jetstream().delete_stream(PRICES)

    with pytest.raises(BusError):
        await stream_state(bus, PRICES)


async def test_stream_identity_changes_with_the_stream(bus: Bus) -> None:
    before = await stream_state(bus, PRICES)
    await bus.nc.jetstream().delete_stream(PRICES)
    await ensure_streams(bus.nc.jetstream())

    after = await stream_state(bus, PRICES)

    assert before.identity != after.identity


class _NoStreams(NatsProcess):
    """A server without streams, so that a test can answer for one."""

    async def _launch(self, *arguments: str) -> None:
        await super()._launch(*(each for each in arguments if each != "--jetstream"))


async def test_a_question_that_is_not_heard_is_asked_again(tmp_path: Path) -> None:
    """As none is while a stream elects its leader."""
    asked: list[Msg] = []
    state = {"first_seq": 1, "last_seq": 2}

    async def take(question: Msg) -> None:
        asked.append(question)
        if len(asked) == 3:
            await question.respond(
                json.dumps({"created": "x", "state": state}).encode()
            )

    server = _NoStreams(tmp_path)
    await server.start()
    try:
        async with connect_bus(server.settings(), "asks") as bus:
            await bus.nc.subscribe(f"$JS.API.STREAM.INFO.{NEWS}", cb=take)
            assert (await stream_state(bus, NEWS)).last == 2
    finally:
        await server.stop()


async def test_what_nobody_waits_for_any_more_is_not_asked(
    nats_server: NatsProcess, bus: Bus
) -> None:
    """Or all that was asked in an outage would come at its end, to busy servers."""
    asked: list[bytes] = []

    async def take(question: Msg) -> None:
        asked.append(question.data)
        await question.respond(b"answer")

    await bus.nc.subscribe("test.asked", cb=take)
    await bus.flush()
    await nats_server.stop()
    for _ in range(3):
        with pytest.raises(BusError):
            await bus.request("test.asked", b"in vain", timeout=0.2)
    asking = asyncio.create_task(bus.request("test.asked", b"patient", timeout=20))
    await nats_server.start()

    assert await asking == b"answer"
    assert asked == [b"patient"]


async def test_a_question_does_not_outlive_its_cancellation(bus: Bus) -> None:
    """Before Python 3.12, ``wait_for`` forgets one that comes with the answer."""

    async def ask_for_ever() -> None:
        while True:
            await stream_state(bus, NEWS)

    for turns in range(200):
        asking = asyncio.create_task(ask_for_ever())
        await asyncio.sleep(0.001)
        for _ in range(turns % 40):
            await asyncio.sleep(0)
        asking.cancel()
        async with asyncio.timeout(10):
            await asyncio.wait([asking])


async def test_a_flush_that_nobody_waits_for_does_no_harm(bus: Bus) -> None:
    """nats-py would stop reading when the answer to its ping comes."""
    for _ in range(20):
        flushing = asyncio.create_task(bus.flush())
        await asyncio.sleep(0)
        flushing.cancel()
        await asyncio.wait([flushing])

    await bus.flush()


async def test_the_server_has_what_came_before_a_flush(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-py's ping overtakes it."""
    transport = bus.nc._transport
    assert transport is not None
    written: list[bytes] = []
    write, writelines = transport.write, transport.writelines

    def note(payload: bytes) -> None:
        written.append(payload)
        write(payload)

    def note_all(payloads: list[bytes]) -> None:
        written.extend(payloads)
        writelines(payloads)

    monkeypatch.setattr(transport, "write", note)
    monkeypatch.setattr(transport, "writelines", note_all)
    await bus.nc.subscribe("test")
    await bus.publish("test", b"1")
    await bus.flush()

    verbs = [payload.split()[0] for payload in written]
    assert verbs == [b"SUB", b"PUB", b"PING"]


async def use_a_closed_socket(server: NatsProcess) -> None:
    """Publish and ask in the instant between a socket's end and its being noticed."""
    async with connect_bus(server.settings(), "test") as bus:
        flusher, transport = bus.nc._flusher_task, bus.nc._transport
        assert flusher is not None
        assert transport is not None
        flusher.cancel()
        await asyncio.wait([flusher])
        transport.close()  # type: ignore[no-untyped-call] # it has no types
        await bus.publish("prices.us.S", b"1")
        with pytest.raises(BusError):
            await bus.request("nobody", timeout=0.2)


async def test_a_socket_that_closes_ends_nothing_else(
    nats_server: NatsProcess,
) -> None:
    # As services do; only uvloop objects to it.
    await asyncio.to_thread(lambda: uvloop.run(use_a_closed_socket(nats_server)))


async def test_without_a_guard_the_error_of_the_socket_comes_out(
    nats_server: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.delattr("feedmesh.bus._Client._flush_pending")
    with pytest.raises((RuntimeError, OSError)):
        await asyncio.to_thread(lambda: uvloop.run(use_a_closed_socket(nats_server)))


async def break_a_limit(bus: Bus) -> None:
    """Have the server end the connection, as it does when a limit was lowered."""
    bus.nc._max_payload = 4 << 20
    await bus.publish("test", bytes(2 << 20))


async def test_an_error_that_ends_the_connection_is_not_the_end(bus: Bus) -> None:
    back = asyncio.Event()
    bus.on_doubt(back.set)
    await break_a_limit(bus)

    async with asyncio.timeout(20):
        await back.wait()
    await bus.flush()
    assert bus.connected


async def test_for_nats_py_such_an_error_is_the_end(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.delattr("feedmesh.bus._Client._process_err")
    await break_a_limit(bus)

    async with asyncio.timeout(20):
        while not bus.nc.is_closed:
            await asyncio.sleep(0.01)


async def test_a_later_claim_has_a_higher_epoch(bus: Bus) -> None:
    first = await claim_epoch(bus, "fmp")
    second = await claim_epoch(bus, "fmp")

    assert second.epoch > first.epoch
    assert second.token > first.token


async def test_an_item_and_its_copies_are_stored_in_order(bus: Bus) -> None:
    publisher = LogPublisher(bus, await claim_epoch(bus, "ls"))
    task = asyncio.create_task(publisher.run())

    for number in range(20):
        publisher.offer(entry(number, "005930", "000660"))
    assert await publisher.flushed(10)
    task.cancel()

    assert await stored(bus, NEWS, "news.*") == [
        ("news.article", f"item {number}") for number in range(20)
    ]
    assert len(await stored(bus, NEWS, "news.*.005930")) == 20
    assert publisher.stored == 20


async def test_a_burst_is_stored_whole_in_order_and_soon(bus: Bus) -> None:
    publisher = LogPublisher(bus, await claim_epoch(bus, "ls"))
    known = entry(7, "005930")
    task = asyncio.create_task(publisher.run())
    publisher.offer(known)
    assert await publisher.flushed(10)

    # Among twenty thousand new items is one that the stream has already.
    for number in range(20_000):
        publisher.offer(entry(number, *(["005930"] if number % 10 == 7 else [])))
    assert await publisher.flushed(60)
    task.cancel()

    texts = [text for _, text in await stored(bus, NEWS, "news.*")]
    expected = [f"item {number}" for number in range(20_000) if number != 7]
    assert texts == ["item 7", *expected]
    assert (publisher.stored, publisher.duplicates) == (20_000, 1)


async def test_an_item_that_is_sent_twice_is_stored_once(bus: Bus) -> None:
    publisher = LogPublisher(bus, await claim_epoch(bus, "ls"))
    task = asyncio.create_task(publisher.run())

    for number in (1, 2, 1, 2):
        publisher.offer(entry(number))
        publisher.offer(entry(number + 10, "005930"))
    assert await publisher.flushed(10)
    task.cancel()

    assert len(await stored(bus, NEWS, "news.*")) == 4
    assert len(await stored(bus, NEWS, "news.*.*")) == 2
    assert (publisher.stored, publisher.duplicates) == (4, 4)


@pytest.mark.parametrize("codes", [(), ("005930",)], ids=["single", "batch"])
async def test_a_stale_writer_is_refused_by_the_stream(
    bus: Bus, codes: tuple[str, ...]
) -> None:
    stale = LogPublisher(bus, await claim_epoch(bus, "ls"))
    await claim_epoch(bus, "ls")
    task = asyncio.create_task(stale.run())

    stale.offer(entry(1, *codes))
    async with asyncio.timeout(5):
        await stale.fenced.wait()
    task.cancel()

    assert await stored(bus, NEWS, "news.>") == []


async def test_without_a_fence_the_stale_writer_gets_through(bus: Bus) -> None:
    """The negative control: it is the token that refuses, nothing else."""

    class Unfenced(Claim):
        def headers(self) -> dict[str, str]:
            return {}

    stale = LogPublisher(bus, Unfenced(*await claim_epoch(bus, "ls")))
    await claim_epoch(bus, "ls")
    task = asyncio.create_task(stale.run())

    stale.offer(entry(1))
    assert await stale.flushed(5)
    task.cancel()

    assert len(await stored(bus, NEWS, "news.>")) == 1


async def test_news_waits_for_a_server_that_is_away(
    bus: Bus, nats_server: NatsProcess
) -> None:
    publisher = LogPublisher(bus, await claim_epoch(bus, "ls"))
    task = asyncio.create_task(publisher.run())
    await nats_server.stop()

    for number in range(10):
        publisher.offer(entry(number, "005930"))
    await nats_server.start()
    assert await publisher.flushed(20)
    task.cancel()

    assert [text for _, text in await stored(bus, NEWS, "news.*")] == [
        f"item {number}" for number in range(10)
    ]


async def test_a_full_queue_says_so(bus: Bus) -> None:
    publisher = LogPublisher(bus, await claim_epoch(bus, "ls"), capacity=1)

    assert publisher.offer(entry(1))
    assert not publisher.offer(entry(2))
    assert publisher.refused == 1


def _say(text: bytes, _: Version) -> bytes:
    return text


async def test_prices_are_confirmed_by_the_stream(bus: Bus) -> None:
    publisher = PricePublisher(bus)
    task = asyncio.create_task(publisher.run())
    await asyncio.sleep(0)

    async with asyncio.timeout(10):
        while publisher.confirmed < 1:
            await publisher.publish("prices.us.A", lambda _: b"first")
            await asyncio.sleep(0.01)
        for number in range(5000):
            text = str(number).encode()
            await publisher.publish(f"prices.us.S{number % 100}", partial(_say, text))
        while publisher.unconfirmed:
            await asyncio.sleep(0.01)
    task.cancel()

    last = await last_of(bus, PRICES, "prices.us.S99")
    assert last is not None
    assert last.payload == b"4999"


async def test_the_newest_prices_return_after_the_stream_was_lost(
    bus: Bus, nats_server: NatsProcess
) -> None:
    """A single server forgets its memory streams; nobody must notice for long."""
    publisher = PricePublisher(bus)
    task = asyncio.create_task(publisher.run())
    await publisher.publish("prices.us.A", lambda _: b"old")
    await nats_server.stop()
    await publisher.publish("prices.us.A", lambda _: b"newest")
    publisher.remember("prices.us.B", lambda _: b"seeded")

    await nats_server.start()
    async with asyncio.timeout(20):
        while not bus.connected:
            await asyncio.sleep(0.01)
        await ensure_streams(bus.nc.jetstream())
        while len(await stored(bus, PRICES)) < 2:
            await asyncio.sleep(0.05)
    task.cancel()

    assert sorted(await stored(bus, PRICES)) == [
        ("prices.us.A", "newest"),
        ("prices.us.B", "seeded"),
    ]
