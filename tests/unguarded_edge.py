"""The edge without one of its guards: what a test's negative control is run with."""

from __future__ import annotations

import runpy
import socket
import sys
from typing import Any

from edge.clients import outlet
from edge.prices.merge import PriceMerge


_plain = socket.socket.setsockopt


def _setsockopt(self: socket.socket, level: int, option: int, *value: Any) -> None:
    if option != socket.SO_SNDBUF:
        _plain(self, level, option, *value)


if __name__ == "__main__":
    match sys.argv[1]:
        case "flow":
            # No client ever counts as slow.
            outlet._HIGH_WATER = 2**30
        case "send_buffer":
            socket.socket.setsockopt = _setsockopt  # type: ignore[method-assign, assignment]
        case "epochs":
            # No writer is ever over.
            PriceMerge._is_over = lambda *_: False  # type: ignore[method-assign]
        case guard:
            raise SystemExit(f"no guard {guard!r}")
    runpy.run_module("edge", run_name="__main__")
