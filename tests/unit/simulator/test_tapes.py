"""Prices, wire texts and Korean tapes, without any socket."""

from __future__ import annotations

import json
import math
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.clock import KST
from simulator.fmp_frames import Shape, quote_text, tick_text, timestamp_text
from simulator.korea import KoreanTape, OverseasTape, tick_size
from simulator.market import Tape
from simulator.universe import (
    Instrument,
    companies,
    companies_by_code,
    crypto_pairs,
    forex_pairs,
    us_stocks,
)
from simulator.wire import decimal_text, through_float64


NOW = datetime(2026, 11, 20, 10, 30, 0, tzinfo=KST)
NANOSECONDS = 1_645_216_790_788_174_592


def _stock(symbol: str) -> Instrument:
    return next(i for i in us_stocks() if i.symbol == symbol)


@pytest.mark.parametrize(
    ("units", "places", "text"),
    [
        (18945, 2, "189.45"),
        (15000, 2, "150"),
        (18940, 2, "189.4"),
        (5, 2, "0.05"),
        (-189, 2, "-1.89"),
        (1, 8, "1e-8"),
        (25, 8, "2.5e-7"),
        (2456, 8, "0.00002456"),
        (0, 4, "0"),
    ],
)
def test_prints_a_price_as_javascript_does(units: int, places: int, text: str) -> None:
    assert decimal_text(units, places) == text


@given(st.integers(-(10**12), 10**12), st.integers(0, 8))
def test_a_price_text_is_the_shortest_for_its_value(units: int, places: int) -> None:
    """It parses to the nearest double and holds no float noise."""
    text = decimal_text(units, places)

    assert float(text) == units / 10**places
    assert len(text.lstrip("-")) <= len(str(abs(units))) + places + 4


def test_rounds_nanoseconds_through_a_float() -> None:
    """The official stock sample ends in ...174600, which no exact clock would say."""
    assert through_float64(1_645_216_790_788_174_592) == "1645216790788174600"
    assert through_float64(1_689_947_444_488_938_496) == "1689947444488938500"


@given(st.integers(10**18, 4 * 10**18))
def test_a_rounded_stamp_is_the_same_double(number: int) -> None:
    assert float(through_float64(number)) == float(number)


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("ns", "1645216790788174600"),
        ("us", "1645216790788174"),
        ("ms", "1645216790788"),
        ("20 digits", "16452167907880000000"),
        ("s", "1645216790"),
        ("null", "null"),
        ("missing", None),
    ],
)
def test_writes_a_stamp_in_each_unit(unit: str, text: str | None) -> None:
    assert timestamp_text(unit, NANOSECONDS) == text


def test_a_symbol_is_the_same_for_the_same_seed() -> None:
    apple = _stock("aapl")

    one, two, other = Tape(7, apple), Tape(7, apple), Tape(8, apple)
    ticks = [one.next() for _ in range(500)]

    assert ticks == [two.next() for _ in range(500)]
    assert ticks != [other.next() for _ in range(500)]


@pytest.mark.parametrize("instrument", [_stock("aapl"), _stock("brk-b")])
def test_a_stock_is_believable(instrument: Instrument) -> None:
    """Bid below ask, quotes before trades, rare breaks, and no wandering off."""
    tape = Tape(1, instrument)
    ticks = [tape.next() for _ in range(20_000)]
    kinds = [tick.kind for tick in ticks]

    assert all(0 < tick.bid < tick.ask for tick in ticks)
    assert kinds.count("Q") > 2 * kinds.count("T") > 100 * kinds.count("B") > 0
    middle = [(tick.bid + tick.ask) / 2 for tick in ticks]
    assert max(middle) < instrument.price * 1.2
    assert min(middle) > instrument.price * 0.8


def test_a_break_names_an_earlier_trade() -> None:
    tape = Tape(1, _stock("msft"))
    traded: set[tuple[int, str]] = set()
    broken = 0

    for tick in (tape.next() for _ in range(20_000)):
        if tick.kind == "T":
            traded.add((tick.last, tick.last_size))
        elif tick.kind == "B":
            broken += 1
            assert (tick.last, tick.last_size) in traded

    assert broken


def test_forex_is_quotes_only() -> None:
    tape = Tape(1, forex_pairs()[0])

    assert {tape.next().kind for _ in range(2_000)} == {"Q"}


def test_every_instrument_makes_valid_frames() -> None:
    for instrument in (*us_stocks(), *crypto_pairs(), *forex_pairs()):
        tape = Tape(1, instrument)
        for _ in range(20):
            text = tick_text(tape, tape.next(), NANOSECONDS, Shape(), "binance")
            frame = json.loads(text)
            assert frame["s"] == instrument.symbol
            assert (frame.get("e") == "binance") is (instrument.market == "crypto")
            prices = [frame[k] for k in ("ap", "bp", "lp") if frame.get(k) is not None]
            assert prices
            assert all(price > 0 for price in prices)
            near = instrument.price / 10**instrument.places
            assert all(math.isclose(price, near, rel_tol=0.1) for price in prices)


def test_a_stock_quote_has_the_recorded_shape() -> None:
    tape = Tape(1, _stock("key"))
    text = next(
        tick_text(tape, tick, 1_689_947_444_488_938_496, Shape(), "")
        for tick in iter(tape.next, None)
        if tick.kind == "Q"
    )

    keys = list(json.loads(text))
    assert keys == ["s", "t", "type", "ap", "as", "bp", "bs", "lp", "ls"]
    assert text.startswith('{"s":"key","t":1689947444488938500,"type":"Q","ap":')
    assert text.endswith(',"lp":null,"ls":null}')


def test_a_current_quote_has_upper_case_and_seconds() -> None:
    tape = Tape(1, _stock("brk-b"))
    while tape.next().kind != "T":
        pass

    now = json.loads(quote_text(tape, NANOSECONDS, Shape(), delayed=False))
    late = json.loads(quote_text(tape, NANOSECONDS, Shape(), delayed=True))

    assert now["symbol"] == "BRK-B"
    assert now["timestamp"] == 1645216790
    assert late["timestamp"] == 1645216790 - 900
    assert now["updatedAt"] == "2022-02-18T20:39:50.788Z"
    assert now["change"] == pytest.approx(
        now["price"] - now["previousClose"], abs=0.005
    )
    assert "bid" not in now


def test_the_universe_is_what_was_promised() -> None:
    symbols = [i.symbol for i in us_stocks()]
    codes = [company.code for company in companies()]

    assert len(symbols) == len(set(symbols)) > 300
    assert {"brk-b", "bf-b", "aapl"} <= set(symbols)
    assert len(crypto_pairs()) == 40
    assert {"xauusd", "xagusd", "eurusd"} <= {i.symbol for i in forex_pairs()}
    assert len(codes) == len(set(codes)) > 300
    assert all(len(code) == 6 for code in codes)
    assert {"005930", "122870", "145270", "0017J0", "086520"} <= set(codes)
    assert {company.kind for company in companies()} == {"0", "1", "2"}


def test_cumulative_volume_grows_by_each_trade() -> None:
    tape = KoreanTape(1, companies_by_code()["005930"])
    total = 0

    for _ in range(2_000):
        body = tape.trade(NOW)
        total += int(body["cvolume"])
        price, change = int(body["price"]), int(body["change"])
        sign = {"2": 1, "1": 1, "3": 0, "4": -1, "5": -1}[body["sign"]]
        assert int(body["volume"]) == total
        assert price == tape.close + sign * change
        assert math.copysign(1, float(body["drate"])) == (sign or 1)
        assert int(body["bidho"]) < int(body["offerho"])
        assert int(body["low"]) <= price <= int(body["high"])
        assert price % tick_size(price) == 0

    assert len(body) == 27
    assert all(isinstance(value, str) for value in body.values())


def test_a_book_has_ten_levels_on_each_side() -> None:
    tape = KoreanTape(1, companies_by_code()["086520"])

    body = tape.book(NOW)

    asks = [int(body[f"offerho{i}"]) for i in range(1, 11)]
    bids = [int(body[f"bidho{i}"]) for i in range(1, 11)]
    assert asks == sorted(asks)
    assert bids == sorted(bids, reverse=True)
    assert bids[0] < asks[0]
    assert int(body["totbidrem"]) == sum(int(body[f"bidrem{i}"]) for i in range(1, 11))


def test_a_unified_book_has_a_blank_volume() -> None:
    body = KoreanTape(1, companies_by_code()["005930"]).unified_book(NOW, "U005930   ")

    assert body["volume"] == " "
    assert body["ex_shcode"] == "U005930"
    assert {"krx_offerrem1", "nxt_bidrem10", "unt_totbidrem", "krx_midprice"} <= set(
        body
    )


def test_an_overseas_trade_carries_both_dates() -> None:
    tape = OverseasTape(1, "SOXL", 2740)

    body = tape.trade(NOW, datetime(2026, 11, 19, 20, 30, 0))

    assert (body["kordate"], body["ovsdate"]) == ("20261120", "20261119")
    assert len(body["price"].partition(".")[2]) == 4
