"""
What a frame of FMP means: bytes in, events out, no I/O.

Sample frames are in ``tests/data/fmp``. The two products differ in shape only: both
end up as :class:`Event`. Numbers keep the digits of the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec

from feedmesh.digits import Digits
from feedmesh.errors import FrameError
from feedmesh.prices import DataType
from feedmesh.symbols import Market, market_of, parse_symbol


__all__ = ["Event", "Parsed", "Product", "Rejected", "event_time", "normalize"]

Product = Literal["legacy", "stream"]

_BOM = b"\xef\xbb\xbf"
_SECOND = 1_000_000_000
_FUTURE_NS = 300 * _SECOND
_OLD_NS = 86_400 * _SECOND
# Nanoseconds in one unit of `t`, by its number of digits. The crypto sample of FMP's
# documentation has 20 digits: milliseconds times 10^7.
_UNITS = {10: _SECOND, 13: 1_000_000, 16: 1_000, 19: 1}
_CRYPTO_DIGITS = 20
_TYPES: Mapping[object, DataType] = {"T": "T", "Q": "Q", "B": "B"}
# Longer numbers would fill every message of the symbol.
_MAX_DIGITS = 40
_BEYOND = 10**_MAX_DIGITS
_MAX_SYMBOL = 64
_MAX_VENUE = 32
# Outside these a price is passed on, with a flag: it may be real.
_LEAST_USUAL = 1e-9
_MOST_USUAL = 1e9
_INFINITE = float("inf")


class Event(NamedTuple):
    """
    One thing that happened to one symbol.

    Attributes:
        symbol: In upper case.
        market: Where it is traded.
        data_type: Trade, quote or trade break.
        event_ns: When, nanoseconds since the epoch, UTC.
        raw_time: The time as the frame had it; empty if it had none.
        last_price: And the others: digits as in the frame; None if not given.
        venue: Within crypto; None elsewhere.
        flags: What is odd about it.
    """

    symbol: str
    market: Market
    data_type: DataType
    event_ns: int
    raw_time: str
    last_price: Digits | None
    last_size: Digits | None
    ask_price: Digits | None
    ask_size: Digits | None
    bid_price: Digits | None
    bid_size: Digits | None
    venue: str | None
    flags: tuple[str, ...]


class Rejected(NamedTuple):
    """An event that was understood and cannot be taken; *reason* is a metric label."""

    reason: str


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """
    All that one frame says.

    Attributes:
        events: In order; each is counted on its own.
        unknown: Names of fields that we do not know.
    """

    events: tuple[Event | Rejected, ...]
    unknown: frozenset[str]


class _Legacy(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    # The fields of a legacy frame; of what kind they are is looked at one by one.
    s: Any = None
    t: Any = None
    type: Any = None
    e: Any = None
    ap: Any = None
    as_: Any = msgspec.field(default=None, name="as")
    bp: Any = None
    bs: Any = None
    lp: Any = None
    ls: Any = None


_LEGACY = frozenset(_Legacy.__struct_encode_fields__)
# FMP documentation, "Quote Feed Connector": a quote as the REST interface has it.
_STREAM = frozenset(
    "symbol name price changesPercentage change dayLow dayHigh yearHigh yearLow"
    " marketCap volume avgVolume open previousClose eps pe earningsAnnouncement"
    " sharesOutstanding timestamp range type updatedAt exchange priceAvg50"
    " priceAvg200".split()
)
_NONE_UNKNOWN: frozenset[str] = frozenset()
_NOT_GIVEN = (None, None)

_Fields = dict[str, Any]
_Pair = tuple[Digits | None, Digits | None]
# An integer has one spelling, so as an int it keeps its digits; any other number stays
# the text that it was, as bytes, which no other JSON value becomes. Twice as fast as
# reading each field from its raw bytes.
_decode_fields = msgspec.json.Decoder(_Fields, float_hook=str.encode).decode
_decode_legacy = msgspec.json.Decoder(_Legacy, float_hook=str.encode).decode
_decode_many = msgspec.json.Decoder(list[msgspec.Raw]).decode


def normalize(product: Product, frame: bytes, received_ns: int) -> Parsed:
    """
    Return what *frame* says.

    Args:
        product: Which shape to expect.
        frame: One object, or an array of objects.
        received_ns: When it was read; it stands in for a time that makes no sense.

    Raises:
        FrameError: If it is not JSON of that form at all.
    """
    body = frame
    if frame[:1] != b"{":
        body = frame.removeprefix(_BOM).strip()
    if not body:
        raise FrameError("empty")
    read = _read_legacy if product == "legacy" else _read_stream
    if body[:1] == b"[":
        return _array(body, read, received_ns)
    event, unknown = read(body, received_ns)
    return Parsed((event,), unknown)


_Read = Callable[[bytes, int], tuple[Event | Rejected, frozenset[str]]]


def _array(body: bytes, read: _Read, received_ns: int) -> Parsed:
    try:
        parts = _decode_many(body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise FrameError("not_json", str(error)[:100]) from None
    if not parts:
        raise FrameError("empty")
    events: list[Event | Rejected] = []
    unknown: set[str] = set()
    for part in parts:
        # Each on its own: what is wrong with one must not cost the others.
        try:
            event, names = read(bytes(part), received_ns)
        except FrameError:
            is_object = bytes(part)[:1] == b"{"
            event = Rejected("bad_event" if is_object else "not_an_object")
            names = _NONE_UNKNOWN
        unknown |= names
        events.append(event)
    return Parsed(tuple(events), frozenset(unknown))


def _read_legacy(
    body: bytes, received_ns: int
) -> tuple[Event | Rejected, frozenset[str]]:
    try:
        legacy = _decode_legacy(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        # A field that we do not know, or no such object at all.
        fields = _object(body)
    else:
        return _legacy(legacy, received_ns), _NONE_UNKNOWN
    unknown = frozenset(fields.keys() - _LEGACY)
    known = {name: fields[name] for name in fields.keys() & _LEGACY}
    known["as_"] = known.pop("as", None)
    return _legacy(_Legacy(**known), received_ns), unknown


def _read_stream(
    body: bytes, received_ns: int
) -> tuple[Event | Rejected, frozenset[str]]:
    fields = _object(body)
    unknown = _NONE_UNKNOWN
    if not fields.keys() <= _STREAM:
        unknown = frozenset(fields.keys() - _STREAM)
    return _stream(fields, received_ns), unknown


def _object(body: bytes) -> _Fields:
    try:
        return _decode_fields(body)
    except UnicodeDecodeError:
        raise FrameError("not_utf8") from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise FrameError("not_json", str(error)[:100]) from None


def _legacy(fields: _Legacy, received_ns: int) -> Event | Rejected:
    flags: list[str] = []
    try:
        symbol, market = _symbol(fields.s)
        data_type = _data_type(fields.type)
        event_ns, raw_time = _time(fields.t, received_ns, flags)
        whole = market == "us"
        if data_type == "Q":
            last = _side(fields.lp, fields.ls, flags, whole)
        else:
            last = _trade(fields.lp, fields.ls, flags, whole)
        ask = _side(fields.ap, fields.as_, flags, whole)
        bid = _side(fields.bp, fields.bs, flags, whole)
        if last[0] is None and ask[0] is None and bid[0] is None:
            return Rejected("bad_price" if "side_dropped" in flags else "no_price")
        venue = _venue(fields.e) if market == "crypto" else None
    except FrameError as error:
        return Rejected(error.reason)
    return Event(
        symbol,
        market,
        data_type,
        event_ns,
        raw_time,
        *last,
        *ask,
        *bid,
        venue,
        tuple(dict.fromkeys(flags)) if flags else (),
    )


def _stream(fields: _Fields, received_ns: int) -> Event | Rejected:
    flags: list[str] = []
    try:
        symbol, market = _symbol(fields.get("symbol"))
        event_ns, raw_time = _time(fields.get("timestamp"), received_ns, flags)
        price, _ = _trade(fields.get("price"), None, flags, False)
    except FrameError as error:
        return Rejected(error.reason)
    return Event(
        symbol,
        market,
        "T",
        event_ns,
        raw_time,
        *(price, None),
        *_NOT_GIVEN,
        *_NOT_GIVEN,
        None,
        tuple(flags),
    )


def _symbol(value: object) -> tuple[str, Market]:
    if value is None:
        raise FrameError("bad_symbol")
    if type(value) is not str:
        raise FrameError("bad_field")
    if len(value) > _MAX_SYMBOL:
        raise FrameError("bad_symbol")
    try:
        symbol, market = _placed(value)
    except ValueError:
        raise FrameError("bad_symbol") from None
    if market == "kr":
        # Korean prices have one writer, and it is another feed.
        raise FrameError("other_market")
    return symbol, market


@lru_cache(maxsize=32_768)
def _placed(text: str) -> tuple[str, Market]:
    symbol = parse_symbol(text)
    return symbol, market_of(symbol)


def _data_type(value: object) -> DataType:
    if value is not None and type(value) is not str:
        raise FrameError("bad_field")
    data_type = _TYPES.get(value)
    if data_type is None:
        raise FrameError("bad_type")
    return data_type


def _venue(value: object) -> str | None:
    if value is None:
        return None
    if type(value) is not str or len(value) > _MAX_VENUE:
        raise FrameError("bad_field")
    return value


def _time(value: object, received_ns: int, flags: list[str]) -> tuple[int, str]:
    """Return the instant and its text; the receipt's where it makes no sense."""
    if value is None:
        flags.append("no_time")
        return received_ns, ""
    text = _time_text(value)
    instant = event_time(text) if type(value) is int else None
    if instant is None or instant > received_ns + _FUTURE_NS:
        flags.append("bad_time")
        return received_ns, text
    if instant < received_ns - _OLD_NS:
        flags.append("old")
    return instant, text


def _time_text(value: object) -> str:
    if type(value) is int:
        return str(value) if -_BEYOND < value < _BEYOND else ""
    if type(value) is bytes:
        return value[:_MAX_DIGITS].decode()
    return value[:_MAX_DIGITS] if type(value) is str else ""


def event_time(text: str) -> int | None:
    """Return nanoseconds since the epoch; the number of digits tells the unit."""
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) == _CRYPTO_DIGITS:
        return int(text) // 10
    unit = _UNITS.get(len(text))
    return None if unit is None else int(text) * unit


def _trade(price: object, size: object, flags: list[str], whole: bool) -> _Pair:
    """Return a trade's price and size; neither may be bad, the size may be missing."""
    traded_at = None if price is None else _price(price, flags)
    if traded_at is None:
        raise FrameError("bad_price")
    if size is None:
        return traded_at, None
    traded = _size(size, flags, whole)
    if traded is None:
        raise FrameError("bad_size")
    return traded_at, traded


def _side(price: object, size: object, flags: list[str], whole: bool) -> _Pair:
    """Return price and size of one side, of which what is bad is dropped."""
    if price is None and size is None:
        return _NOT_GIVEN
    quoted_at = None
    if price is not None:
        quoted_at = _price(price, flags)
        if quoted_at is None:
            flags.append("side_dropped")
            return _NOT_GIVEN
    if size is None:
        return quoted_at, None
    quoted = _size(size, flags, whole)
    if quoted is None:
        flags.append("size_dropped")
    return quoted_at, quoted


def _price(value: object, flags: list[str]) -> Digits | None:
    """Return the digits of a price; None if it cannot be one."""
    digits = _digits(value)
    if digits is None:
        return None
    # What a double cannot hold, clients would read as 0 or as infinity.
    number = float(digits)
    if _LEAST_USUAL <= number < _MOST_USUAL:
        return digits
    if not 0.0 < number < _INFINITE:
        return None
    flags.append("extreme")
    return digits


def _size(value: object, flags: list[str], whole: bool) -> Digits | None:
    """Return the digits of a size; None if it cannot be one."""
    if type(value) is int:
        return str(value) if 0 <= value < _BEYOND else None
    digits = _digits(value)
    if digits is None or digits[0] == "-":
        return None
    number = float(digits)
    if number == _INFINITE:
        return None
    if whole and not number.is_integer():
        flags.append("fractional_size")
    return digits


def _digits(value: object) -> Digits | None:
    """Return the text of a number; None if it is too long to be one of a market."""
    if type(value) is bytes:
        return value.decode() if len(value) <= _MAX_DIGITS else None
    if type(value) is int:
        return str(value) if -_BEYOND < value < _BEYOND else None
    raise FrameError("bad_field")
