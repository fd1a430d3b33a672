"""What the prober makes of canaries, and of what the servers of NATS say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedmesh import canary
from feedmesh.canary import Mark, read_mark
from feedmesh.prices import PriceState, encode_frame
from prober.nats_servers import streams_of
from prober.sightings import Sighting, Sightings


@given(st.sets(st.integers(1, 40)))
def test_whatever_is_missing_is_counted_as_lost(numbers: set[int]) -> None:
    sightings = Sightings()
    seen = [sightings.take(Mark(1, number, 0)) for number in sorted(numbers)]

    assert {one.result for one in seen} <= {"seen"}
    span = max(numbers, default=0) - min(numbers, default=1) + 1
    assert sum(one.lost for one in seen) == span - len(numbers)


def test_order_and_repeats_are_seen() -> None:
    sightings = Sightings()
    results = [
        sightings.take(Mark(run, number, 0))
        for run, number in (
            (5, 3),
            (5, 4),
            (5, 4),
            (5, 2),
            (6, 9),
            (5, 5),
            (6, 12),
        )
    ]

    assert results == [
        Sighting("seen"),
        Sighting("seen"),
        Sighting("repeated"),
        Sighting("late"),
        Sighting("seen"),
        Sighting("late"),
        Sighting("seen", 2),
    ]


def test_after_a_break_any_number_may_come() -> None:
    sightings = Sightings()
    sightings.take(Mark(1, 3, 0))
    sightings.forget()

    assert sightings.take(Mark(1, 90, 0)) == Sighting("seen")


def test_a_mark_survives_the_price_frame() -> None:
    mark = Mark(1_763_690_000_000, 17, 1_763_690_000_123_456_789)
    number, sent, run = canary.price_digits(mark)
    state = PriceState(
        symbol=canary.symbol_of("fmp"),
        timestamp_ms=1,
        data_type="T",
        last_price=number,
        last_size=sent,
        ask_price=run,
    )

    assert read_mark(encode_frame(state)) == mark


@pytest.mark.parametrize(
    "frame",
    [
        b"{",
        b"[]",
        b'{"symbol": "AAPL", "last_price": 1}',
        b'{"symbol": "^CANARY.FMP", "last_price": null}',
        b'{"news_type": "canary", "title": "canary one"}',
    ],
)
def test_what_is_no_canary_has_no_mark(frame: bytes) -> None:
    assert read_mark(frame) is None


def test_only_the_leader_of_a_stream_is_believed() -> None:
    def detail(name: str, last: int, **cluster: Any) -> dict[str, Any]:
        state = {"messages": 1, "bytes": 2, "last_seq": last}
        return {"name": name, "state": state, "cluster": cluster, "config": {}}

    replicas = [{"current": True}, {"current": False}]
    details = [
        detail("NEWS", 7, leader="a", replicas=replicas),
        detail("PRICES", 8, leader="b"),
    ]
    jsz = {"account_details": [{"stream_detail": details}]}

    found = list(streams_of(jsz, "a"))

    assert [(s.name, s.last, s.behind) for s in found] == [("NEWS", 7, 1)]
    assert list(streams_of({}, "a")) == []
