"""Subjects and symbols: legal, reversible, and in the right market."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedmesh import subjects
from feedmesh.symbols import market_of, parse_symbol


LEGAL_TOKEN = re.compile(r"[-_=a-zA-Z0-9]+")


@given(st.text(min_size=1).filter(lambda t: t.isprintable()))
def test_escaping_is_reversible_and_legal(text: str) -> None:
    token = subjects.escape(text)

    assert LEGAL_TOKEN.fullmatch(token)
    assert subjects.unescape(token) == text


@given(st.text(min_size=1, max_size=20))
def test_what_is_no_token_is_refused(token: str) -> None:
    try:
        text = subjects.unescape(token)
    except ValueError:
        return
    assert subjects.escape(text) == token


def test_an_empty_token_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        subjects.escape("")


def test_subjects_name_kind_and_key() -> None:
    assert subjects.price("us", "BRK.B") == "prices.us.BRK=2EB"
    assert subjects.news("article") == "news.article"
    assert subjects.news("disclosure", "005930") == "news.disclosure.005930"
    assert subjects.tokens("prices.us.BRK=2EB") == ["prices", "us", "BRK.B"]


@pytest.mark.parametrize("evil", ["*", ">", "prices.>", "$JS.API.>", "a b", "\n"])
def test_wildcards_never_pass_as_part_of_a_subject(evil: str) -> None:
    token = subjects.escape(evil)

    assert not set(token) & set("*>.$ \n")


@pytest.mark.parametrize(
    ("symbol", "market"),
    [
        ("AAPL", "us"),
        ("BRK-B", "us"),
        ("GOOGL", "us"),
        ("USD", "us"),
        ("BTCUSD", "crypto"),
        ("DOGEUSDT", "crypto"),
        ("1INCHUSD", "crypto"),
        ("EURUSD", "fx"),
        ("USDJPY", "fx"),
        ("XAUUSD", "fx"),
        ("005930", "kr"),
        ("0017J0", "kr"),
    ],
)
def test_the_market_follows_from_the_symbol(symbol: str, market: str) -> None:
    assert market_of(parse_symbol(symbol)) == market


@pytest.mark.parametrize(
    "text", ["", " ", "*", ">", "A.*>", "A" * 21, "ÄÖ", "a b", "$"]
)
def test_what_cannot_be_a_symbol_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="symbol"):
        parse_symbol(text)


def test_symbols_are_upper_case() -> None:
    assert parse_symbol(" brk-b ") == "BRK-B"
