"""The pure parts of the edge: cache, hub, requests, frames."""

from __future__ import annotations

import asyncio
import json
import math
from time import sleep
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from websockets.frames import Opcode
from websockets.protocol import CLIENT, Protocol, State

from edge.clients.sender import Flusher, Sender
from edge.clients.wire_frames import array_frames, text_frame
from edge.contract.prices import parse_request
from edge.metrics import EdgeMetrics
from edge.prices.cache import PriceCache
from edge.prices.hub import PriceHub
from edge.prices.lanes import LatestLane
from edge.prices.listeners import EVERY, LATEST, Pace, PriceListener, form_of
from edge.prices.updates import Update


class FakeOutlet:
    """Keeps what was written; can be blocked as a slow client's socket is."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.blocked = False

    def write(self, frames: bytes | memoryview) -> None:
        self.writes.append(bytes(frames))

    def messages(self) -> list[Any]:
        return [json.loads(text) for text in decode(b"".join(self.writes))]

    def heard(self) -> list[int]:
        return [message["n"] for message in self.messages()]


def decode(data: bytes) -> list[bytes]:
    """Return the texts in *data*, read by a WebSocket library as a client would."""
    protocol = Protocol(CLIENT, state=State.OPEN, max_size=None)
    protocol.receive_data(data)
    assert protocol.parser_exc is None
    frames = protocol.events_received()
    assert all(f.opcode is Opcode.TEXT and f.fin for f in frames)  # type: ignore[union-attr]
    return [bytes(frame.data) for frame in frames]  # type: ignore[union-attr]


def update(symbol: str, number: int, epoch: int = 1) -> Update:
    frame = json.dumps({"symbol": symbol, "n": number}).encode()
    return Update(symbol, "test", (epoch, number), frame)


class HubHarness:
    def __init__(self) -> None:
        self.cache = PriceCache()
        self.flusher = Flusher()
        self.demand = 0
        metrics = EdgeMetrics(CollectorRegistry())
        self.hub = PriceHub(self.cache, self.flusher, metrics, self._demanded)

    def _demanded(self) -> None:
        self.demand += 1

    def join(
        self, *symbols: str, pace: Pace = EVERY, arrays: bool = False
    ) -> tuple[PriceListener, FakeOutlet]:
        outlet = FakeOutlet()
        sender = Sender(outlet, arrays=arrays)
        listener = PriceListener(sender, form_of(sender))
        self.hub.subscribe(listener, symbols, pace)
        return listener, outlet

    def update(self, symbol: str, number: int) -> None:
        it = update(symbol, number)
        self.cache.apply(it)
        self.hub.update(it)


@given(st.permutations([(epoch, seq) for epoch in (1, 2) for seq in range(4)]))
def test_the_cache_ends_up_the_same_in_whatever_order(
    versions: list[tuple[int, int]],
) -> None:
    cache = PriceCache()

    for epoch, seq in versions + versions:
        cache.apply(update("AAPL", seq, epoch))

    entry = cache.entry("AAPL")
    assert entry is not None
    assert entry.version == (2, 3)


def test_the_cache_tells_news_from_old() -> None:
    cache = PriceCache()

    assert cache.apply(update("AAPL", 1))
    assert not cache.apply(update("AAPL", 1))
    assert not cache.apply(update("AAPL", 9, epoch=0))
    assert cache.apply(update("AAPL", 1, epoch=2))
    assert cache.entry("MSFT") is None


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_frames_are_what_a_client_reads(size: int) -> None:
    payload = b"x" * size

    assert decode(text_frame(payload) * 2) == [payload, payload]


@pytest.mark.parametrize("count", [1, 2, 3000])
def test_arrays_are_what_a_client_reads(count: int) -> None:
    objects = [json.dumps({"n": n, "text": "x" * 200}).encode() for n in range(count)]

    arrays = decode(bytes(array_frames(objects)))

    assert [o for array in arrays for o in json.loads(array)] == [
        json.loads(o) for o in objects
    ]
    # Common clients refuse a message of more than 1 MiB.
    assert all(len(array) < 2**20 for array in arrays)


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("arrays", [False, True])
async def test_what_one_turn_brings_leaves_in_one_write(arrays: bool) -> None:
    it = HubHarness()
    _, outlet = it.join("A", "B", arrays=arrays)

    for number in range(10):
        it.update("A", number)
        it.update("B", number)
        it.update("C", number)
    await turn()

    assert len(outlet.writes) == 1
    texts = decode(outlet.writes[0])
    assert len(texts) == (1 if arrays else 20)


async def test_the_cached_value_comes_before_the_next_update() -> None:
    it = HubHarness()
    it.update("A", 1)
    listener, outlet = it.join("A")
    it.hub.snapshot(listener, ["A"])
    it.update("A", 2)
    await turn()

    assert outlet.heard() == [1, 2]


@pytest.mark.parametrize("pace", [EVERY, LATEST])
async def test_a_newcomer_hears_nothing_older_than_its_snapshot(pace: Pace) -> None:
    it = HubHarness()
    it.join("A", pace=pace)
    it.update("A", 1)
    it.update("A", 2)
    listener, outlet = it.join("A", pace=pace)
    it.hub.snapshot(listener, ["A"])
    await turn()

    assert set(outlet.heard()) == {2}


async def test_what_was_left_before_the_flush_is_not_heard() -> None:
    it = HubHarness()
    listener, outlet = it.join("A", "B")
    it.update("A", 1)
    it.update("B", 2)
    it.hub.unsubscribe(listener, ["A"])
    await turn()

    assert outlet.heard() == [2]


async def test_a_client_that_leaves_during_the_turn_gets_nothing() -> None:
    it = HubHarness()
    listener, outlet = it.join("A")
    it.update("A", 1)
    it.hub.leave(listener)
    await turn()

    assert outlet.writes == []
    assert it.hub.symbols == []


async def test_the_latest_lane_leaves_out_what_is_outdated_and_counts_it() -> None:
    it = HubHarness()
    listener, outlet = it.join("A", "B", pace=LATEST)
    for number in range(10):
        it.update("A", number)
    it.update("B", 10)
    await turn()

    assert outlet.heard() == [9, 10]
    assert listener.sender.conflated == it.flusher.conflated == 9


async def test_a_slow_lane_waits_for_its_interval() -> None:
    it = HubHarness()
    _, outlet = it.join("A", pace=Pace.at_most(20))
    it.update("A", 1)
    await turn()
    # The first is not late for anything.
    assert outlet.heard() == [1]
    it.update("A", 2)
    await turn()
    # Nobody hurries it: not a newcomer, not the regular flush.
    it.join("A", pace=Pace.at_most(20))
    it.hub.flush()
    assert outlet.heard() == [1]
    it.update("A", 3)
    await asyncio.sleep(0.1)

    assert outlet.heard() == [1, 3]


async def test_a_symbol_waits_only_for_its_own_interval() -> None:
    it = HubHarness()
    listener, outlet = it.join("A", "B", pace=Pace.at_most(0.1))
    it.update("A", 1)
    await turn()
    it.update("A", 2)
    it.update("A", 3)
    it.update("B", 4)
    await turn()

    # Seconds before the next value of A may leave, B is not late for anything.
    assert outlet.heard() == [1, 4]
    assert listener.sender.conflated == 0
    for lane in it.hub._lanes.values():
        assert isinstance(lane, LatestLane)
        lane.ripen(math.inf)
        lane.flush()
    assert outlet.heard() == [1, 4, 3]
    assert listener.sender.conflated == it.flusher.conflated == 1


@given(st.floats(min_value=0.1, max_value=50))
def test_a_pace_is_never_faster_than_asked(rate_hz: float) -> None:
    pace = Pace.at_most(rate_hz)

    assert pace.mode == "latest"
    assert 1 / pace.interval <= rate_hz + 1e-6


async def test_a_blocked_client_gets_only_the_newest_of_each_symbol() -> None:
    it = HubHarness()
    listener, outlet = it.join("A", "B", "C")
    outlet.blocked = True
    listener.suspend()
    for number in range(1000):
        it.update("A", number)
        it.update("B", number)
        it.update("C", number)
    it.hub.unsubscribe(listener, ["C"])
    await turn()
    assert outlet.writes == []

    outlet.blocked = False
    missed = it.hub.resume(listener)
    it.hub.snapshot(listener, missed.changed)
    it.update("A", 1000)
    await asyncio.sleep(0.05)

    assert outlet.heard() == [999, 999, 1000]
    assert missed.lost == {"A": 999, "B": 999}
    assert listener.sender.conflated == 2 * 999


async def test_one_pass_over_many_clients_is_cut_into_slices() -> None:
    it = HubHarness()
    turns = 0

    class SlowOutlet(FakeOutlet):
        def write(self, frames: bytes | memoryview) -> None:
            super().write(frames)
            sleep(0.0005)

    outlets = []
    for _ in range(100):
        outlet = SlowOutlet()
        listener = PriceListener(Sender(outlet), form_of(Sender(outlet)))
        it.hub.subscribe(listener, ["A"], EVERY)
        outlets.append(outlet)
    it.update("A", 1)
    while not all(outlet.writes for outlet in outlets):
        await asyncio.sleep(0)
        turns += 1

    assert turns > 3


async def test_a_loss_is_told_to_those_who_want_every_update() -> None:
    it = HubHarness()
    it.update("A", 1)
    _, every = it.join("A")
    _, latest = it.join("A", pace=LATEST)
    it.update("A", 2)
    it.hub.tell_of_loss("other", b'{"n": -1}')
    it.hub.tell_of_loss("test", b'{"n": -2}')
    it.update("A", 5)
    await asyncio.sleep(0.05)

    assert every.heard() == [2, -2, 5]
    assert -2 not in latest.heard()


async def test_demand_changes_with_the_first_and_the_last_listener() -> None:
    it = HubHarness()
    one, _ = it.join("A")
    two, _ = it.join("A", pace=LATEST)
    it.hub.subscribe(one, ["A"], LATEST)
    assert it.demand == 1
    it.hub.leave(one)
    assert it.demand == 1
    it.hub.leave(two)
    assert it.demand == 2


@given(st.text() | st.none())
def test_any_text_is_a_request_or_an_error_for_the_client(text: str | None) -> None:
    try:
        request = parse_request(text)
    except ValueError as error:
        for_the_client = str(error)
    else:
        for_the_client = " ".join(request.symbols)
    assert for_the_client


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=7), inner),
    )
)
def test_any_json_is_a_request_or_an_error_for_the_client(value: object) -> None:
    test_any_text_is_a_request_or_an_error_for_the_client.hypothesis.inner_test(  # type: ignore[attr-defined]
        json.dumps(value)
    )
