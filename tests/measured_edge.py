"""
The edge, with books of what its histograms only sample: the truth to hold them against.

Every price is noted when it came from the bus, and every frame of a price when it was
written to a client. Run as ``python -m measured_edge FILE``; at its end it writes what
it noted to the file, as JSON: seconds by hop.
"""

from __future__ import annotations

import asyncio
import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from edge.clients.sender import Sender
from edge.clients.wire_frames import text_frame
from edge.prices.bridge import PriceBridge
from edge.prices.reading import UpdateReader, published_ns
from edge.prices.updates import Update
from feedmesh import service
from feedmesh.clock import now_ns
from feedmesh.fast_lane import LaneMessage


_came: list[tuple[int, Sequence[LaneMessage]]] = []
_updates: list[Update] = []
_written: list[tuple[int, list[bytes]]] = []

_live, _read, _flush = PriceBridge._live, UpdateReader.read, Sender.flush
_leave = service._leave


def _noted_live(self: PriceBridge, messages: Sequence[LaneMessage]) -> None:
    _came.append((now_ns(), messages))
    _live(self, messages)


def _noted_read(
    self: UpdateReader, subject: bytes, payload: bytes, received_ns: int
) -> Update:
    update = _read(self, subject, payload, received_ns)
    _updates.append(update)
    return update


def _noted_flush(self: Sender) -> int:
    pieces = list(self.buffer)
    count = _flush(self)
    # The system call is made when this turn of the event loop ends.
    later = asyncio.get_running_loop().call_soon
    later(lambda: _written.append((now_ns(), pieces)))
    return count


def _write_down(file: Path) -> None:
    bus = [
        (now - published_ns(payload)) / 1e9
        for now, messages in _came
        for _, payload, _ in messages
    ]
    arrived = {text_frame(u.frame): u.received_ns for u in _updates}
    socket = [
        (now - arrived[piece]) / 1e9
        for now, pieces in _written
        for piece in pieces
        if piece in arrived
    ]
    file.write_text(json.dumps({"bus": bus, "socket": socket}))


def _noted_leave() -> NoReturn:
    _write_down(Path(sys.argv[1]))
    _leave()


if __name__ == "__main__":
    PriceBridge._live = _noted_live  # type: ignore[method-assign]
    UpdateReader.read = _noted_read  # type: ignore[method-assign]
    Sender.flush = _noted_flush  # type: ignore[method-assign]
    service._leave = _noted_leave
    runpy.run_module("edge", run_name="__main__")
