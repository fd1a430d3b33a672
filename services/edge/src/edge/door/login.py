"""
Who one session is, and until when; no I/O.

The gate in front of all routes knows it from the handshake; on ``/api/v3/stream`` the
client may say it in its first message, and again before its token expires.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from starlette.requests import HTTPConnection

from edge.door.tokens import AuthError, Identity


__all__ = ["ANYONE", "LOGIN", "LOGIN_SECONDS", "Login", "Tokens", "login_of", "may_see"]

ANYONE = Identity(subject="", expires_at=float("inf"))
"""Who everybody is where no token is needed."""

LOGIN = "feedmesh.login"
"""Where a connection's scope has its login."""

LOGIN_SECONDS = 10.0


class Tokens(Protocol):
    """What verifies tokens; see :class:`edge.door.gate.Authenticator`."""

    def identify(self, token: str) -> Identity:
        """Return what *token* says; raise AuthError if it does not do."""

    def count(self, error: AuthError) -> None:
        """Count a client that is refused or ended because of *error*."""


class Login:
    """
    Who one session is, and until when.

    The session presents what it is given, asks before each request who it is, and every
    second whether its time is up. On any error it must close with
    `CloseCode.UNAUTHENTICATED` and no reason; the first one is counted.

    Args:
        auth: Verifies tokens; None where no token is needed.
        identity: Who it is by the handshake; None if it has yet to say.
        clock: Returns seconds since the epoch.
    """

    __slots__ = ("_auth", "_clock", "_deadline", "_identity", "_over")

    def __init__(
        self,
        auth: Tokens | None,
        identity: Identity | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._auth = auth
        self._identity = identity
        self._clock = clock
        self._deadline = clock() + LOGIN_SECONDS
        self._over = False

    @property
    def needed(self) -> bool:
        """Whether the session has yet to say who it is."""
        return self._identity is None

    @property
    def identity(self) -> Identity:
        """
        Who the session is now.

        Raises:
            AuthError: If it has not said, or its token has expired.
        """
        if self._identity is None:
            raise self._end("not_first")
        if self._clock() >= self._identity.expires_at:
            raise self._end("expired")
        return self._identity

    def present(self, token: str) -> None:
        """
        Take *token*, the first one or a newer one of the same subject.

        Raises:
            AuthError: If it does not do.
        """
        if self._auth is None:
            return
        try:
            identity = self._auth.identify(token)
        except AuthError as error:
            raise self._end(error.reason) from None
        known = self._identity
        if known is not None and known.subject != identity.subject:
            raise self._end("other_subject")
        self._identity = identity

    def overdue(self) -> bool:
        """Return whether the session must end now, as its time is up; True but once."""
        if self._over:
            return False
        if self._identity is None:
            if self._clock() >= self._deadline:
                self._end("too_late")
        elif self._clock() >= self._identity.expires_at:
            self._end("expired")
        return self._over

    def _end(self, reason: str) -> AuthError:
        error = AuthError(reason)
        if self._auth is not None and not self._over:
            self._auth.count(error)
        self._over = True
        return error


def login_of(connection: HTTPConnection) -> Login:
    """Return who is on *connection*, as the gate found out; anyone without a gate."""
    login = connection.scope.get(LOGIN) or Login(None, ANYONE)
    assert isinstance(login, Login)
    return login


def may_see(connection: HTTPConnection) -> Callable[[str], bool] | None:
    """Return what tells which symbols are for *connection*; None if all are."""
    identity = login_of(connection).identity
    return None if identity.symbols is None else identity.may_see
