"""
A scriptable WebSocket server: it can say, drop, fall silent, refuse or talk rubbish.

Built on asyncio streams and the sans-I/O half of websockets, because a server library
takes pains never to do what half of the faults need. What is said is decided by an
:class:`Application`, one for each product.
"""

from __future__ import annotations

import asyncio
import base64
import http
import itertools
import logging
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Protocol

from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from simulator.faults import Fault, FaultBook
from simulator.journal import Journal
from simulator.wire import PING, encode_close, encode_frame, encode_text


logger = logging.getLogger(__name__)

# A client that does not read: this much is kept for it, then it is dropped.
MAX_UNSENT_BYTES = 16 * 2**20
_MAX_MESSAGE_BYTES = 2**20
_HANDSHAKE_SECONDS = 10.0
_CLOSE_SECONDS = 1.0
_FAULT_POLL_SECONDS = 0.02
# States of TCP, as Linux numbers them: TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING.
_ENDED_BY_CLIENT = frozenset({6, 7, 8, 9, 11})
_connection_ids = itertools.count(1)


class Application(Protocol):
    """What a product says to those who connect."""

    def accepts(self, path: str) -> bool:
        """Tell whether an upgrade on *path* is answered at all."""

    def opened(self, connection: Connection) -> None:
        """Note that the upgrade of *connection* succeeded."""

    def received(self, connection: Connection, message: str | bytes) -> None:
        """Answer one whole message."""

    def closed(self, connection: Connection) -> None:
        """Note that *connection* is gone."""


class Connection:
    """One client, from the upgrade on."""

    def __init__(
        self, writer: asyncio.StreamWriter, target: str, faults: FaultBook
    ) -> None:
        self.id = next(_connection_ids)
        self.target = target
        self.path = ""
        self.clean = False
        self.close_received = False
        self.journal: Journal
        self._writer = writer
        self._faults = faults
        self._closing = False
        self._dribble: bytearray | None = None
        self._timers: set[asyncio.TimerHandle] = set()

    @property
    def closing(self) -> bool:
        """Tell whether nothing more can be said to this client."""
        return self._closing or self._writer.is_closing()

    @property
    def left(self) -> bool:
        """Whether the client has ended its side, be that read or not; Linux only."""
        if self._writer.is_closing():
            return True
        opened = self._writer.get_extra_info("socket")
        if opened is None or not hasattr(socket, "TCP_INFO"):
            return False
        state = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state in _ENDED_BY_CLIENT

    def fault(self, kind: str) -> Fault | None:
        """Return the fault of *kind* if it strikes this connection."""
        return self._faults.strike(self.target, kind, self.id)

    def say(self, text: str) -> None:
        """Send *text* in answer to the client."""
        silence = self.fault("silence")
        if silence is None or silence.get("replies", True):
            self.send(encode_text(text), 1)

    def send(self, encoded: bytes, frames: int) -> None:
        """Send *encoded* bytes that hold so many *frames*."""
        if self.closing or self.fault("half_open"):
            return
        self.journal.frames_sent += frames
        self.write(encoded)

    def write(self, data: bytes) -> None:
        """Write raw bytes; a client that does not read them is dropped."""
        if self._writer.is_closing():
            return
        if self._dribble is not None:
            self._dribble += data
            unsent = len(self._dribble)
        else:
            self._writer.write(data)
            unsent = self._writer.transport.get_write_buffer_size()
        if unsent > MAX_UNSENT_BYTES:
            self.journal.dropped_slow += 1
            self.reset()

    def ping(self) -> None:
        """Send a protocol ping."""
        if not self.closing and not self.fault("half_open"):
            self.write(encode_frame(PING, b"simulator"))

    def close(self, code: int | None, reason: str = "") -> None:
        """
        Close with *code*, or with an empty close frame.

        1006 stands for an end without any close frame, as RFC 6455 defines it.
        """
        if self.closing:
            return
        if code == 1006:
            self.end_stream()
            return
        self._writer.write(encode_close(code, reason))
        self._closing = True
        self.clean = True
        self.later(_CLOSE_SECONDS, self.end_stream)

    def finish(self) -> None:
        """Say nothing more, as both sides have said that they close."""
        self._closing = True

    def end_stream(self) -> None:
        """End the TCP stream in the ordinary way, with no close frame."""
        self._closing = True
        self._writer.close()

    def reset(self) -> None:
        """End the TCP connection at once, with RST."""
        self._closing = True
        opened = self._writer.get_extra_info("socket")
        if opened is not None:
            linger = struct.pack("ii", 1, 0)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()

    def cut(self, encoded: bytes) -> None:
        """Send the first half of a frame and then reset."""
        if not self.closing:
            self._writer.write(encoded[: max(1, len(encoded) // 2)])
            self._closing = True
            # RST discards what the kernel has not sent yet; a moment is enough
            # for the half frame to leave.
            self.later(0.05, self.reset)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back after *seconds* unless the connection is gone by then."""

        def run() -> None:
            self._timers.discard(timer)
            callback()

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(timer)

    def after_or_now(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back after *seconds*, at once if there are none to wait."""
        if seconds > 0:
            self.later(seconds, callback)
        else:
            callback()

    def forget(self) -> None:
        """Drop every callback that is still to come."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def schedule_end(self, moment: str) -> None:
        """End the connection if a fault says to do so some time after *moment*."""
        fault = self._faults.peek(self.target, "end_after")
        if fault is None or fault.get("when", "open") != moment:
            return
        if self.fault("end_after") is None:
            return
        after = float(fault.get("after", 0))
        self.after_or_now(after, lambda: self._end(fault))

    def _end(self, fault: Fault) -> None:
        if fault.get("how", "drop") == "close":
            self.close(fault.get("code"), fault.get("reason", ""))
        else:
            self.reset()

    async def dribble(self) -> None:
        """Write byte by byte for as long as the fault lasts, then the rest."""
        self._dribble = self._dribble or bytearray()
        while fault := self.fault("one_byte_per_second"):
            if self._dribble and not self._writer.is_closing():
                self._writer.write(bytes(self._dribble[:1]))
                del self._dribble[:1]
            await asyncio.sleep(float(fault.get("interval", 1.0)))
        rest, self._dribble = bytes(self._dribble), None
        self.write(rest)


class Upstream:
    """Listens for one target and runs its application for each connection."""

    def __init__(
        self,
        target: str,
        application: Application,
        faults: FaultBook,
        journal: Journal,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.target = target
        self.journal = journal
        self.connections: dict[int, Connection] = {}
        self._application = application
        self._faults = faults
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._down_until = 0.0

    async def serve(self, listener: socket.socket) -> None:
        """Accept connections on *listener* until cancelled."""
        async with asyncio.TaskGroup() as group:

            def accept(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter
            ) -> None:
                group.create_task(self._guard(reader, writer), name=self.target)

            server = await asyncio.start_server(accept, sock=listener)
            try:
                # Not serve_forever(): from Python 3.12 on, it waits at its end for
                # every connection, and those end only when this group is cancelled.
                await asyncio.Event().wait()
            finally:
                server.close()
                for connection in list(self.connections.values()):
                    connection.close(1001, "going away")

    def pause(self, seconds: float) -> None:
        """Reset everyone and refuse all connections for *seconds*: a restart."""
        self._down_until = time.monotonic() + seconds
        for connection in list(self.connections.values()):
            connection.reset()

    async def _guard(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await self._connect(reader, writer)
        except (OSError, EOFError, TimeoutError):
            # The client went away, which is its right.
            pass
        except Exception:
            # One broken connection must not end a process that others test with;
            # the counter makes the mistake visible.
            self.journal.internal_errors += 1
            logger.exception("%s failed", self.target)
        finally:
            writer.close()

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.journal.connects += 1
        self.journal.connected_at.append(time.time())
        connection = Connection(writer, self.target, self._faults)
        connection.journal = self.journal
        if time.monotonic() < self._down_until or connection.fault("reset_on_connect"):
            connection.reset()
            return
        if self._rubbish(connection):
            return
        if self._tls is not None:
            # Only now, so that a failed TLS handshake can be played above.
            async with asyncio.timeout(_HANDSHAKE_SECONDS):
                await writer.start_tls(self._tls)
        protocol = ServerProtocol(max_size=_MAX_MESSAGE_BYTES)
        request = await self._read_request(reader, protocol)
        if not await self._answer(connection, reader, protocol, request):
            return
        connection.path = request.path
        await self._run(connection, reader, protocol)

    def _rubbish(self, connection: Connection) -> bool:
        fault = self._faults.peek(self.target, "tls_fail")
        every = int(fault.get("every", 1)) if fault else 1
        if fault is None or self.journal.connects % every:
            return False
        if self._faults.strike(self.target, "tls_fail", connection.id) is None:
            return False
        self.journal.refused += 1
        # A fatal TLS alert (handshake_failure): no HTTP client can take it for one
        # of its own replies, and a TLS client reports a failed handshake.
        alert = base64.b64encode(b"\x15\x03\x03\x00\x02\x02\x28").decode()
        connection.write(base64.b64decode(fault.get("bytes_b64", alert)))
        return True

    async def _read_request(
        self, reader: asyncio.StreamReader, protocol: ServerProtocol
    ) -> Request:
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            while True:
                data = await reader.read(65536)
                if not data:
                    raise EOFError
                protocol.receive_data(data)
                for event in protocol.events_received():
                    if isinstance(event, Request):
                        return event
                if protocol.handshake_exc is not None:
                    raise EOFError

    async def _answer(
        self,
        connection: Connection,
        reader: asyncio.StreamReader,
        protocol: ServerProtocol,
        request: Request,
    ) -> bool:
        hangs = not self._application.accepts(request.path)
        if hangs or connection.fault("upgrade_timeout"):
            self.journal.refused += 1
            while await reader.read(65536):
                pass
            return False
        response = self._refusal(connection) or protocol.accept(request)
        protocol.send_response(response)
        reply = b"".join(protocol.data_to_send())
        slow = connection.fault("one_byte_per_second")
        if slow and slow.get("handshake"):
            for byte in reply:
                connection.write(bytes([byte]))
                await asyncio.sleep(float(slow.get("interval", 1.0)))
        else:
            connection.write(reply)
        accepted = response.status_code == 101
        self.journal.refused += not accepted
        return accepted

    def _refusal(self, connection: Connection) -> Response | None:
        limit = self._faults.peek(self.target, "socket_limit")
        if limit and len(self.connections) >= int(limit.get("limit", 1)):
            return _response(int(limit.get("status", 429)), {}, "")
        fault = connection.fault("refuse_upgrade")
        if fault is None:
            return None
        headers = dict(fault.get("headers") or {})
        if location := fault.get("location"):
            headers["Location"] = location
        status = int(fault.get("status", 301 if location else 503))
        return _response(status, headers, str(fault.get("body", "")))

    async def _run(
        self,
        connection: Connection,
        reader: asyncio.StreamReader,
        protocol: ServerProtocol,
    ) -> None:
        # Of a client that left just before this one came, we may not have read so yet.
        self.journal.connected(sum(other.left for other in self.connections.values()))
        self.connections[connection.id] = connection
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch(connection), name="watch")
                self._application.opened(connection)
                connection.schedule_end("open")
                await self._read(connection, reader, protocol)
                watch.cancel()
        except* OSError:
            # Reset by the client, or by a fault.
            pass
        finally:
            del self.connections[connection.id]
            connection.forget()
            self.journal.open -= 1
            self.journal.ended["clean" if connection.clean else "abrupt"] += 1
            self._application.closed(connection)

    async def _watch(self, connection: Connection) -> None:
        """Play those faults of an open connection that need a clock."""
        pinged = time.monotonic()
        while True:
            if connection.fault("one_byte_per_second"):
                await connection.dribble()
            ping = connection.fault("ping")
            now = time.monotonic()
            if ping and now - pinged >= float(ping.get("interval", 1.0)):
                pinged = now
                connection.ping()
            await asyncio.sleep(_FAULT_POLL_SECONDS)

    async def _read(
        self,
        connection: Connection,
        reader: asyncio.StreamReader,
        protocol: ServerProtocol,
    ) -> None:
        messages = _Messages()
        while True:
            for event in protocol.events_received():
                if isinstance(event, Frame):
                    self._take(connection, messages, event)
            _reply(connection, protocol)
            if connection.close_received or protocol.parser_exc is not None:
                connection.finish()
                break
            data = await self._read_some(connection, reader)
            if not data:
                break
            protocol.receive_data(data)

    async def _read_some(
        self, connection: Connection, reader: asyncio.StreamReader
    ) -> bytes:
        slow = connection.fault("slow_read")
        speed = int(slow.get("bytes_per_second", 10)) if slow else 65536
        data = await reader.read(speed)
        # Asked again: the fault may have come while we waited for the data.
        if slow := connection.fault("slow_read"):
            await asyncio.sleep(len(data) / int(slow.get("bytes_per_second", 10)))
        while connection.fault("half_open"):
            await asyncio.sleep(_FAULT_POLL_SECONDS)
        return data

    def _take(self, connection: Connection, messages: _Messages, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            connection.clean = connection.close_received = True
        elif frame.opcode is Opcode.PING:
            self.journal.pings_received += 1
        elif frame.opcode is Opcode.PONG:
            self.journal.pongs_received += 1
        elif (message := messages.add(frame)) is not None:
            self.journal.received(connection.id, message)
            self._application.received(connection, message)


class _Messages:
    """Puts the frames of a fragmented message together again."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._text = False

    def add(self, frame: Frame) -> str | bytes | None:
        if frame.opcode is not Opcode.CONT:
            self._parts, self._text = [], frame.opcode is Opcode.TEXT
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return None
        whole = b"".join(self._parts)
        return whole.decode(errors="replace") if self._text else whole


def _reply(connection: Connection, protocol: ServerProtocol) -> None:
    """Send what the protocol wants to: pongs and the answer to a close."""
    for data in protocol.data_to_send():
        is_pong = data[:1] == b"\x8a"
        if not data or (is_pong and connection.fault("no_pong")):
            continue
        if not connection.closing:
            connection.write(data)


def _response(status: int, headers: dict[str, str], body: str) -> Response:
    content = body.encode()
    fields = Headers(headers)
    fields["Connection"] = "close"
    fields["Content-Length"] = str(len(content))
    return Response(status, http.HTTPStatus(status).phrase, fields, content)
