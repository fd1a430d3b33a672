"""Which requests are let through to h11, and that bytes may come in any pieces."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.door.strict_http import StrictConnection


GOOD = (
    b"POST /p?q=1 HTTP/1.1\r\nHost: example.org\r\nContent-Length: 5\r\n"
    b"X-Note: caf\xc3\xa9\r\n\r\nhello"
)
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n"
    b"Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def read(*parts: bytes, **options: Any) -> tuple[list[h11.Event], tuple[int, str]]:
    """Return the events in *parts*, and the status and reason of a refusal."""
    connection = StrictConnection(**options)
    events: list[h11.Event] = []
    for part in filter(None, parts):
        connection.receive_data(part)
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError:
                assert connection.refusal is not None
                return events, (connection.refusal.status, connection.refusal.reason)
            if isinstance(event, h11.Event):
                events.append(event)
            else:
                break
    assert connection.refusal is None
    return events, (0, "")


def refused(data: bytes, **options: Any) -> tuple[int, str]:
    return read(data, **options)[1]


def get(*fields: bytes) -> bytes:
    return b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *fields, b"", b""])


def test_a_good_request_passes_as_it_is() -> None:
    events, refusal = read(GOOD)

    assert refusal == (0, "")
    request, body, end = events
    assert isinstance(request, h11.Request)
    assert request.target == b"/p?q=1"
    assert isinstance(body, h11.Data)
    assert body.data == b"hello"
    assert isinstance(end, h11.EndOfMessage)


@given(cuts=st.lists(st.integers(0, len(GOOD)), max_size=20))
def test_a_good_request_passes_in_any_pieces(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(GOOD)]
    parts = [GOOD[a:b] for a, b in pairwise(edges) if a < b]

    events, refusal = read(*parts)

    assert refusal == (0, "")
    assert isinstance(events[0], h11.Request)
    body = b"".join(event.data for event in events if isinstance(event, h11.Data))
    assert body == b"hello"


@given(st.binary(max_size=400))
def test_garbage_is_refused_or_not_complete_and_nothing_else(data: bytes) -> None:
    read(data)
    read(b"GET / HTTP/1.1\r\nHost: a\r\n" + data + b"\r\n\r\n")
    read(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)


@pytest.mark.parametrize(
    "fields",
    [
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 5", b"Content-Length: 5"),
        (b"Content-Length: 5", b"content-length: 6"),
        (b"Content-Length: 5, 5",),
        (b"Content-Length: +5",),
        (b"Content-Length: 0x5",),
        (b"Content-Length:",),
        (b"Content-Length : 5",),
        (b"Transfer-Encoding : chunked",),
        (b"Transfer-Encoding: chunked", b"Content-Length : 5"),
        (b"X: a\n b",),
        (b"X: a\nY: b",),
        (b"X: a\rY: b",),
        (b"X: a\x00b",),
        (b"X: a\x1bb",),
        (b"X: a", b" folded"),
        (b"X: a", b"\tfolded"),
        (b": no name",),
        (b"no colon",),
        (b"na me: x",),
        (b"Host: b",),
    ],
    ids=lambda fields: b"|".join(fields).decode("latin-1"),
)
def test_what_another_server_might_read_differently_is_refused(
    fields: tuple[bytes, ...],
) -> None:
    assert refused(get(*fields)) == (400, "malformed")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET /\r\nHost: a\r\n\r\n",
        b"GET / http/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_a_malformed_head_is_refused(data: bytes) -> None:
    status, reason = refused(data)

    assert status == 400
    assert reason in ("malformed", "foreign_host")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (get(b"Transfer-Encoding: gzip, chunked"), 501),
        (get(b"Transfer-Encoding: identity"), 501),
    ],
)
def test_what_is_not_spoken_here_is_told_so(data: bytes, status: int) -> None:
    assert refused(data) == (status, "malformed")


@pytest.mark.parametrize(
    ("good", "bad", "expected"),
    [
        (b"GET /%b HTTP/1.1" % (b"u" * 32767), b"GET /%b" % (b"u" * 32768), 414),
        (get(b"X: " + b"a" * 7997), get(b"X: " + b"a" * 7998), 431),
        (get(*[b"X: a"] * 99), get(*[b"X: a"] * 100), 431),
        (get(*[b"X: " + b"a" * 5000] * 3), get(*[b"X: " + b"a" * 5500] * 3), 431),
        (b"GET / HTTP/1.1\r\nX: a", b"GET / HTTP/1.1\r\nX: " + b"a" * 8190, 431),
        (b"a" * 40768, b"a" * 40769, 431),
    ],
    ids=["url", "header", "headers", "head", "unfinished head", "no request at all"],
)
def test_limits_hold_exactly_and_before_the_head_is_complete(
    good: bytes, bad: bytes, expected: int
) -> None:
    assert refused(good) == (0, "")
    assert refused(bad)[0] == expected


def test_a_body_is_limited_by_its_length() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"

    assert refused(head % 65536 + b"x" * 65536) == (0, "")
    assert refused(head % 65537) == (413, "body_too_large")
    assert refused(head % (10**19)) == (413, "body_too_large")


def chunked(*chunks: bytes) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in chunks)


def test_a_chunked_body_is_limited_by_what_came_and_by_its_chunks() -> None:
    assert refused(chunked(b"x" * 65536, b"")) == (0, "")
    assert refused(chunked(b"x" * 65536, b"x")) == (413, "body_too_large")
    assert refused(chunked(*[b"x"] * 1024)) == (0, "")
    assert refused(chunked(*[b"x"] * 1025)) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("host", "served"),
    [
        (b"feed.example.org", True),
        (b"FEED.example.org:8080", True),
        (b"a.b.example.net", True),
        (b"[::1]:80", True),
        (b"example.net", False),
        (b"evil.org", False),
        (b"feed.example.org.evil.org", False),
        (b"evilexample.net", False),
        (b"", False),
    ],
)
def test_only_requests_for_our_hosts_pass(host: bytes, served: bool) -> None:
    hosts = ("Feed.example.org", "*.example.net", "[::1]")
    data = b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host

    assert refused(data, hosts=hosts) == ((0, "") if served else (400, "foreign_host"))


def test_ranges_are_not_seen_by_anybody() -> None:
    events, _ = read(get(b"Range: bytes=0-0", b"If-Range: x", b"X: y"))

    assert isinstance(events[0], h11.Request)
    assert list(events[0].headers) == [(b"host", b"a"), (b"x", b"y")]


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"Sec-WebSocket-Protocol: feedmesh.v1.json\r\n",
        b"Sec-WebSocket-Protocol: "
        + b", ".join(b"p%d" % n for n in range(32))
        + b"\r\n",
        b"Content-Length: 0\r\n",
    ],
)
def test_a_good_upgrade_passes(fields: bytes) -> None:
    assert refused(UPGRADE + fields + b"\r\n") == (0, "")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (UPGRADE.replace(b"GET", b"POST"), 405),
        (UPGRADE.replace(b": 13", b": 12"), 426),
        (UPGRADE.replace(b"Sec-WebSocket-Version: 13\r\n", b""), 426),
        (UPGRADE + b"Sec-WebSocket-Version: 13\r\n", 426),
        (UPGRADE.replace(b"Sec-WebSocket-Key", b"X"), 400),
        (UPGRADE.replace(b"dGhl", b"dG"), 400),
        (UPGRADE.replace(b"dGhl", b"\xff\xff\xff\xff"), 400),
        (UPGRADE + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 400),
        (UPGRADE + b"Sec-WebSocket-Protocol: caf\xe9\r\n", 400),
        (UPGRADE + b"Sec-WebSocket-Protocol: two words\r\n", 400),
        (
            UPGRADE
            + b"Sec-WebSocket-Protocol: "
            + b",".join(b"p%d" % n for n in range(33))
            + b"\r\n",
            400,
        ),
        (UPGRADE + b"Content-Length: 1\r\n", 400),
        (UPGRADE + b"Content-Length: 00\r\n", 400),
        (UPGRADE + b"Transfer-Encoding: chunked\r\n", 400),
        (UPGRADE.replace(b"/ws", b"/ws?" + b"q" * 7997), 414),
        (UPGRADE.replace(b"Upgrade: WebSocket", b"X: y"), 426),
        (UPGRADE.replace(b", Upgrade", b""), 426),
    ],
)
def test_a_bad_upgrade_is_refused(data: bytes, status: int) -> None:
    assert refused(data + b"\r\n", sockets=("/ws",))[0] == status


def test_another_upgrade_is_ignored() -> None:
    assert refused(get(b"Connection: Upgrade", b"Upgrade: h2c")) == (0, "")
