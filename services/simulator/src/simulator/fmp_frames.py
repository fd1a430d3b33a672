"""
The frames of Financial Modeling Prep, from ticks to text.

Shapes, units and key order are those of the FMP documentation's samples; where public
sources leave a choice, a :class:`Shape` holds it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from simulator.market import Tape, Tick
from simulator.wire import compact, decimal_text, through_float64


TIMESTAMPS = ("ns", "ms", "us", "20 digits", "s", "missing", "null", "text")
_DEFAULT_TIMESTAMPS = {"stocks": "ns", "crypto": "20 digits", "forex": "ms"}
PRICES = {
    "zero": "0",
    "null": "null",
    "tiny": "1e-8",
    "negative": "-189.45",
    "integer": "150",
    "huge": "1e308",
    "nan": "NaN",
    "text": '"189.45"',
    "object": '{"value":189.45}',
}
SIZES = {
    "null": "null",
    "decimal": "100.5",
    "integer": "100",
    "negative": "-100",
    "zero": "0",
}
_DELAY_SECONDS = 900


@dataclass(frozen=True)
class Shape:
    """The choices that public sources leave open, and what a fault makes of them."""

    quote_last: str | None = None
    trade_rest: str = "absent"
    timestamp: str | None = None
    timestamp_offset: float = 0.0
    price: str | None = None
    size: str | None = None
    unknown_fields: bool = False
    array: int = 1
    unknown_events: bool = False
    venues: tuple[str, ...] = ("binance",)
    types: tuple[str, ...] = ("Q", "T", "B")
    rebroadcast: float = 0.0

    @classmethod
    def read(cls, params: Mapping[str, Any], defaults: Shape) -> Shape:
        """Return the shape that a fault's *params* describe."""
        given = dict(params)
        for name in ("venues", "types"):
            if name in given:
                given[name] = tuple(given[name])
        return cls(**{**vars(defaults), **given})


def timestamp_text(unit: str, nanoseconds: int) -> str | None:
    """Return the moment in *unit* as FMP would send it; None leaves it out."""
    match unit:
        case "ns":
            return through_float64(nanoseconds)
        case "us":
            return str(nanoseconds // 1_000)
        case "ms":
            return str(nanoseconds // 1_000_000)
        case "20 digits":
            # FMP documentation: the crypto sample reads as milliseconds × 10^7.
            return f"{nanoseconds // 1_000_000}0000000"
        case "s":
            return str(nanoseconds // 1_000_000_000)
        case "null":
            return "null"
        case "text":
            return f'"{nanoseconds}"'
        case _:
            return None


def tick_text(
    tape: Tape, tick: Tick, nanoseconds: int, shape: Shape, venue: str
) -> str:
    """Return *tick* as one legacy frame."""
    market = tape.instrument.market
    places = tape.instrument.places
    unit = shape.timestamp or _DEFAULT_TIMESTAMPS[market]
    moment = nanoseconds + int(shape.timestamp_offset * 1e9)
    stamp = timestamp_text(unit, moment)
    parts = [f'"s":"{tape.instrument.symbol}"']
    if stamp is not None:
        parts.append(f'"t":{stamp}')
    if market == "crypto":
        parts.append(f'"e":"{venue}"')
    parts.append(f'"type":"{tick.kind}"')
    price = PRICES.get(shape.price or "")
    size = SIZES.get(shape.size or "")
    if tick.kind == "Q":
        ask = price or decimal_text(tick.ask, places)
        bid = price or decimal_text(tick.bid, places)
        parts += _quote(market, ask, bid, size or tick.ask_size, size or tick.bid_size)
        last = shape.quote_last or ("null" if market == "stocks" else "absent")
        if last == "null":
            parts.append('"lp":null,"ls":null')
        elif last == "set":
            parts.append(f'"lp":{decimal_text(tick.last, places)},"ls":100')
    else:
        if shape.trade_rest == "null":
            parts.append('"ap":null,"as":null,"bp":null,"bs":null')
        last = price or decimal_text(tick.last, places)
        parts.append(f'"lp":{last},"ls":{size or tick.last_size}')
    if shape.unknown_fields:
        parts.append('"v":42500000,"x":{"unknown":[1,2]}')
    return "{" + ",".join(parts) + "}"


def _quote(
    market: str, ask: str, bid: str, ask_size: str, bid_size: str
) -> tuple[str, ...]:
    if market == "crypto":
        return (f'"bs":{bid_size},"bp":{bid},"as":{ask_size},"ap":{ask}',)
    return (f'"ap":{ask},"as":{ask_size},"bp":{bid},"bs":{bid_size}',)


def quote_text(tape: Tape, nanoseconds: int, shape: Shape, *, delayed: bool) -> str:
    """Return the present state of *tape* as one frame of the current product."""
    instrument, places = tape.instrument, tape.instrument.places
    moment = nanoseconds + int(shape.timestamp_offset * 1e9)
    moment -= _DELAY_SECONDS * 1_000_000_000 * delayed
    seconds, millis = divmod(moment // 1_000_000, 1000)

    def text(units: int) -> str:
        return decimal_text(units, places)

    change = tape.last - tape.open
    percent = decimal_text(round(change * 1_000_000 / tape.open), 4)
    shares = max(1, round(2e12 / (tape.open / 10**places)) // 10)
    price = PRICES.get(shape.price or "") or text(tape.last)
    kind = {"stocks": "stock", "stream": "stock"}.get(
        instrument.market, instrument.market
    )
    updated = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    stamp = "" if shape.timestamp == "missing" else f'"timestamp":{seconds},'
    extra = ',"v":42500000' if shape.unknown_fields else ""
    capital = round(shares * tape.last / 10**places)
    return (
        f'{{"symbol":"{instrument.symbol.upper()}","name":{compact(instrument.name)},'
        f'"price":{price},"changesPercentage":{percent},'
        f'"change":{text(change)},"dayLow":{text(tape.low)},"dayHigh":{text(tape.high)},'
        f'"yearHigh":{text(tape.open * 5 // 4)},"yearLow":{text(tape.open * 3 // 4)},'
        f'"marketCap":{capital},"volume":{tape.volume},"avgVolume":50000000,'
        f'"open":{text(tape.open)},"previousClose":{text(tape.open)},"eps":6.13,"pe":32.4,'
        f'"earningsAnnouncement":null,"sharesOutstanding":{shares},{stamp}'
        f'"range":"{text(tape.low)} - {text(tape.high)}","type":"{kind}",'
        f'"updatedAt":"{updated}.{millis:03d}Z"{extra}}}'
    )


def control_text(event: str, status: int, message: str, *, nested: bool) -> str:
    """Return the answer to a login, a subscribe or an unsubscribe."""
    if nested:
        return compact({"event": event, "data": {"status": status, "message": message}})
    return compact({"event": event, "status": status, "message": message})


def heartbeat_text(*, timestamp: bool) -> str:
    """Return a heartbeat; only that of the current product is known to be stamped."""
    if not timestamp:
        return '{"event":"heartbeat"}'
    return compact({"event": "heartbeat", "timestamp": time.time_ns() // 1_000_000})
