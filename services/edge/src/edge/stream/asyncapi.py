"""
The AsyncAPI description of protocol v3, made from the code.

Shapes come from the structs that are decoded and encoded, meanings from their
docstrings and ``meanings.py``, close codes and constant words from their tables.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from functools import cache
from inspect import cleandoc
from typing import Any, Final, get_args

import msgspec

from edge.clients.close_codes import CloseCode
from edge.stream import messages, requests
from edge.stream.examples import EXAMPLES
from edge.stream.meanings import MEANINGS, POSITION, PRICE_SUMMARY, PRICE_UPDATE, WORDS
from feedmesh.gaps import FeedGap
from feedmesh.news import NewsItem
from feedmesh.status import FeedFrame


__all__ = ["MESSAGES", "REQUESTS", "describe", "encoded", "schema_name", "schemas"]

Json = dict[str, Any]

REQUESTS: Final[dict[str, type[msgspec.Struct]]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(requests.Request)
}
"""What a client may send, by ``op``."""

MESSAGES: Final[dict[str, type[msgspec.Struct] | None]] = {
    **{str(kind.__struct_config__.tag): kind for kind in get_args(messages.Message)},
    "price_update": None,
    "news": NewsItem,
    "status": FeedFrame,
    "feed_gap": FeedGap,
}
"""What the edge may send, by ``type``; no struct describes a price update."""

# What the edge sends after a request, and what it sends unasked.
_DATA: Final = ("price_update", "news", "status", "feed_gap")
_REPLIES: Final = {
    "subscribe": ("ack", *_DATA, "snapshot_end", "error"),
    "resume": ("ack", *_DATA, "snapshot_end", "error"),
    "unsubscribe": ("ack", "error"),
    "list": ("list", "error"),
    "ping": ("pong", "error"),
    "auth": ("ack", "error"),
}
_PUSHES: Final = ("hello", *_DATA, "gap", "heartbeat", "going_away")

_SCHEMAS: Final = "#/components/schemas/"
_ABOUT: Final = """\
Prices, news and the state of feeds on one WebSocket, and how to come back without a
hole. The manual is protocol-v3.md, beside this file.

Messages are JSON objects in text frames. With `?frames=array` each frame of the edge is
a JSON array of one or more of them. Fields and constant words are only ever added.
"""
_ARRAYS: Final = "Send JSON arrays of messages instead of one message a frame."
_ARGUMENT: Final = re.compile(r"^    (\w+): ", re.MULTILINE)


def describe() -> Json:
    """Return the description."""
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
            "messages": _messages(),
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


@cache
def encoded() -> bytes:
    """Return the description as JSON, as it is served and kept in ``docs/``."""
    text = json.dumps(describe(), indent=2, ensure_ascii=False)
    return f"{text}\n".encode()


def schemas() -> dict[str, Json]:
    """Return the JSON Schemas of all requests and messages, by name."""
    sent = [kind for kind in MESSAGES.values() if kind is not None]
    kinds = [*REQUESTS.values(), *sent]
    _, components = msgspec.json.schema_components(
        kinds, ref_template=_SCHEMAS + "{name}"
    )
    structs = {part.__name__: part for kind in kinds for part in _structs(kind)}
    found = {
        name: _described(structs[name], components[name]) for name in sorted(components)
    }
    item = found["NewsItem"]
    item["properties"]["position"] = {"type": "string", "description": POSITION}
    item["required"].append("position")
    found["PriceUpdate"] = {
        "title": "PriceUpdate",
        "description": PRICE_SUMMARY,
        "type": "object",
        "properties": PRICE_UPDATE,
        "required": list(PRICE_UPDATE),
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


def _structs(kind: Any) -> Iterable[type[msgspec.Struct]]:
    """Return the structs in the type *kind*, at whatever depth."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
        for field in msgspec.structs.fields(kind):
            yield from _structs(field.type)
    else:
        for part in get_args(kind):
            yield from _structs(part)


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
    meaning = MEANINGS.get(f"{struct}.{field}") or meanings.get(field)
    schema["description"] = meaning or MEANINGS[field]
    words = WORDS.get(f"{struct}.{field}")
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
            name: {"$ref": f"#/components/messages/{name}"} for name in _messages()
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


def _messages() -> Json:
    described = {
        kind.__name__: _message(op, kind.__name__, _summary(kind))
        for op, kind in REQUESTS.items()
    }
    for name, sent in MESSAGES.items():
        summary = PRICE_SUMMARY if sent is None else _summary(sent)
        described[_sent_name(name)] = _message(name, _sent_name(name), summary)
    for title, message in described.items():
        payloads = [{"payload": example} for example in EXAMPLES.get(title, ())]
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


if __name__ == "__main__":
    sys.stdout.buffer.write(encoded())
