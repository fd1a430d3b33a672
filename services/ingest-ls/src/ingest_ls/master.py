"""
Which company a code is, and on which market; loaded from LS, refreshed daily.

Names come from ``t9945``, whose field holds 40 bytes; the one of ``t8436`` holds 20 and
cuts longer names, possibly inside a character (LS Open API portal).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec


__all__ = ["Board", "Company", "Master"]

logger = logging.getLogger(__name__)

Board = Literal["KOSPI", "KOSDAQ"]


class Company(NamedTuple):
    """One listed stock, fund or note."""

    name: str
    board: Board


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Company]).decode


class Master:
    """The companies by code; empty until it was loaded once."""

    def __init__(self) -> None:
        self._companies: Mapping[str, Company] = {}

    def __len__(self) -> int:
        return len(self._companies)

    def find(self, code: str) -> Company | None:
        """Return the company of *code*, if it is known."""
        return self._companies.get(code)

    def replace(self, companies: Mapping[str, Company]) -> bool:
        """
        Take *companies* as all there are; False if they are too few to be true.

        A list that has lost more than half of its entries is an error of its source.
        """
        if not companies or len(companies) < len(self._companies) / 2:
            logger.warning(
                "a stock master was refused for its size",
                extra={"known": len(self._companies), "new": len(companies)},
            )
            return False
        self._companies = dict(companies)
        return True

    def pack(self) -> bytes:
        """Return all companies as bytes, for another replica."""
        return _encode(self._companies)

    def unpack(self, packed: bytes) -> bool:
        """Take what :meth:`pack` returned elsewhere; False if it makes no sense."""
        try:
            return self.replace(_decode(packed))
        except msgspec.DecodeError:
            logger.warning("the stock master of another replica makes no sense")
            return False
