"""Frames that no upstream should send and some do; the bytes of whole frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from simulator.wire import BINARY, TEXT, encode_frame


_TEN_MEGABYTES = b"x" * 10_000_000

# Makes one frame, or what looks like one, from the payload of a good one.
Make = Callable[[bytes], bytes]


def _text(payload: str) -> Make:
    return lambda _good: encode_frame(TEXT, payload.encode())


def _made(make: Make, opcode: int = TEXT) -> Make:
    return lambda good: encode_frame(opcode, make(good))


VARIANTS: Mapping[str, Make] = {
    "not_json": _text("this is not JSON"),
    "truncated": _made(lambda good: good[: len(good) // 2]),
    "empty": _text(""),
    "whitespace": _text("  \n "),
    "two_objects": _made(lambda good: good + good),
    "number": _text("42"),
    "string": _text('"text"'),
    "null": _text("null"),
    "true": _text("true"),
    "empty_array": _text("[]"),
    "array": _made(lambda good: b"[" + good + b"," + good + b"]"),
    "binary": _made(lambda good: good, BINARY),
    "binary_garbage": _made(lambda _: bytes(range(256)), BINARY),
    "invalid_utf8": _made(lambda _: b'{"header":{"x":"\xff\xfe\xc3\x28"}}'),
    "cp949": _made(lambda _: '{"title":"삼성전자"}'.encode("cp949")),
    "bom": _made(lambda good: b"\xef\xbb\xbf" + good),
    "lone_surrogate": _text('{"s":"\\ud800","title":"\\ud800"}'),
    "duplicate_keys": _made(lambda good: good[:-1] + b"," + good[1:]),
    "unknown_fields": _made(lambda good: good[:-1] + b',"unknown":{"a":[1]}}'),
    "unknown_event": _text('{"event":"maintenance","message":"unknown event"}'),
    "huge_integer": _text('{"s":"aapl","t":' + "9" * 100_000 + ',"type":"Q"}'),
    "nan": _text('{"s":"aapl","t":1645216790788174600,"type":"T","lp":NaN,"ls":1}'),
    "deep": _text("[" * 10_000 + "]" * 10_000),
    "oversized": _made(lambda good: good[:-1] + b',"pad":"' + _TEN_MEGABYTES + b'"}'),
    "reserved_bits": lambda good: b"\xf1" + encode_frame(TEXT, good)[1:],
    "reserved_opcode": lambda good: b"\x83" + encode_frame(TEXT, good)[1:],
    "masked": lambda _good: b"\x81\x82\x00\x00\x00\x00{}",
}
