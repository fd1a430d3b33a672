"""
What a frame of FMP means: bytes in, events out, no I/O.

Sample frames are in ``tests/data/fmp``. The two products differ in shape only: both
end up as :class:`Event`. Numbers keep the digits of the frame.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import msgspec

from feedmesh.digits import Digits, parse_digits, value_of
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
_TYPES: dict[str, DataType] = {"T": "T", "Q": "Q", "B": "B"}


class Event(NamedTuple):
    """
    One thing that happened to one symbol.

    Attributes:
        symbol: In upper case.
        market: Where it is traded.
        data_type: Trade, quote or trade break.
        event_ns: When, nanoseconds since the epoch, UTC.
        raw_time: The time as the frame had it.
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


class Parsed(NamedTuple):
    """
    All that one frame says.

    Attributes:
        events: In order; each is counted on its own.
        unknown: Names of fields that we do not know.
    """

    events: tuple[Event | Rejected, ...]
    unknown: frozenset[str]


_LEGACY = frozenset({"s", "t", "type", "e", "ap", "as", "bp", "bs", "lp", "ls"})
# FMP documentation, "Quote Feed Connector": a quote as the REST interface has it.
_STREAM = frozenset(
    "symbol name price changesPercentage change dayLow dayHigh yearHigh yearLow"
    " marketCap volume avgVolume open previousClose eps pe earningsAnnouncement"
    " sharesOutstanding timestamp range type updatedAt exchange priceAvg50"
    " priceAvg200".split()
)
_Fields = dict[str, msgspec.Raw]
_decode_one = msgspec.json.Decoder(_Fields).decode
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
    body = frame.removeprefix(_BOM).strip()
    if not body:
        raise FrameError("empty")
    read = _legacy if product == "legacy" else _stream
    known = _LEGACY if product == "legacy" else _STREAM
    events: list[Event | Rejected] = []
    unknown: set[str] = set()
    for fields in _objects(body):
        if fields is None:
            events.append(Rejected("not_an_object"))
            continue
        unknown |= fields.keys() - known
        events.append(read(fields, received_ns))
    return Parsed(tuple(events), frozenset(unknown))


def _objects(body: bytes) -> list[_Fields | None]:
    """Return the fields of each object; None for what is no object in an array."""
    try:
        if body[:1] == b"[":
            return [_fields(raw) for raw in _decode_many(body)]
        return [_decode_one(body)]
    except UnicodeDecodeError:
        raise FrameError("not_utf8") from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise FrameError("not_json", str(error)[:100]) from None


def _fields(raw: msgspec.Raw) -> _Fields | None:
    try:
        return _decode_one(raw)
    except (msgspec.DecodeError, ValueError):
        return None


def _legacy(fields: _Fields, received_ns: int) -> Event | Rejected:
    reader = _Reader(fields)
    try:
        symbol = reader.symbol("s")
        data_type = _TYPES.get(reader.text("type") or "")
        if data_type is None:
            return Rejected("bad_type")
        market = market_of(symbol)
        event_ns, raw_time = reader.time("t", received_ns)
        if data_type == "Q":
            reader.quote()
        else:
            reader.trade()
        if market == "us":
            reader.flag_fractions()
        return reader.event(symbol, market, data_type, event_ns, raw_time)
    except FrameError as error:
        return Rejected(error.reason)


def _stream(fields: _Fields, received_ns: int) -> Event | Rejected:
    reader = _Reader(fields)
    try:
        symbol = reader.symbol("symbol")
        event_ns, raw_time = reader.time("timestamp", received_ns)
        reader.values["lp"] = reader.required_price("price")
        market = market_of(symbol)
        return reader.event(symbol, market, "T", event_ns, raw_time)
    except FrameError as error:
        return Rejected(error.reason)


class _Reader:
    """Reads the fields of one event, and collects what is odd about them."""

    def __init__(self, fields: _Fields) -> None:
        self._fields = fields
        self.values: dict[str, Digits | None] = {}
        self.flags: list[str] = []

    def text(self, name: str) -> str | None:
        """Return a string; None if it is absent or null."""
        raw = self._raw(name)
        if raw is None:
            return None
        if raw[:1] != b'"':
            raise FrameError("bad_field")
        try:
            return msgspec.json.decode(raw, type=str)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise FrameError("bad_field") from None

    def symbol(self, name: str) -> str:
        """Return the symbol, in upper case."""
        text = self.text(name)
        try:
            return parse_symbol(text or "")
        except ValueError:
            raise FrameError("bad_symbol") from None

    def time(self, name: str, received_ns: int) -> tuple[int, str]:
        """Return the instant and its text; the receipt's where it makes no sense."""
        raw = self._raw(name)
        if raw is None:
            self.flags.append("no_time")
            return received_ns, ""
        text = raw.decode()[: _CRYPTO_DIGITS + 1]
        instant = event_time(text)
        if instant is None or instant > received_ns + _FUTURE_NS:
            self.flags.append("bad_time")
            return received_ns, text
        if instant < received_ns - _OLD_NS:
            self.flags.append("old")
        return instant, text

    def quote(self) -> None:
        """Read both sides, and a last trade if any; a bad side is dropped."""
        for price, size in (("ap", "as"), ("bp", "bs"), ("lp", "ls")):
            self._side(price, size)
        if all(self.values[name] is None for name in ("ap", "bp", "lp")):
            raise FrameError(
                "bad_price" if "side_dropped" in self.flags else "no_price"
            )

    def trade(self) -> None:
        """Read the trade, which must be good, and quotes if there are any."""
        self.values["lp"] = self.required_price("lp")
        try:
            self.values["ls"] = self._size("ls")
        except _BadValue:
            raise FrameError("bad_size") from None
        for price, size in (("ap", "as"), ("bp", "bs")):
            self._side(price, size)

    def required_price(self, name: str) -> Digits:
        """Return a price that must be there and good."""
        try:
            price = self._price(name)
        except _BadValue:
            raise FrameError("bad_price") from None
        if price is None:
            raise FrameError("bad_price")
        return price

    def flag_fractions(self) -> None:
        """Flag sizes that are no whole number of shares."""
        sizes = [self.values.get(name) for name in ("ls", "as", "bs")]
        if any(size is not None and not _is_whole(size) for size in sizes):
            self.flags.append("fractional_size")

    def event(
        self,
        symbol: str,
        market: Market,
        data_type: DataType,
        event_ns: int,
        raw_time: str,
    ) -> Event:
        """Return what was read."""
        get = self.values.get
        return Event(
            symbol=symbol,
            market=market,
            data_type=data_type,
            event_ns=event_ns,
            raw_time=raw_time,
            last_price=get("lp"),
            last_size=get("ls"),
            ask_price=get("ap"),
            ask_size=get("as"),
            bid_price=get("bp"),
            bid_size=get("bs"),
            venue=self.text("e") if market == "crypto" else None,
            flags=tuple(dict.fromkeys(self.flags)),
        )

    def _side(self, price: str, size: str) -> None:
        try:
            self.values[price] = self._price(price)
            self.values[size] = self._size(size)
        except _BadValue as bad:
            self.flags.append("side_dropped" if bad.is_price else "size_dropped")
            if bad.is_price:
                self.values[price] = None
            self.values[size] = None

    def _price(self, name: str) -> Digits | None:
        digits = self._digits(name, is_price=True)
        if digits is None:
            return None
        value = value_of(digits)
        if value <= 0:
            raise _BadValue(is_price=True)
        if not _USUAL[0] <= value < _USUAL[1]:
            self.flags.append("extreme")
        return digits

    def _size(self, name: str) -> Digits | None:
        digits = self._digits(name, is_price=False)
        if digits is not None and digits.startswith("-"):
            raise _BadValue(is_price=False)
        return digits

    def _digits(self, name: str, *, is_price: bool) -> Digits | None:
        raw = self._raw(name)
        if raw is None:
            return None
        if raw[:1] not in b"-0123456789":
            raise FrameError("bad_field")
        try:
            return parse_digits(raw.decode())
        except ValueError:
            raise _BadValue(is_price=is_price) from None

    def _raw(self, name: str) -> bytes | None:
        raw = self._fields.get(name)
        if raw is None:
            return None
        value = bytes(raw)
        return None if value == b"null" else value


class _BadValue(Exception):  # noqa: N818 - never leaves this file
    """A number that is none, or cannot be a price or a size."""

    def __init__(self, *, is_price: bool) -> None:
        super().__init__()
        self.is_price = is_price


# Outside these a price is passed on, with a flag: it may be real.
_USUAL = (value_of("1e-9"), value_of("1e9"))
_WHOLE = re.compile(r"[0-9]+(?:\.0+)?", re.ASCII)


def _is_whole(size: Digits) -> bool:
    return bool(_WHOLE.fullmatch(size)) or value_of(size) % 1 == 0


def event_time(text: str) -> int | None:
    """Return nanoseconds since the epoch; the number of digits tells the unit."""
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) == _CRYPTO_DIGITS:
        return int(text) // 10
    unit = _UNITS.get(len(text))
    return None if unit is None else int(text) * unit
