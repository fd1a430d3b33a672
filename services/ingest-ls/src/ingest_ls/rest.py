"""
The REST interface of LS: tokens and stock masters.

Business errors come as HTTP 500, so what a reply means is read from its code before its
status (LS Open API portal; ``IGW00201`` is the rate limit). Keys and secrets are only
ever in the body of a request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
from pydantic import SecretStr

from feedmesh.errors import FeedError, FeedLostError, FeedRefusedError
from ingest_ls.master import Board, Company


__all__ = ["Reply", "RestClient", "TokenRejectedError"]

logger = logging.getLogger(__name__)

_TIMEOUT = 20.0
# Two a second are allowed; the limit also fires on bursts below it.
_PAUSE_SECONDS = 0.6
_MAX_PAGES = 500
_WRONG_KEYS = frozenset({"IGW00101", "IGW00102", "IGW00103", "IGW00105"})
_BAD_TOKEN = frozenset({"IGW00121", "IGW00123"})
_TOO_MANY = "IGW00201"
_BOARDS: Mapping[str, Board] = {"1": "KOSPI", "2": "KOSDAQ"}


class TokenRejectedError(FeedLostError):
    """The token is invalid or expired; a new one may be taken."""


class Reply(NamedTuple):
    """A reply of a TR: its blocks, and where it goes on."""

    body: dict[str, Any]
    next_key: str | None


class RestClient:
    """
    Talks to one LS account.

    Args:
        http: Its base URL is LS; whoever made it closes it.
        app_key: Of the account.
        app_secret: Of the account.
    """

    def __init__(
        self, http: httpx.AsyncClient, app_key: SecretStr, app_secret: SecretStr
    ) -> None:
        self._http = http
        self._app_key = app_key
        self._app_secret = app_secret

    async def issue_token(self) -> dict[str, Any]:
        """
        Return the reply of the token endpoint.

        Raises:
            FeedRefusedError: If the keys are wrong.
            FeedLostError: If trying again may help.
        """
        form = {
            "grant_type": "client_credentials",
            "appkey": self._app_key.get_secret_value(),
            "appsecretkey": self._app_secret.get_secret_value(),
            "scope": "oob",
        }
        return (await self._post("/oauth2/token", data=form)).body

    async def companies(self, token: str) -> dict[str, Company]:
        """
        Return all listed companies by code, KOSPI and KOSDAQ.

        Raises:
            FeedError: If LS refuses or does not answer.
        """
        found: dict[str, Company] = {}
        for gubun, board in _BOARDS.items():
            if found:
                await asyncio.sleep(_PAUSE_SECONDS)
            for row in await self._pages("t9945", "/stock/market-data", gubun, token):
                code, name = row.get("shcode"), row.get("hname")
                if isinstance(code, str) and isinstance(name, str) and name.strip():
                    found[code.strip()] = Company(name.strip(), board)
        return found

    async def _pages(
        self, code: str, path: str, gubun: str, token: str
    ) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        next_key: str | None = ""
        for _ in range(_MAX_PAGES):
            reply = await self._post(
                path,
                json={f"{code}InBlock": {"gubun": gubun}},
                headers={
                    "authorization": f"Bearer {token}",
                    "tr_cd": code,
                    "tr_cont": "Y" if next_key else "N",
                    "tr_cont_key": next_key or "",
                    "mac_address": "",
                },
            )
            block = reply.body.get(f"{code}OutBlock")
            if isinstance(block, list):
                rows += [row for row in block if isinstance(row, dict)]
            next_key = reply.next_key
            if next_key is None:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        return rows

    async def _post(self, path: str, **request: Any) -> Reply:
        try:
            answer = await self._http.post(path, timeout=_TIMEOUT, **request)
        except httpx.TimeoutException:
            raise FeedLostError("rest_timeout") from None
        except httpx.HTTPError as error:
            raise FeedLostError("rest_unreachable", type(error).__name__) from None
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise FeedLostError("rest_not_json", f"status {answer.status_code}")
        problem = _error(body, answer.status_code)
        if problem is not None:
            raise problem
        more = answer.headers.get("tr_cont", "").strip() == "Y"
        return Reply(body, answer.headers.get("tr_cont_key", "") if more else None)


def _error(body: dict[str, Any], status: int) -> FeedError | None:
    """Return what a reply means if it is no success."""
    code = body.get("error_code") or body.get("rsp_cd") or ""
    if code in _WRONG_KEYS:
        return FeedRefusedError("wrong_keys", str(code))
    if code in _BAD_TOKEN:
        return TokenRejectedError("token_rejected", str(code))
    if code == _TOO_MANY:
        return FeedLostError("rate_limit", str(code), retry_after=5.0)
    if status >= 400:
        return FeedLostError("rest_error", f"status {status}, code {code}")
    return None
