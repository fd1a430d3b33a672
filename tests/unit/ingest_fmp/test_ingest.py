"""From frames to messages, with every event accounted for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from feedmesh.ingest.price_publisher import Encode
from feedmesh.messages import Head, decode_head
from feedmesh.metrics import IngestMetrics
from ingest_fmp.ingest import FmpIngest


NOW = 1_795_000_000 * 10**9


class FakePublisher:
    """Keeps what it is given, encoded as if it were sent at once."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.newest: dict[str, Encode] = {}

    def begin(self, epoch: int) -> None:
        self.epoch = epoch

    def remember(self, subject: str, encode: Encode) -> None:
        self.newest[subject] = encode

    async def publish(self, subject: str, encode: Encode) -> None:
        self.newest[subject] = encode
        self.sent.append((subject, encode((1, len(self.sent) + 1))))


class FakeLetters:
    def __init__(self) -> None:
        self.kept: list[tuple[str, bytes]] = []

    async def keep(self, reason: str, frame: bytes, received_ns: int) -> None:
        self.kept.append((reason, frame))


class Bench:
    """An ingest between doubles."""

    def __init__(self, product: Any = "legacy") -> None:
        self.registry = CollectorRegistry()
        self.publisher = FakePublisher()
        self.letters = FakeLetters()
        self.ingest = FmpIngest(
            product,
            self.publisher,
            self.letters,
            IngestMetrics(self.registry, "fmp"),
            "",
        )
        self.ingest.expected["stocks"] = frozenset({"AAPL", "BRK-B"})

    async def take(self, *frames: str | bytes, link: str = "stocks") -> None:
        for frame in frames:
            data = frame.encode() if isinstance(frame, str) else frame
            await self.ingest.handle(link, data, NOW)
        await asyncio.sleep(0)  # counts are told at the end of the turn

    def count(self, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == f"feedmesh_ingest_{name}_total"
            and labels.items() <= sample.labels.items()
        )

    def heads(self) -> list[Head]:
        return [decode_head(payload)[0] for _, payload in self.publisher.sent]

    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(decode_head(p)[1]) for _, p in self.publisher.sent]

    def assert_accounted(self) -> None:
        received = self.count("received")
        gone = ("published", "deduplicated", "rejected", "quarantined")
        assert received == sum(self.count(name) for name in gone)


def tick(**fields: Any) -> str:
    event = {"s": "aapl", "t": NOW, "type": "T", "lp": 1.5, "ls": 1}
    return json.dumps(event | fields)


async def test_a_trade_becomes_a_message_with_all_its_times() -> None:
    bench = Bench()
    await bench.take(tick(t=NOW - 1_500_000_000, lp=189.450))

    ((subject, _),) = bench.publisher.sent
    (head,), (frame,) = bench.heads(), bench.frames()
    assert subject == "prices.us.AAPL"
    assert (head.kind, head.source, head.flags) == ("price", "fmp", ())
    assert head.event_at == "2026-11-18T11:06:38.500000Z"
    assert head.received_at == "2026-11-18T11:06:40.000000Z"
    assert frame["timestamp"] == (NOW - 1_500_000_000) // 10**6
    assert frame["cached_at"] == "2026-11-18T11:06:40"


async def test_what_a_cancelled_turn_has_not_taken_counts_as_not_received() -> None:
    bench = Bench()

    async def publish(subject: str, encode: Encode) -> None:
        raise asyncio.CancelledError

    bench.publisher.publish = publish  # type: ignore[method-assign]
    frame = json.dumps([json.loads(tick(t=NOW + n)) for n in range(3)])
    with pytest.raises(asyncio.CancelledError):
        await bench.take(frame)
    await asyncio.sleep(0)

    assert bench.count("received") == 1
    bench.assert_accounted()


async def test_the_time_of_a_frame_is_cut_to_milliseconds_not_rounded() -> None:
    bench = Bench()
    await bench.take(tick(t=NOW - 1))

    assert bench.frames()[0]["timestamp"] == NOW // 10**6 - 1


async def test_a_break_says_what_was_broken() -> None:
    bench = Bench()
    await bench.take(tick(), tick(type="B", t=NOW + 1))

    assert bench.heads()[1].broken == ("1.5", "1")
    assert bench.frames()[1]["last_price"] is None


async def test_a_message_has_the_version_that_it_is_sent_with() -> None:
    bench = Bench()
    await bench.take(tick())

    again, frame = decode_head(bench.publisher.newest["prices.us.AAPL"]((7, 9)))

    assert again.version == (7, 9)
    assert json.loads(frame) == bench.frames()[0]


async def test_status_has_numbers_of_its_own() -> None:
    """A status message must not look like a price that was missed."""
    bench = Bench()
    await bench.take(tick())
    told = [bench.ingest.next_version() for _ in range(2)]
    await bench.take(tick(t=NOW + 1))

    assert [seq for _, seq in told] == [1, 2]
    assert [head.seq for head in bench.heads()] == [1, 2]


async def test_symbols_that_nobody_wants_are_rejected() -> None:
    bench = Bench()
    await bench.take(tick(s="msft"))
    await bench.take(tick(), link="crypto")
    bench.ingest.expected["crypto"] = frozenset()
    await bench.take(tick(), link="crypto")

    assert bench.count("rejected", reason="unsubscribed") == 2
    bench.assert_accounted()


async def test_everything_may_be_wanted_but_not_another_feeds_market() -> None:
    bench = Bench("stream")
    bench.ingest.expected["stream"] = None
    await bench.take(
        '{"symbol":"ANY","price":1,"timestamp":1794999999}',
        '{"symbol":"005930","price":1,"timestamp":1794999999}',
        link="stream",
    )

    assert [subject for subject, _ in bench.publisher.sent] == ["prices.us.ANY"]
    bench.assert_accounted()


async def test_a_stream_that_repeats_itself_is_heard_once() -> None:
    bench = Bench("stream")
    bench.ingest.expected["stream"] = None
    quote = '{"symbol":"AAPL","price":1.5,"timestamp":1794999999,"volume":%d}'
    await bench.take(quote % 1, quote % 2, link="stream")

    assert len(bench.publisher.sent) == 1
    assert bench.count("deduplicated") == 1


async def test_what_cannot_be_understood_is_kept_with_the_reason() -> None:
    bench = Bench()
    await bench.take("{", b"\xff", "  ")

    assert [reason for reason, _ in bench.letters.kept] == [
        "not_json",
        "not_json",
        "empty",
    ]
    assert bench.count("quarantined") == 3
    bench.assert_accounted()


async def test_unknown_fields_are_counted_once_a_name() -> None:
    bench = Bench()
    await bench.take(tick(v=1), tick(v=2, t=NOW + 1), tick(w={}, t=NOW + 2))

    assert bench.count("unknown_fields") == 2
    assert len(bench.publisher.sent) == 3


async def test_unknown_fields_are_counted_up_to_a_bound() -> None:
    bench = Bench()
    await bench.take(*(tick(**{f"x{n}": 1, "t": NOW + n}) for n in range(1500)))

    assert bench.count("unknown_fields") == 1000


async def test_a_symbol_never_reaches_nats_unescaped() -> None:
    bench = Bench()
    bench.ingest.expected["stocks"] = None
    await bench.take(*(tick(s=s) for s in ("*", ">", "brk.b", "^gspc", "a b", "x.>")))

    subjects = [subject for subject, _ in bench.publisher.sent]
    assert subjects == ["prices.us.BRK=2EB", "prices.us.=5EGSPC"]
    assert bench.count("rejected", reason="bad_symbol") == 4


async def test_latency_is_not_hidden_when_clocks_disagree() -> None:
    bench = Bench()
    await bench.take(tick(t=NOW + 10**9), tick(t=None))

    name = "feedmesh_ingest_source_latency_seconds"
    assert bench.registry.get_sample_value(f"{name}_sum", {"feed": "fmp"}) == -1
    assert bench.registry.get_sample_value(f"{name}_count", {"feed": "fmp"}) == 1


values: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.integers(-2, 10**21),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["T", "Q", "B", "aapl", "brk-b", "btcusd", "*"]),
    st.just({}),
)
objects = st.dictionaries(
    st.sampled_from(["s", "t", "type", "e", "ap", "as", "bp", "bs", "lp", "ls", "x"]),
    values,
)
good = st.builds(
    lambda t, kind, price: json.loads(tick(t=NOW - t, type=kind, lp=price, ap=price)),
    st.integers(0, 3),
    st.sampled_from("TQB"),
    st.sampled_from([1, 1.5, 0, -1]),
)
any_frame = st.one_of(
    st.binary(),
    objects.map(json.dumps),
    good.map(json.dumps),
    st.lists(st.one_of(objects, good, values), max_size=5).map(json.dumps),
)


@given(st.lists(any_frame, max_size=20))
async def test_every_event_is_accounted_for(frames: list[str | bytes]) -> None:
    bench = Bench()
    bench.ingest.expected["stocks"] = None

    await bench.take(*frames)

    bench.assert_accounted()
    assert bench.count("published") == len(bench.publisher.sent)
    for frame in bench.frames():
        assert frame["type"] == "price_update"
