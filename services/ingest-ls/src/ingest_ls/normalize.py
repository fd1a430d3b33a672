"""
What a frame of LS means: bytes in, items and trades out, no I/O.

Sample frames are in ``tests/data/ls``. All fields are strings upstream; what LS said is
kept as it was said, and fields that we do not know are kept beside it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from feedmesh.clock import iso
from feedmesh.digits import Digits, parse_digits, value_of
from feedmesh.errors import FrameError
from feedmesh.news import NewsItem, Stock
from ingest_ls.korea import KST, in_kst, parse_codes, stamp_ns
from ingest_ls.master import Master
from ingest_ls.providers import DISCLOSURES, PROVIDERS


__all__ = ["News", "Rejected", "Trade", "normalize"]

_BOM = b"\xef\xbb\xbf"
_NEWS_FIELDS = ("date", "time", "id", "realkey", "title", "code", "bodysize")
_TRADE_CODES = ("S3_", "K3_")
_MAX_TITLE = 1000
# What an id is made of goes into headers, where a line break would begin another one.
_ODD_IN_ID = re.compile(r"[^0-9A-Za-z_-]", re.ASCII)
_MAX_EXTRA = 20
_MAX_EXTRA_BYTES = 1000
_AHEAD_NS = 5_000_000_000
_FUTURE_SECONDS = 300


class News(NamedTuple):
    """
    One news item.

    Attributes:
        item: As clients get it, but for ``repeat_of``.
        id: Its identity, made from its content, the same from every replica.
        event_ns: The provider's stamp, nanoseconds since the epoch.
        flags: What is odd about it.
        extra: Fields that we do not know: names, and values as JSON text.
    """

    item: NewsItem
    id: str
    event_ns: int
    flags: tuple[str, ...]
    extra: tuple[tuple[str, str], ...]


class Trade(NamedTuple):
    """
    One trade of a Korean stock.

    Attributes:
        code: Of the stock.
        event_ns: When, to the second.
        price: And size, ask and bid: digits as in the frame; null where LS had none.
        volume: Of the day so far; it only grows, and orders trades of one second.
        flags: What is odd about it.
    """

    code: str
    event_ns: int
    price: Digits
    size: Digits | None
    ask: Digits | None
    bid: Digits | None
    volume: int | None
    flags: tuple[str, ...]


class Rejected(NamedTuple):
    """Something that was understood and cannot be taken; *reason* is a label."""

    reason: str


def normalize(
    frame: bytes, received_ns: int, master: Master
) -> list[News | Trade | Rejected]:
    """
    Return what *frame* says; an array of frames says each of them.

    Raises:
        FrameError: If it is not JSON at all.
    """
    parsed = _parse(frame)
    parts = parsed if isinstance(parsed, list) else [parsed]
    return [_one(part, received_ns, master) for part in parts]


def _parse(frame: bytes) -> Any:
    body = frame.removeprefix(_BOM).strip()
    if not body:
        raise FrameError("empty")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise FrameError("not_utf8") from None
    try:
        # Numbers stay text, and what is no JSON is not taken for a number.
        parsed = json.loads(
            text, parse_float=str, parse_int=str, parse_constant=_not_a_number
        )
        # A lone surrogate would pass the parser and fail every encoder after it.
        json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise FrameError("lone_surrogate") from None
    except (ValueError, RecursionError):
        raise FrameError("not_json") from None
    if not isinstance(parsed, dict | list):
        raise FrameError("not_an_object")
    return parsed


def _not_a_number(text: str) -> str:
    raise ValueError(text)


def _one(part: Any, received_ns: int, master: Master) -> News | Trade | Rejected:
    if not isinstance(part, dict):
        return Rejected("not_an_object")
    header, body = part.get("header"), part.get("body")
    code = header.get("tr_cd") if isinstance(header, dict) else None
    if not isinstance(code, str):
        return Rejected("no_header")
    if body is None:
        return Rejected("no_body")
    if not isinstance(body, dict):
        return Rejected("bad_body")
    try:
        if code == "NWS":
            return _news(body, received_ns, master)
        if code in _TRADE_CODES:
            return _trade(body, received_ns)
    except FrameError as error:
        return Rejected(error.reason)
    except RecursionError:
        # It could just be read, and cannot be written.
        return Rejected("bad_field")
    # Nobody has registered for it.
    return Rejected("unsubscribed")


def _text(body: dict[str, Any], name: str) -> str:
    """Return a field as text; what is absent or null is empty."""
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FrameError("bad_field")
    return value


def _news(body: dict[str, Any], received_ns: int, master: Master) -> News:
    raw = {name: _text(body, name) for name in _NEWS_FIELDS}
    flags: list[str] = []
    event_ns = _stamp(raw, received_ns, flags)
    if not raw["realkey"]:
        flags.append("no_realkey")
    if not raw["title"].strip():
        flags.append("no_title")
    codes = parse_codes(raw["code"])
    if codes.odd:
        flags.append("odd_code")
    if codes.codes and not len(master):
        flags.append("no_master")
    identity = _identity(raw)
    if len(raw["title"]) > _MAX_TITLE:
        raw["title"] = raw["title"][:_MAX_TITLE]
        flags.append("title_cut")
    item = NewsItem(
        **raw,
        provider=PROVIDERS.get(raw["id"]),
        news_type="disclosure" if raw["id"] == DISCLOSURES else "article",
        stocks=tuple(_stock(code, master) for code in codes.codes),
        published_at=in_kst(event_ns).isoformat(),
        received_at=iso(received_ns),
    )
    return News(item, identity, event_ns, tuple(flags), _extra(body))


def _stock(code: str, master: Master) -> Stock:
    company = master.find(code)
    return Stock(code, company.name if company else None)


def _stamp(raw: dict[str, str], received_ns: int, flags: list[str]) -> int:
    stamp = stamp_ns(raw["date"], raw["time"])
    if stamp is None:
        flags.append("bad_time")
        return received_ns
    if stamp > received_ns + _AHEAD_NS:
        flags.append("ahead")
    return stamp


def _identity(raw: dict[str, str]) -> str:
    content = json.dumps([raw[name] for name in _NEWS_FIELDS if name != "bodysize"])
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return f"{_ODD_IN_ID.sub('_', raw['realkey'][:40])}-{digest}"


def _extra(body: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    unknown = sorted(body.keys() - set(_NEWS_FIELDS))[:_MAX_EXTRA]
    return tuple(
        (name[:100], json.dumps(body[name], ensure_ascii=False)[:_MAX_EXTRA_BYTES])
        for name in unknown
    )


def _trade(body: dict[str, Any], received_ns: int) -> Trade:
    flags: list[str] = []
    code = _text(body, "shcode").strip()
    # Unified feeds put the market in front of the code: U, or N.
    code = code[1:] if len(code) == 7 and code[0] in "UN" else code
    if parse_codes(code).codes != (code,):
        raise FrameError("bad_symbol")
    price = _number(body, "price")
    if price is None or float(price) <= 0:
        raise FrameError("bad_price")
    size = _number(body, "cvolume")
    if size is not None and value_of(size) < 0:
        raise FrameError("bad_size")
    volume = _number(body, "volume")
    return Trade(
        code=code,
        event_ns=_trade_time(_text(body, "chetime"), received_ns, flags),
        price=price,
        size=size,
        ask=_quote(body, "offerho"),
        bid=_quote(body, "bidho"),
        volume=int(value_of(volume)) if volume is not None else None,
        flags=tuple(flags),
    )


def _number(body: dict[str, Any], name: str) -> Digits | None:
    text = _text(body, name).strip()
    if not text:
        return None
    try:
        digits = parse_digits(text)
        # What a double cannot hold, clients would read as infinity.
        if math.isinf(float(digits)):
            raise ValueError(digits)
    except ValueError:
        raise FrameError("bad_price" if name == "price" else "bad_field") from None
    return digits


def _quote(body: dict[str, Any], name: str) -> Digits | None:
    """Return an ask or bid; LS writes 0 where there is none."""
    digits = _number(body, name)
    return None if digits is None or float(digits) <= 0 else digits


def _trade_time(clock: str, received_ns: int, flags: list[str]) -> int:
    """Return the instant of a time of day; just after midnight it is yesterday's."""
    received = in_kst(received_ns)
    try:
        when = datetime.strptime(clock, "%H%M%S").time()
    except ValueError:
        flags.append("bad_time")
        return received_ns
    moment = datetime.combine(received.date(), when, KST)
    if (moment - received).total_seconds() > _FUTURE_SECONDS:
        moment -= timedelta(days=1)
    return int(moment.timestamp()) * 1_000_000_000
