"""
WebSocket text frames as bytes, built once and written to many clients.

A server's frame is not masked, so the same bytes serve every client that negotiated
no extension (RFC 6455, section 5).
"""

from __future__ import annotations

from collections.abc import Sequence


__all__ = ["array_frames", "text_frame"]

_FIN_TEXT = 0x81
# Clients limit what they take as one message, commonly to 1 MiB.
_ARRAY_BYTES = 256 * 1024


def text_frame(payload: bytes) -> bytes:
    """Return *payload*, valid UTF-8, as one unfragmented text frame."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (_FIN_TEXT, size, payload)
    if size < 65536:
        return b"%c\x7e%b%b" % (_FIN_TEXT, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (_FIN_TEXT, size.to_bytes(8, "big"), payload)


def array_frames(objects: Sequence[bytes]) -> bytes:
    """Return *objects* as one JSON array in a text frame; as several if it is large."""
    payload = b"[%b]" % b",".join(objects)
    if len(payload) <= _ARRAY_BYTES or len(objects) == 1:
        return text_frame(payload)
    middle = len(objects) // 2
    return array_frames(objects[:middle]) + array_frames(objects[middle:])
