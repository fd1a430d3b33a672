"""
What a request must look like before anybody looks at what it wants.

Sizes, framing, targets, hosts and upgrades, each as a pure function that returns a
:class:`Refusal` or None. What two servers might read differently is refused, never
mended: if a proxy in front and we disagree about where one request ends, somebody can
hide the next one in it.
"""

from __future__ import annotations

import base64
import binascii
import http
import re
from dataclasses import dataclass

import h11
import msgspec


__all__ = [
    "BODY_TOO_LARGE",
    "MAX_BODY",
    "MAX_CHUNKS",
    "MAX_HEAD",
    "MAX_HEADER",
    "MAX_HEADERS",
    "MAX_SUBPROTOCOLS",
    "MAX_URL",
    "MAX_WEBSOCKET_URL",
    "UPGRADE_REQUIRED",
    "Fields",
    "Refusal",
    "head_refusal",
    "malformed",
    "request_refusal",
    "upgrade_refusal",
    "wants_websocket",
]

# Of a request for data: as many symbols as it may name, percent-encoded, fit in.
MAX_URL = 32 * 1024
# Of these two, websockets takes a little less than 8 KiB, and does not say so: a
# handshake with more would stay open for ever.
MAX_WEBSOCKET_URL = 8_000
MAX_HEADER = 8_000
# Of all headers together, and how many.
MAX_HEAD = 16 * 1024
MAX_HEADERS = 100
MAX_BODY = 64 * 1024
# Chunks may carry extensions that count towards no limit.
MAX_CHUNKS = 1024
MAX_SUBPROTOCOLS = 32

# Half a line end, a folded line, or a character that no line of text has.
_ODD = re.compile(rb"(?<!\r)\n|\r(?=[^\n])|\n[ \t]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LENGTH = re.compile(rb"(?im)^content-length:([^\r]*)")
_TARGET = re.compile(rb"/|https?://|\*$", re.IGNORECASE)
_HOST = re.compile(rb"(\[[0-9a-f:.]+\]|[0-9a-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
_TOKEN = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_NONE = [b"0"]

Fields = dict[bytes, list[bytes]]
"""The values of each header, by its name in lower case."""


@dataclass(frozen=True)
class Refusal:
    """
    Why a connection is not served, and what its client is told.

    Attributes:
        status: Of the answer.
        reason: For the counter, and the `code` of the problem; one of a handful.
        detail: For the client, in words.
        headers: Of the answer, beside the usual ones.
    """

    status: int
    reason: str
    detail: str
    headers: tuple[tuple[str, str], ...] = ()

    def answer(self) -> bytes:
        """Return the whole answer, the last one on its connection."""
        title = http.HTTPStatus(self.status).phrase
        body = msgspec.json.encode(
            {
                "type": f"urn:feedmesh:problem:{self.reason}",
                "title": title,
                "status": self.status,
                "detail": self.detail,
                "code": self.reason,
            }
        )
        headers = (
            *self.headers,
            ("content-type", "application/problem+json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        )
        head = [f"HTTP/1.1 {self.status} {title}", *map(": ".join, headers), "", ""]
        return "\r\n".join(head).encode() + body


BODY_TOO_LARGE = Refusal(
    413, "body_too_large", f"a body may have {MAX_BODY} bytes and {MAX_CHUNKS} chunks"
)
UPGRADE_REQUIRED = Refusal(
    426,
    "bad_upgrade",
    "here is a WebSocket, by version 13 of its protocol",
    (("upgrade", "websocket"), ("sec-websocket-version", "13")),
)


def malformed(detail: str, status: int = 400) -> Refusal:
    """Return the refusal of what is not HTTP as it should be."""
    return Refusal(status, "malformed", detail)


def head_refusal(data: bytes) -> Refusal | None:
    """Judge the bytes of a head, which may be incomplete or have more behind it."""
    head, complete, _ = data.partition(b"\r\n\r\n")
    line, _, fields = head.partition(b"\r\n")
    if any(len(part) > MAX_URL for part in line.split(b" ")[1:2]):
        return _url_too_long(MAX_URL)
    lines = fields.split(b"\r\n")
    if (
        len(fields) > MAX_HEAD
        or len(line) > MAX_URL + MAX_HEADER
        or len(lines) > MAX_HEADERS
        or max(map(len, lines)) > MAX_HEADER
    ):
        return Refusal(
            431,
            "head_too_large",
            f"a head may have {MAX_HEAD} bytes, {MAX_HEADERS} headers and"
            f" {MAX_HEADER} bytes a header",
        )
    if _ODD.search(head):
        return malformed("lines end with CR LF, and hold no control characters")
    if complete:
        lengths = _LENGTH.findall(fields)
        if len(lengths) > 1 or not all(text.strip().isdigit() for text in lengths):
            return malformed("Content-Length is one number")
    return None


def request_refusal(
    request: h11.Request, fields: Fields, hosts: tuple[bytes, ...]
) -> Refusal | None:
    """Judge a parsed head, for data or for a WebSocket."""
    if request.http_version not in (b"1.0", b"1.1"):
        return malformed("HTTP/1.1 is spoken here", 505)
    if not _TARGET.match(request.target):
        return malformed("a target is a path, or a whole URL")
    if not _host_is_ours(_only(fields, b"host"), hosts):
        return Refusal(400, "foreign_host", "that host is not served here")
    length = int(_only(fields, b"content-length") or 0)
    if b"transfer-encoding" in fields and (
        b"content-length" in fields or request.http_version == b"1.0"
    ):
        return malformed("a body has a length or chunks, not both")
    return BODY_TOO_LARGE if length > MAX_BODY else None


def _host_is_ours(value: bytes, hosts: tuple[bytes, ...]) -> bool:
    match = _HOST.fullmatch(value.lower())
    if match is None:
        return False
    name = match[1]
    return any(
        host in (b"*", name) or (host[:2] == b"*." and name.endswith(host[1:]))
        for host in hosts
    )


def wants_websocket(fields: Fields) -> bool:
    """Tell whether a request with these *fields* asks for a WebSocket."""
    return b"upgrade" in _tokens(fields, b"connection") and (
        b"websocket" in _tokens(fields, b"upgrade")
    )


def upgrade_refusal(request: h11.Request, fields: Fields) -> Refusal | None:
    """Judge a request for a WebSocket."""
    if request.http_version == b"1.0":
        return _bad_upgrade("HTTP/1.0 knows no WebSockets")
    if request.method != b"GET":
        return Refusal(
            405, "bad_upgrade", "a WebSocket begins with GET", (("allow", "GET"),)
        )
    if len(request.target) > MAX_WEBSOCKET_URL:
        return _url_too_long(MAX_WEBSOCKET_URL)
    if b"transfer-encoding" in fields or fields.get(b"content-length", _NONE) != _NONE:
        return _bad_upgrade("an upgrade has no body")
    if fields.get(b"sec-websocket-version") != [b"13"]:
        return UPGRADE_REQUIRED
    if not _is_key(fields.get(b"sec-websocket-key", [])):
        return _bad_upgrade("Sec-WebSocket-Key is 16 bytes in base64, once")
    names = _tokens(fields, b"sec-websocket-protocol") - {b""}
    if len(names) > MAX_SUBPROTOCOLS or not all(map(_TOKEN.fullmatch, names)):
        return _bad_upgrade(
            f"Sec-WebSocket-Protocol names at most {MAX_SUBPROTOCOLS} protocols"
        )
    return None


def _url_too_long(limit: int) -> Refusal:
    return Refusal(414, "url_too_long", f"a URL may have {limit} bytes")


def _bad_upgrade(detail: str) -> Refusal:
    return Refusal(400, "bad_upgrade", detail)


def _is_key(values: list[bytes]) -> bool:
    try:
        return [len(base64.b64decode(key, validate=True)) for key in values] == [16]
    except binascii.Error:
        return False


def _only(fields: Fields, name: bytes) -> bytes:
    # Of these names there is one header at most: h11 or the head's check saw to it.
    return fields.get(name, [b""])[0]


def _tokens(fields: Fields, name: bytes) -> set[bytes]:
    listed = b",".join(fields.get(name, [])).lower()
    return {token.strip() for token in listed.split(b",")}
