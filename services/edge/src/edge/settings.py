"""Settings of the edge."""

from __future__ import annotations

import socket
from typing import Annotated, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, PositiveInt, model_validator

from feedmesh.settings import Duration, Port, ServiceSettings


__all__ = ["Settings"]


def _origins(value: object) -> object:
    if not isinstance(value, str):
        return value
    origins = tuple(part.strip() for part in value.split(",") if part.strip())
    for origin in origins:
        parts = urlsplit(origin)
        if origin != "*" and (
            parts.scheme not in ("http", "https") or not parts.netloc or parts.path
        ):
            raise ValueError(
                "needs origins such as https://example.org, without a path or a"
                " slash at the end, or *"
            )
    return origins


class Settings(ServiceSettings, frozen=True, extra="forbid"):
    """
    What an operator can change about the edge.

    Attributes:
        edge_host: Address that clients connect to.
        edge_port: Port that clients connect to; 0 lets the system choose.
        edge_name: Of this edge among others, for its announcements of demand.
        edge_origins: Origins of pages that may connect; ``*`` is all.
        edge_max_clients: More than this many WebSockets are refused with 503.
        edge_max_symbols: How many symbols one client may have subscribed.
        edge_max_message: Largest message of a client, in bytes.
        edge_stuck: A client that takes no byte for so long is closed.
        edge_drain: Over how long clients are sent away at shutdown.
    """

    own_prefixes: ClassVar[tuple[str, ...]] = ("EDGE_",)

    ops_port: Port = 9201
    edge_host: str = "127.0.0.1"
    edge_port: Port = 8080
    edge_name: str = socket.gethostname()
    edge_origins: Annotated[tuple[str, ...], BeforeValidator(_origins)] = ("*",)
    edge_max_clients: PositiveInt = 10_000
    edge_max_symbols: PositiveInt = 2_000
    edge_max_message: PositiveInt = 64 * 1024
    edge_stuck: Duration = 30.0
    edge_drain: Duration = 3.0

    @model_validator(mode="after")
    def _drain_fits(self) -> Self:
        if self.edge_drain >= self.shutdown_timeout:
            raise ValueError("EDGE_DRAIN must be shorter than SHUTDOWN_TIMEOUT")
        return self
