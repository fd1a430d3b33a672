"""
The token of the account: one for all, taken once, renewed before it ends.

A token normally ends at 07:00 KST of the next day, not after 24 hours. Taking a new one
may end the old one, so there is one place that takes them, and never two at a time (LS
Open API portal).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any, NamedTuple

from feedmesh.backoff import ConnectLimiter
from ingest_ls.korea import next_time_of_day


__all__ = ["Token", "TokenKeeper", "expiry_of"]

logger = logging.getLogger(__name__)

Now = Callable[[], datetime]

_END_OF_DAY = time(7, 0)
_RENEW_SECONDS = 300.0
_COOLDOWN_SECONDS = 10.0
_COOLDOWN_CEILING = 600.0
# Take-overs need tokens at once; but not even they may ask without end.
_PER_MINUTE = 6


class Token(NamedTuple):
    """A token and when it ends, seconds since the epoch."""

    value: str
    expires_at: float


class TokenKeeper:
    """
    Gives out a valid token and takes a new one when it must.

    Args:
        issue: Asks LS for a token and returns its reply.
        now: The time, with its zone.
        file: Where to keep the token between starts, if anywhere.
        issued: Called with each new token.
    """

    def __init__(
        self,
        issue: Callable[[], Awaitable[dict[str, Any]]],
        now: Now = lambda: datetime.now(UTC),
        file: Path | None = None,
        issued: Callable[[Token], None] = lambda token: None,
    ) -> None:
        self._issue = issue
        self._now = now
        self._file = file
        self._issued = issued
        self._token: Token | None = _load(file)
        # What another replica told, as long as we have not taken one after it.
        self._adopted: Token | None = None
        self._taking = asyncio.Lock()
        self._taken_at = float("-inf")
        self._cooldown = _COOLDOWN_SECONDS
        self._limiter = ConnectLimiter(_PER_MINUTE)
        # Replicas of one account must not all renew in the same second.
        self._early = _RENEW_SECONDS + random.uniform(0, 60)
        # One that had less than that when it was taken: another would end no later.
        self._brief: Token | None = None

    async def token(self) -> str:
        """
        Return a valid token, taking one if there is none.

        Raises:
            FeedError: If LS gives none.
        """
        # The lock is held while LS is asked: taking two tokens would void the first.
        async with self._taking:
            now = self._now().timestamp()
            if self._is_due(now):
                await self._wait_for_cooldown(now)
                await self._take()
            assert self._token is not None
            return self._token.value

    @property
    def current(self) -> Token | None:
        """The token as far as it is known, valid or not."""
        return self._token

    def start_over(self) -> None:
        """Trust only what another replica has told, or left in the file."""
        self._token = self._adopted or _load(self._file)
        # What was rejected before says nothing about the next one.
        self._taken_at = float("-inf")

    def adopt(self, token: Token) -> None:
        """Use *token* from now on, which another replica has taken."""
        self._token = self._adopted = token

    def reject(self) -> None:
        """Forget the token: LS does not accept it."""
        if self._token is not None:
            logger.warning("the token was rejected; taking another")
        self._token = self._adopted = None
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _is_due(self, now: float) -> bool:
        """Return whether a token must be taken at *now*."""
        if self._token is None:
            return True
        early = 0.0 if self._token == self._brief else self._early
        return now >= self._token.expires_at - early

    async def _wait_for_cooldown(self, now: float) -> None:
        """Keep a storm of rejections from becoming a storm of new tokens."""
        if pause := self._limiter.wait(now):
            await asyncio.sleep(pause)
        since = now - self._taken_at
        if since < self._cooldown:
            await asyncio.sleep(self._cooldown - since)
            self._cooldown = min(self._cooldown * 2, _COOLDOWN_CEILING)
        else:
            self._cooldown = _COOLDOWN_SECONDS

    async def _take(self) -> None:
        self._limiter.connected(self._now().timestamp())
        reply = await self._issue()
        now = self._now()
        self._taken_at = now.timestamp()
        value = str(reply.get("access_token") or "")
        self._token = Token(value, expiry_of(reply, now))
        if self._is_due(self._taken_at):
            self._brief = self._token
        self._adopted = None
        self._issued(self._token)
        logger.info(
            "a token was issued",
            extra={"expires_in": self._token.expires_at - now.timestamp()},
        )
        _save(self._file, self._token)


def expiry_of(reply: dict[str, Any], now: datetime) -> float:
    """
    Return when the token of *reply* ends, seconds since the epoch.

    The portal's table calls the field ``expire_in``, its sample ``expires_in``; without
    either, the token itself says it, and else it is the next 07:00 in Korea.
    """
    for name in ("expires_in", "expire_in"):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return now.timestamp() + float(reply[name])
    claimed = _claimed_expiry(str(reply.get("access_token") or ""))
    if claimed is not None:
        return claimed
    return next_time_of_day(now, _END_OF_DAY).timestamp()


def _claimed_expiry(token: str) -> float | None:
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        return float(json.loads(base64.urlsafe_b64decode(padded))["exp"])
    except (ValueError, KeyError, TypeError):
        return None


def _load(file: Path | None) -> Token | None:
    if file is None:
        return None
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return Token(str(kept["token"]), float(kept["expires_at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(file: Path | None, token: Token) -> None:
    if file is None:
        return
    text = json.dumps({"token": token.value, "expires_at": token.expires_at})
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        new.replace(file)
    except OSError as error:
        logger.warning("the token could not be kept: %s", type(error).__name__)
