"""Bytes and digits as they go out."""

from __future__ import annotations

import json
import math

import pytest
from websockets.frames import Opcode

from simulator.wire import (
    PING,
    TEXT,
    compact,
    decimal_text,
    dumps_exact,
    encode_close,
    encode_fragmented,
    encode_frame,
    encode_text,
    loads_exact,
    through_float64,
)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_the_length_of_a_frame_is_written_in_the_shortest_way(size: int) -> None:
    frame = encode_frame(TEXT, b"x" * size)

    head = 2 if size < 126 else 4 if size < 65_536 else 10
    assert len(frame) == head + size
    assert frame[0] == 0x80 | Opcode.TEXT


def test_a_fragmented_message_has_a_ping_in_between() -> None:
    encoded = encode_fragmented(TEXT, b"abcdef", pieces=3)

    assert encoded == (
        b"\x01\x02ab" + encode_frame(PING, b"between") + b"\x00\x02cd\x80\x02ef"
    )


def test_a_close_frame_may_be_empty() -> None:
    assert encode_close(None) == b"\x88\x00"
    assert encode_close(1012, "restart") == b"\x88\x09\x03\xf4restart"


@pytest.mark.parametrize(
    ("units", "places", "text"),
    [
        (15246, 2, "152.46"),
        (15240, 2, "152.4"),
        (15000, 2, "150"),
        (5, 2, "0.05"),
        (107865, 5, "1.07865"),
        (-18945, 2, "-189.45"),
        (1, 8, "1e-8"),
        (123, 9, "1.23e-7"),
        (1, 6, "0.000001"),
        (0, 2, "0"),
    ],
)
def test_prices_have_no_float_noise(units: int, places: int, text: str) -> None:
    assert decimal_text(units, places) == text
    assert math.isclose(float(json.loads(text)), units / 10**places)


@pytest.mark.parametrize("recorded", [1689947444488938500, 1645216790788174600])
def test_nanoseconds_of_the_samples_survive_a_float64(recorded: int) -> None:
    assert through_float64(recorded) == str(recorded)


def test_nanoseconds_lose_their_last_digits() -> None:
    assert through_float64(1689947444488938623) == "1689947444488938500"


def test_text_is_compact_and_not_escaped() -> None:
    assert compact({"a": "삼성", "b": [1, 2]}) == '{"a":"삼성","b":[1,2]}'
    assert encode_text("삼") == b"\x81\x03\xec\x82\xbc"


@pytest.mark.parametrize(
    "text",
    ['{"t":16487238632060000000,"p":1.10,"q":1e-8}', '{"p":0.10000000000000000001}'],
)
def test_digits_survive_the_control_api(text: str) -> None:
    assert dumps_exact(loads_exact(text)).decode() == text
