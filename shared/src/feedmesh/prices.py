"""
The state of one symbol, and the frame that price clients get.

The frame is frozen: these keys, in this order, no others. What the feed has not given
yet is ``null``, never 0 and never left out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import msgspec

from feedmesh.clock import iso, iso_seconds
from feedmesh.digits import Digits
from feedmesh.messages import SCHEMA_VERSION, Version


__all__ = ["DataType", "PriceState", "decode_frame", "encode_frame", "encode_price"]

DataType = Literal["T", "Q", "B"]
"""Trade, quote (top of book), or trade break: an earlier trade was taken back."""


class PriceState(msgspec.Struct, frozen=True, kw_only=True):
    """
    Last trade and last quote of a symbol, merged by the only writer of it.

    Attributes:
        symbol: In upper case, as clients name it.
        timestamp_ms: Time of the event, milliseconds since the epoch, UTC.
        data_type: What kind of event changed the state last.
        cached_s: When the value entered the cache, seconds since the epoch, UTC.
    """

    symbol: str
    timestamp_ms: int
    data_type: DataType
    last_price: Digits | None = None
    last_size: Digits | None = None
    ask_price: Digits | None = None
    ask_size: Digits | None = None
    bid_price: Digits | None = None
    bid_size: Digits | None = None
    cached_s: int = 0


def encode_frame(state: PriceState) -> bytes:
    """Return the frame of *state*, byte for byte as the price contract has it."""
    return _frame_text(state).encode()


def encode_price(
    source: str,
    version: Version,
    state: PriceState,
    *,
    event_ns: int,
    received_ns: int,
    published_ns: int,
    flags: tuple[str, ...] = (),
    venue: str | None = None,
    broken: tuple[Digits | None, Digits | None] | None = None,
) -> bytes:
    """
    Return the whole message of *state*, as :func:`feedmesh.messages.encode` would.

    Prices are the hot path, and one formatted text costs a third of a head that is
    built, encoded and spliced.

    Args:
        source: The feed; written as it is, so nothing that JSON would escape.
        version: Which message of which writer.
        state: What the frame shows.
        event_ns: And the other instants: nanoseconds since the epoch, see `clock`.
        flags: As in the head; so are *venue* and *broken*.
    """
    odd = ""
    if broken is not None:
        odd = _odd_keys(flags, venue, broken)
    elif flags or venue is not None:
        odd = _usual_keys(flags, venue)
    return (
        f'{{"v":{SCHEMA_VERSION},"kind":"price","source":"{source}"'
        f',"epoch":{version[0]},"seq":{version[1]},"event_at":"{iso(event_ns)}"'
        f',"received_at":"{iso(received_ns)}","published_at":"{iso(published_ns)}"'
        f'{odd},"frame":{_frame_text(state)}}}'
    ).encode()


def _frame_text(state: PriceState) -> str:
    return (
        f'{{"type": "price_update", "symbol": "{state.symbol}"'
        f', "timestamp": {state.timestamp_ms}, "data_type": "{state.data_type}"'
        f', "last_price": {state.last_price or "null"}'
        f', "last_size": {state.last_size or "null"}'
        f', "ask_price": {state.ask_price or "null"}'
        f', "ask_size": {state.ask_size or "null"}'
        f', "bid_price": {state.bid_price or "null"}'
        f', "bid_size": {state.bid_size or "null"}'
        # The contract has no zone here; it is UTC.
        f', "cached_at": "{iso_seconds(state.cached_s)}"}}'
    )


class _Odd(msgspec.Struct, omit_defaults=True):
    # The keys of a price's head that most prices lack, in the head's order.
    flags: tuple[str, ...] = ()
    venue: str | None = None
    broken: tuple[Digits | None, Digits | None] | None = None


_encode_odd = msgspec.json.Encoder().encode


def _odd_keys(
    flags: tuple[str, ...],
    venue: str | None,
    broken: tuple[Digits | None, Digits | None] | None = None,
) -> str:
    return "," + _encode_odd(_Odd(flags, venue, broken))[1:-1].decode()


# Few combinations come again and again; a break is always another one.
_usual_keys = lru_cache(maxsize=1024)(_odd_keys)


class _Frame(msgspec.Struct):
    # Raw keeps the digits; see digits.py.
    symbol: str
    timestamp: int
    data_type: DataType
    last_price: msgspec.Raw
    last_size: msgspec.Raw
    ask_price: msgspec.Raw
    ask_size: msgspec.Raw
    bid_price: msgspec.Raw
    bid_size: msgspec.Raw


_decode_frame = msgspec.json.Decoder(_Frame).decode


def decode_frame(frame: bytes) -> PriceState:
    """
    Return the state that *frame* shows, for a writer that takes over.

    Raises:
        ValueError: If it is not a frame of :func:`encode_frame`.
    """
    try:
        parsed = _decode_frame(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError("not a price frame") from error
    return PriceState(
        symbol=parsed.symbol,
        timestamp_ms=parsed.timestamp,
        data_type=parsed.data_type,
        last_price=_digits(parsed.last_price),
        last_size=_digits(parsed.last_size),
        ask_price=_digits(parsed.ask_price),
        ask_size=_digits(parsed.ask_size),
        bid_price=_digits(parsed.bid_price),
        bid_size=_digits(parsed.bid_size),
    )


def _digits(raw: msgspec.Raw) -> Digits | None:
    text = bytes(raw).decode()
    return None if text == "null" else text
