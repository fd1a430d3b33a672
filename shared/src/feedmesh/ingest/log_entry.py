"""
An item of the news log on its way there: its messages, in memory and as bytes.

The bytes lie in the spool on disk, and go from one replica to another.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec


__all__ = ["LogEntry", "LogMessage", "Renew", "pack", "unpack"]

Renew = Callable[[bytes], bytes]
"""Given a message that was made earlier, returns it as its writer of now sends it."""


class LogMessage(NamedTuple):
    """One message: its subject, its id, and what returns its bytes when it leaves."""

    subject: str
    message_id: str
    encode: Callable[[], bytes]


class LogEntry(NamedTuple):
    """
    One item: the message on its type's subject, then the copies for symbols.

    Attributes:
        messages: All of them, at least one.
        received_ns: When it came from the upstream.
        size: Bytes that it takes in memory, about.
        kept: Whether it was received in an earlier term, and left on a disk: until when
            all was stored has been told then, and a gap began there.
    """

    messages: tuple[LogMessage, ...]
    received_ns: int = 0
    size: int = 0
    kept: bool = False

    @property
    def message_id(self) -> str:
        """The id of the item, which is that of its first message."""
        return self.messages[0].message_id


class _Record(msgspec.Struct, array_like=True):
    """An entry on disk; *payload* is None where it is that of the message before."""

    received_ns: int
    messages: list[tuple[str, str, bytes | None]]
    kept: bool = False


_encode_record = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(_Record).decode


def pack(entry: LogEntry) -> bytes:
    """Return *entry* as bytes, to be kept or to be sent to another replica."""
    messages: list[tuple[str, str, bytes | None]] = []
    before: Callable[[], bytes] | None = None
    for message in entry.messages:
        payload = None if message.encode is before else message.encode()
        messages.append((message.subject, message.message_id, payload))
        before = message.encode
    return _encode_record(_Record(entry.received_ns, messages, entry.kept))


def unpack(record: bytes, renew: Renew) -> LogEntry:
    """
    Return the entry of which :func:`pack` made *record*.

    Args:
        record: The bytes.
        renew: Makes of each message what is sent in its place now.

    Raises:
        ValueError: If it is none.
    """
    try:
        found = _decode_record(record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError("not an entry of the log") from error
    messages = []
    encode = partial(renew, b"")
    for subject, message_id, own in found.messages:
        if own is not None:
            encode = partial(renew, own)
        messages.append(LogMessage(subject, message_id, encode))
    if not messages:
        raise ValueError("an entry of the log without a message")
    return LogEntry(tuple(messages), found.received_ns, len(record), found.kept)
