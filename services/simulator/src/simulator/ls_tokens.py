"""Access tokens of LS Securities: issue, expire, revoke; pure but for the clock."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from simulator.clock import KST, Clock, next_seven
from simulator.wire import compact


_KEPT_TOKENS = 10_000


@dataclass
class Token:
    """One issued token."""

    text: str
    app_key: str
    kind: str
    issued_at: datetime
    expires_at: datetime
    revoked: bool = False


@dataclass(frozen=True)
class AppKey:
    """A pair that the token endpoint accepts, for the real or the paper server."""

    key: str
    secret: str
    kind: str


class TokenStore:
    """Every token that is still remembered."""

    def __init__(self, seed: int, keys: Mapping[str, AppKey], clock: Clock) -> None:
        self.keys = keys
        self._seed = seed
        self._clock = clock
        self._tokens: OrderedDict[str, Token] = OrderedDict()
        self._serial = itertools.count(1)

    def issue(self, key: AppKey, *, rule: str = "07:00", seconds: float = 0) -> Token:
        """Issue a token whose expiry follows *rule*."""
        now = self._clock.now()
        expires = _expiry(now, rule, seconds)
        text = self._jwt(key, now, expires)
        token = Token(text, key.key, key.kind, now, expires)
        self._tokens[text] = token
        while len(self._tokens) > _KEPT_TOKENS:
            self._tokens.popitem(last=False)
        return token

    def check(self, text: object) -> tuple[Token | None, str]:
        """Return the token and what is wrong with it, an empty string if nothing."""
        token = self._tokens.get(text) if isinstance(text, str) else None
        if token is None or token.revoked:
            return token, "IGW00121"
        if self._clock.now() >= token.expires_at:
            return token, "IGW00123"
        return token, ""

    def revoke(self, text: str) -> bool:
        """Make one token invalid."""
        token = self._tokens.get(text)
        if token is None:
            return False
        token.revoked = True
        return True

    def revoke_all(self, app_key: str | None = None) -> int:
        """Make every token invalid, or every token of one key."""
        chosen = [
            token
            for token in self._tokens.values()
            if not token.revoked and app_key in (None, token.app_key)
        ]
        for token in chosen:
            token.revoked = True
        return len(chosen)

    def expire_all(self) -> int:
        """Let every token expire at this moment."""
        now = self._clock.now()
        for token in self._tokens.values():
            token.expires_at = min(token.expires_at, now)
        return len(self._tokens)

    def _jwt(self, key: AppKey, now: datetime, expires: datetime) -> str:
        serial = next(self._serial)
        claims = {
            "sub": "simulator-" + hashlib.sha256(key.key.encode()).hexdigest()[:24],
            "aud": hashlib.sha256(f"{self._seed}/{key.kind}".encode()).hexdigest()[:36],
            "nbf": int(now.timestamp()),
            "grant_type": "Client",
            "iss": "unogw",
            "exp": int(expires.timestamp()),
            "iat": int(now.timestamp()),
            "jti": hashlib.sha256(f"{self._seed}/{serial}".encode()).hexdigest()[:36],
        }
        head = _encode(compact({"typ": "JWT", "alg": "HS512"}).encode())
        body = _encode(compact(claims).encode())
        signed = f"{head}.{body}"
        signature = hmac.digest(b"simulator", signed.encode(), "sha512")
        return f"{signed}.{_encode(signature)}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _expiry(now: datetime, rule: str, seconds: float) -> datetime:
    match rule:
        case "86400":
            return now + timedelta(days=1)
        case "seconds":
            return now + timedelta(seconds=seconds)
        case "next_day":
            return next_seven(now.astimezone(KST), same_day=False)
        case _:
            return next_seven(now)
