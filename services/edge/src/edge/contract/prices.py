"""
One client of the price contract: its requests, and what is wrong with them.

A request that breaks a rule is answered with an error and changes nothing; the
connection stays open.
"""

from __future__ import annotations

import json
from typing import Literal, NamedTuple

import msgspec

from edge.clients.close_codes import CloseCode
from edge.clients.outlet import Outlet
from edge.contract.session import ContractSession
from edge.door.admission import TokenBucket
from edge.door.login import Login
from edge.door.tokens import AuthError
from edge.parts import EdgeParts
from edge.prices.listeners import CONTRACT, EVERY, PriceListener
from feedmesh.symbols import parse_symbol


__all__ = [
    "MAX_SYMBOLS_PER_REQUEST",
    "PriceRequest",
    "PriceSession",
    "parse_request",
    "parse_symbols",
]

MAX_SYMBOLS_PER_REQUEST = 50
# The contract sets no limit on requests; beyond these, a client waits for its turn.
_REQUESTS_PER_SECOND = 100.0
_PAUSE_SECONDS = 0.5


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
        shown = json.dumps(text[:20])
        raise ValueError(f"{shown} is not a legal symbol") from None


class PriceSession(ContractSession):
    """A client that gets every update of its symbols."""

    endpoint = "prices"

    def __init__(self, outlet: Outlet, parts: EdgeParts, login: Login) -> None:
        super().__init__(outlet, parts, login)
        self._hub = parts.hub
        self._max_symbols = parts.settings.edge_max_symbols
        self._listener = PriceListener(self.sender, CONTRACT)
        self._requests = TokenBucket(_REQUESTS_PER_SECOND, _REQUESTS_PER_SECOND)

    def received(self, text: str | None) -> None:
        """Do what the client asks."""
        if not self._requests.take():
            self.outlet.hold(_PAUSE_SECONDS)
        try:
            self._obey(parse_request(text))
        except AuthError:
            self.close(CloseCode.UNAUTHENTICATED, "")
        except ValueError as error:
            self.parts.metrics.request_errors.labels("prices").inc()
            self.sender.put(_error(str(error)))
            self.parts.flusher.soon(self.sender)

    def blocked(self) -> None:
        """Let updates pass by until the client reads again."""
        super().blocked()
        self._listener.suspend()

    def resumed(self) -> None:
        """Send what has changed meanwhile."""
        super().resumed()
        missed = self._hub.resume(self._listener)
        self._hub.snapshot(self._listener, missed.changed)

    def lost(self) -> None:
        """Forget the client."""
        super().lost()
        self._hub.leave(self._listener)

    def _obey(self, request: PriceRequest) -> None:
        symbols = request.symbols
        if request.action == "unsubscribe":
            self._hub.unsubscribe(self._listener, symbols)
            return
        identity = self.login.identity
        # No word of whether a symbol that is not for this client exists.
        symbols = tuple(filter(identity.may_see, symbols))
        most = identity.limit(self._max_symbols)
        if len(self._listener.places.keys() | set(symbols)) > most:
            raise ValueError("too many symbols on this connection")
        self._hub.subscribe(self._listener, symbols, EVERY)
        # A symbol that is asked for again has its value sent again.
        self._hub.snapshot(self._listener, dict.fromkeys(symbols))
        self.parts.flusher.now_if_much(self.sender)


def _error(text: str) -> bytes:
    return json.dumps({"type": "error", "message": text}, ensure_ascii=False).encode()
