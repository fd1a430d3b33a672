"""The ports of the simulator, and the address of what listens on each."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from simulator.settings import PORTS


__all__ = ["PortInUseError", "bind_ports", "urls_of"]

_BACKLOG = 1024

_URL_NAMES = {
    "control": "control_url",
    "fmp.stocks": "fmp_stocks_url",
    "fmp.crypto": "fmp_crypto_url",
    "fmp.forex": "fmp_forex_url",
    "fmp.stream": "fmp_stream_url",
    "ls.rest": "ls_rest_url",
    "ls.ws": "ls_ws_url",
    "ls.paper": "ls_paper_ws_url",
}


class PortInUseError(OSError):
    """A port that was asked for cannot be had."""

    def __init__(self, host: str, port: int, cause: OSError) -> None:
        self.port = port
        super().__init__(f"port {port} on {host} was not available: {cause.strerror}")


def bind_ports(host: str, base_port: int) -> dict[str, socket.socket]:
    """
    Return a listening socket for each port of ours.

    Raises:
        PortInUseError: If one of them is taken.
    """
    bound: dict[str, socket.socket] = {}
    for offset, name in enumerate(PORTS):
        port = base_port + offset if base_port else 0
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # Named, or asyncio leaves Nagle's algorithm on: frames then come 40 ms late.
        tcp = socket.IPPROTO_TCP
        listener = socket.socket(family, socket.SOCK_STREAM, tcp)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            for each in (listener, *bound.values()):
                each.close()
            raise PortInUseError(host, port, error) from error
        listener.setblocking(False)
        bound[name] = listener
    return bound


def urls_of(
    listeners: Mapping[str, socket.socket], host: str, *, tls: bool
) -> dict[str, str]:
    """Return the address of each of *listeners*, by the name that others know it by."""
    shown = f"[{host}]" if ":" in host else host
    secure = "s" if tls else ""
    urls = {}
    for name, listener in listeners.items():
        address = f"{shown}:{listener.getsockname()[1]}"
        match name:
            case "control":
                url = f"http://{address}"
            case "ls.rest":
                url = f"http{secure}://{address}"
            case "ls.ws" | "ls.paper":
                url = f"ws{secure}://{address}/websocket"
            case _:
                url = f"ws{secure}://{address}"
        urls[_URL_NAMES[name]] = url
    return urls
