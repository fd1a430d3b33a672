"""The short way through the parser of nats-py, with bytes cut anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from feedmesh.fast_lane import LaneMessage, _LaneParser


Taken = tuple[str, bytes, bytes]

HEADERS = b"NATS/1.0\r\nNats-Sequence: 7\r\n\r\n"
payloads = st.sampled_from([b"", b"x", b"{}", b"a\r\nMSG b 1 2\r\n", b"\r\n" * 3])


def message(sid: str, payload: bytes) -> tuple[bytes, Taken]:
    return b"MSG s %b %d\r\n%b\r\n" % (sid.encode(), len(payload), payload), (
        sid,
        payload,
        b"",
    )


def replied(sid: str, payload: bytes) -> tuple[bytes, Taken]:
    head = b"MSG s %b _INBOX.1 %d\r\n" % (sid.encode(), len(payload))
    return head + payload + b"\r\n", (sid, payload, b"")


def headed(sid: str, payload: bytes) -> tuple[bytes, Taken]:
    whole = len(HEADERS) + len(payload)
    head = b"HMSG s %b %d %d\r\n" % (sid.encode(), len(HEADERS), whole)
    return head + HEADERS + payload + b"\r\n", (sid, payload, HEADERS)


def ping(_: str, __: bytes) -> tuple[bytes, Taken]:
    return b"PING\r\n", ("ping", b"", b"")


operations = st.builds(
    lambda make, sid, payload: make(sid, payload),
    st.sampled_from([message, message, replied, headed, ping]),
    st.sampled_from(["1", "2", "3"]),
    payloads,
)


class FakeClient:
    """What nats-py's parser calls."""

    def __init__(self, taken: list[Taken]) -> None:
        self._taken = taken

    async def _process_msg(
        self, sid: int, _: bytes, __: bytes, data: bytes, headers: bytes | None
    ) -> None:
        self._taken.append((str(sid), data, headers or b""))

    async def _process_ping(self) -> None:
        self._taken.append(("ping", b"", b""))


@given(st.lists(operations, max_size=12), st.lists(st.integers(0, 400), max_size=8))
async def test_all_is_taken_once_and_in_order_wherever_the_bytes_are_cut(
    sent: list[tuple[bytes, Taken]], cuts: list[int]
) -> None:
    taken: list[Taken] = []

    def lane(sid: str) -> Any:
        def take(messages: Sequence[LaneMessage]) -> None:
            taken.extend((sid, payload, raw) for _, payload, raw in messages)

        return take

    lanes = {b"1": lane("1"), b"2": lane("2")}
    parser = _LaneParser(cast("Client", FakeClient(taken)), lanes)
    data = b"".join(part for part, _ in sent)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})

    for start, end in pairwise(edges):
        await parser.parse(data[start:end])

    assert taken == [expected for _, expected in sent]
    assert not parser.buf
