"""A client that may say anything: bytes to an edge, and what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple


KEY = "dGhlIHNhbXBsZSBub25jZQ=="
PRICES = "/api/v2/realtime/ws/prices"


class Answer(NamedTuple):
    """What a server said; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Frame(NamedTuple):
    """A WebSocket frame from the server."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int:
        """The code of a close frame."""
        assert self.opcode == 8, self
        return int.from_bytes(self.payload[:2], "big")


class RawSocket:
    """One TCP connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes | str) -> None:
        """Send; what the other side does not take because it left is no error."""
        self._writer.write(data.encode() if isinstance(data, str) else data)
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def answer(self, *, head_only: bool = False, seconds: float = 10) -> Answer:
        """Return the next answer."""
        async with asyncio.timeout(seconds):
            head = await self._reader.readuntil(b"\r\n\r\n")
            line, *fields = head.decode("latin-1").split("\r\n")[:-2]
            headers = {}
            for field in fields:
                name, _, value = field.partition(":")
                headers[name.lower()] = value.strip()
            length = 0 if head_only else int(headers.get("content-length", 0))
            body = await self._reader.readexactly(length)
        return Answer(int(line.split(" ")[1]), headers, body)

    async def ask(self, data: bytes | str) -> Answer:
        """Send *data* and return the answer."""
        await self.send(data)
        return await self.answer()

    async def frame(self, seconds: float = 10) -> Frame:
        """Return the next WebSocket frame, which must be whole."""
        async with asyncio.timeout(seconds):
            first, length = await self._reader.readexactly(2)
            assert first & 0x80
            if length == 126:
                length = int.from_bytes(await self._reader.readexactly(2), "big")
            elif length == 127:
                length = int.from_bytes(await self._reader.readexactly(8), "big")
            return Frame(first & 0x0F, await self._reader.readexactly(length))

    async def end(self, seconds: float = 10) -> bytes:
        """Wait until the server has closed; return what it said before that."""
        said = b""
        async with asyncio.timeout(seconds):
            with contextlib.suppress(ConnectionError):
                while part := await self._reader.read(65536):
                    said += part
        return said

    async def trickle(self, parts: Iterable[str | bytes], seconds: float = 10) -> bytes:
        """Send *parts* one by one until the server closes; return what it said."""
        async with asyncio.timeout(seconds):
            ending = asyncio.create_task(self.end(seconds))
            for part in parts:
                if ending.done():
                    break
                await self.send(part)
                await asyncio.sleep(0.1)
            return await ending

    async def open_after(self, seconds: float) -> bool:
        """Return whether the server has neither closed nor said anything by then."""
        try:
            async with asyncio.timeout(seconds):
                with contextlib.suppress(ConnectionError):
                    await self._reader.read(1)
        except TimeoutError:
            return True
        return False

    async def upgrade(self, path: str = PRICES, *, more: str = "") -> None:
        """Become a WebSocket."""
        answer = await self.ask(handshake(path, more))
        assert answer.status == 101, answer

    def stop_reading(self) -> None:
        """Take no bytes any more."""
        transport = self._writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()

    def reset(self) -> None:
        """Leave without a word, by RST."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


@asynccontextmanager
async def raw_socket(port: int) -> AsyncIterator[RawSocket]:
    """Connect to *port* of this host while the context is open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    try:
        yield RawSocket(reader, writer)
    finally:
        writer.transport.abort()


def request(target: str = "/", *headers: str, method: str = "GET") -> str:
    """Return a request without a body, as it should be."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *headers, "", ""])


def handshake(path: str = PRICES, more: str = "", **changes: str) -> str:
    """
    Return a request for a WebSocket.

    Args:
        path: Where.
        more: Further header lines, each with its end.
        changes: Other values by header name, with underscores; empty leaves it out.
    """
    headers = {
        "host": "x",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec_websocket_key": KEY,
        "sec_websocket_version": "13",
    }
    lines = "".join(
        f"{name.replace('_', '-')}: {value}\r\n"
        for name, value in (headers | changes).items()
        if value
    )
    return f"GET {path} HTTP/1.1\r\n{lines}{more}\r\n"


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    masked: bool = True,
    reserved: int = 0,
) -> bytes:
    """Return a frame as a client sends it, or not quite."""
    first = bytes([fin << 7 | reserved << 4 | opcode])
    mask_bit = masked << 7
    if len(payload) < 126:
        length = bytes([mask_bit | len(payload)])
    elif len(payload) < 65536:
        length = bytes([mask_bit | 126]) + len(payload).to_bytes(2, "big")
    else:
        length = bytes([mask_bit | 127]) + len(payload).to_bytes(8, "big")
    if not masked:
        return first + length + payload
    mask = os.urandom(4)
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    covered = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return first + length + mask + covered.to_bytes(len(payload), "big")


def text_frame(text: str) -> bytes:
    """Return a whole text message."""
    return client_frame(1, text.encode())
