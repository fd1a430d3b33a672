"""What a service that reads prices is shown, and what it is spared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedmesh.messages import Version
from feedmesh.newest import NewestPrices, NewPrice
from feedmesh.prices import PriceState, encode_price


def message(symbol: str, version: Version, source: str = "fmp") -> bytes:
    state = PriceState(
        symbol=symbol, timestamp_ms=1, data_type="T", last_price=f"{version[1]}.50"
    )
    return encode_price(
        source, version, state, event_ns=0, received_ns=0, published_ns=0
    )


def shown(price: NewPrice | None) -> tuple[str, Version] | None:
    return None if price is None else (price.state.symbol, price.head.version)


def test_what_is_new_is_shown_as_the_feed_wrote_it() -> None:
    price = NewestPrices().live(message("AAPL", (1, 7)))

    assert price is not None
    assert (price.state.symbol, price.state.last_price) == ("AAPL", "7.50")
    assert (price.head.source, price.head.version) == ("fmp", (1, 7))


def test_what_comes_twice_or_late_is_shown_once() -> None:
    newest = NewestPrices()
    came = [("AAPL", (1, 2)), ("AAPL", (1, 2)), ("AAPL", (1, 1)), ("MSFT", (1, 1))]

    seen = [shown(newest.live(message(symbol, version))) for symbol, version in came]

    assert seen == [("AAPL", (1, 2)), None, None, ("MSFT", (1, 1))]


def test_a_replaced_writer_is_dropped_for_every_symbol_of_its_feed() -> None:
    newest = NewestPrices()
    newest.live(message("AAPL", (2, 1)))

    assert newest.live(message("MSFT", (1, 9))) is None
    assert newest.live(message("005930", (1, 9), source="ls")) is not None
    assert newest.live(message("MSFT", (2, 2))) is not None


def test_what_a_replaced_writer_had_stored_is_shown() -> None:
    """A symbol that the present writer has not sent yet has no newer value."""
    newest = NewestPrices()
    newest.live(message("AAPL", (2, 1)))

    assert newest.stored(message("MSFT", (1, 9))) is not None
    assert newest.stored(message("AAPL", (2, 1))) is None
    # Stored behind the next writer: too late.
    assert newest.stored(message("NVDA", (1, 10))) is None


def test_what_only_the_stream_told_of_replaces_a_writer_too() -> None:
    newest = NewestPrices()
    newest.stored(message("AAPL", (2, 1)))

    assert newest.live(message("MSFT", (1, 9))) is None


def test_the_stream_can_be_read_again_from_its_start() -> None:
    newest = NewestPrices()
    stream = [message("MSFT", (1, 9)), message("AAPL", (2, 1))]

    assert all(newest.stored(each) for each in stream)
    assert not any(newest.stored(each) for each in [*stream, message("AAPL", (1, 8))])


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"v":2,"frame":{}}', b"\xff"])
def test_what_is_no_price_message_is_refused(payload: bytes) -> None:
    newest = NewestPrices()

    with pytest.raises(ValueError, match="not a"):
        newest.live(payload)
    with pytest.raises(ValueError, match="not a"):
        newest.stored(payload)


versions = st.tuples(st.integers(1, 3), st.integers(1, 5))


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("ABC"), versions)))
def test_no_symbol_ever_goes_back(came: list[tuple[bool, str, Version]]) -> None:
    newest = NewestPrices()
    known: dict[str, Version] = {}
    for live, symbol, version in came:
        take = newest.live if live else newest.stored
        if take(message(symbol, version)):
            assert version > known.get(symbol, (0, 0))
            known[symbol] = version
