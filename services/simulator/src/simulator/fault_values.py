"""
What the parameters of a fault may be.

A fault is read long after it was posted, in the middle of a generator that every other
test of the process depends on, so a value that makes no sense must be refused at the
door. A parameter without a rule here is free text.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from typing import Any

from simulator.fmp_frames import PRICES, SIZES, TIMESTAMPS
from simulator.ls_frames import NEWS_VARIANTS


# Says what is wrong with a value, None if nothing is.
Rule = Callable[[Any], str | None]


def wrong_value(kind: str, params: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the first bad one of *params*, None if all are good."""
    for name, value in params.items():
        rule = _OF_KIND.get((kind, name)) or _OF_NAME.get(name)
        problem = rule(value) if rule else None
        if problem:
            return f"{kind}: {name} was {value!r}, {problem}"
    return None


def _number(
    least: float = -math.inf, most: float = math.inf, *, whole: bool = False
) -> Rule:
    what = "a whole number" if whole else "a number"
    if math.isfinite(most):
        what += f" from {least:g} to {most:g}"
    elif math.isfinite(least):
        what += f" of {least:g} or more"

    def check(value: Any) -> str | None:
        kinds = (int,) if whole else (int, float)
        good = (
            isinstance(value, kinds)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and least <= value <= most
        )
        return None if good else f"not {what}"

    return check


def _positive(value: Any) -> str | None:
    return "not a number above 0" if value == 0 else _number(0)(value)


def _one_of(known: Collection[str]) -> Rule:
    return lambda value: None if value in tuple(known) else f"not one of {list(known)}"


def _some_of(known: Collection[str] | None = None) -> Rule:
    def check(value: Any) -> str | None:
        if not isinstance(value, list) or not value:
            return "not a list of at least one"
        if not all(isinstance(item, str) for item in value):
            return "not a list of text"
        if known is not None and not set(value) <= set(known):
            return f"not a list of some of {list(known)}"
        return None

    return check


def _or_null(rule: Rule) -> Rule:
    return lambda value: None if value is None else rule(value)


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "not true or false"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "not text"


def _texts_by_name(value: Any) -> str | None:
    good = isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
    return None if good else "not an object of text"


def _http_status(value: Any) -> str | None:
    # The reason phrase of the reply is looked up, so it must be one that has one.
    known = isinstance(value, int) and value in {status.value for status in HTTPStatus}
    return None if known else "not a status of HTTP"


def _base64(value: Any) -> str | None:
    try:
        base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        return "not base64"
    return None


_COUNT = _number(0, whole=True)
_FROM_ONE = _number(1, whole=True)
_SECONDS = _number(0)
_RATIO = _number(0, 1)
# Any two bytes: some tests want a code that RFC 6455 forbids to send.
_CLOSE_CODE = _or_null(_number(0, 65_535, whole=True))
_SHAPE = _one_of(("flat", "nested"))
_SLOT_POLICIES = ("refuse_new", "kick_old", "unlimited")

_OF_NAME: Mapping[str, Rule] = {
    "count": _or_null(_COUNT),
    "for": _or_null(_SECONDS),
    "interval": _positive,
    "seconds": _SECONDS,
    "late": _SECONDS,
    "after": _SECONDS,
    "slow": _SECONDS,
    "close_after_ms": _SECONDS,
    "ratio": _RATIO,
    "rebroadcast": _RATIO,
    "copies": _COUNT,
    "times": _COUNT,
    "data_first": _COUNT,
    "then_after": _COUNT,
    "limit": _COUNT,
    "every": _FROM_ONE,
    "array": _FROM_ONE,
    "bytes_per_second": _FROM_ONE,
    "per_second": _SECONDS,
    "timestamp_offset": _number(),
    "clock_offset": _number(),
    "expires_in": _number(whole=True),
    "status": _http_status,
    "close_code": _CLOSE_CODE,
    "headers": _texts_by_name,
    "location": _text,
    "bytes_b64": _base64,
    "replies": _flag,
    "handshake": _flag,
    "close_after": _flag,
    "also_clean": _flag,
    "unknown_fields": _flag,
    "unknown_events": _flag,
    "absent": _flag,
    "quote_last": _one_of(("null", "absent", "set")),
    "trade_rest": _one_of(("absent", "null")),
    "price": _one_of(PRICES),
    "size": _one_of(SIZES),
    "venues": _some_of(),
    "types": _some_of(("Q", "T", "B")),
    "policy": _one_of(_SLOT_POLICIES),
    "when": _one_of(("open", "login")),
    "how": _one_of(("drop", "close")),
    "then": _one_of(("drop", "close")),
}
_OF_KIND: Mapping[tuple[str, str], Rule] = {
    ("close", "code"): _CLOSE_CODE,
    ("close", "reason"): _text,
    ("end_after", "code"): _CLOSE_CODE,
    ("end_after", "reason"): _text,
    ("at_expiry", "code"): _CLOSE_CODE,
    ("cut", "frame"): _or_null(_text),
    ("jif_day", "per_second"): _positive,
    ("clock_skew", "seconds"): _number(),
    ("heartbeat", "mode"): _one_of(("on", "off")),
    ("heartbeat", "timestamp"): _flag,
    ("login", "reply"): _one_of(
        (
            "ok",
            "none",
            "unauthorized",
            "another_location",
            "max_connections",
            "not_authorized_text",
            "kick_old",
        )
    ),
    # Not an HTTP status on the wire: any number may be said there.
    ("login", "status"): _number(whole=True),
    ("login", "shape"): _SHAPE,
    ("subscribe_ack", "status"): _number(whole=True),
    ("subscribe_ack", "shape"): _SHAPE,
    ("subscribe_ack", "mode"): _one_of(("normal", "none", "late", "partial")),
    ("shape", "timestamp"): _one_of(TIMESTAMPS),
    ("ack", "variant"): _one_of(
        (
            "normal",
            "no_body",
            "null_tr_cd",
            "with_tr_key",
            "late",
            "never",
            "twice",
            "data_before",
            "reject",
        )
    ),
    ("ack", "code"): _text,
    ("at_expiry", "action"): _one_of(("nothing", "close", "silent", "drop", "reject")),
    ("news_shape", "variant"): _one_of(NEWS_VARIANTS),
    ("equity_shape", "variant"): _one_of(
        ("lost", "no_exchname", "nxt", "padded_shcode", "mid", "numbers")
    ),
    ("token", "reply"): _one_of(
        (
            "ok",
            "error",
            "non_json",
            "expire_in",
            "string",
            "no_expiry",
            "no_token",
        )
    ),
    ("token", "code"): _text,
    ("token_expiry", "rule"): _one_of(
        ("07:00", "same_day", "next_day", "86400", "seconds")
    ),
    ("tr", "reply"): _one_of(("ok", "non_json", "empty")),
    ("tr", "code"): _text,
    ("t3102", "variant"): _one_of(
        ("normal", "clean", "leaked", "no_block", "no_block2", "not_found")
    ),
    ("burst", "what"): _one_of(("news", "prices")),
}
