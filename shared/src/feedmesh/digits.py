"""
Numbers that keep the digits the upstream wrote.

A price is the text of a JSON number, ``"189.450"``, from the upstream's frame to the
client's: never a float, which would lose digits, and never reformatted.
"""

from __future__ import annotations

import re
from decimal import Decimal


__all__ = ["Digits", "parse_digits", "value_of"]

Digits = str
"""The text of a JSON number, as the upstream wrote it."""

# JSON's own grammar. A bound on the length keeps a hostile frame from costing
# quadratic time in int() and from filling every message of a symbol.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_MAX_LENGTH = 40


def parse_digits(text: str) -> Digits:
    """
    Return *text* if it is a JSON number of bearable length.

    Raises:
        ValueError: If it is not.
    """
    if len(text) > _MAX_LENGTH or not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    return text


def value_of(digits: Digits) -> Decimal:
    """Return the exact value of *digits*."""
    return Decimal(digits)
