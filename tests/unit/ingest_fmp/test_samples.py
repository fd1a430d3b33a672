"""Every sample frame, field by field; see tests/data/fmp/README.md."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr
from unit.ingest_fmp.frames import SAMPLES, frame

from feedmesh.ingest.dialect import Control
from feedmesh.ingest.wire import tls_context
from ingest_fmp.merge import Merged, Merger
from ingest_fmp.normalize import Event, normalize
from ingest_fmp.upstream import FmpDialect


NOW = 1_795_000_000 * 10**9

DATA: dict[str, list[dict[str, Any]]] = {
    "legacy stock Q, lp and ls null": [
        {
            "symbol": "KEY",
            "market": "us",
            "data_type": "Q",
            "event_ns": 1689947444488938500,
            "raw_time": "1689947444488938500",
            "ask_price": "11.84",
            "ask_size": "400",
            "bid_price": "11.82",
            "bid_size": "1000",
        }
    ],
    "legacy stock Q, lp and ls filled": [
        {
            "symbol": "AAPL",
            "market": "us",
            "data_type": "Q",
            "event_ns": 1645216790788174600,
            "raw_time": "1645216790788174600",
            "last_price": "152.17",
            "last_size": "100",
            "ask_price": "152.46",
            "ask_size": "200",
            "bid_price": "152.31",
            "bid_size": "100",
        }
    ],
    "legacy stock T, unused fields absent": [
        {
            "symbol": "AAPL",
            "market": "us",
            "data_type": "T",
            "event_ns": 1645216790788174600,
            "raw_time": "1645216790788174600",
            "last_price": "152.17",
            "last_size": "100",
        }
    ],
    "legacy stock T, unused fields null": [
        {
            "symbol": "AAPL",
            "market": "us",
            "data_type": "T",
            "event_ns": 1645216790788174600,
            "raw_time": "1645216790788174600",
            "last_price": "152.17",
            "last_size": "100",
        }
    ],
    "legacy stock B": [
        {
            "symbol": "AAPL",
            "market": "us",
            "data_type": "B",
            "event_ns": 1645216790788174600,
            "raw_time": "1645216790788174600",
            "last_price": "152.17",
            "last_size": "100",
        }
    ],
    "legacy crypto Q, 20 digit": [
        {
            "symbol": "BTCUSD",
            "market": "crypto",
            "data_type": "Q",
            "event_ns": 1648723863206000000,
            "raw_time": "16487238632060000000",
            "ask_price": "47244.9",
            "ask_size": "1.72784126",
            "bid_price": "47244.8",
            "bid_size": "0.00689248",
            "venue": "binance",
        }
    ],
    "legacy crypto Q, same pair": [
        {
            "symbol": "BTCUSD",
            "market": "crypto",
            "data_type": "Q",
            "event_ns": 1648723863207000000,
            "raw_time": "16487238632070000000",
            "ask_price": "47246.2",
            "ask_size": "0.4",
            "bid_price": "47243.1",
            "bid_size": "0.25",
            "venue": "coinbase",
        }
    ],
    "legacy forex Q": [
        {
            "symbol": "EURUSD",
            "market": "fx",
            "data_type": "Q",
            "event_ns": 1701958248213000000,
            "raw_time": "1701958248213",
            "ask_price": "1.07865",
            "ask_size": "1000000",
            "bid_price": "1.07856",
            "bid_size": "1000000",
        }
    ],
    "legacy frame as an array": [
        {
            "symbol": "AAPL",
            "market": "us",
            "data_type": "Q",
            "event_ns": 1645216790788174600,
            "raw_time": "1645216790788174600",
            "ask_price": "152.46",
            "ask_size": "200",
            "bid_price": "152.31",
            "bid_size": "100",
        },
        {
            "symbol": "AAPL",
            "market": "us",
            "data_type": "T",
            "event_ns": 1645216790788174600,
            "raw_time": "1645216790788174600",
            "last_price": "152.17",
            "last_size": "100",
        },
    ],
    "current quote": [
        {
            "symbol": "AAPL",
            "market": "us",
            "data_type": "T",
            "event_ns": 1747473420000000000,
            "raw_time": "1747473420",
            "last_price": "198.42",
        }
    ],
}

CONTROL = {
    "legacy login reply 200": Control.LOGIN,
    "legacy subscribe ack 200": Control.SUBSCRIBED,
    "legacy unsubscribe ack 200": Control.UNSUBSCRIBED,
    "legacy subscribe refused 401": Control.SUBSCRIBE_REFUSED,
    "legacy heartbeat": Control.HEARTBEAT,
    "current login reply 200": Control.LOGIN,
    "current subscribe ack 200, flat": Control.SUBSCRIBED,
    "current subscribe ack 200, nested": Control.SUBSCRIBED,
    "current subscribe refused 401": Control.SUBSCRIBE_REFUSED,
    "current heartbeat": Control.HEARTBEAT,
}

# They end the link; test_upstream.py says how.
REFUSALS = (
    "legacy login reply 401 second",
    "legacy login reply 401 bad key",
    "current login reply 401",
    "current login reply, second",
)


def dialect() -> FmpDialect:
    return FmpDialect(
        "stocks",
        "ws://localhost",
        SecretStr("key"),
        by_stream=False,
        tls=tls_context(None),
        ping_seconds=None,
    )


@pytest.mark.parametrize("name", DATA)
def test_a_data_frame_means_these_events(name: str) -> None:
    product: Any = "stream" if name.startswith("current") else "legacy"
    parsed = normalize(product, frame(name), NOW)

    nothing: dict[str, Any] = dict.fromkeys(Event._fields)
    expected = [Event(**(nothing | {"flags": ("old",)} | e)) for e in DATA[name]]
    assert list(parsed.events) == expected
    assert not parsed.unknown
    assert dialect().read(frame(name)) is None


@pytest.mark.parametrize("name", CONTROL)
def test_a_control_frame_is_told_from_data(name: str) -> None:
    assert dialect().read(frame(name)) is CONTROL[name]


def test_no_sample_is_forgotten() -> None:
    beginnings = (*DATA, *CONTROL, *REFUSALS)
    sent = [s for s in SAMPLES.values() if s.direction == "server"]

    assert len(sent) == len(beginnings)
    assert all(frame(beginning) for beginning in beginnings)


def test_the_samples_of_one_symbol_merge_to_one_state() -> None:
    merger = Merger()
    names = (
        "legacy stock Q, lp and ls filled",
        "legacy stock T, unused fields absent",
        "legacy stock B",
    )
    for name in names:
        (event,) = normalize("legacy", frame(name), NOW).events
        assert isinstance(event, Event)
        merged = merger.merge(event, NOW)

    assert isinstance(merged, Merged)
    state = merged.state
    assert merged.broken == ("152.17", "100")
    assert (state.ask_price, state.bid_price) == ("152.46", "152.31")
    assert (state.timestamp_ms, state.data_type) == (1645216790788, "B")
