"""
Who a client is, told by a signed token (JWT), and what it may therefore have.

Pure: keys, a clock and a token in, an :class:`Identity` or an :class:`AuthError` out. A
key has exactly one algorithm, told by the key and never by the token, so a token cannot
have a public key taken for a shared secret.

A token is a secret: no error holds any of it, nor of a key.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import jwt
import msgspec

from feedmesh.errors import FeedmeshError
from feedmesh.symbols import parse_symbol


__all__ = ["AuthError", "Identity", "KeysError", "Verifier", "parse_keys"]

LEEWAY_SECONDS = 5.0
_MAX_TOKEN = 8 * 1024
_MAX_KEYS = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)

# By type and curve of a key; the first is meant where the key names none (`alg`).
_ALGORITHMS: dict[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("oct", ""): ("HS256",),
}


class AuthError(FeedmeshError):
    """
    A client is not who it has to be; end it or refuse it.

    Attributes:
        reason: A short constant word, for a metric and not for the client.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class KeysError(FeedmeshError):
    """A file of keys is of no use; the text never holds anything out of it."""


@dataclass(frozen=True)
class Identity:
    """
    What a valid token says.

    Attributes:
        subject: Who it is.
        expires_at: When that ends, in seconds since the epoch, leeway included.
        symbols: Whose prices it may have; None is all.
        max_symbols: How many symbols it may have at a time; None sets no limit.
        channels: What it may subscribe to (``prices``, ``news``, ``status``); None is
            all.
    """

    subject: str
    expires_at: float
    symbols: frozenset[str] | None = None
    max_symbols: int | None = None
    channels: frozenset[str] | None = None

    def may_see(self, symbol: str) -> bool:
        """Return whether prices of *symbol*, in upper case, are for this client."""
        return self.symbols is None or symbol in self.symbols

    def limit(self, most: int) -> int:
        """Return how many symbols it may have, where all others may have *most*."""
        return most if self.max_symbols is None else min(most, self.max_symbols)

    def may_use(self, channel: str) -> bool:
        """Return whether *channel* is for this client."""
        return self.channels is None or channel in self.channels


class _Claims(msgspec.Struct):
    sub: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    exp: float
    aud: str | list[str]
    nbf: float = 0.0
    iss: str | None = None
    symbols: list[str] | None = None
    max_symbols: Annotated[int, msgspec.Meta(ge=0)] | None = None
    channels: list[str] | None = None


_decode_claims = msgspec.json.Decoder(_Claims).decode
# PyJWT's claim checks read the system's clock; only its signature checks are used.
_jws = jwt.PyJWS(options={"verify_signature": True, "enforce_minimum_key_length": True})


@dataclass(frozen=True)
class Verifier:
    """
    Tells from a token whose it is.

    Attributes:
        keys: Those that may have signed, from :func:`parse_keys`.
        audience: Must be among the token's audiences.
        issuer: Must be the token's issuer; None takes any.
        clock: Returns seconds since the epoch.
    """

    keys: tuple[jwt.PyJWK, ...]
    audience: str
    issuer: str | None = None
    clock: Callable[[], float] = time.time

    def identify(self, token: str) -> Identity:
        """
        Return what *token* says, if it can be believed.

        Raises:
            AuthError: If not.
        """
        claims = self._claims(_verified_payload(token, self.keys))
        return Identity(
            subject=claims.sub,
            expires_at=claims.exp + LEEWAY_SECONDS,
            symbols=_symbols(claims.symbols),
            max_symbols=claims.max_symbols,
            channels=None if claims.channels is None else frozenset(claims.channels),
        )

    def _claims(self, payload: bytes) -> _Claims:
        try:
            claims = _decode_claims(payload)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise AuthError("claims") from None
        now = self.clock()
        if now >= claims.exp + LEEWAY_SECONDS:
            raise AuthError("expired")
        if now < claims.nbf - LEEWAY_SECONDS:
            raise AuthError("not_yet_valid")
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if self.audience not in audiences:
            raise AuthError("audience")
        if self.issuer is not None and claims.iss != self.issuer:
            raise AuthError("issuer")
        return claims


def _verified_payload(token: str, keys: Iterable[jwt.PyJWK]) -> bytes:
    if len(token) > _MAX_TOKEN or not _TOKEN.fullmatch(token):
        raise AuthError("malformed")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError):
        raise AuthError("malformed") from None
    name = header.get("kid")
    named = [key for key in keys if name is None or key.key_id in (None, name)]
    if not named:
        raise AuthError("unknown_key")
    # The token only says which algorithm it claims; each key brings the one it has.
    fitting = [key for key in named if key.algorithm_name == header.get("alg")]
    if not fitting:
        raise AuthError("algorithm")
    for key in fitting:
        try:
            payload = _jws.decode(token, key, algorithms=[key.algorithm_name])
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, ValueError):
            raise AuthError("malformed") from None
        assert isinstance(payload, bytes)
        return payload
    raise AuthError("signature")


def _symbols(listed: list[str] | None) -> frozenset[str] | None:
    if listed is None:
        return None
    try:
        return frozenset(map(parse_symbol, listed))
    except ValueError:
        raise AuthError("claims") from None


def parse_keys(text: bytes) -> tuple[jwt.PyJWK, ...]:
    """
    Return the keys of a JWK set (RFC 7517) that can verify tokens.

    As the RFC has it, keys for other purposes and of other types are passed over. A key
    that is for us and broken, short or private is an error: whoever wrote it expects it
    to work, and a private key has no business here.

    Raises:
        KeysError: If there is no such key, or one is broken.
    """
    try:
        listed = msgspec.json.decode(text)["keys"]
    except (msgspec.DecodeError, UnicodeError, RecursionError, KeyError, TypeError):
        raise KeysError('is not a JWK set, {"keys": [...]}') from None
    if not isinstance(listed, list) or not all(isinstance(k, dict) for k in listed):
        raise KeysError('is not a JWK set, {"keys": [...]}')
    if len(listed) > _MAX_KEYS:
        raise KeysError(f"holds more than {_MAX_KEYS} keys")
    keys = tuple(_usable(listed))
    if not keys:
        raise KeysError("holds no RSA, EC, Ed25519 or oct key for verifying signatures")
    return keys


def _usable(listed: list[dict[str, Any]]) -> Iterator[jwt.PyJWK]:
    for number, data in enumerate(listed, 1):
        known = _ALGORITHMS.get((str(data.get("kty")), str(data.get("crv", ""))), ())
        algorithm = data.get("alg", known[0] if known else None)
        if algorithm not in known or not _is_for_verifying(data):
            continue
        if "d" in data:
            raise KeysError(f"holds a private key (number {number}); give public ones")
        try:
            key = jwt.PyJWK(data, algorithm)
            weakness = key.Algorithm.check_key_length(key.key)
        # What the library says may quote the key.
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
            raise KeysError(f"holds a broken key (number {number})") from None
        if weakness is not None:
            raise KeysError(f"holds a key that is too short (number {number})")
        yield key


def _is_for_verifying(data: dict[str, Any]) -> bool:
    operations = data.get("key_ops")
    return data.get("use") in (None, "sig") and (
        operations is None or (isinstance(operations, list) and "verify" in operations)
    )
