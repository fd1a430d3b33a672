"""The state of a symbol after its events, in whatever order they come."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from feedmesh.prices import PriceState
from ingest_fmp.merge import Duplicate, Merged, Merger, OtherVenue
from ingest_fmp.normalize import Event
from ingest_fmp.routing import route


SECOND = 10**9
NOW = 1_795_000_000 * SECOND


def event(data_type: Any, at: int, **fields: Any) -> Event:
    values: dict[str, Any] = dict.fromkeys(Event._fields)
    values |= {
        "symbol": "AAPL",
        "market": "us",
        "data_type": data_type,
        "event_ns": NOW + at * SECOND,
        "raw_time": str(NOW + at * SECOND),
        "flags": (),
    }
    return Event(**(values | fields))


def trade(at: int, price: str, size: str = "1") -> Event:
    return event("T", at, last_price=price, last_size=size)


def quote(at: int, ask: str | None, bid: str | None) -> Event:
    return event("Q", at, ask_price=ask, ask_size="1", bid_price=bid, bid_size="1")


def crypto(at: int, price: str, venue: str | None) -> Event:
    return trade(at, price)._replace(symbol="BTCUSD", market="crypto", venue=venue)


def taken(merger: Merger, what: Event) -> Merged:
    merged = merger.merge(what, NOW)
    assert isinstance(merged, Merged), merged
    return merged


def test_trade_and_quote_are_merged() -> None:
    merger = Merger()
    taken(merger, trade(1, "10"))

    state = taken(merger, quote(2, "11", "9")).state

    assert (state.last_price, state.ask_price, state.bid_price) == ("10", "11", "9")
    assert state.data_type == "Q"


def test_what_is_not_given_erases_nothing() -> None:
    merger = Merger()
    taken(merger, quote(1, "11", "9"))

    state = taken(merger, quote(2, "12", None)).state

    assert (state.ask_price, state.bid_price) == ("12", "9")


def test_a_late_event_is_told_and_overwrites_nothing_newer() -> None:
    merger = Merger()
    taken(merger, trade(5, "10"))

    late = taken(merger, trade(3, "8"))

    assert late.flags == ("late",)
    assert late.state.last_price == "10"
    assert late.state.timestamp_ms == (NOW + 5 * SECOND) // 10**6


def test_a_late_trade_is_taken_if_only_quotes_are_newer() -> None:
    merger = Merger()
    taken(merger, quote(5, "11", "9"))

    late = taken(merger, trade(3, "8"))

    assert late.flags == ("late",)
    assert late.state.last_price == "8"


def test_a_duplicate_is_told_apart_from_a_new_trade_at_the_same_price() -> None:
    merger = Merger()
    taken(merger, trade(1, "10"))
    taken(merger, quote(1, "11", "9"))

    assert isinstance(merger.merge(trade(1, "10"), NOW), Duplicate)
    assert isinstance(merger.merge(trade(2, "10"), NOW), Merged)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 12),
            st.sampled_from(["1", "2"]),
            st.sampled_from([(), ("old",), ("bad_time",)]),
        ),
        max_size=40,
    )
)
def test_what_is_a_duplicate_is_what_was_said_among_the_last_eight(
    steps: list[tuple[int, str, tuple[str, ...]]],
) -> None:
    """However late, and even if the time that was said made no sense."""
    merger = Merger()
    said: list[tuple[int, str]] = []
    for number, (at, price, flags) in enumerate(steps):
        what = trade(at, price)._replace(flags=flags)
        if "bad_time" in flags:
            what = what._replace(event_ns=NOW + number)
        merged = merger.merge(what, NOW + number)

        assert isinstance(merged, Duplicate) == ((at, price) in said[-8:])
        if isinstance(merged, Merged):
            said.append((at, price))


def test_without_a_time_nothing_is_a_duplicate() -> None:
    merger = Merger()
    untimed = trade(1, "10")._replace(raw_time="", flags=("no_time",))

    taken(merger, untimed)
    taken(merger, untimed)


def test_a_broken_trade_never_is_the_last_price() -> None:
    merger = Merger()
    taken(merger, trade(1, "10"))
    taken(merger, trade(2, "99"))

    broken = taken(merger, event("B", 3, last_price="99.0", last_size="1"))

    assert broken.state.last_price == "10"
    assert broken.state.data_type == "B"
    assert broken.broken == ("99.0", "1")


def test_a_break_of_an_older_trade_changes_no_price() -> None:
    merger = Merger()
    taken(merger, trade(1, "10"))
    taken(merger, trade(2, "11"))

    broken = taken(merger, event("B", 3, last_price="10", last_size="1"))

    assert broken.state.last_price == "11"


def test_a_quote_that_repeats_the_last_trade_does_not_shield_it_from_a_break() -> None:
    merger = Merger()
    taken(merger, trade(1, "10"))
    taken(merger, trade(2, "99"))
    repeat = quote(3, "100", "98")._replace(last_price="99", last_size="1")
    taken(merger, repeat)

    broken = taken(merger, event("B", 4, last_price="99", last_size="1"))

    assert (broken.state.last_price, broken.state.last_size) == ("10", "1")


def test_of_two_equal_trades_a_break_leaves_the_other() -> None:
    merger = Merger()
    taken(merger, trade(1, "10"))
    taken(merger, trade(2, "10"))

    broken = taken(merger, event("B", 3, last_price="10", last_size="1"))

    assert broken.state.last_price == "10"


def test_a_break_of_another_size_is_of_another_trade() -> None:
    merger = Merger()
    taken(merger, trade(1, "10", "5"))

    broken = taken(merger, event("B", 2, last_price="10", last_size="6"))

    assert broken.state.last_price == "10"


def test_a_size_alone_is_the_size_at_the_known_price() -> None:
    merger = Merger()
    taken(merger, quote(1, "11", "9"))
    only_size = event("Q", 2, ask_size="7", bid_price="9.5", bid_size="3")

    state = taken(merger, only_size).state

    assert (state.ask_price, state.ask_size) == ("11", "7")
    assert (state.bid_price, state.bid_size) == ("9.5", "3")


def test_a_size_without_any_price_is_of_nothing() -> None:
    state = taken(Merger(), event("Q", 1, ask_size="7", bid_price="9")).state

    assert (state.ask_price, state.ask_size) == (None, None)


def test_a_new_price_does_not_keep_the_size_of_the_old_one() -> None:
    merger = Merger()
    taken(merger, trade(1, "10", "5"))

    state = taken(merger, event("T", 2, last_price="11")).state

    assert (state.last_price, state.last_size) == ("11", None)


def test_only_the_last_eight_events_are_compared() -> None:
    merger = Merger()
    taken(merger, trade(0, "1"))
    for at in range(1, 8):
        taken(merger, trade(at, "2"))
    assert isinstance(merger.merge(trade(0, "1"), NOW), Duplicate)

    taken(merger, trade(8, "2"))

    assert isinstance(merger.merge(trade(0, "1"), NOW), Merged)


def test_a_break_alone_gives_no_price() -> None:
    broken = taken(Merger(), event("B", 3, last_price="10", last_size="1"))

    assert broken.state.last_price is None


def test_one_venue_leads_until_it_is_silent() -> None:
    merger = Merger()
    first = crypto(1, "10", "binance")
    other = crypto(2, "11", "coinbase")
    taken(merger, first)

    assert isinstance(merger.merge(other, NOW + 29 * SECOND), OtherVenue)
    assert isinstance(merger.merge(other, NOW + 31 * SECOND), Merged)
    assert isinstance(merger.merge(first, NOW + 32 * SECOND), OtherVenue)


def test_the_preferred_venue_leads_whenever_it_is_heard() -> None:
    merger = Merger("binance")
    taken(merger, crypto(1, "10", "coinbase"))
    taken(merger, crypto(2, "11", "binance"))

    other = crypto(3, "12", "coinbase")
    assert isinstance(merger.merge(other, NOW), OtherVenue)


def test_an_event_without_a_venue_does_not_mix_with_one_that_leads() -> None:
    merger = Merger()
    taken(merger, crypto(1, "10", "binance"))

    assert isinstance(merger.merge(crypto(2, "11", None), NOW), OtherVenue)


def test_venues_are_of_crypto_alone() -> None:
    merger = Merger("binance")
    taken(merger, trade(1, "10"))
    taken(merger, trade(2, "11")._replace(venue="elsewhere"))


def test_a_new_writer_continues_from_what_was_published() -> None:
    merger = Merger()
    at = NOW // 10**6
    merger.seed(
        PriceState(
            symbol="AAPL",
            timestamp_ms=at,
            data_type="Q",
            last_price="10",
            ask_price="9",
        )
    )

    state = taken(merger, quote(1, None, "8")).state

    assert (state.last_price, state.ask_price, state.bid_price) == ("10", "9", "8")


@given(st.permutations(range(6)))
def test_the_newest_of_each_side_wins_in_whatever_order(order: list[int]) -> None:
    merger = Merger()
    steps = [
        trade(1, "1"),
        trade(2, "2"),
        trade(3, "3"),
        quote(1, "1", "1"),
        quote(2, "2", "2"),
        quote(3, "3", "3"),
    ]

    for index in order:
        state = taken(merger, steps[index]).state

    assert (state.last_price, state.ask_price, state.bid_price) == ("3", "3", "3")
    assert state.timestamp_ms == (NOW + 3 * SECOND) // 10**6


def test_a_stream_flows_only_if_somebody_wants_a_symbol() -> None:
    streams = ("fmp-crypto-stream",)
    nothing = frozenset[str]()

    assert not route("stream", nothing, streams)["stream"].keys
    assert not route("stream", frozenset({"005930"}), streams)["stream"].keys
    assert route("stream", nothing, streams, everything=True)["stream"].keys
    assert route("stream", frozenset({"AAPL"}), streams)["stream"].keys


def test_symbols_are_routed_by_their_market() -> None:
    symbols = frozenset({"AAPL", "BTCUSD", "EURUSD", "005930"})

    legacy = route("legacy", symbols, ())
    stream = route("stream", symbols, ("fmp-us-equities-stream",))

    assert {link: set(wanted.keys) for link, wanted in legacy.items()} == {
        "stocks": {"AAPL"},
        "crypto": {"BTCUSD"},
        "forex": {"EURUSD"},
    }
    assert stream["stream"].keys == {"fmp-us-equities-stream"}
    assert stream["stream"].symbols == {"AAPL", "BTCUSD", "EURUSD"}
