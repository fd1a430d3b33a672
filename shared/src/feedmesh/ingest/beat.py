"""
What a leader says of itself every few milliseconds, and what silence means; no I/O.
"""

from __future__ import annotations

from typing import Literal

import msgspec


__all__ = [
    "BEAT_SECONDS",
    "RETURN_SECONDS",
    "SILENCE_SECONDS",
    "Beat",
    "Silence",
    "decode_beat",
    "encode_beat",
]

BEAT_SECONDS = 0.075
SILENCE_SECONDS = 0.3
# Clients of NATS come back up to 2 s apart, after up to 5 s for an attempt.
RETURN_SECONDS = 7.5
_STALL_SECONDS = 0.15


class Beat(msgspec.Struct, frozen=True):
    """
    What a leader says of itself.

    Attributes:
        v: Version of this schema.
        epoch: Of its claim.
        state: ``leading``; ``leaving``, when it has closed its links and stored all it
            had, and goes; ``left``, when it was overtaken and has stopped.
        complete: By link: all that came before this instant, in ns, is stored.
    """

    v: int
    epoch: int
    state: Literal["leading", "leaving", "left"]
    complete: dict[str, int]


encode_beat = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Beat).decode


def decode_beat(message: bytes) -> Beat:
    """
    Return what a leader said.

    Raises:
        ValueError: If it makes no sense.
    """
    try:
        return _decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError("not what a leader says") from error


class Silence:
    """For how long nothing was heard by somebody who could; no I/O, time is given."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._looked = now
        self._enough = SILENCE_SECONDS
        self._left = False

    def heard(self, now: float) -> None:
        """Note that the leader is there."""
        self._since = now
        self._enough = SILENCE_SECONDS
        self._left = False

    def left(self) -> None:
        """Note that the leader has gone on purpose."""
        self._left = True

    def deaf(self, now: float) -> None:
        """Note that nothing could be heard until *now*, and that NATS was away."""
        self._since = now
        self._enough = RETURN_SECONDS

    def enough(self, now: float) -> bool:
        """Return whether nobody leads; to be asked every few milliseconds."""
        if now - self._looked > _STALL_SECONDS:
            # Asleep ourselves, we have not heard what was said meanwhile.
            self._since = now
        self._looked = now
        return self._left or now - self._since >= self._enough
