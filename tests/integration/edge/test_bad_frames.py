"""What breaks the WebSocket protocol after the handshake, and who floods by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import httpx
import pytest
from edge_under_attack import EdgeUnderAttack, eventually
from raw_socket import (
    PRICES,
    Frame,
    RawSocket,
    client_frame,
    handshake,
    text_frame,
)


pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.usefixtures("nobody_else_notices"),
]

PATHS = [PRICES, "/ws/news", "/api/v3/stream"]
EDGE_SETTINGS = {"EDGE_STUCK": "2s"}
LIMIT = 64 * 1024
TEXT, BINARY, MORE, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


async def closing(attacker: RawSocket, seconds: float = 10) -> Frame:
    """Return the close frame; what comes before it does not matter."""
    async with asyncio.timeout(seconds):
        while (frame := await attacker.frame()).opcode != CLOSE:
            pass
    return frame


def subscribe(*symbols: str) -> bytes:
    return text_frame(json.dumps({"action": "subscribe", "symbols": symbols}))


def fragments(size: int) -> Iterator[bytes]:
    """Yield the parts of a message that never ends, *size* bytes each."""
    yield client_frame(TEXT, b"x" * size, fin=False)
    while True:
        yield client_frame(MORE, b"x" * size, fin=False)


def resident_mb(target: EdgeUnderAttack) -> float:
    """Return how much memory the edge has."""
    status = Path(f"/proc/{target.edge.service.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


# -- violations ------------------------------------------------------------------------

VIOLATIONS = {
    "unmasked": (client_frame(TEXT, b"{}", masked=False), 1002),
    "unmasked ping": (client_frame(PING, b"", masked=False), 1002),
    **{
        f"reserved bit {bit}": (client_frame(TEXT, b"{}", reserved=bit), 1002)
        for bit in (1, 2, 4, 7)
    },
    **{
        f"opcode {opcode}": (client_frame(opcode, b""), 1002)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    "a ping in parts": (client_frame(PING, b"", fin=False), 1002),
    "a ping of 126 bytes": (client_frame(PING, b"x" * 126), 1002),
    "a close of one byte": (client_frame(CLOSE, b"x"), 1002),
    "a close with code 0": (client_frame(CLOSE, b"\0\0"), 1002),
    "a close with code 1005": (client_frame(CLOSE, b"\x03\xed"), 1002),
    "a close that is not text": (client_frame(CLOSE, b"\x03\xe8\xff\xfe"), 1007),
    "a middle without a beginning": (client_frame(MORE, b"x"), 1002),
    "an end without a beginning": (client_frame(MORE, b"x", fin=False), 1002),
    "a beginning within a message": (
        client_frame(TEXT, b"x", fin=False) + client_frame(TEXT, b"x"),
        1002,
    ),
    "not UTF-8": (client_frame(TEXT, b"\xff\xfe"), 1007),
    "half a character": (client_frame(TEXT, "뉴".encode()[:2]), 1007),
    "a surrogate": (client_frame(TEXT, b"\xed\xa0\x80"), 1007),
    "too long a form": (client_frame(TEXT, b"\xc0\xaf"), 1007),
    "not UTF-8, in parts": (
        client_frame(TEXT, b"{", fin=False) + client_frame(MORE, b"\xff"),
        1007,
    ),
    "one byte too many": (client_frame(TEXT, b"x" * (LIMIT + 1)), 1009),
    "one byte too many, binary": (client_frame(BINARY, b"x" * (LIMIT + 1)), 1009),
    "one byte too many, in parts": (
        client_frame(TEXT, b"x" * LIMIT, fin=False) + client_frame(MORE, b"x"),
        1009,
    ),
    "a length that is announced": (b"\x81\xff" + b"\x7f" + b"\xff" * 7, 1009),
    "a length of 2**63": (b"\x81\xff" + b"\x80" + b"\x00" * 7, 1009),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("sent", "code"), VIOLATIONS.values(), ids=VIOLATIONS)
async def test_a_violation_is_answered_with_its_code(
    target: EdgeUnderAttack, path: str, sent: bytes, code: int
) -> None:
    async with target.attacker() as attacker:
        await attacker.upgrade(path)
        await attacker.send(sent)

        frame = await closing(attacker)
        assert frame.code == code
        if code == 1007:
            # Frames are still understood, so it would wait for this for 2 s.
            await attacker.send(client_frame(CLOSE, frame.payload))
        assert await attacker.end() == b""


@pytest.mark.parametrize("name", ["unmasked", "not UTF-8", "one byte too many"])
async def test_a_violation_with_the_handshake_ends_it_too(
    target: EdgeUnderAttack, name: str
) -> None:
    sent, code = VIOLATIONS[name]
    async with target.attacker() as attacker:
        answer = await attacker.ask(handshake().encode() + sent)

        assert answer.status == 101
        assert (await closing(attacker)).code == code
        assert await attacker.end() == b""


@pytest.mark.parametrize("size", [1, 1000, 60_000])
async def test_a_message_without_end_ends_at_the_limit(
    target: EdgeUnderAttack, size: int
) -> None:
    async with target.attacker() as attacker:
        await attacker.upgrade()
        await attacker.send(b"".join(islice(fragments(size), LIMIT // size + 2)))

        assert (await closing(attacker)).code == 1009
        assert await attacker.end() == b""


async def test_a_message_of_nothing_without_end_ends_all_the_same(
    target: EdgeUnderAttack,
) -> None:
    """Empty fragments reach no limit of size."""
    async with target.attacker() as attacker:
        await attacker.upgrade()
        await attacker.send(b"".join(islice(fragments(0), 10_000)))

        assert (await closing(attacker)).code == 1009
        assert await attacker.end() == b""


async def test_a_message_that_takes_too_long_is_not_waited_for(
    target: EdgeUnderAttack,
) -> None:
    async with target.attacker() as attacker:
        await attacker.upgrade()
        said = await attacker.trickle(islice(fragments(1), 200), 20)

    assert said.startswith(b"\x88")
    assert int.from_bytes(said[2:4], "big") == 1009


async def test_what_is_in_order_is_not_mistaken_for_a_violation(
    target: EdgeUnderAttack,
) -> None:
    word = "뉴스".encode()
    async with target.attacker() as client:
        await client.upgrade()
        # A character cut in two, with a ping between.
        await client.send(client_frame(TEXT, word[:1], fin=False))
        await client.send(client_frame(PING, b"still there?"))
        await client.send(client_frame(MORE, word[1:]))
        first = await client.frame()
        second = await client.frame()
        await client.send(client_frame(TEXT, b"x" * LIMIT))
        third = await client.frame()
        await client.send(client_frame(BINARY, b"x"))
        fourth = await client.frame()

    assert first == Frame(PONG, b"still there?")
    for frame in (second, third, fourth):
        assert json.loads(frame.payload)["type"] == "error"


@pytest.mark.parametrize("path", PATHS)
async def test_what_comes_after_a_close_is_ignored(
    target: EdgeUnderAttack, path: str
) -> None:
    async with target.attacker() as attacker:
        await attacker.upgrade(path)
        goodbye = client_frame(CLOSE, (1000).to_bytes(2, "big"))
        await attacker.send(goodbye + subscribe("TSLA") + client_frame(PING) + goodbye)

        assert (await closing(attacker)).code == 1000
        assert await attacker.end() == b""

    async with httpx.AsyncClient(base_url=target.edge.url) as http:
        status = (await http.get("/api/v2/realtime/status")).json()
    assert "TSLA" not in status["symbols"]


# -- leaving ---------------------------------------------------------------------------


async def test_who_is_reset_while_sending_is_gone_within_a_second(
    target: EdgeUnderAttack,
) -> None:
    before = await target.clients()
    async with target.attacker() as attacker:
        await attacker.upgrade()
        await attacker.send(subscribe("NVDA") + client_frame(TEXT, b"x" * 999)[:500])

        async def is_counted() -> bool:
            return await target.clients() == before + 1

        await eventually(is_counted)
        attacker.reset()

    async def is_gone() -> bool:
        return await target.clients() == before

    await eventually(is_gone, 1.0)
    async with httpx.AsyncClient(base_url=target.edge.url) as http:
        status = (await http.get("/api/v2/realtime/status")).json()
    assert "NVDA" not in status["symbols"]


# -- floods ----------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [PING, PONG], ids=["ping", "pong"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_flood_of_control_frames_hurts_nobody(
    target: EdgeUnderAttack, path: str, opcode: int
) -> None:
    block = b"".join(client_frame(opcode, b"x" * 125) for _ in range(1000))
    async with target.attacker() as attacker:
        await attacker.upgrade(path)
        ending = asyncio.create_task(attacker.end(60))
        flood = asyncio.create_task(attacker.send(block * 30))
        for _ in range(5):
            await target.is_well()
        flood.cancel()
        ending.cancel()
        await asyncio.wait([flood, ending])


async def test_who_reads_no_pongs_gets_no_more_of_them(
    target: EdgeUnderAttack,
) -> None:
    before = resident_mb(target)
    block = b"".join(client_frame(PING, b"x" * 125) for _ in range(1000))
    async with target.attacker() as attacker:
        await attacker.upgrade()
        attacker.stop_reading()
        flood = asyncio.create_task(attacker.send(block * 300))
        await asyncio.wait([flood], timeout=6)

        assert resident_mb(target) < before + 20
        flood.cancel()
        await asyncio.wait([flood])
