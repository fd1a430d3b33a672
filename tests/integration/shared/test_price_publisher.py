"""Prices on a real server: confirmed, sent again, and numbered without a hole."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from faults.cluster import ClusterNode, run_cluster
from nats.aio.msg import Msg
from nats_process import NatsProcess, open_bus

from feedmesh.bus import Bus, connect_bus
from feedmesh.fast_lane import LaneMessage
from feedmesh.ingest.price_line import PriceLine
from feedmesh.ingest.price_publisher import Encode, PricePublisher
from feedmesh.messages import Version
from feedmesh.settings import ServiceSettings
from feedmesh.stored import last_of, stream_state
from feedmesh.streams import PRICES, ensure_streams


class Reader:
    """
    A plain core subscriber of all prices.

    Attributes:
        heard: Version, text and number of the connection, in the order of arrival.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.heard: list[tuple[Version, str, int]] = []

    async def start(self) -> None:
        await self._bus.nc.subscribe("prices.>", cb=self._take)
        await self._bus.flush()

    async def _take(self, message: Msg) -> None:
        epoch, seq, text = message.data.decode().split(" ")
        connection = self._bus.nc.stats["reconnects"]
        self.heard.append(((int(epoch), int(seq)), text, connection))

    def holes(self, epoch: int) -> list[tuple[int, int, bool]]:
        """
        Return numbers that do not follow on what was heard before.

        Each with the last number before it, and whether the reader's own connection
        was away in between. A number that was heard before is a resend.
        """
        found = []
        last, connection = 0, 0
        for (of, seq), _, now in self.heard:
            if of == epoch and seq > last:
                if seq > last + 1:
                    found.append((last, seq, now != connection))
                last, connection = seq, now
        return found

    def last(self, epoch: int) -> int:
        return max((seq for (of, seq), *_ in self.heard if of == epoch), default=0)


def says(text: str) -> Encode:
    return lambda version: f"{version[0]} {version[1]} {text}".encode()


async def allow_batches(bus: Bus, allowed: bool) -> None:
    js = bus.nc.jetstream()
    config = (await js.stream_info(PRICES)).config
    config.allow_batched = allowed
    await js.update_stream(config)


@asynccontextmanager
async def running(bus: Bus, epoch: int = 7) -> AsyncIterator[PricePublisher]:
    publisher = PricePublisher(bus)
    publisher.begin(epoch)
    task = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def reader(nats_server: NatsProcess, bus: Bus) -> AsyncIterator[Reader]:
    """A reader with a connection of its own."""
    async with open_bus(nats_server, "reader") as own:
        reader = Reader(own)
        await reader.start()
        yield reader


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def settled(publisher: PricePublisher, least: int) -> None:
    """Wait until the stream has confirmed *least* publishes, and nothing waits."""
    await until(lambda: publisher.confirmed >= least and not publisher.unconfirmed)


@pytest.mark.parametrize("batches", [True, False])
async def test_every_publish_is_confirmed_and_stored(bus: Bus, batches: bool) -> None:
    await allow_batches(bus, batches)
    async with running(bus) as publisher:
        # The first burst finds out whether the stream allows batches.
        for number in range(200):
            await publisher.publish(f"prices.us.S{number}", says(str(number)))
        await settled(publisher, 200)
        before = publisher.confirmed - publisher.resent
        first = (await stream_state(bus, PRICES)).last - publisher.resent
        for number in range(20_000):
            await publisher.publish(f"prices.us.S{number % 100}", says(str(number)))
            if number % 100 == 99:
                await asyncio.sleep(0)
                await until(lambda: publisher.unconfirmed < 10_000)
        await settled(publisher, 20_000)
        stored = (await stream_state(bus, PRICES)).last - publisher.resent

    assert publisher.confirmed - publisher.resent - before == 20_000
    assert stored - first == 20_000
    last = await last_of(bus, PRICES, "prices.us.S99")
    assert last is not None
    assert last.payload == b"7 20200 19999"


@pytest.mark.parametrize("batches", [True, False])
async def test_a_trickle_is_confirmed_without_being_sent_twice(
    bus: Bus, reader: Reader, batches: bool
) -> None:
    await allow_batches(bus, batches)
    async with running(bus) as publisher:
        for number in range(30):
            await publisher.publish("prices.us.A", says(str(number)))
            await asyncio.sleep(0.03)
        await settled(publisher, 30)
        await until(lambda: reader.last(7) == 30)

    assert publisher.resent <= 1  # what came before the publisher ran
    assert len({seq for (_, seq), *_ in reader.heard}) == 30


async def test_what_the_stream_refuses_is_sent_again_until_it_has_it(
    bus: Bus, reader: Reader
) -> None:
    await allow_batches(bus, True)
    async with running(bus) as publisher:
        await publisher.publish("prices.us.A", says("stored"))
        await settled(publisher, 1)
        await bus.nc.jetstream().delete_stream(PRICES)
        for number in range(500):
            await publisher.publish(f"prices.us.S{number}", says("refused"))
        await until(lambda: publisher.resent > 500)
        await ensure_streams(bus.nc.jetstream())
        await settled(publisher, 501)

        assert (await stream_state(bus, PRICES)).last >= 500
    assert reader.holes(7) == []
    # Sent again and again, and each keeps the number that it was first sent with.
    assert reader.last(7) == 501


async def test_a_gap_in_a_batch_costs_nothing(bus: Bus, reader: Reader) -> None:
    """The server ends such a batch; what it did not confirm is sent again."""
    await allow_batches(bus, True)
    async with running(bus) as publisher:
        await publisher.publish("prices.us.S0", says("first"))
        await settled(publisher, 1)
        for number in range(100):
            await publisher.publish(f"prices.us.S{number}", says("before"))
        # As if the server had dropped one.
        assert publisher._line.sent.reply("prices.us.S0").endswith("$FI")
        for number in range(100, 200):
            await publisher.publish(f"prices.us.S{number}", says("after"))
        await settled(publisher, 200)

        assert publisher.resent >= 100
        for number in range(200):
            assert await last_of(bus, PRICES, f"prices.us.S{number}")
    assert reader.holes(7) == []


async def test_a_state_that_was_replaced_before_it_was_sent_takes_no_number(
    bus: Bus, reader: Reader, nats_server: NatsProcess
) -> None:
    async with running(bus) as publisher:
        await publisher.publish("prices.us.A", says("one"))
        await settled(publisher, 1)
        await nats_server.stop()
        await until(lambda: not bus.connected)
        for number in range(50):
            await publisher.publish("prices.us.A", says(str(number)))
        publisher.remember("prices.us.B", says("remembered"))
        await nats_server.start()
        await until(lambda: reader.last(7) >= 2, 30)
        await ensure_streams(bus.nc.jetstream())
        await settled(publisher, 3)
        await publisher.publish("prices.us.C", says("next"))
        await until(lambda: any(text == "next" for _, text, _ in reader.heard))

    # In which order those two went is no matter; that none went between them is.
    numbers = {text: seq for (_, seq), text, _ in reader.heard}
    assert sorted(numbers) == ["49", "next", "one", "remembered"]
    assert {numbers["49"], numbers["remembered"]} == {2, 3}
    assert (numbers["one"], numbers["next"]) == (1, 4)


async def test_a_new_epoch_starts_at_one_and_old_states_join_it(
    bus: Bus, reader: Reader
) -> None:
    async with running(bus) as publisher:
        for name in "AB":
            await publisher.publish(f"prices.us.{name}", says(name))
        await settled(publisher, 2)
        publisher.begin(9)
        publisher.begin(9)  # the same claim again is no new one
        await publisher.publish("prices.us.C", says("C"))
        publisher.republish_all()
        await settled(publisher, 5)
        await until(lambda: reader.last(9) == 3)

    assert [(seq, text) for (of, seq), text, _ in reader.heard if of == 7] == [
        (1, "A"),
        (2, "B"),
    ]
    new = [(seq, text) for (of, seq), text, _ in reader.heard if of == 9]
    assert dict(new) == {1: "C", 2: "A", 3: "B"}


async def restart_while_publishing(
    publisher: PricePublisher, server: NatsProcess, bus: Bus, updates: int
) -> set[str]:
    """
    Publish *updates*; in the middle of it the server is killed and comes back.

    Return the newest text of each symbol.
    """

    async def restart() -> None:
        await server.stop()
        await asyncio.sleep(0.3)
        await server.start()

    restarting = None
    newest: dict[str, str] = {}
    for number in range(updates):
        if number == updates // 3:
            restarting = asyncio.create_task(restart())
        # Squares, so that symbols do not take turns.
        subject = f"prices.us.S{number * number % 307}"
        newest[subject] = str(number)
        await publisher.publish(subject, says(str(number)))
        if number % 20 == 19:
            await asyncio.sleep(0.002)
    assert restarting is not None
    await restarting
    await until(lambda: bus.connected, 30)
    await ensure_streams(bus.nc.jetstream())
    await until(lambda: not publisher.unconfirmed and not publisher._dirty, 30)
    return set(newest.values())


async def test_numbers_have_no_hole_but_where_the_reader_was_away(
    bus: Bus, reader: Reader, nats_server: NatsProcess
) -> None:
    async with running(bus) as publisher:
        newest = await restart_while_publishing(publisher, nats_server, bus, 20_000)
        await until(lambda: reader._bus.connected, 30)
        await publisher.publish("prices.us.END", says("end"))
        await until(lambda: any(text == "end" for _, text, _ in reader.heard))

    connections = Counter(connection for *_, connection in reader.heard)
    assert set(connections) == {0, 1}
    assert all(away for *_, away in reader.holes(7)), reader.holes(7)
    # What waited while NATS was away was replaced again and again, without a number.
    assert reader.last(7) < 20_000
    assert newest <= {text for _, text, _ in reader.heard}


async def publish_while_the_connection_breaks(
    publisher: PricePublisher, bus: Bus, reader: Reader
) -> None:
    """Publish 20,000 updates; thrice the publisher's own connection breaks."""
    for number in range(20_000):
        if number % 6_000 == 3_000:
            await bus.nc.force_reconnect()
        await publisher.publish(
            f"prices.us.S{number * number % 307}", says(str(number))
        )
        if number % 20 == 19:
            await asyncio.sleep(0.001)
    await until(lambda: bus.connected and not publisher.unconfirmed)
    await publisher.publish("prices.us.END", says("end"))
    await until(lambda: any(text == "end" for _, text, _ in reader.heard))
    assert bus.nc.stats["reconnects"] == 3
    assert reader._bus.nc.stats["reconnects"] == 0


async def test_who_was_there_all_the_time_sees_no_hole(
    bus: Bus, reader: Reader
) -> None:
    async with running(bus) as publisher:
        await publish_while_the_connection_breaks(publisher, bus, reader)

    assert reader.holes(7) == []
    assert reader.last(7) < 20_000


async def test_without_numbering_at_sending_there_are_holes(
    bus: Bus, reader: Reader
) -> None:
    """The negative control: numbers drawn when an update comes are skipped."""

    class Early(PricePublisher):
        drawn = 0

        async def publish(self, subject: str, encode: Encode) -> None:
            Early.drawn += 1
            version = (7, Early.drawn)
            await super().publish(subject, lambda _: encode(version))

    publisher = Early(bus)
    task = asyncio.create_task(publisher.run())
    await publish_while_the_connection_breaks(publisher, bus, reader)
    task.cancel()

    assert reader.holes(7) != []


async def publish_while_a_server_dies(folder: Path, kept: int) -> Reader:
    """
    Publish to one server of three, which is killed; return who listens at another.

    The publisher keeps the last *kept* messages.
    """
    async with run_cluster(folder, sync="2m") as cluster, cluster.bus() as bus:
        publishers = next(n for n in cluster.nodes if is_at(bus, n))
        readers = next(n for n in cluster.nodes if n is not publishers)
        settings = ServiceSettings.from_env({"NATS_URL": readers.plan.url})
        async with connect_bus(settings, "reader") as own, running(bus) as publisher:
            publisher._kept = deque(maxlen=kept)
            reader = Reader(own)
            await reader.start()
            dying = None
            for number in range(4_000):
                if number == 2_000:
                    dying = asyncio.create_task(publishers.stop())
                await publisher.publish(f"prices.us.S{number % 5}", says(str(number)))
                if number % 10 == 9:
                    await asyncio.sleep(0.001)
            assert dying is not None
            await dying
            await until(lambda: not publisher.unconfirmed and not publisher._dirty, 60)
            await publisher.publish("prices.us.END", says("end"))
            await until(lambda: any(text == "end" for _, text, _ in reader.heard))
    return reader


def is_at(bus: Bus, node: ClusterNode) -> bool:
    return bus.nc.last_server == urlsplit(node.plan.url).netloc


async def test_who_is_at_another_server_misses_nothing(tmp_path: Path) -> None:
    reader = await publish_while_a_server_dies(tmp_path, 8_192)

    assert reader.holes(7) == []
    heard = {seq for (_, seq), *_ in reader.heard}
    assert heard == set(range(1, reader.last(7) + 1))


async def test_without_the_last_messages_some_are_missed(tmp_path: Path) -> None:
    """The negative control: only the newest state of each symbol is sent again."""
    reader = await publish_while_a_server_dies(tmp_path, 0)

    assert reader.holes(7) != []


class Unheard(PricePublisher):
    """Has heard nothing that the server said, and so does not know what it has done."""

    def _answered(self, line: PriceLine, answers: Sequence[LaneMessage]) -> None:
        return


class Unconfirmed(PricePublisher):
    """Hears no confirmation of the stream, as while its servers elect a leader."""

    def _answered(self, line: PriceLine, answers: Sequence[LaneMessage]) -> None:
        echoes = [answer for answer in answers if answer[0] == line.echo.encode()]
        super()._answered(line, echoes)


async def share_resent(publisher: PricePublisher, bus: Bus) -> float:
    """Publish for a second, lose the connection; return how much was sent again."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(publisher.run())
    count, ends = 0, loop.time() + 1.2
    while loop.time() < ends:
        count += 1
        await publisher.publish(f"prices.us.S{count % 5}", says(str(count)))
        await asyncio.sleep(0.001)
    assert publisher.unconfirmed == count
    transport = bus.nc._transport
    assert transport is not None
    transport.close()  # type: ignore[no-untyped-call] # it has no types
    again = (id(publisher._line), 1)
    await until(lambda: bus.connected and publisher._connection == again)
    task.cancel()
    await asyncio.wait([task])
    return publisher.resent / count


async def test_only_what_was_sent_last_is_sent_again_as_it_was(bus: Bus) -> None:
    """All of it would keep what is new waiting, for as long as it takes."""
    assert 0.02 < await share_resent(Unconfirmed(bus), bus) < 0.8


async def test_without_an_echo_all_that_is_not_confirmed_is_sent_again(
    bus: Bus,
) -> None:
    assert await share_resent(Unheard(bus), bus) >= 1
