"""Envelopes and frames: what goes in comes out, digit for digit."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedmesh import messages
from feedmesh.clock import from_iso, iso
from feedmesh.digits import parse_digits, value_of
from feedmesh.news import NewsItem, Stock, decode_news, encode_news
from feedmesh.prices import PriceState, decode_frame, encode_frame, encode_price


digits = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, places=6).map(str),
    st.integers(-(10**20), 10**20).map(str),
    st.from_regex(r"\A[1-9]\.[0-9]{1,20}[eE][+-]?[0-9]{1,2}\Z"),
).filter(lambda text: "E" not in text or "." in text)
maybe_digits = st.none() | digits
any_text = st.text(st.characters(exclude_categories=["Cs"]))


def state_of(
    data_type: str,
    values: tuple[str | None, ...],
    timestamp_ms: int,
    cached_s: int = 0,
) -> PriceState:
    """Return a price whose six *values* are in the order of its frame."""
    return PriceState(
        symbol="BRK-B",
        timestamp_ms=timestamp_ms,
        data_type=data_type,  # type: ignore[arg-type] # drawn from the three
        last_price=values[0],
        last_size=values[1],
        ask_price=values[2],
        ask_size=values[3],
        bid_price=values[4],
        bid_size=values[5],
        cached_s=cached_s,
    )


@given(
    timestamp=st.integers(0, 10**14),
    data_type=st.sampled_from(["T", "Q", "B"]),
    values=st.tuples(*[maybe_digits] * 6),
)
def test_a_price_keeps_every_digit(
    timestamp: int, data_type: str, values: tuple[str | None, ...]
) -> None:
    state = state_of(data_type, values, timestamp)

    frame = encode_frame(state)

    assert decode_frame(frame) == state
    parsed = json.loads(frame, parse_float=Decimal, parse_int=Decimal)
    if values[0] is not None:
        assert parsed["last_price"] == value_of(values[0])


def test_the_price_frame_is_frozen() -> None:
    state = PriceState(
        symbol="AAPL",
        timestamp_ms=1699564800000,
        data_type="T",
        last_price="189.450",
        ask_size="5000",
        cached_s=1731240000,
    )

    assert encode_frame(state) == (
        b'{"type": "price_update", "symbol": "AAPL", "timestamp": 1699564800000,'
        b' "data_type": "T", "last_price": 189.450, "last_size": null,'
        b' "ask_price": null, "ask_size": 5000, "bid_price": null, "bid_size": null,'
        b' "cached_at": "2024-11-10T12:00:00"}'
    )


instants = st.integers(0, 2**62)


@given(
    values=st.tuples(*[maybe_digits] * 6),
    data_type=st.sampled_from(["T", "Q", "B"]),
    times=st.tuples(instants, instants, instants),
    cached=st.integers(0, 2**33),
    version=st.tuples(st.integers(0, 2**53), st.integers(0, 2**53)),
    flags=st.lists(any_text, max_size=2).map(tuple),
    venue=st.none() | any_text,
    broken=st.none() | st.tuples(maybe_digits, maybe_digits),
)
def test_the_short_way_makes_the_same_bytes(
    values: tuple[str | None, ...],
    data_type: str,
    times: tuple[int, int, int],
    cached: int,
    version: tuple[int, int],
    flags: tuple[str, ...],
    venue: str | None,
    broken: tuple[str | None, str | None] | None,
) -> None:
    state = state_of(data_type, values, times[0] // 10**6, cached)
    about: dict[str, Any] = {
        "event_ns": times[0],
        "received_ns": times[1],
        "published_ns": times[2],
        "flags": flags,
        "venue": venue,
        "broken": broken,
    }
    head = messages.head("price", "fmp", version, **about)

    short = encode_price("fmp", version, state, **about)

    assert short == messages.encode(head, encode_frame(state))


def test_what_another_writer_sent_gets_our_version_and_stays_the_same() -> None:
    head = messages.head(
        "price",
        "fmp",
        (1, 1),
        event_ns=10**18,
        received_ns=10**18,
        published_ns=10**18,
        flags=("late",),
        venue="binance",
    )
    frame = b'{"last_price": 189.450}'

    again = messages.renewed(messages.encode(head, frame), (2, 5))

    found, cut = messages.decode_head(again)
    assert cut == frame
    assert found.version == (2, 5)
    assert found.published_at > head.published_at
    assert (found.event_at, found.flags, found.venue) == (
        head.event_at,
        ("late",),
        "binance",
    )


@given(title=any_text, extra=any_text, flag=any_text)
def test_a_frame_is_cut_out_as_it_was_put_in(title: str, extra: str, flag: str) -> None:
    """Not even text that looks like the border between head and frame may confuse."""
    item = NewsItem(
        date="20230614",
        time="095217",
        id="27",
        realkey=',"frame":{"a":1}}',
        title=title,
        bodysize="1",
        code="",
        provider=None,
        news_type="article",
        stocks=(Stock("011810", None),),
        published_at="2023-06-14T09:52:17+09:00",
        received_at="2023-06-14T00:52:30Z",
    )
    head = messages.head(
        "news",
        "ls",
        (7, 9),
        event_ns=0,
        received_ns=0,
        published_ns=0,
        id=',"frame":',
        flags=(flag,),
        extra=(("frame", extra), (',"frame":', '{"frame":1}')),
    )

    payload = messages.encode(head, encode_news(item))
    decoded, frame = messages.decode_head(payload)

    assert decoded == head
    assert decoded.version == (7, 9)
    assert decode_news(frame) == item
    assert json.loads(payload)["frame"]["title"] == title


@given(st.binary())
def test_garbage_is_no_message(payload: bytes) -> None:
    with pytest.raises(ValueError, match="message"):
        messages.decode_head(payload)


def test_another_schema_version_is_refused() -> None:
    head = messages.head(
        "price", "fmp", (1, 1), event_ns=0, received_ns=0, published_ns=0
    )
    payload = messages.encode(head, b"{}").replace(b'"v":1', b'"v":2')

    with pytest.raises(ValueError, match="version"):
        messages.decode_head(payload)


def test_unknown_keys_are_ignored() -> None:
    head = messages.head(
        "price", "fmp", (1, 1), event_ns=0, received_ns=0, published_ns=0
    )
    payload = messages.encode(head, b"{}").replace(b'{"v":1', b'{"new":[1],"v":1')

    assert messages.decode_head(payload)[0] == head


@pytest.mark.parametrize(
    "text",
    ["", "NaN", "Infinity", "-", "01", "1.", ".5", "1e", "0x1", "1" * 41, "１", " 1"],
)
def test_what_is_no_json_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        parse_digits(text)


@given(st.integers(0, 2**62))
def test_times_keep_their_microseconds_and_their_zone(instant: int) -> None:
    text = iso(instant)

    assert text.endswith("Z")
    assert from_iso(text) == instant // 1000 * 1000


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        from_iso("2024-11-10T12:00:00")


def test_a_korean_offset_is_understood() -> None:
    assert from_iso("2023-06-14T09:52:17+09:00") == 1686703937 * 10**9
