"""The invented market: the same again from a seed, and believable."""

from __future__ import annotations

from collections import Counter

import pytest

from simulator.market import Tape, Tick
from simulator.universe import (
    Instrument,
    crypto_pairs,
    forex_pairs,
    streams,
    us_stocks,
)


ALL = (*us_stocks(), *crypto_pairs(), *forex_pairs())


def ticks(instrument: Instrument, count: int, seed: int = 1) -> list[Tick]:
    tape = Tape(seed, instrument)
    return [tape.next() for _ in range(count)]


def named(symbol: str) -> Instrument:
    return next(instrument for instrument in ALL if instrument.symbol == symbol)


def test_there_are_enough_symbols_of_each_market() -> None:
    assert len(us_stocks()) >= 300
    assert len(crypto_pairs()) >= 38
    assert len(forex_pairs()) >= 30


@pytest.mark.parametrize("symbol", ["aapl", "brk-b", "bf-b", "btcusd", "eurusd"])
def test_the_symbols_everybody_asks_for_are_there(symbol: str) -> None:
    assert named(symbol).symbol == symbol


@pytest.mark.parametrize("symbol", ["xauusd", "xagusd"])
def test_spot_metals_are_among_the_currencies(symbol: str) -> None:
    assert symbol in {pair.symbol for pair in forex_pairs()}


def test_symbols_are_unique_and_in_lower_case() -> None:
    symbols = [instrument.symbol for instrument in ALL]

    assert len(set(symbols)) == len(symbols)
    assert all(symbol == symbol.lower() for symbol in symbols)


@pytest.mark.parametrize("symbol", ["aapl", "btcusd", "eurusd"])
def test_the_same_seed_gives_the_same_events(symbol: str) -> None:
    assert ticks(named(symbol), 500) == ticks(named(symbol), 500)


def test_another_seed_gives_other_events() -> None:
    assert ticks(named("aapl"), 50, seed=1) != ticks(named("aapl"), 50, seed=2)


def test_a_symbol_does_not_depend_on_what_else_is_quoted() -> None:
    alone = ticks(named("aapl"), 100)
    aapl, msft = Tape(1, named("aapl")), Tape(1, named("msft"))

    beside = [(aapl.next(), msft.next())[0] for _ in range(100)]

    assert beside == alone


@pytest.mark.parametrize("instrument", ALL, ids=lambda item: str(item.symbol))
def test_prices_stay_sane(instrument: Instrument) -> None:
    for tick in ticks(instrument, 300):
        assert 0 < tick.bid < tick.ask
        assert instrument.price / 2 < tick.bid
        assert tick.ask < instrument.price * 2


@pytest.mark.parametrize("symbol", ["aapl", "btcusd"])
def test_quotes_outnumber_trades_and_breaks_are_rare(symbol: str) -> None:
    kinds = Counter(tick.kind for tick in ticks(named(symbol), 20_000))

    assert kinds["Q"] > 2 * kinds["T"]
    assert 0 < kinds["B"] < kinds["T"] / 50


def test_currencies_have_quotes_only() -> None:
    assert {tick.kind for tick in ticks(named("eurusd"), 2_000)} == {"Q"}


def test_a_break_repeats_a_recent_trade() -> None:
    recent: list[tuple[int, str]] = []

    for tick in ticks(named("aapl"), 20_000):
        if tick.kind == "T":
            recent.append((tick.last, tick.last_size))
        elif tick.kind == "B":
            assert (tick.last, tick.last_size) in recent[-50:]


def test_a_trade_is_at_the_bid_or_the_ask() -> None:
    trades = [tick for tick in ticks(named("aapl"), 2_000) if tick.kind == "T"]

    assert all(tick.last in (tick.bid, tick.ask) for tick in trades)


def test_the_streams_of_the_current_product_carry_something() -> None:
    assert {
        "fmp-us-equities-stream",
        "fmp-crypto-stream",
        "fmp-currency-stream",
        "fmp-index-stream",
        "fmp-commodity-stream",
    } <= streams().keys()
    assert all(streams().values())
