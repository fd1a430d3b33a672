"""What frames of FMP mean, bad ones included."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedmesh.errors import FrameError
from ingest_fmp.normalize import Event, Rejected, event_time, normalize


NOW = 1_795_000_000 * 10**9
T = 1_794_999_999_000_000_000


def events(frame: str | bytes, product: Any = "legacy") -> list[Event | Rejected]:
    data = frame.encode() if isinstance(frame, str) else frame
    return list(normalize(product, data, NOW).events)


def one(frame: str, product: Any = "legacy") -> Event:
    (event,) = events(frame, product)
    assert isinstance(event, Event), event
    return event


def tick(**fields: Any) -> str:
    return json.dumps({"s": "aapl", "t": T, "type": "T", "lp": 1.5, "ls": 1} | fields)


def test_a_recorded_stock_quote() -> None:
    event = one(
        '{"s":"key","t":1689947444488938500,"type":"Q","ap":11.84,"as":400,'
        '"bp":11.82,"bs":1000,"lp":null,"ls":null}'
    )

    assert event == Event(
        symbol="KEY",
        market="us",
        data_type="Q",
        event_ns=1689947444488938500,
        raw_time="1689947444488938500",
        last_price=None,
        last_size=None,
        ask_price="11.84",
        ask_size="400",
        bid_price="11.82",
        bid_size="1000",
        venue=None,
        flags=("old",),
    )


def test_the_official_crypto_quote_with_its_time_of_twenty_digits() -> None:
    event = one(
        '{"s":"btcusd","t":16487238632060000000,"e":"binance","type":"Q",'
        '"bs":0.00689248,"bp":47244.8,"as":1.72784126,"ap":47244.9}'
    )

    assert event.event_ns == 1648723863206 * 10**6
    assert (event.market, event.venue) == ("crypto", "binance")
    assert (event.bid_size, event.last_price) == ("0.00689248", None)


def test_the_official_forex_quote() -> None:
    event = one(
        '{"s":"eurusd","t":1701958248213,"type":"Q","ap":1.07865,"as":1000000,'
        '"bp":1.07856,"bs":1000000}'
    )

    assert (event.market, event.event_ns) == ("fx", 1701958248213 * 10**6)


def test_a_quote_of_the_stream_product() -> None:
    event = one(
        '{"symbol":"AAPL","name":"Apple Inc.","price":198.420,"changesPercentage":1.2,'
        '"volume":12345678,"timestamp":1794999999,"type":"stock",'
        '"updatedAt":"2026-05-15T16:30:00.504Z"}',
        "stream",
    )

    assert (event.symbol, event.data_type) == ("AAPL", "T")
    assert (event.last_price, event.last_size) == ("198.420", None)
    assert event.event_ns == T


def test_an_array_is_all_its_events_in_order_and_a_bad_one_hurts_no_other() -> None:
    found = events(f"[{tick(lp=1.1)},{tick(lp=0)},7,{tick(lp=1.3)}]")

    assert [getattr(e, "last_price", None) for e in found] == ["1.1", None, None, "1.3"]
    assert [getattr(e, "reason", None) for e in found] == [
        None,
        "bad_price",
        "not_an_object",
        None,
    ]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "empty"),
        (b"  \n ", "empty"),
        (b"{}{}", "not_json"),
        (b'"text"', "not_json"),
        (b"1", "not_json"),
        (b"null", "not_json"),
        (b"true", "not_json"),
        (b"\x00\x01\x02", "not_json"),
        (b'{"s":"aapl","t":1,"type":"T","lp":NaN}', "not_json"),
        (b'{"s":"aapl","t":1,"type":"T","lp":Infinity}', "not_json"),
        (b'{"s":"aapl"', "not_json"),
        (b'{"s":"\\ud800","t":1,"type":"T","lp":1}', "not_json"),
        (b"[" * 100_000, "not_json"),
        (b"[]", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b'{"s":"\xff"}', "not_utf8"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_frame_at_all_is_quarantined(frame: bytes, reason: str) -> None:
    with pytest.raises(FrameError) as raised:
        events(frame)

    assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"lp": 0}, "bad_price"),
        ({"lp": -1}, "bad_price"),
        ({"lp": None}, "bad_price"),
        ({"lp": {}}, "bad_field"),
        ({"lp": "1.5"}, "bad_field"),
        ({"lp": True}, "bad_field"),
        ({"ls": -1}, "bad_size"),
        ({"type": "X"}, "bad_type"),
        ({"type": None}, "bad_type"),
        ({"type": 7}, "bad_field"),
        ({"s": "*"}, "bad_symbol"),
        ({"s": ">"}, "bad_symbol"),
        ({"s": "a" * 10_000}, "bad_symbol"),
        ({"s": ""}, "bad_symbol"),
        ({"s": None}, "bad_symbol"),
        ({"s": 7}, "bad_field"),
        ({"type": "Q", "lp": None, "ls": None}, "no_price"),
        ({"type": "Q", "lp": None, "ap": 0, "bp": -1}, "bad_price"),
    ],
    ids=str,
)
def test_what_cannot_be_taken_is_rejected(fields: dict[str, Any], reason: str) -> None:
    assert events(tick(**fields)) == [Rejected(reason)]


@pytest.mark.parametrize("where", ["1.5", str(T), '"T"'])
def test_an_integer_of_a_million_digits_is_quarantined(where: str) -> None:
    with pytest.raises(FrameError):
        events(tick().replace(where, "9" * 1_000_000))


@pytest.mark.parametrize(
    "digits", ["9" * 41, "9" * 4300, "1." + "9" * 1_000_000, "1e400", "1e-400"]
)
def test_a_number_that_no_client_could_read_is_rejected(digits: str) -> None:
    assert events(tick().replace("1.5", digits)) == [Rejected("bad_price")]


@pytest.mark.parametrize("digits", ["1e400", "1E9999999999999999999", "-0.0", "-1e-9"])
def test_a_size_that_no_client_could_read_is_rejected(digits: str) -> None:
    frame = tick().replace('"ls": 1', f'"ls": {digits}')

    assert events(frame) == [Rejected("bad_size")]


def test_a_huge_size_is_still_a_whole_number() -> None:
    assert one(tick().replace('"ls": 1', '"ls": 1e300')).flags == ()


def test_one_monstrous_number_does_not_cost_the_rest_of_an_array() -> None:
    bad = tick().replace("1.5", "9" * 100_000)
    found = events(f"[{tick(lp=1.1)},{bad},{tick(lp=1.3)}]")

    assert isinstance(found[0], Event)
    assert found[1] == Rejected("bad_event")
    assert isinstance(found[2], Event)


@pytest.mark.parametrize("field", ["s", "t", "type", "lp", "new"])
def test_broken_utf8_anywhere_is_quarantined(field: str) -> None:
    frame = tick(**{field: "@"}).encode().replace(b"@", b"\xff")

    with pytest.raises(FrameError) as raised:
        events(frame)

    assert raised.value.reason == "not_utf8"


@pytest.mark.parametrize("symbol", ["ß", "ﬁ", "ſ", "ＡＡＰＬ", "аapl"])
def test_letters_that_only_look_like_a_symbol_are_rejected(symbol: str) -> None:
    assert events(tick(s=symbol)) == [Rejected("bad_symbol")]


def test_a_korean_code_is_another_feeds() -> None:
    assert events(tick(s="005930")) == [Rejected("other_market")]


@pytest.mark.parametrize("venue", [7, {}, "x" * 33])
def test_a_venue_that_is_none_is_rejected(venue: object) -> None:
    assert events(tick(s="btcusd", e=venue)) == [Rejected("bad_field")]


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"t": None}, "no_time"),
        ({"t": 1.5}, "bad_time"),
        ({"t": "now"}, "bad_time"),
        ({"t": True}, "bad_time"),
        ({"t": {}}, "bad_time"),
        ({"t": str(T)}, "bad_time"),
        ({"t": -T}, "bad_time"),
        ({"t": T + 600 * 10**9}, "bad_time"),
        ({"t": T - 2 * 86_400 * 10**9}, "old"),
        ({"lp": 1e308}, "extreme"),
        ({"lp": 1e-30}, "extreme"),
        ({"ls": 0.5}, "fractional_size"),
        ({"ap": 0, "as": 5}, "side_dropped"),
        ({"ap": 1, "as": -5}, "size_dropped"),
    ],
    ids=str,
)
def test_what_is_odd_is_published_with_a_flag(
    fields: dict[str, Any], flag: str
) -> None:
    assert flag in one(tick(**fields)).flags


def test_a_bad_side_of_a_quote_does_not_cost_the_good_one() -> None:
    event = one(tick(type="Q", lp=None, ls=None, ap=0, bp=1.25))

    assert (event.ask_price, event.bid_price) == (None, "1.25")


def test_lower_case_a_bom_and_unknown_fields_are_no_problem() -> None:
    frame = b"\xef\xbb\xbf" + tick(s="brk-b", new=1, other={}).encode()
    parsed = normalize("legacy", frame, NOW)

    assert isinstance(parsed.events[0], Event)
    assert parsed.events[0].symbol == "BRK-B"
    assert parsed.unknown == {"new", "other"}


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("999999999", None),
        ("1000000000", 10**18),
        ("9999999999", 9_999_999_999 * 10**9),
        ("10000000000", None),
        ("1000000000000", 10**18),
        ("9999999999999", 9_999_999_999_999 * 10**6),
        ("10000000000000", None),
        ("1000000000000000", 10**18),
        ("10000000000000000", None),
        ("1000000000000000000", 10**18),
        ("9999999999999999999", 9_999_999_999_999_999_999),
        ("10000000000000000000", 10**18),
        ("100000000000000000000", None),
        ("-1000000000", None),
        ("1e18", None),
        ("", None),
    ],
)
def test_the_unit_of_a_time_is_told_at_each_border(
    text: str, instant: int | None
) -> None:
    assert event_time(text) == instant


@pytest.mark.parametrize(
    ("instant", "flags"),
    [
        (NOW + 300 * 10**9, ()),
        (NOW + 300 * 10**9 + 1, ("bad_time",)),
        (NOW - 86_400 * 10**9, ()),
        (NOW - 86_400 * 10**9 - 1, ("old",)),
    ],
)
def test_how_far_a_time_may_be_from_the_receipt(
    instant: int, flags: tuple[str, ...]
) -> None:
    event = one(tick(t=instant))

    assert event.flags == flags
    assert event.event_ns == (NOW if "bad_time" in flags else instant)


@pytest.mark.parametrize(
    ("price", "flags"),
    [
        ("1e-9", ()),
        ("0.00000000099", ("extreme",)),
        ("999999999.99", ()),
        ("1000000000", ("extreme",)),
        ("1e9", ("extreme",)),
    ],
)
def test_where_a_price_begins_to_be_extreme(price: str, flags: tuple[str, ...]) -> None:
    assert one(tick().replace("1.5", price)).flags == flags


numbers = st.one_of(
    st.none(),
    st.integers(-(10**21), 10**21),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
)


@given(
    st.dictionaries(
        st.sampled_from(["s", "t", "type", "e", "ap", "as", "bp", "bs", "lp", "ls"]),
        numbers | st.sampled_from(["aapl", "T", "Q", "B", "btcusd"]),
    )
)
def test_any_object_is_an_event_or_rejected(fields: dict[str, Any]) -> None:
    try:
        found = events(json.dumps(fields))
    except FrameError:
        return
    assert all(isinstance(event, Event | Rejected) for event in found)


@given(
    st.dictionaries(
        st.sampled_from(["s", "t", "type", "e", "ap", "as", "bp", "bs", "lp", "ls"]),
        st.one_of(
            numbers,
            st.sampled_from(["aapl", "T", "Q", "B", "btcusd"]),
            st.integers(T - 10**15, T + 10**15),
        ),
    )
)
def test_a_field_that_we_do_not_know_changes_nothing_else(
    fields: dict[str, Any],
) -> None:
    try:
        plain = normalize("legacy", json.dumps(fields).encode(), NOW)
    except FrameError:
        return
    with_more = normalize("legacy", json.dumps(fields | {"v": 1.5}).encode(), NOW)

    assert with_more.events == plain.events
    assert not plain.unknown
    assert with_more.unknown == {"v"}


@given(st.binary())
def test_any_bytes_are_events_or_a_frame_error(frame: bytes) -> None:
    try:
        found = events(frame)
    except FrameError:
        return
    assert all(isinstance(event, Event | Rejected) for event in found)


@given(
    st.from_regex(r"\A[1-9][0-9]{0,6}(\.[0-9]{1,12})?([eE][+-]?[0-9])?\Z"),
    st.sampled_from(["lp", "ap", "bp", "ls", "as", "bs"]),
)
def test_digits_stay_as_they_were_written(digits: str, field: str) -> None:
    names = {"lp": 5, "ls": 6, "ap": 7, "as": 8, "bp": 9, "bs": 10}
    frame = tick(**({"type": "Q", "ap": 1, "bp": 1} | {field: "@"}))
    event = one(frame.replace('"@"', digits))

    assert event[names[field]] == digits
