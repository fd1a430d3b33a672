"""
Turn values into the exact bytes an upstream would put on the wire.

Frames are encoded here rather than by a WebSocket library: the simulator must also
be able to send what a library refuses to send.
"""

from __future__ import annotations

import json

import msgspec


TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def encode_frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """Return one unmasked WebSocket frame (RFC 6455, section 5.2)."""
    head = bytes([opcode | (0x80 if final else 0)])
    size = len(payload)
    if size < 126:
        return head + bytes([size]) + payload
    if size < 65536:
        return head + b"\x7e" + size.to_bytes(2, "big") + payload
    return head + b"\x7f" + size.to_bytes(8, "big") + payload


def encode_text(text: str) -> bytes:
    """Return *text* as one text frame."""
    return encode_frame(TEXT, text.encode())


def encode_fragmented(opcode: int, payload: bytes, pieces: int = 3) -> bytes:
    """Return *payload* cut into several frames with a ping after the first."""
    step = max(1, -(-len(payload) // pieces))
    parts = [payload[i : i + step] for i in range(0, len(payload), step)] or [b""]
    if len(parts) == 1:
        parts.append(b"")
    frames = [
        encode_frame(opcode if i == 0 else 0, part, final=i == len(parts) - 1)
        for i, part in enumerate(parts)
    ]
    frames.insert(1, encode_frame(PING, b"between"))
    return b"".join(frames)


def encode_close(code: int | None, reason: str = "") -> bytes:
    """Return a close frame; without a *code* its payload is empty."""
    if code is None:
        return encode_frame(CLOSE, b"")
    return encode_frame(CLOSE, code.to_bytes(2, "big") + reason.encode()[:123])


def decimal_text(units: int, places: int) -> str:
    """
    Return *units* × 10^-*places* as JavaScript prints the nearest double.

    No trailing zeros, no point in a whole number, an exponent only below 1e-6.
    """
    if units == 0 or places == 0:
        return str(units)
    sign = "-" if units < 0 else ""
    digits = str(abs(units)).rjust(places + 1, "0")
    whole, part = digits[:-places], digits[-places:].rstrip("0")
    if not part:
        return sign + whole
    if whole == "0" and part.startswith("000000"):
        return sign + _exponent_text(part)
    return f"{sign}{whole}.{part}"


def _exponent_text(part: str) -> str:
    significant = part.lstrip("0")
    exponent = len(part) - len(significant) + 1
    head, rest = significant[0], significant[1:]
    return f"{head}.{rest}e-{exponent}" if rest else f"{head}e-{exponent}"


def through_float64(number: int) -> str:
    """
    Return *number* as a JavaScript program prints it after parsing it.

    FMP documentation: the stock samples have been through a float64, so the last
    digits of their nanoseconds are noise.
    """
    mantissa, _, exponent = repr(float(number)).partition("e+")
    whole, _, part = mantissa.partition(".")
    if not exponent:
        return whole
    return (whole + part).ljust(int(exponent) + 1, "0")


def compact(value: object) -> str:
    """Return *value* as compact JSON with non-ASCII text as it is."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def loads_exact(text: bytes | str) -> object:
    """Parse JSON but keep every number as the digits that were sent."""
    parsed: object = json.loads(
        text, parse_float=_raw, parse_int=_raw, parse_constant=_raw
    )
    return parsed


def _raw(digits: str) -> msgspec.Raw:
    return msgspec.Raw(digits.encode())


def dumps_exact(value: object) -> bytes:
    """Write what :func:`loads_exact` read, compactly and digit for digit."""
    return msgspec.json.encode(value)
