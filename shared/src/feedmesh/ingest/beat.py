"""
What a leader says of itself every few milliseconds, and what silence means; no I/O.
"""

from __future__ import annotations

from typing import Literal

import msgspec


__all__ = [
    "BEAT_SECONDS",
    "RETURN_SECONDS",
    "RETURN_SOON_SECONDS",
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
# After an outage of a moment that is far less: another server was at hand.
RETURN_SOON_SECONDS = 1.5
_RETURN_PER_SECOND = 5.0
_STALL_SECONDS = 0.15


class Beat(msgspec.Struct, frozen=True):
    """
    What a leader says of itself, and what a standby answers when it is asked.

    A leader that is to go asks who is there to follow. Whoever stands by says at once
    that it is ``warming``, and that it is ``ready`` when nothing but the upstream is
    left to wait for. The leader goes on until then, closes its links, names the heir,
    which may connect from that instant on, and says ``leaving`` once all is stored.

    Attributes:
        v: Version of this schema.
        epoch: Of the leader's claim.
        state: Of a leader ``leading``; ``leaving``, when it has closed its links and
            stored all it had, and goes; ``left``, when it was overtaken and has
            stopped. Of a standby ``warming`` or ``ready``.
        complete: By link: all that came before this instant, in ns, is stored.
        asks: Whether the leader is to go, and asks who will follow.
        heir: Who is ready, or whose turn it is: nobody else holds the upstream's place.
        token: Of the leader's claim.
        usual: By link what it usually brings, in frames a minute, where that is known.
        shared: What the service gives to those who stand by.
    """

    v: int
    epoch: int
    state: Literal["leading", "leaving", "left", "warming", "ready"]
    complete: dict[str, int]
    asks: bool = False
    heir: str = ""
    token: int = 0
    usual: dict[str, float] = {}
    shared: str = ""


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
    """
    For how long nothing was heard by somebody who could; no I/O, time is given.

    Attributes:
        on_purpose: Whether the leader has said that it goes.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        self._looked = now
        self._enough = SILENCE_SECONDS
        self._deaf_since: float | None = None
        self.on_purpose = False

    def heard(self, now: float) -> None:
        """Note that the leader is there."""
        self._since = now
        self._enough = SILENCE_SECONDS
        self._deaf_since = None
        self.on_purpose = False

    def left(self) -> None:
        """Note that the leader has gone on purpose."""
        self.on_purpose = True

    def deaf(self, now: float) -> None:
        """Note that nothing could be heard until *now*, and that NATS was away."""
        if self._deaf_since is None:
            self._deaf_since = now
        self._since = now
        away = now - self._deaf_since
        self._enough = min(
            RETURN_SOON_SECONDS + _RETURN_PER_SECOND * away, RETURN_SECONDS
        )

    def left_to_wait(self, now: float) -> float:
        """Return after how many seconds it could be enough."""
        return max(0.0, self._since + self._enough - now)

    def enough(self, now: float) -> bool:
        """Return whether nobody leads; to be asked every few milliseconds."""
        stalled = now - self._looked
        if stalled > _STALL_SECONDS:
            # Asleep ourselves, we have not heard what was said meanwhile, but what was
            # silence before goes on: on a busy machine, who only ever began anew after
            # a stall would wait for ever. One beat's time awake is the least.
            least = now - self._enough + BEAT_SECONDS
            self._since = max(min(self._since + stalled, now), least)
        self._looked = now
        return self.on_purpose or now - self._since >= self._enough
