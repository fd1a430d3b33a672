"""
Up to where a client has read, as a token that is valid on any edge, before and after
any restart.

News lie in one stream: a position is which stream, and which number in it. Prices are
numbered by their writer: a position is which feed, which writer, which of its messages.
Gap records lie in one stream, as news do.
Clients keep tokens and give them back; what is in them is none of their business. The
last part is a check (CRC-16), so that a damaged token is refused instead of taken for
another position, which would hide a loss.
"""

from __future__ import annotations

import hashlib
from binascii import crc_hqx
from functools import lru_cache
from typing import NamedTuple


__all__ = [
    "GapPosition",
    "NewsPosition",
    "PricePosition",
    "parse_gap_position",
    "parse_news_position",
    "parse_price_position",
    "stream_mark",
    "token_of",
]

_NEWS = "NEWS"
_GAPS = "GAPS"
_MAX_TOKEN = 128
# Nothing that counts messages or milliseconds has more digits.
_MAX_DIGITS = 18
_REST = [b"%03d" % rest for rest in range(1000)]
_HEX = [b"%02x" % byte for byte in range(256)]


class NewsPosition(NamedTuple):
    """
    A place in the news log.

    Attributes:
        stream: Which stream, as :func:`stream_mark` returns it; empty for none yet.
        sequence: Number of the last message that has been read; 0 for none.
    """

    stream: str
    sequence: int

    def token(self) -> str:
        """Return it as clients keep it."""
        return _checked(f"{_NEWS}.{self.stream}.{self.sequence}")


class GapPosition(NamedTuple):
    """A place among the gap records; as a :class:`NewsPosition`."""

    stream: str
    sequence: int

    def token(self) -> str:
        """Return it as clients keep it."""
        return _checked(f"{_GAPS}.{self.stream}.{self.sequence}")


class PricePosition(NamedTuple):
    """
    A place among the price messages of one feed.

    Attributes:
        source: The feed.
        epoch: Which writer of it.
        seq: Number of that writer's last message that has been seen.
    """

    source: str
    epoch: int
    seq: int

    def token(self) -> str:
        """Return it as clients keep it."""
        return token_of(self.source, (self.epoch, self.seq)).decode()


@lru_cache(maxsize=16)
def stream_mark(identity: str) -> str:
    """Return a short mark of a stream's *identity*, fit for a token."""
    return hashlib.blake2s(identity.encode(), digest_size=6).hexdigest()


def token_of(source: str, version: tuple[int, int]) -> bytes:
    """Return the token of a :class:`PricePosition`; made for every update."""
    # All but the end is the same for a thousand updates: a third of the time.
    thousands, rest = divmod(version[1], 1000)
    text, check = _beginning(source, version[0], thousands)
    end = _REST[rest] if thousands else b"%d" % rest
    check = crc_hqx(end, check)
    return b"%b%b.%b%b" % (text, end, _HEX[check >> 8], _HEX[check & 255])


def parse_news_position(token: str) -> NewsPosition:
    """
    Return the place that *token* stands for.

    Raises:
        ValueError: If it is not a token of :class:`NewsPosition`.
    """
    return NewsPosition(*_place_in(_NEWS, token, "not a position in the news"))


def parse_gap_position(token: str) -> GapPosition:
    """
    Return the place that *token* stands for.

    Raises:
        ValueError: If it is not a token of :class:`GapPosition`.
    """
    return GapPosition(*_place_in(_GAPS, token, "not a position among gaps"))


def parse_price_position(token: str) -> PricePosition:
    """
    Return the place that *token* stands for.

    Raises:
        ValueError: If it is not a token of :class:`PricePosition`.
    """
    source, epoch, seq = _parts(token)
    if source in (_NEWS, _GAPS):
        raise ValueError("not a position among prices")
    return PricePosition(source, _number(epoch), _number(seq))


@lru_cache(maxsize=64)
def _beginning(source: str, epoch: int, thousands: int) -> tuple[bytes, int]:
    """Return how a thousand tokens of one writer begin, and the check so far."""
    text = f"{source}.{epoch}.{thousands or ''}".encode()
    return text, crc_hqx(text, 0)


def _checked(text: str) -> str:
    return f"{text}.{crc_hqx(text.encode(), 0):04x}"


def _place_in(log: str, token: str, otherwise: str) -> tuple[str, int]:
    name, stream, sequence = _parts(token)
    if name != log:
        raise ValueError(otherwise)
    return stream, _number(sequence)


def _parts(token: str) -> tuple[str, str, str]:
    text, _, _ = token.rpartition(".")
    parts = text.split(".")
    if len(token) > _MAX_TOKEN or len(parts) != 3 or not token.isascii():
        raise ValueError("not a position")
    if _checked(text) != token:
        raise ValueError("a damaged position")
    return parts[0], parts[1], parts[2]


def _number(text: str) -> int:
    if not text.isdigit() or len(text) > _MAX_DIGITS:
        raise ValueError("not a position")
    return int(text)
