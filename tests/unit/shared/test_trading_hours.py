"""When markets are open: by the table, by the week, and never by a guess."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import make_trading_hours
import pytest

from feedmesh.trading_hours import (
    ALWAYS_OPEN,
    FOREX,
    UNKNOWN_HOURS,
    Hours,
    Phase,
    TradingTime,
    any_of,
    exchange,
)


def at(text: str) -> int:
    """Return an instant that is given with its zone."""
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000


def test_the_committed_table_is_what_the_library_says() -> None:
    assert make_trading_hours.TABLE.read_text() == make_trading_hours.render(), (
        "run: python tests/make_trading_hours.py"
    )


@pytest.mark.parametrize("code", make_trading_hours.EXCHANGES)
def test_every_session_is_read_as_the_library_has_it(code: str) -> None:
    expected = [
        (at(f"{day}T{opens}+00:00"), at(f"{day}T{closes}+00:00"))
        for day, (opens, closes) in sorted(make_trading_hours.sessions(code).items())
    ]

    assert exchange(code).sessions == expected
    for opens, closes in expected:
        assert exchange(code).at(opens - 1).phase is Phase.CLOSED
        assert exchange(code).at(opens) == TradingTime(Phase.OPEN, opens)
        assert exchange(code).at(closes - 1) == TradingTime(Phase.OPEN, opens)
        assert exchange(code).at(closes).phase is Phase.CLOSED


@pytest.mark.parametrize(
    ("instant", "phase"),
    [
        ("2026-07-15T09:29:59-04:00", Phase.CLOSED),
        ("2026-07-15T09:30:00-04:00", Phase.OPEN),
        ("2026-11-27T12:59:59-05:00", Phase.OPEN),
        # The day after Thanksgiving ends early.
        ("2026-11-27T13:00:00-05:00", Phase.CLOSED),
        ("2026-12-25T12:00:00-05:00", Phase.CLOSED),
        ("2026-11-21T12:00:00-05:00", Phase.CLOSED),
    ],
)
def test_new_york_keeps_its_hours(instant: str, phase: Phase) -> None:
    assert exchange("XNYS").at(at(instant)).phase is phase


@pytest.mark.parametrize(
    ("instant", "phase"),
    [
        ("2026-07-15T09:00:00+09:00", Phase.OPEN),
        ("2026-07-15T15:30:00+09:00", Phase.CLOSED),
        # The first day of a year begins an hour late.
        ("2026-01-02T09:59:59+09:00", Phase.CLOSED),
        ("2026-01-02T10:00:00+09:00", Phase.OPEN),
        # Lunar new year.
        ("2026-02-17T11:00:00+09:00", Phase.CLOSED),
    ],
)
def test_seoul_keeps_its_hours(instant: str, phase: Phase) -> None:
    assert exchange("XKRX").at(at(instant)).phase is phase


@pytest.mark.parametrize("instant", ["2023-12-29T15:00:00Z", "2031-01-02T15:00:00Z"])
def test_outside_of_the_table_nothing_is_known(instant: str) -> None:
    """Not "closed", which would excuse a feed that is dead."""
    for code in make_trading_hours.EXCHANGES:
        assert exchange(code).at(at(instant)).phase is Phase.UNKNOWN


@pytest.mark.parametrize(
    ("instant", "phase"),
    [
        ("2026-07-10T16:59:59-04:00", Phase.OPEN),
        ("2026-07-10T17:00:00-04:00", Phase.CLOSED),
        ("2026-07-11T12:00:00-04:00", Phase.CLOSED),
        ("2026-07-12T16:59:59-04:00", Phase.CLOSED),
        ("2026-07-12T17:00:00-04:00", Phase.OPEN),
        ("2026-07-15T03:00:00-04:00", Phase.OPEN),
        # Clocks change in this night, at 2:00.
        ("2026-11-01T16:59:59-05:00", Phase.CLOSED),
        ("2026-11-01T17:00:00-05:00", Phase.OPEN),
        ("2026-12-24T16:59:59-05:00", Phase.OPEN),
        ("2026-12-24T17:00:00-05:00", Phase.UNKNOWN),
        ("2026-12-25T16:59:59-05:00", Phase.UNKNOWN),
        ("2026-12-31T17:00:00-05:00", Phase.UNKNOWN),
        ("2026-12-29T17:00:00-05:00", Phase.OPEN),
    ],
)
def test_currencies_trade_from_sunday_to_friday(instant: str, phase: Phase) -> None:
    assert FOREX.at(at(instant)).phase is phase


def test_crypto_never_closes() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for hour in range(24 * 366):
        moment = start + timedelta(hours=hour)
        assert ALWAYS_OPEN.at(at(moment.isoformat())).phase is Phase.OPEN


@pytest.mark.parametrize(
    ("several", "phase"),
    [
        ([exchange("XNYS"), ALWAYS_OPEN], Phase.OPEN),
        ([exchange("XNYS"), FOREX], Phase.CLOSED),
        ([exchange("XNYS"), UNKNOWN_HOURS], Phase.UNKNOWN),
    ],
)
def test_several_markets_are_open_if_one_is(several: list[Hours], phase: Phase) -> None:
    saturday = at(f"{date(2026, 7, 11)}T12:00:00Z")
    assert any_of(*several).at(saturday).phase is phase
