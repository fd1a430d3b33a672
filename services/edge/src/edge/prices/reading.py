"""Messages of the bus as updates; no I/O."""

from __future__ import annotations

import msgspec

from edge.prices.updates import Update
from feedmesh import subjects
from feedmesh.clock import from_iso
from feedmesh.messages import SCHEMA_VERSION, decode_head


__all__ = ["UpdateReader", "published_ns"]


# The frame is the last key, and an object.
_BRACE = ord("}")


class _Message(msgspec.Struct, gc=False):
    # What the edge needs of a message. One pass over it costs less than cutting it at
    # its frame and parsing the head alone.
    v: int
    source: str
    epoch: int
    seq: int
    frame: msgspec.Raw


_decode = msgspec.json.Decoder(_Message).decode


class UpdateReader:
    """Reads messages; remembers which symbol a subject is of."""

    def __init__(self) -> None:
        self._symbols: dict[bytes, str] = {}

    def read(self, subject: bytes, payload: bytes, received_ns: int) -> Update:
        """
        Return what *payload* says.

        Raises:
            ValueError: If it is not a message that this edge understands.
        """
        # Its errors are ValueErrors.
        message = _decode(payload)
        if message.v != SCHEMA_VERSION or payload[-2] != _BRACE:
            raise ValueError("a message of another schema version")
        return Update(
            self._symbols.get(subject) or self._symbol(subject),
            message.source,
            (message.epoch, message.seq),
            bytes(message.frame),
            received_ns,
        )

    def _symbol(self, subject: bytes) -> str:
        _, _, symbol = subjects.tokens(subject.decode())
        self._symbols[subject] = symbol
        return symbol


def published_ns(payload: bytes) -> int:
    """
    Return when *payload* was handed to NATS, nanoseconds since the epoch.

    Raises:
        ValueError: If it does not say so.
    """
    head, _ = decode_head(payload)
    return from_iso(head.published_at)
