"""
WebSocket text frames as bytes, built once and written to many clients.

A server's frame is not masked, so the same bytes serve every client that negotiated
no extension (RFC 6455, section 5).
"""

from __future__ import annotations


__all__ = ["array_frames", "text_frame"]

_FIN_TEXT = 0x81
# Clients limit what they take as one message, commonly to 1 MiB.
_ARRAY_BYTES = 256 * 1024
_FEW_OBJECTS = 64
_HEADER = 10
_ROOM = bytes(_HEADER)
_COMMA = bytearray(b",")
_OPEN, _CLOSE = b"[]"


def text_frame(payload: bytes) -> bytes:
    """Return *payload*, valid UTF-8, as one unfragmented text frame."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (_FIN_TEXT, size, payload)
    if size < 65536:
        return b"%c\x7e%b%b" % (_FIN_TEXT, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (_FIN_TEXT, size.to_bytes(8, "big"), payload)


def array_frames(objects: list[bytes]) -> bytes | memoryview:
    """Return *objects* as one JSON array in a text frame; as several if it is large."""
    if len(objects) < _FEW_OBJECTS:
        payload = b",".join(objects)
        size = len(payload) + 2
        if 126 <= size < 65536:
            return b"\x81\x7e%b[%b]" % (size.to_bytes(2, "big"), payload)
    # A large copy costs as much as the join: so there is one, and it has room for what
    # is only known afterwards. The first and the last comma become the brackets.
    frame = _COMMA.join([_ROOM, *objects, b""])
    size = len(frame) - _HEADER
    if size > _ARRAY_BYTES and len(objects) > 1:
        middle = len(objects) // 2
        halves = objects[:middle], objects[middle:]
        return b"".join(map(array_frames, halves))
    frame[_HEADER] = _OPEN
    frame[-1] = _CLOSE
    if size < 126:
        header = bytes((_FIN_TEXT, size))
    elif size < 65536:
        header = b"%c\x7e%b" % (_FIN_TEXT, size.to_bytes(2, "big"))
    else:
        header = b"%c\x7f%b" % (_FIN_TEXT, size.to_bytes(8, "big"))
    start = _HEADER - len(header)
    frame[start:_HEADER] = header
    return memoryview(frame)[start:]
