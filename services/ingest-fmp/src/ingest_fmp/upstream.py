"""
How FMP talks: logging in, asking, and telling an answer from data.

The upgrade always succeeds; a refused login arrives as an ordinary frame on an open
socket. Answers may be flat or nested, and data may come before the login's answer
(FMP documentation, "WebSocket" pages, and what its clients met).
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from pydantic import SecretStr

from feedmesh.errors import FeedBusyError, FeedError, FeedRefusedError
from feedmesh.ingest.dialect import Control, Opened, Reading
from feedmesh.ingest.subscriptions import Request
from feedmesh.ingest.wire import Wire, open_wire


__all__ = ["FmpDialect"]

_BOM = b"\xef\xbb\xbf"
_OK = 200
# Frames that may come before the answer to a login; the limit on time is the link's.
_EARLY_FRAMES = 1000
_BUSY = ("another location", "maximum number of connections", "maximum connections")
_UNAUTHORIZED = ("unauthorized", "not authorized")  # any case


class _Answer(msgspec.Struct):
    # Only the event is sure; the rest is looked at with care.
    event: str
    status: Any = None
    message: Any = None
    data: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


class FmpDialect:
    """
    One socket of FMP.

    Args:
        link: Its name: ``stocks``, ``crypto``, ``forex`` or ``stream``.
        url: Where it is.
        api_key: For the login message.
        by_stream: Whether subscriptions name streams rather than tickers.
        tls: Verifies the upstream.
        ping_seconds: Between protocol pings; None sends none.
    """

    def __init__(
        self,
        link: str,
        url: str,
        api_key: SecretStr,
        *,
        by_stream: bool,
        tls: ssl.SSLContext,
        ping_seconds: float | None,
    ) -> None:
        self.link = link
        self._url = url
        self._api_key = api_key
        self._by_stream = by_stream
        self._tls = tls
        self._ping_seconds = ping_seconds

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Opened]:
        """Connect, send the login, and read until it is answered."""
        async with open_wire(
            self._url, tls=self._tls, ping_seconds=self._ping_seconds
        ) as wire:
            await wire.send(
                _compact(
                    {
                        "event": "login",
                        "data": {"apiKey": self._api_key.get_secret_value()},
                    }
                )
            )
            yield Opened(wire, await self._until_logged_in(wire))

    async def _until_logged_in(self, wire: Wire) -> list[bytes]:
        early: list[bytes] = []
        while True:
            frame = await wire.receive()
            reading = self.read(frame)
            if reading is Control.LOGIN:
                return early
            if reading is None and len(early) < _EARLY_FRAMES:
                early.append(frame)

    def ask(self, request: Request) -> str:
        """Return the text that subscribes or unsubscribes."""
        if self._by_stream:
            return _compact(
                {"event": request.verb, "data": {"stream": request.keys[0]}}
            )
        # Lower case out, as in every sample; what comes in is in upper case with us.
        tickers = [key.lower() for key in request.keys]
        return _compact({"event": request.verb, "data": {"ticker": tickers}})

    def read(self, frame: bytes) -> Reading:
        """Tell data from control; raise what a refusal means."""
        # Data frames have no "event"; looking for the word spares decoding them twice.
        if b'"event"' not in frame:
            return None
        try:
            answer = _decode(frame.removeprefix(_BOM))
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        status, message = _outcome(answer)
        error = _error(answer.event, status, message)
        if error is not None:
            raise error
        match answer.event:
            case "heartbeat":
                return Control.HEARTBEAT
            case "login":
                return Control.LOGIN
            case "subscribe":
                agreed = _agrees(status, message)
                return Control.SUBSCRIBED if agreed else Control.SUBSCRIBE_REFUSED
            case "unsubscribe":
                agreed = _agrees(status, message)
                return Control.UNSUBSCRIBED if agreed else Control.UNSUBSCRIBE_REFUSED
            case _:
                return Control.OTHER


def _outcome(answer: _Answer) -> tuple[int | None, str]:
    """Return status and message, whether they are nested or not."""
    data = answer.data if isinstance(answer.data, dict) else {}
    status = data.get("status", answer.status)
    message = data.get("message", answer.message)
    return (
        status if isinstance(status, int) else None,
        message if isinstance(message, str) else "",
    )


def _agrees(status: int | None, message: str) -> bool:
    # The text of a success is not documented, that of a refusal is known.
    return status in (None, _OK) and not _says(message, _UNAUTHORIZED)


def _says(message: str, texts: tuple[str, ...]) -> bool:
    said = message.lower()
    return any(text in said for text in texts)


def _error(event: str, status: int | None, message: str) -> FeedError | None:
    if _says(message, _BUSY):
        return FeedBusyError("slot_taken")
    if event == "login" and status != _OK:
        if status == 401 or _says(message, _UNAUTHORIZED):
            return FeedRefusedError("unauthorized")
        return FeedRefusedError("login_refused")
    return None


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
