"""
Where clients show their tokens: the gate in front of all routes.

A token comes in the ``Authorization`` header or, on ``/api/v3/stream``, in the first
message. In a URL it would end up in logs and histories, so one found there is refused
however good it is. A client learns that its token does not do, and not why; the metric
knows.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from edge.door.login import ANYONE, LOGIN, Login
from edge.door.tokens import AuthError, Identity, KeysError, Verifier, parse_keys
from edge.rest.problems import problem_response
from edge.settings import Settings
from feedmesh.errors import SettingsError


__all__ = [
    "AuthMetrics",
    "Authenticator",
    "TokenGate",
    "authenticator",
]

logger = logging.getLogger(__name__)

_MAX_FILE = 256 * 1024
_STREAM = "/api/v3/stream"
# They hold no data; and what asks for the health, a load balancer, has no token.
_PUBLIC = re.compile(r"/|/(openapi|asyncapi)\.json|/page/.*|/api/v2/realtime/health")
# What honours the limits of a token. A limited one passes nowhere else, so a new route
# is closed to it until it has been thought of here.
_CHANNELS = {
    "prices": re.compile(
        r"/api/v2/realtime/(ws/prices|cache(/.*)?|(un)?subscribe)"
        r"|/api/v3/prices(/.*)?"
    ),
    "news": re.compile(r"/ws/news|/api/v3/news"),
    "status": re.compile(r"/api/v2/realtime/status|/api/v3/(status|gaps)"),
}
# By its name, or because it looks like one.
_TOKEN_IN_URL = re.compile(
    rb"(?:^|[&;])(?:access_token|id_token|token|jwt|bearer|auth|authorization)="
    rb"|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.",
    re.IGNORECASE,
)
_BEARER = re.compile(rb"bearer +([!-~]+) *", re.IGNORECASE)


class AuthMetrics:
    """Built once for each process, once for each test."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"feedmesh_edge_{name}", text, labels, registry=registry)

        self.accepted = counter("auth_accepted_total", "Tokens accepted.")
        self.refused = counter(
            "auth_refused_total",
            "Clients refused or ended for want of a good token.",
            "reason",
        )
        self.key_loads = counter(
            "auth_key_loads_total", "Readings of changed keys, by result.", "result"
        )
        self.keys = Gauge(
            "feedmesh_edge_auth_keys", "Keys that verify tokens.", registry=registry
        )
        self.keys_broken = Gauge(
            "feedmesh_edge_auth_keys_broken",
            "1 while the file of keys is of no use, and those before are kept.",
            registry=registry,
        )


class Authenticator:
    """
    Verifies tokens by the keys in a file, which may change at any time, and counts.

    Args:
        path: Of the file, a JWK set.
        audience: As :class:`edge.door.tokens.Verifier` has it.
        issuer: The same.
        metrics: Counts.

    Raises:
        SettingsError: If the file is of no use at the start.
    """

    def __init__(
        self, path: Path, audience: str, issuer: str | None, metrics: AuthMetrics
    ) -> None:
        self._path = path
        self._metrics = metrics
        try:
            self._text: bytes | None = _read(path)
            self._use(Verifier(parse_keys(self._text), audience, issuer))
        except KeysError as error:
            raise SettingsError(f"EDGE_AUTH_KEYS_FILE {error}") from None

    def identify(self, token: str) -> Identity:
        """
        Return what *token* says.

        Raises:
            AuthError: If it does not do.
        """
        identity = self._verifier.identify(token)
        self._metrics.accepted.inc()
        return identity

    def count(self, error: AuthError) -> None:
        """Count a client that is refused or ended because of *error*."""
        self._metrics.refused.labels(error.reason).inc()

    def refresh(self) -> None:
        """Take the keys that the file has by now; if they are broken, keep the old."""
        # The file is small and local. It is compared as a whole, since a time stamp is
        # too coarse to tell every change.
        try:
            text = _read(self._path)
        except KeysError as error:
            if self._text is not None:
                self._text = None
                self._keep(error)
            return
        if text == self._text:
            return
        self._text = text
        try:
            keys = parse_keys(text)
        except KeysError as error:
            self._keep(error)
        else:
            self._use(replace(self._verifier, keys=keys))

    def _use(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._metrics.keys.set(len(verifier.keys))
        self._metrics.keys_broken.set(0)
        self._metrics.key_loads.labels("used").inc()
        logger.info("keys of tokens are loaded", extra={"keys": len(verifier.keys)})

    def _keep(self, error: KeysError) -> None:
        self._metrics.key_loads.labels("broken").inc()
        self._metrics.keys_broken.set(1)
        logger.error(
            "keys of tokens are broken; the old ones are kept",
            extra={"problem": f"the file {error}"},
        )


class TokenGate:
    """
    Lets pass what brings a good token or needs none, and answers the rest itself.

    It stands before the routes, so nothing of a request is looked at before it passes.

    Args:
        app: What lies behind it.
        auth: Verifies tokens.
        legacy_open: Whether what is older than ``/api/v3`` needs no token.
    """

    def __init__(self, app: ASGIApp, auth: Authenticator, legacy_open: bool) -> None:
        self._app = app
        self._auth = auth
        self._legacy_open = legacy_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request or handshake through, or refuse it."""
        if scope["type"] in ("http", "websocket"):
            try:
                scope[LOGIN] = Login(self._auth, self._identity(scope))
            except AuthError as error:
                self._auth.count(error)
                await _refusal(error.reason)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _identity(self, scope: Scope) -> Identity | None:
        path: str = scope["path"]
        if _TOKEN_IN_URL.search(scope["query_string"]):
            raise AuthError("in_url")
        if _PUBLIC.fullmatch(path):
            return ANYONE
        if self._legacy_open and not path.startswith("/api/v3/"):
            return ANYONE
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if not given and path == _STREAM and scope["type"] == "websocket":
            return None
        identity = self._auth.identify(_bearer(given))
        if path != _STREAM and not _is_for(path, identity):
            raise AuthError("forbidden")
        return identity


def _bearer(headers: list[bytes]) -> str:
    if not headers:
        raise AuthError("missing")
    match = _BEARER.fullmatch(headers[0])
    if match is None or len(headers) > 1:
        raise AuthError("malformed")
    return match[1].decode("ascii")


def _is_for(path: str, identity: Identity) -> bool:
    if identity.symbols is None and identity.channels is None:
        return True
    return any(
        identity.may_use(channel)
        for channel, paths in _CHANNELS.items()
        if paths.fullmatch(path)
    )


def _refusal(reason: str) -> Response:
    if reason == "in_url":
        return problem_response(
            "token_in_url",
            "addresses end up in logs; send it in the Authorization header",
        )
    if reason == "forbidden":
        return problem_response(
            "forbidden",
            "ask for a token with more channels or symbols",
            headers={"www-authenticate": 'Bearer error="insufficient_scope"'},
        )
    return problem_response(
        "unauthenticated",
        "send it as Authorization: Bearer ...",
        headers={"www-authenticate": "Bearer"},
    )


def authenticator(
    settings: Settings, registry: CollectorRegistry
) -> Authenticator | None:
    """
    Return what verifies tokens; None if none are asked for.

    Raises:
        SettingsError: If the file of keys is of no use.
    """
    if settings.edge_auth_keys_file is None:
        return None
    return Authenticator(
        settings.edge_auth_keys_file,
        settings.edge_auth_audience,
        settings.edge_auth_issuer,
        AuthMetrics(registry),
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise KeysError(f"cannot be read ({type(error).__name__})") from None
    if len(text) > _MAX_FILE:
        raise KeysError(f"is larger than {_MAX_FILE} bytes")
    return text
