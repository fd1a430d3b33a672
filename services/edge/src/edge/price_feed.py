"""
One client of the price contract: its requests, and what is wrong with them.

A request that breaks a rule is answered with an error and changes nothing; the
connection stays open.
"""

from __future__ import annotations

import json
from typing import Literal, NamedTuple

import msgspec
from fastapi import WebSocket

from edge.hub import PriceHub, PriceSession
from edge.metrics import EdgeMetrics
from edge.outlet import outlet_of
from feedmesh.symbols import parse_symbol


__all__ = ["MAX_SYMBOLS_PER_REQUEST", "PriceRequest", "parse_request", "serve_prices"]

MAX_SYMBOLS_PER_REQUEST = 50


class PriceRequest(NamedTuple):
    """A request that keeps the rules; symbols are in upper case."""

    action: Literal["subscribe", "unsubscribe"]
    symbols: tuple[str, ...]


class _Raw(msgspec.Struct):
    action: Literal["subscribe", "unsubscribe"]
    symbols: list[str]


_decode = msgspec.json.Decoder(_Raw).decode
_SHAPE = (
    'a request is {"action": "subscribe" or "unsubscribe", "symbols": [...]} as a'
    " text frame of JSON"
)


def parse_request(text: str | None) -> PriceRequest:
    """
    Return the request in *text*; None stands for a binary frame.

    Raises:
        ValueError: With a text for the client.
    """
    if text is None:
        raise ValueError(_SHAPE)
    try:
        raw = _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ValueError(_SHAPE) from None
    return PriceRequest(raw.action, parse_symbols(raw.symbols))


def parse_symbols(symbols: list[str]) -> tuple[str, ...]:
    """
    Return *symbols* in upper case, if they are neither none nor too many.

    Raises:
        ValueError: With a text for the client.
    """
    if not symbols:
        raise ValueError("symbols must hold at least one symbol")
    if len(symbols) > MAX_SYMBOLS_PER_REQUEST:
        raise ValueError(
            f"at most {MAX_SYMBOLS_PER_REQUEST} symbols per request,"
            f" {len(symbols)} were given"
        )
    return tuple(_symbol(text) for text in symbols)


def _symbol(text: str) -> str:
    try:
        return parse_symbol(text)
    except ValueError:
        shown = json.dumps(text[:20], ensure_ascii=False)
        raise ValueError(f"{shown} is not a legal symbol") from None


async def serve_prices(
    websocket: WebSocket, hub: PriceHub, metrics: EdgeMetrics
) -> None:
    """Do what the client asks until it leaves."""
    await websocket.accept()
    outlet = outlet_of(websocket)
    session = hub.join(outlet)
    try:
        while True:
            # Who does not read its replies may ask nothing more for now.
            await outlet.writable()
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                _obey(hub, session, parse_request(message.get("text")))
            except ValueError as error:
                metrics.request_errors.labels("prices").inc()
                session.reply(_error(str(error)))
    finally:
        hub.leave(session)


def _obey(hub: PriceHub, session: PriceSession, request: PriceRequest) -> None:
    if request.action == "unsubscribe":
        hub.unsubscribe(session, request.symbols)
    elif not hub.subscribe(session, request.symbols):
        raise ValueError("too many symbols on this connection")


def _error(text: str) -> bytes:
    return json.dumps({"type": "error", "message": text}, ensure_ascii=False).encode()
