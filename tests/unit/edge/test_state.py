"""The pure parts of the edge: cache, hub, requests, frames."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from websockets.frames import Opcode
from websockets.protocol import CLIENT, Protocol, State

from edge.hub import PriceHub, PriceSession
from edge.metrics import EdgeMetrics
from edge.price_cache import PriceCache
from edge.price_feed import parse_request
from edge.wire_frames import text_frame


class FakeOutlet:
    """Keeps what was written; can be blocked as a slow client's socket is."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.blocked = False
        self.aborted = False
        self.on_blocked: Any = None
        self.on_resumed: Any = None

    def write(self, frames: bytes) -> None:
        self.writes.append(frames)

    def abort(self) -> None:
        self.aborted = True

    def block(self) -> None:
        self.blocked = True
        self.on_blocked()

    def resume(self) -> None:
        self.blocked = False
        self.on_resumed()

    def messages(self) -> list[Any]:
        return [json.loads(text) for text in decode(b"".join(self.writes))]


def decode(data: bytes) -> list[bytes]:
    """Return the texts in *data*, read by a WebSocket library as a client would."""
    protocol = Protocol(CLIENT, state=State.OPEN, max_size=None)
    protocol.receive_data(data)
    assert protocol.parser_exc is None
    frames = protocol.events_received()
    assert all(f.opcode is Opcode.TEXT and f.fin for f in frames)  # type: ignore[union-attr]
    return [bytes(frame.data) for frame in frames]  # type: ignore[union-attr]


def price(symbol: str, number: int) -> bytes:
    return json.dumps({"symbol": symbol, "n": number}).encode()


class HubHarness:
    def __init__(self, max_symbols: int = 100) -> None:
        self.cache = PriceCache()
        self.demand = 0
        self.hub = PriceHub(
            self.cache,
            EdgeMetrics(CollectorRegistry()),
            self._demanded,
            max_symbols,
        )

    def _demanded(self) -> None:
        self.demand += 1

    def join(self) -> tuple[PriceSession, FakeOutlet]:
        outlet = FakeOutlet()
        return self.hub.join(outlet), outlet  # type: ignore[arg-type] # our double

    def update(self, symbol: str, number: int) -> None:
        frame = price(symbol, number)
        self.cache.apply(symbol, (1, number), frame)
        self.hub.update(symbol, frame)


@given(st.permutations([(epoch, seq) for epoch in (1, 2) for seq in range(4)]))
def test_the_cache_ends_up_the_same_in_whatever_order(
    versions: list[tuple[int, int]],
) -> None:
    cache = PriceCache()

    for version in versions + versions:
        cache.apply("AAPL", version, str(version).encode())

    assert cache.frame("AAPL") == b"(2, 3)"


def test_the_cache_tells_news_from_old() -> None:
    cache = PriceCache()

    assert cache.apply("AAPL", (1, 1), b"a")
    assert not cache.apply("AAPL", (1, 1), b"b")
    assert not cache.apply("AAPL", (0, 9), b"c")
    assert cache.apply("AAPL", (2, 1), b"d")
    assert cache.frame("MSFT") is None


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_frames_are_what_a_client_reads(size: int) -> None:
    payload = b"x" * size

    assert decode(text_frame(payload) * 2) == [payload, payload]


async def test_what_one_turn_brings_leaves_in_one_write() -> None:
    it = HubHarness()
    session, outlet = it.join()
    it.hub.subscribe(session, ["A", "B"])

    for number in range(10):
        it.update("A", number)
        it.update("B", number)
        it.update("C", number)
    await asyncio.sleep(0)

    assert len(outlet.writes) == 1
    assert [m["n"] for m in outlet.messages()] == [n for n in range(10) for _ in "AB"]


async def test_the_cached_value_comes_before_the_next_update() -> None:
    it = HubHarness()
    it.update("A", 1)
    session, outlet = it.join()

    it.hub.subscribe(session, ["A"])
    it.update("A", 2)
    await asyncio.sleep(0)

    assert [m["n"] for m in outlet.messages()] == [1, 2]


async def test_what_was_left_between_update_and_flush_is_not_lost_before() -> None:
    it = HubHarness()
    session, outlet = it.join()
    it.hub.subscribe(session, ["A"])
    it.update("A", 1)
    it.hub.unsubscribe(session, ["A"])
    it.update("A", 2)
    await asyncio.sleep(0)

    assert [m["n"] for m in outlet.messages()] == [1]


async def test_a_session_that_leaves_during_the_turn_gets_nothing() -> None:
    it = HubHarness()
    session, outlet = it.join()
    it.hub.subscribe(session, ["A"])
    it.update("A", 1)
    it.hub.leave(session)
    await asyncio.sleep(0)

    assert outlet.writes == []
    assert it.hub.symbols == []


async def test_a_blocked_client_gets_only_the_newest_of_each_symbol() -> None:
    it = HubHarness()
    session, outlet = it.join()
    it.hub.subscribe(session, ["A", "B", "C"])
    outlet.block()
    for number in range(1000):
        it.update("A", number)
        it.update("B", number)
        it.update("C", number)
    it.hub.unsubscribe(session, ["C"])
    await asyncio.sleep(0)
    assert outlet.writes == []

    outlet.resume()

    assert outlet.messages() == [{"symbol": s, "n": 999} for s in "AB"]


async def test_a_client_that_stays_blocked_is_ended() -> None:
    it = HubHarness()
    session, outlet = it.join()
    _, quick = it.join()
    it.hub.subscribe(session, ["A"])
    outlet.block()

    it.hub.evict_stuck(10)
    assert not outlet.aborted
    it.hub.evict_stuck(-1)

    assert outlet.aborted
    assert not quick.aborted


async def test_demand_changes_with_the_first_and_the_last_listener() -> None:
    it = HubHarness()
    one, _ = it.join()
    two, _ = it.join()

    it.hub.subscribe(one, ["A"])
    it.hub.subscribe(one, ["A"])
    it.hub.subscribe(two, ["A"])
    assert it.demand == 1
    it.hub.leave(one)
    assert it.demand == 1
    it.hub.leave(two)
    assert it.demand == 2


async def test_more_symbols_than_allowed_change_nothing() -> None:
    it = HubHarness(max_symbols=2)
    session, _ = it.join()

    assert it.hub.subscribe(session, ["A", "B"])
    assert not it.hub.subscribe(session, ["B", "C"])
    assert session.symbols == {"A", "B"}
    assert it.hub.subscribe(session, ["A"])


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
