"""
How finished frames reach a client's socket without passing through ASGI.

uvicorn's own WebSocket protocol does the handshake, reading, ping and close. This
subclass hands the endpoint an :class:`Outlet`, through which whole frames are written
straight to the transport. Everything a client gets goes through its outlet, so replies
and pushes keep their order. The transport never refuses a write; whether a client
keeps up is told by ``pause_writing`` and ``resume_writing``.
"""

from __future__ import annotations

from asyncio.transports import BaseTransport
from collections.abc import Callable
from typing import Any, cast

from fastapi import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request


__all__ = ["EdgeProtocol", "Outlet", "outlet_of"]

_EXTENSION = "feedmesh.outlet"
# What may wait in user space for one client; the kernel's send buffer comes on top.
_HIGH_WATER = 64 * 1024
_LOW_WATER = 16 * 1024


class EdgeProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol with an outlet for finished frames."""

    def connection_made(self, transport: BaseTransport) -> None:
        """Set how much may wait for a client before it counts as slow."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(_HIGH_WATER, _LOW_WATER)
        self.outlet = Outlet(self)

    def handle_connect(self, event: Request) -> None:
        """Offer the outlet to the endpoint."""
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            cast("dict[str, Any]", scope["extensions"])[_EXTENSION] = self.outlet

    def pause_writing(self) -> None:
        """Note that the client takes no more for now."""
        super().pause_writing()
        self.outlet.blocked = True
        self.outlet.on_blocked()

    def resume_writing(self) -> None:
        """Note that the client takes bytes again."""
        super().resume_writing()
        self.outlet.blocked = False
        self.outlet.on_resumed()


class Outlet:
    """
    Where the frames of one client leave.

    Attributes:
        blocked: Whether so much waits already that nothing should be added.
        on_blocked: Called when that begins.
        on_resumed: Called when it ends.
    """

    def __init__(self, protocol: EdgeProtocol) -> None:
        self._protocol = protocol
        self.blocked = False
        self.on_blocked: Callable[[], None] = _nothing
        self.on_resumed: Callable[[], None] = _nothing

    @property
    def closed(self) -> bool:
        """Whether frames would no longer reach the client."""
        protocol = self._protocol
        return (
            protocol.close_sent
            or protocol.disconnected
            or protocol.transport.is_closing()
        )

    def write(self, frames: bytes) -> None:
        """Write whole frames; nothing happens once the connection is closing."""
        if not self.closed:
            self._protocol.transport.write(frames)

    async def writable(self) -> None:
        """Wait until the client takes bytes, or is gone."""
        await self._protocol.writable.wait()

    def abort(self) -> None:
        """End the connection at once, dropping what still waits for the client."""
        self._protocol.transport.abort()


def outlet_of(websocket: WebSocket) -> Outlet:
    """Return the outlet of an accepted *websocket*."""
    outlet = websocket.scope["extensions"][_EXTENSION]
    assert isinstance(outlet, Outlet)
    return outlet


def _nothing() -> None:
    pass
