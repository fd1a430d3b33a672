"""The channel ``status`` of one client of protocol v3: feeds, and their open gaps."""

from __future__ import annotations

from collections.abc import Iterable

from edge.clients.sender import Sender
from edge.parts import EdgeParts
from edge.positions import GapPosition
from edge.stream.messages import Listed
from edge.stream.requests import BadRequestError, Subscription


__all__ = ["StatusChannel"]


class StatusChannel:
    """The status subscription of one client; see `status_board` and `gap_board`."""

    __slots__ = ("_gaps_told", "_parts", "_sender", "_subscribed")

    def __init__(self, parts: EdgeParts, sender: Sender) -> None:
        self._parts = parts
        self._sender = sender
        self._subscribed = False
        # Up to where records of gaps were told; None while all were.
        self._gaps_told: GapPosition | None = None

    def check(self, wanted: Subscription) -> None:
        """
        Pass if *wanted* makes sense.

        Raises:
            BadRequestError: If it asks for a part of the status: there is only all.
        """
        parts = wanted.symbols, wanted.types, wanted.since, wanted.max_rate_hz
        if wanted.mode != "latest" or any(part is not None for part in parts):
            raise BadRequestError("bad_request", "status is of all feeds, as it is now")

    def subscribe(self) -> None:
        """Send the state of all feeds and open gaps, and each change from now on."""
        if not self._subscribed:
            self._subscribed = True
            self._parts.status.on_change(self._changed)
            self._parts.gaps.on_change(self._gap_changed)
        self._send([*self._parts.status.frames(), *self._parts.gaps.open_frames()])

    def catch_up(self) -> None:
        """Send the state of all feeds, and of gaps what was not, if subscribed."""
        if self._subscribed:
            gaps: Iterable[bytes] = ()
            if self._gaps_told is not None:
                gaps = self._parts.gaps.frames_since(self._gaps_told)
                self._gaps_told = None
            self._send([*self._parts.status.frames(), *gaps])

    def close(self) -> None:
        """Send no more."""
        self._parts.status.forget(self._changed)
        self._parts.gaps.forget(self._gap_changed)
        self._subscribed = False
        self._gaps_told = None

    def listed(self) -> list[Listed]:
        """Return what is subscribed."""
        return [Listed("status")] if self._subscribed else []

    def _send(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            self._sender.put(frame)
        self._parts.flusher.soon(self._sender)

    def _gap_changed(self, frame: bytes) -> None:
        if not self._sender.blocked:
            self._send([frame])
        elif self._gaps_told is None:
            # The record itself is not among those that were read yet.
            self._gaps_told = self._parts.gaps.position

    def _changed(self, frame: bytes) -> None:
        # One who does not read gets the state of all feeds once it does.
        if not self._sender.blocked:
            self._send([frame])
