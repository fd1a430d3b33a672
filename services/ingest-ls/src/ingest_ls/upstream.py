"""
How LS talks: registering, and telling an acknowledgement from data.

An acknowledgement and a data frame carry the same ``tr_cd``; ``header.rsp_cd`` tells
them apart. The token goes bare into every message: with ``Bearer`` in front of it the
server accepts and then says nothing (LS Open API portal).
"""

from __future__ import annotations

import json
import logging
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from feedmesh.errors import FeedLostError, FeedRefusedError
from feedmesh.ingest.dialect import Answer, Control, Opened, Reading
from feedmesh.ingest.subscriptions import Request
from feedmesh.ingest.wire import open_wire
from ingest_ls.rest import TokenRejectedError
from ingest_ls.token import TokenKeeper


__all__ = ["NEWS_KEY", "LsDialect"]

logger = logging.getLogger(__name__)

NEWS_KEY = "NWS:NWS001"

_OK = "00000"
_BAD_TOKEN = ("IGW00121", "IGW00123")
_WRONG_SERVER = "10001"  # a live account at the paper server, or the reverse
_REGISTER = {"subscribe": "3", "unsubscribe": "4"}
_ANSWERS = {
    "3": Control.SUBSCRIBED,
    "1": Control.SUBSCRIBED,
    "4": Control.UNSUBSCRIBED,
    "2": Control.UNSUBSCRIBED,
}
_SHORT_SECONDS = 5.0
_SHORT_SESSIONS = 3
# One report has it that handshakes without these are dropped.
_HEADERS = {"User-Agent": "feedmesh", "Accept-Language": "ko-KR,ko;q=0.9"}


class _Header(msgspec.Struct):
    rsp_cd: Any = None
    tr_cd: Any = None
    tr_type: Any = None


class _Frame(msgspec.Struct):
    header: _Header | None = None


_decode = msgspec.json.Decoder(_Frame).decode


class LsDialect:
    """
    The one socket of an account; it carries every kind of data.

    Args:
        url: Where it is.
        tokens: Gives the token that goes into every message.
        tls: Verifies the upstream.
    """

    link = "news"

    def __init__(self, url: str, tokens: TokenKeeper, tls: ssl.SSLContext) -> None:
        self._url = url
        self._tokens = tokens
        self._tls = tls
        self._token = ""
        self._short_sessions = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Opened]:
        """Take a token and connect; there is no login, each message has the token."""
        self._token = await self._tokens.token()
        started = time.monotonic()
        try:
            async with open_wire(self._url, tls=self._tls, headers=_HEADERS) as wire:
                started = time.monotonic()
                yield Opened(wire, logged_in=False)
        except FeedLostError:
            self._note_end(time.monotonic() - started)
            raise

    def _note_end(self, seconds: float) -> None:
        """Take a new token once several sessions in a row were cut at once."""
        self._short_sessions = (
            self._short_sessions + 1 if seconds < _SHORT_SECONDS else 0
        )
        if self._short_sessions >= _SHORT_SESSIONS:
            self._short_sessions = 0
            self._tokens.reject()

    def ask(self, request: Request) -> str:
        """Return the message that registers or unregisters one key."""
        code, _, key = request.keys[0].partition(":")
        return json.dumps(
            {
                "header": {"token": self._token, "tr_type": _REGISTER[request.verb]},
                "body": {"tr_cd": code, "tr_key": key},
            },
            separators=(",", ":"),
        )

    def read(self, frame: bytes) -> Reading:
        """Tell data from acknowledgements; raise what a rejection means."""
        if b'"rsp_cd"' not in frame:
            return None
        try:
            header = _decode(frame).header
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if header is None or not isinstance(header.rsp_cd, str):
            return None
        # Both are null in some acknowledgements, which are then of a registration.
        control = _ANSWERS.get(str(header.tr_type), Control.SUBSCRIBED)
        about = f"{header.tr_cd}:" if isinstance(header.tr_cd, str) else ""
        if header.rsp_cd == _OK:
            return Answer(control, about)
        if header.rsp_cd in _BAD_TOKEN:
            self._tokens.reject()
            raise TokenRejectedError("token_rejected", header.rsp_cd)
        if header.rsp_cd == _WRONG_SERVER:
            raise FeedRefusedError("account_kind", header.rsp_cd)
        logger.warning("a registration was rejected", extra={"code": header.rsp_cd})
        if control is Control.SUBSCRIBED:
            return Answer(Control.SUBSCRIBE_REFUSED, about)
        return Answer(Control.UNSUBSCRIBE_REFUSED, about)
