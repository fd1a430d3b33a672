"""
The AsyncAPI description of protocol v3, made from the code.

Shapes come from the structs that are decoded and encoded, meanings from their
docstrings, close codes and constant words from their tables. Written out here is only
what the code has no words for: the price update, which no struct describes, and fields
that mean the same wherever they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from inspect import cleandoc
from typing import Any, Final, get_args

import msgspec

from edge.clients.close_codes import CloseCode
from edge.stream import messages as messages
from edge.stream import requests as requests
from edge.stream.words import ERRORS, FEED_STATES, GAPS, NOT_RECOVERED, REJECTIONS
from feedmesh.news import NewsItem, Stock
from feedmesh.status import FeedFrame, LinkFrame


__all__ = ["MESSAGES", "REQUESTS", "describe", "schema_name", "schemas"]

Json = dict[str, Any]
Examples = Mapping[str, Iterable[Json]]

REQUESTS: Final[dict[str, type[msgspec.Struct]]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(requests.Request)
}
"""What a client may send, by ``op``."""

MESSAGES: Final[dict[str, type[msgspec.Struct] | None]] = {
    **{str(kind.__struct_config__.tag): kind for kind in get_args(messages.Message)},
    "price_update": None,
    "news": NewsItem,
    "status": FeedFrame,
}
"""What the edge may send, by ``type``; no struct describes a price update."""

# What the edge sends after a request, and what it sends unasked.
_REPLIES: Final = {
    "subscribe": ("ack", "price_update", "news", "status", "snapshot_end", "error"),
    "resume": ("ack", "price_update", "news", "status", "snapshot_end", "error"),
    "unsubscribe": ("ack", "error"),
    "list": ("list", "error"),
    "ping": ("pong", "error"),
    "auth": ("ack", "error"),
}
_PUSHES: Final = (
    *("hello", "price_update", "news", "status", "gap", "heartbeat", "going_away"),
)

_SCHEMAS: Final = "#/components/schemas/"
_POSITION: Final = "Whoever has this message has everything up to here; see Positions."
# What a field means where its struct does not say; `Struct.field` goes before `field`.
_MEANINGS: Final = {
    "op": "What is asked.",
    "type": "Which message this is.",
    "id": "Of the client's choice; repeated in the answer.",
    "channel": "Prices, news, or the state of the feeds.",
    "at": "The edge's clock; ISO 8601, UTC.",
    "positions": "Up to where the client has everything.",
    "position": _POSITION,
    "subscriptions": "One or more, as in `subscribe`; begun in this order.",
    "Unsubscribe.symbols": "Of prices: which; all if there are none.",
    "Ack.op": "Which request was carried out.",
    "Auth.token": "A JWT. Never put it into the address.",
    "GoingAway.reconnect_after_ms": "From now on; the edge closes before that.",
    "Limits.max_symbols": "How many symbols may be subscribed at a time.",
    "Limits.max_symbols_per_request": "How many symbols a request may name.",
    "Limits.max_message_bytes": "Largest message that the edge takes.",
    "Limits.max_requests_per_second": "More, for more than a second, end it with 4101.",
    "Limits.replay_messages": "How many messages of the news log may have been missed.",
    "Listing.subscriptions": "What is subscribed; prices by pace.",
    "Listed.symbols": "Which symbols; absent if news of all.",
    "Listed.types": "Of news: which types; absent if all.",
    "Listed.mode": "Of prices: `every` or `latest`.",
    "Listed.max_rate_hz": "Of prices: the rate that holds; absent if there is none.",
    "Rejected.symbol": "As it was asked for, at most 20 characters of it.",
    "Rejected.code": "Why, as a constant word.",
    "Stock.code": "Short code of the stock.",
    "Stock.name": "Its name; null where the master has no such code.",
    "feed": "Name of the feed, such as `fmp`.",
    "state": "How it is.",
    "since": "Since when it is so; ISO 8601, UTC.",
    "last_message_at": "When it last said anything; null if never.",
    "reconnects": "How often its connections have ended.",
    "FeedFrame.links": "Its connections to the upstream, by name.",
    "FeedFrame.at": "When the feed said so; ISO 8601, UTC.",
    "LinkFrame.reason": "Why it last ended, while it is not live again; else null.",
    "LinkFrame.desired": "How many subscriptions there should be.",
    "LinkFrame.confirmed": "How many of them the upstream has agreed to.",
    "LinkFrame.complete_to": "All that the upstream sent until then is stored.",
}
_PRICE_SUMMARY: Final = "A new value of a symbol, with all that is known of it."
# Constant words, by the field that carries them.
_WORDS: Final = {
    "Error.code": ERRORS,
    "Rejected.code": REJECTIONS,
    "Ack.reason": NOT_RECOVERED,
    "Gap.reason": GAPS,
    "FeedFrame.state": FEED_STATES,
    "LinkFrame.state": FEED_STATES,
}
_NUMBER: Final = {"type": ["number", "null"]}
_PRICE_UPDATE: Final[dict[str, Json]] = {
    "type": {"enum": ["price_update"], "description": "Which message this is."},
    "symbol": {"type": "string", "description": "In upper case."},
    "timestamp": {
        "type": "integer",
        "description": "Time of the event; milliseconds since the epoch, UTC.",
    },
    "data_type": {
        "enum": ["T", "Q", "B"],
        "description": "What changed it last: a trade, a quote, or a trade taken back.",
    },
    "last_price": {**_NUMBER, "description": "Of the last trade; null if unknown."},
    "last_size": {**_NUMBER, "description": "Of the last trade; null if unknown."},
    "ask_price": {**_NUMBER, "description": "Of the last quote; null if unknown."},
    "ask_size": {**_NUMBER, "description": "Of the last quote; null if unknown."},
    "bid_price": {**_NUMBER, "description": "Of the last quote; null if unknown."},
    "bid_size": {**_NUMBER, "description": "Of the last quote; null if unknown."},
    "cached_at": {
        "type": "string",
        "description": "When it was received; UTC, without a zone, to the second.",
    },
    "position": {"type": "string", "description": _POSITION},
}
_ABOUT: Final = """\
Prices, news and the state of feeds on one WebSocket, and how to come back without a
hole. The manual is protocol-v3.md, beside this file.

Messages are JSON objects in text frames. With `?frames=array` each frame of the edge is
a JSON array of one or more of them. Fields and constant words are only ever added.
"""
_ARRAYS: Final = "Send JSON arrays of messages instead of one message a frame."
_ARGUMENT: Final = re.compile(r"^    (\w+): ", re.MULTILINE)


def describe(examples: Examples) -> Json:
    """Return the description, with *examples* by the names of their schemas."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "feedmesh stream",
            "version": "1",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
            "x-close-codes": [_close_code(code) for code in CloseCode],
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {"stream": _channel()},
        "operations": _operations(),
        "components": {
            "messages": _messages(examples),
            "schemas": schemas(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "In the header, or in `auth` as the first message.",
                }
            },
        },
    }


def schemas() -> dict[str, Json]:
    """Return the JSON Schemas of all requests and messages, by name."""
    sent = [kind for kind in MESSAGES.values() if kind is not None]
    _, components = msgspec.json.schema_components(
        [*REQUESTS.values(), *sent], ref_template=_SCHEMAS + "{name}"
    )
    structs = {kind.__name__: kind for kind in _structs()}
    found = {
        name: _described(structs[name], components[name]) for name in sorted(components)
    }
    item = found["NewsItem"]
    item["properties"]["position"] = {"type": "string", "description": _POSITION}
    item["required"].append("position")
    found["PriceUpdate"] = {
        "title": "PriceUpdate",
        "description": _PRICE_SUMMARY,
        "type": "object",
        "properties": _PRICE_UPDATE,
        "required": list(_PRICE_UPDATE),
    }
    return found


def schema_name(message: Json) -> str:
    """
    Return the name of the schema of *message*, whoever sent it.

    Raises:
        KeyError: If nobody sends such a message.
    """
    if "op" in message and "type" not in message:
        return REQUESTS[message["op"]].__name__
    return _sent_name(message["type"])


def _structs() -> Iterable[type[msgspec.Struct]]:
    yield from REQUESTS.values()
    yield from (kind for kind in MESSAGES.values() if kind is not None)
    yield from (requests.Subscription, requests.Rejected, Stock, LinkFrame)
    yield from (messages.Limits, messages.Listed, messages.Positions)


def _described(kind: type[msgspec.Struct], schema: Json) -> Json:
    """Return *schema* of *kind* with what its docstring says, field by field."""
    meanings = _meanings(kind)
    omits = kind.__struct_config__.omit_defaults
    sent = kind not in REQUESTS.values() and kind is not requests.Subscription
    properties = {
        field: _property(kind.__name__, field, part, meanings, not_null=omits and sent)
        for field, part in schema["properties"].items()
    }
    # What is sent is sent whole, unless defaults are left out.
    required = list(properties) if sent and not omits else schema["required"]
    return {
        "title": schema["title"],
        "description": _summary(kind),
        "type": "object",
        "properties": properties,
        "required": required,
    }


def _property(
    struct: str, field: str, schema: Json, meanings: dict[str, str], *, not_null: bool
) -> Json:
    schema = dict(schema)
    if schema.get("default", ...) in (None, {}):
        del schema["default"]
    if not_null and "anyOf" in schema:
        others = [part for part in schema["anyOf"] if part != {"type": "null"}]
        schema = dict(others[0]) if len(others) == 1 else {"anyOf": others}
    if "$ref" in schema:
        # Beside a reference, nothing counts.
        schema = {"allOf": [schema]}
    meaning = _MEANINGS.get(f"{struct}.{field}") or meanings.get(field)
    schema["description"] = meaning or _MEANINGS[field]
    words = _WORDS.get(f"{struct}.{field}")
    if words:
        schema["x-words"] = dict(words)
    return schema


def _meanings(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return what the docstrings of *kind* and its bases say of each attribute."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        _, _, attributes = _doc(base).partition("\nAttributes:\n")
        _, *parts = _ARGUMENT.split(attributes)
        texts = map(_plain, parts[1::2])
        found |= dict(zip(parts[::2], texts, strict=True))
    return found


def _summary(kind: type[msgspec.Struct]) -> str:
    return _plain(_doc(kind).partition("\nAttributes:\n")[0])


def _doc(kind: type) -> str:
    return cleandoc(kind.__dict__.get("__doc__") or "")


def _plain(text: str) -> str:
    """Return *text* in one line, with the marks of Markdown."""
    return re.sub(r"\*(\w+)\*", r"`\1`", " ".join(text.split()).replace("``", "`"))


def _servers() -> Json:
    return {
        "local": {
            "host": "127.0.0.1:8080",
            "protocol": "ws",
            "description": "What `make run` starts.",
        },
        "deployed": {
            "host": "{host}",
            "protocol": "wss",
            "description": "An edge of yours.",
            "variables": {"host": {"description": "Its name, and its port if any."}},
            "security": [{"$ref": "#/components/securitySchemes/token"}],
        },
    }


def _channel() -> Json:
    query = {"frames": {"enum": ["array", "object"], "description": _ARRAYS}}
    return {
        "address": "/api/v3/stream",
        "title": "The stream",
        "description": "The subprotocol `feedmesh.v1.json` may be offered, or none.",
        "messages": {
            name: {"$ref": f"#/components/messages/{name}"} for name in _messages({})
        },
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {"type": "object", "properties": query},
                "bindingVersion": "0.1.0",
            }
        },
    }


def _operations() -> Json:
    channel = {"$ref": "#/channels/stream"}
    asked = {
        op: {
            "action": "receive",
            "channel": channel,
            "summary": _summary(kind),
            "messages": [_reference(kind.__name__)],
            "reply": {"channel": channel, "messages": _sent(_REPLIES[op])},
        }
        for op, kind in REQUESTS.items()
    }
    pushed = {
        "action": "send",
        "channel": channel,
        "summary": "Tell what nobody asked for just now.",
        "messages": _sent(_PUSHES),
    }
    return {**asked, "push": pushed}


def _messages(examples: Examples) -> Json:
    described = {
        kind.__name__: _message(op, kind.__name__, _summary(kind))
        for op, kind in REQUESTS.items()
    }
    for name, sent in MESSAGES.items():
        summary = _PRICE_SUMMARY if sent is None else _summary(sent)
        described[_sent_name(name)] = _message(name, _sent_name(name), summary)
    for title, message in described.items():
        payloads = [{"payload": example} for example in examples.get(title, ())]
        if payloads:
            message["examples"] = payloads
    return described


def _message(name: str, title: str, summary: str) -> Json:
    payload = {"$ref": _SCHEMAS + title}
    return {"name": name, "title": title, "summary": summary, "payload": payload}


def _sent(names: Iterable[str]) -> list[Json]:
    return [_reference(_sent_name(name)) for name in names]


def _sent_name(name: str) -> str:
    kind = MESSAGES[name]
    return "PriceUpdate" if kind is None else kind.__name__


def _reference(title: str) -> Json:
    return {"$ref": f"#/channels/stream/messages/{title}"}


def _close_code(code: CloseCode) -> Json:
    return {"code": int(code), "policy": code.policy, "meaning": code.meaning}
