"""
One new value of a symbol, in every form in which clients get it.

It is kept as long as it is the newest, in the cache, and shared by all clients: each
form is built when the first client needs it, and once.
"""

from __future__ import annotations

import msgspec

from edge.clients.wire_frames import text_frame
from edge.positions import PricePosition, token_of
from feedmesh.messages import Version


__all__ = ["Update"]


class Update(msgspec.Struct, eq=False, gc=False):
    """
    A value of *symbol* and where it stands among others.

    There are as many as the tape is long, and the garbage collector need not look at
    them: nothing in them refers back.

    Attributes:
        symbol: In upper case.
        source: The feed it comes from.
        version: Epoch and number of its writer; higher is newer.
        frame: The JSON object of the price contract.
        received_ns: When this edge got it, nanoseconds since the epoch.
        position: Up to where a client that gets it has got everything; its own
            version unless it came another way than live.
    """

    symbol: str
    source: str
    version: Version
    frame: bytes
    received_ns: int = 0
    position: PricePosition | None = None
    _contract_frame: bytes | None = None
    _fragment: bytes | None = None
    _object_frame: bytes | None = None

    def as_contract_frame(self) -> bytes:
        """Return the WebSocket frame of the price contract."""
        frame = self._contract_frame
        if frame is None:
            frame = self._contract_frame = text_frame(self.frame)
        return frame

    def as_fragment(self) -> bytes:
        """Return the JSON object of protocol v3: the contract's, and the position."""
        fragment = self._fragment
        if fragment is None:
            position = self.position
            if position is None:
                token = token_of(self.source, self.version)
            else:
                token = position.token().encode()
            fragment = b'%b, "position": "%b"}' % (self.frame[:-1], token)
            self._fragment = fragment
        return fragment

    def as_object_frame(self) -> bytes:
        """Return the WebSocket frame of protocol v3 with this value alone."""
        frame = self._object_frame
        if frame is None:
            frame = self._object_frame = text_frame(self.as_fragment())
        return frame
