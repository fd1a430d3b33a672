"""What FMP is asked, and what its answers mean."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from unit.ingest_fmp.frames import frame

from feedmesh.errors import FeedBusyError, FeedError, FeedRefusedError
from feedmesh.ingest.dialect import Control
from feedmesh.ingest.subscriptions import Request
from feedmesh.ingest.wire import tls_context
from ingest_fmp.upstream import FmpDialect


def dialect(*, by_stream: bool = False) -> FmpDialect:
    return FmpDialect(
        "stream" if by_stream else "stocks",
        "ws://localhost",
        SecretStr("the-secret"),
        by_stream=by_stream,
        tls=tls_context(None),
        ping_seconds=None,
    )


DIALECT = dialect()


def reading(**answer: object) -> object:
    return DIALECT.read(json.dumps(answer).encode())


def test_tickers_go_out_in_lower_case() -> None:
    text = dialect().ask(Request("subscribe", ("AAPL", "MSFT")))

    assert text.encode() == frame("legacy stocks subscribe, list")


def test_a_class_share_keeps_its_dash() -> None:
    text = dialect().ask(Request("unsubscribe", ("BRK-B",)))

    assert json.loads(text) == {"event": "unsubscribe", "data": {"ticker": ["brk-b"]}}


def test_a_stream_is_asked_for_by_its_name() -> None:
    text = dialect(by_stream=True).ask(Request("subscribe", ("fmp-crypto-stream",)))

    assert text.encode() == frame("current subscribe to a crypto stream")


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (
            {"event": "login", "status": 401, "message": "Unauthorized"},
            FeedRefusedError,
            "unauthorized",
        ),
        (
            {"event": "login", "data": {"status": 401, "message": "Unauthorized"}},
            FeedRefusedError,
            "unauthorized",
        ),
        (
            {"event": "login", "status": 403, "message": "You are NOT authorized to"},
            FeedRefusedError,
            "unauthorized",
        ),
        (
            {"event": "login", "message": "you are not authorized"},
            FeedRefusedError,
            "unauthorized",
        ),
        ({"event": "login", "status": 400}, FeedRefusedError, "login_refused"),
        ({"event": "login", "status": 500}, FeedRefusedError, "login_refused"),
        ({"event": "login"}, FeedRefusedError, "login_refused"),
        ({"event": "login", "status": "success"}, FeedRefusedError, "login_refused"),
        (
            {
                "event": "login",
                "status": 401,
                "message": "Connected from another location",
            },
            FeedBusyError,
            "slot_taken",
        ),
        (
            {
                "event": "login",
                "data": {
                    "status": 401,
                    "message": "Maximum number of connections reached",
                },
            },
            FeedBusyError,
            "slot_taken",
        ),
        (
            {"event": "error", "message": "Connected from another location"},
            FeedBusyError,
            "slot_taken",
        ),
    ],
    ids=str,
)
def test_a_refusal_is_an_error_of_its_kind(
    answer: dict[str, object], error: type[FeedError], reason: str
) -> None:
    with pytest.raises(error) as raised:
        reading(**answer)

    assert raised.value.reason == reason
    assert raised.value.slow


@pytest.mark.parametrize(
    ("answer", "control"),
    [
        ({"event": "subscribe"}, Control.SUBSCRIBED),
        ({"event": "subscribe", "status": 200, "message": "any"}, Control.SUBSCRIBED),
        ({"event": "subscribe", "data": {"status": 200}}, Control.SUBSCRIBED),
        ({"event": "subscribe", "status": 401}, Control.SUBSCRIBE_REFUSED),
        ({"event": "subscribe", "data": {"status": 401}}, Control.SUBSCRIBE_REFUSED),
        (
            {"event": "subscribe", "message": "You are not authorized"},
            Control.SUBSCRIBE_REFUSED,
        ),
        ({"event": "unsubscribe", "status": 200}, Control.UNSUBSCRIBED),
        ({"event": "unsubscribe", "status": 401}, Control.UNSUBSCRIBE_REFUSED),
        ({"event": "heartbeat", "timestamp": 1}, Control.HEARTBEAT),
        ({"event": "heartbeat", "timestamp": "x", "data": 7}, Control.HEARTBEAT),
        ({"event": "market_status"}, Control.OTHER),
        ({"event": "subscribe", "status": {}, "message": []}, Control.SUBSCRIBED),
    ],
    ids=str,
)
def test_an_answer_is_told_from_data(
    answer: dict[str, object], control: Control
) -> None:
    assert reading(**answer) is control


def test_an_answer_may_begin_with_a_bom() -> None:
    frame = b'\xef\xbb\xbf{"event":"heartbeat"}'

    assert DIALECT.read(frame) is Control.HEARTBEAT


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xff",
        b'"event"',
        b'{"event"',
        b'{"event":7}',
        b'{"event":"\xff"}',
        b'{"event":"\\ud800"}',
        b'[{"event":"heartbeat"}]',
        b'{"s":"aapl","x":"event"}',
        b'{"event":' + b"[" * 5000,
        b'{"event":"x","status":' + b"9" * 10_000 + b"}",
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_makes_no_sense_is_left_to_the_reader_of_data(frame: bytes) -> None:
    assert DIALECT.read(frame) is None


@given(st.binary() | st.binary().map(lambda tail: b'{"event":' + tail))
def test_any_bytes_are_data_or_control(frame: bytes) -> None:
    try:
        found = DIALECT.read(frame)
    except FeedError:
        return
    assert found is None or isinstance(found, Control)
