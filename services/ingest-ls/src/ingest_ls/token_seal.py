"""
The token on its way to the replicas that stand by, readable to nobody else.

Taking a token lasts a second and may end the one before it, so a standby uses the
leader's. The key is made from the secret of the account, which both have: who can open
the seal could take a token anyway.
"""

from __future__ import annotations

import base64
import hashlib

import msgspec
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from pydantic import SecretStr

from ingest_ls.token import Token


__all__ = ["TokenSeal"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Token).decode


class TokenSeal:
    """
    Seals and opens tokens of one account.

    Args:
        secret: Of the account.
    """

    def __init__(self, secret: SecretStr) -> None:
        key = hashlib.blake2b(
            secret.get_secret_value().encode(),
            digest_size=SecretBox.KEY_SIZE,
            person=b"feedmesh token",
        )
        self._box = SecretBox(key.digest())
        self._closed: tuple[Token, str] | None = None
        self._opened: tuple[str, Token] | None = None

    def close(self, token: Token) -> str:
        """Return *token* as a text that says nothing; the same one for the same."""
        if self._closed is None or self._closed[0] != token:
            sealed = base64.b64encode(self._box.encrypt(_encode(token)))
            self._closed = token, sealed.decode("ascii")
        return self._closed[1]

    def open(self, text: str) -> Token | None:
        """Return the token in *text*; None if it is of another account, or broken."""
        if self._opened is None or self._opened[0] != text:
            try:
                token = _decode(self._box.decrypt(base64.b64decode(text)))
            except (CryptoError, ValueError):
                return None
            self._opened = text, token
        return self._opened[1]
