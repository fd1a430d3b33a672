"""
What a client of protocol v3 may ask; bytes in, requests out, no I/O.

A message that is not an object with an ``op`` breaks the protocol: the connection ends.
One whose ``op`` is unknown or whose fields are wrong is answered with an error and
changes nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from feedmesh.symbols import parse_symbol


__all__ = [
    "MAX_SYMBOLS_PER_REQUEST",
    "Auth",
    "BadRequestError",
    "Channel",
    "List",
    "NotARequestError",
    "Ping",
    "Rejected",
    "Request",
    "RequestId",
    "Resume",
    "Subscribe",
    "Subscription",
    "Unsubscribe",
    "parse_request",
    "parse_symbols",
]

MAX_SYMBOLS_PER_REQUEST = 1000
_MAX_TYPES = 32
_MAX_POSITIONS = 4000
_MAX_SUBSCRIPTIONS = 16

RequestId = Annotated[str, msgspec.Meta(max_length=64)] | int | None
Channel = Literal["prices", "news", "status"]
_Symbols = Annotated[list[str], msgspec.Meta(max_length=MAX_SYMBOLS_PER_REQUEST)]
_Types = Annotated[list[str], msgspec.Meta(max_length=_MAX_TYPES)]
_Positions = Annotated[list[str], msgspec.Meta(max_length=_MAX_POSITIONS)]
_Rate = Annotated[float, msgspec.Meta(ge=0.1, le=50)]


class NotARequestError(ValueError):
    """The message breaks the protocol."""


class BadRequestError(ValueError):
    """
    The request cannot be met; the text is for the client.

    Attributes:
        code: A constant word for programs.
        id: The request's id, as far as it could be read.
    """

    def __init__(self, code: str, text: str, id: RequestId = None) -> None:
        super().__init__(text)
        self.code = code
        self.id = id


class Subscription(msgspec.Struct, kw_only=True, forbid_unknown_fields=False):
    """
    What to subscribe to.

    Attributes:
        channel: Prices of symbols, news items, or the state of the feeds.
        symbols: Of prices: which. Of news: only items that name one of them.
        types: Of news: only items of these types.
        mode: Of prices: ``every`` update, or the ``latest`` whenever there is room.
        max_rate_hz: With ``latest``: at most so many values of a symbol a second.
        snapshot: Whether to begin with what is there: the newest value of each
            symbol (the default), or the newest news items (not the default).
        since: Positions up to which the client has everything: one of the news, or
            those of the prices it has.
    """

    channel: Channel
    symbols: _Symbols | None = None
    types: _Types | None = None
    mode: Literal["latest", "every"] = "latest"
    max_rate_hz: _Rate | None = None
    snapshot: bool | None = None
    since: _Positions | str | None = None


class Subscribe(Subscription, tag_field="op", tag="subscribe", kw_only=True):
    """Begin or change a subscription; the same again changes nothing."""

    id: RequestId = None


class Unsubscribe(msgspec.Struct, tag_field="op", tag="unsubscribe", kw_only=True):
    """End a subscription; without symbols, all of the channel."""

    channel: Channel
    symbols: _Symbols | None = None
    id: RequestId = None


class Resume(msgspec.Struct, tag_field="op", tag="resume", kw_only=True):
    """Take up subscriptions where another connection left them."""

    subscriptions: Annotated[
        list[Subscription], msgspec.Meta(min_length=1, max_length=_MAX_SUBSCRIPTIONS)
    ]
    id: RequestId = None


class List(msgspec.Struct, tag_field="op", tag="list", kw_only=True):
    """Tell what is subscribed."""

    id: RequestId = None


class Ping(msgspec.Struct, tag_field="op", tag="ping", kw_only=True):
    """Answer, to show that the path works."""

    id: RequestId = None


class Auth(msgspec.Struct, tag_field="op", tag="auth", kw_only=True):
    """Say who you are, or prolong it."""

    token: str
    id: RequestId = None


Request = Subscribe | Unsubscribe | Resume | List | Ping | Auth


class _Outline(msgspec.Struct):
    op: str
    id: msgspec.Raw = msgspec.Raw(b"null")


_OPS: dict[str, type[Request]] = {
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "resume": Resume,
    "list": List,
    "ping": Ping,
    "auth": Auth,
}
_outline = msgspec.json.Decoder(_Outline).decode
_decode = {op: msgspec.json.Decoder(kind).decode for op, kind in _OPS.items()}
_decode_id = msgspec.json.Decoder(RequestId).decode


def parse_request(text: str) -> Request:
    """
    Return the request in *text*.

    Raises:
        NotARequestError: If it is not an object with an ``op``.
        BadRequestError: If the op is unknown or its fields are wrong.
    """
    try:
        outline = _outline(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise NotARequestError from None
    try:
        request_id = _decode_id(outline.id)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadRequestError("bad_request", "id must be a text or a number") from None
    decode = _decode.get(outline.op)
    if decode is None:
        known = ", ".join(_OPS)
        raise BadRequestError("unknown_op", f"op must be one of {known}", request_id)
    try:
        return decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        # msgspec names the place and what is expected there, never the value.
        raise BadRequestError("bad_request", str(error)[:200], request_id) from None


class Rejected(msgspec.Struct, frozen=True):
    """A symbol that is not subscribed, and a constant word why."""

    symbol: str
    code: str


def parse_symbols(symbols: list[str]) -> tuple[list[str], list[Rejected]]:
    """Return the legal ones of *symbols* in upper case, each once, and the others."""
    legal: dict[str, None] = {}
    rejected = []
    for text in symbols:
        try:
            legal[parse_symbol(text)] = None
        except ValueError:
            rejected.append(Rejected(text[:20], "bad_symbol"))
    return list(legal), rejected
