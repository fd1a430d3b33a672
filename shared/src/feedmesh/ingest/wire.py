"""
The upstream's socket, with every way it can fail translated into our errors.

TLS is always verified. Some upstream nodes send an incomplete certificate chain, so
extra certificates can be loaded; verification is never switched off.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
)

from feedmesh.errors import FeedError, FeedLostError, FeedRefusedError


__all__ = ["MAX_FRAME_BYTES", "Wire", "open_wire", "tls_context"]

MAX_FRAME_BYTES = 1024 * 1024
# Messages that may wait between the socket and the reader, before TCP slows the
# upstream down.
_MAX_QUEUE = 1024
_MAX_RETRY_AFTER = 3600.0
_NO_PONG = 1011
# In intervals between pings. Less than two, as a dead line is to be found within two;
# more than the half minute between the heartbeats of an upstream that answers no pings.
_DEAD_AFTER = 1.75


class Wire:
    """
    One open connection; frames go out as text and come in as bytes.

    Attributes:
        heard: When a frame or a pong last came, by the clock of the event loop.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.heard = asyncio.get_running_loop().time()

    async def send(self, text: str) -> None:
        """
        Send *text*.

        Raises:
            FeedLostError: If the connection is gone.
        """
        try:
            await self._connection.send(text)
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def receive(self) -> bytes:
        """
        Return the next frame, text or binary, undecoded.

        Undecoded because one frame of broken UTF-8 must not cost the connection.

        Raises:
            FeedLostError: If the connection is gone.
        """
        try:
            frame = await self._connection.recv(decode=False)
        except ConnectionClosed as error:
            raise _closed(error) from None
        self.heard = asyncio.get_running_loop().time()
        return frame

    async def leave(self) -> None:
        """
        Close the connection; what the upstream sent before it heard so can be received.
        """
        await self._connection.close()

    async def keep_alive(self, ping_seconds: float) -> None:
        """
        Ping every *ping_seconds*; close when nothing has come for almost twice as long.

        The library would close for a missing pong even while data flows, and no
        upstream promises to answer pings.
        """
        now = asyncio.get_running_loop().time
        with contextlib.suppress(ConnectionClosed):
            while (left := self.heard + _DEAD_AFTER * ping_seconds - now()) > 0:
                await asyncio.sleep(min(ping_seconds, left))
                pong = await self._connection.ping()
                asyncio.ensure_future(pong).add_done_callback(self._pong)
            # On a dead line nobody answers: a farewell is said, and not waited for.
            self._connection.close_timeout = 0
            await self._connection.close(_NO_PONG)

    def _pong(self, pong: asyncio.Future[float]) -> None:
        if not pong.cancelled() and pong.exception() is None:
            self.heard = asyncio.get_running_loop().time()


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        # A login sent to wherever a redirect points would hand out the key.
        return exc


@asynccontextmanager
async def open_wire(
    url: str,
    *,
    tls: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
    ping_seconds: float | None = 20.0,
) -> AsyncIterator[Wire]:
    """
    Open a WebSocket to *url* and close it on leaving.

    Args:
        url: ``ws://`` or ``wss://``.
        tls: Used for ``wss://``.
        headers: Sent with the handshake.
        ping_seconds: Between protocol pings; when neither an answer nor anything
            else comes for almost twice as long, the connection is lost. None sends
            none.

    Raises:
        FeedLostError: If trying again may help.
        FeedRefusedError: If the upstream refuses us.
    """
    try:
        connection = await _Connect(
            url,
            ssl=tls if url.startswith("wss:") else None,
            additional_headers=dict(headers or {}),
            ping_interval=None,  # Wire.keep_alive pings
            close_timeout=2.0,
            max_size=MAX_FRAME_BYTES,
            max_queue=_MAX_QUEUE,
            open_timeout=None,  # the caller limits connecting and login together
            compression=None,
        )
    except (OSError, EOFError, InvalidHandshake, InvalidURI) as error:
        raise _not_opened(error) from error
    wire = Wire(connection)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        if ping_seconds is not None:
            pinging = asyncio.create_task(wire.keep_alive(ping_seconds), name="ping")
            stack.callback(pinging.cancel)
        yield wire


def tls_context(extra_certificates: Path | None) -> ssl.SSLContext:
    """
    Return a context that verifies, with *extra_certificates* trusted besides.

    Raises:
        OSError: If the file cannot be read or holds no certificate.
    """
    context = ssl.create_default_context()
    if extra_certificates is not None:
        context.load_verify_locations(cafile=str(extra_certificates))
    return context


def _not_opened(error: Exception) -> FeedError:
    if isinstance(error, InvalidStatus):
        return _refused_upgrade(error)
    if isinstance(error, ssl.SSLError):
        return FeedLostError("tls", type(error).__name__)
    if isinstance(error, TimeoutError):
        return FeedLostError("connect_timeout")
    if isinstance(error, OSError):
        return FeedLostError("unreachable", type(error).__name__)
    return FeedLostError("handshake", type(error).__name__)


def _refused_upgrade(error: InvalidStatus) -> FeedError:
    status = error.response.status_code
    if status in (401, 403):
        return FeedRefusedError(f"http_{status}")
    return FeedLostError(
        f"http_{status}" if 300 <= status < 600 else "http_other",
        retry_after=_retry_after(error.response.headers.get("Retry-After")),
    )


def _retry_after(text: str | None) -> float | None:
    # The form with a date is not worth a parser: no upstream is known to send it.
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return min(float(text[:9]), _MAX_RETRY_AFTER)


def _closed(error: ConnectionClosed) -> FeedLostError:
    if error.sent is not None and not error.rcvd_then_sent:
        # We closed: a frame over the limit (1009), a broken one (1002), no pong (1011).
        reason = {1009: "frame_too_big", 1002: "protocol", _NO_PONG: "no_pong"}
        return FeedLostError(reason.get(error.sent.code, "closed_by_us"))
    if error.rcvd is None:
        return FeedLostError("dropped")
    code = error.rcvd.code
    known = code in (1000, 1001, 1005, 1008, 1011, 1012, 1013)
    return FeedLostError(f"closed_{code}" if known else "closed_other", str(code))
